"""What policies cost: time by the clock, and bytes. Times are not the same from run to run."""

import resource
import time
from array import array
from collections.abc import Iterable

import msgspec
import numpy as np

now = time.perf_counter_ns


class Cost(msgspec.Struct, frozen=True):
    """Of one policy: microseconds an answer takes, median and 99th percentile of all, and microseconds of learning an
    event, on average. `user_bytes` is what is kept of a user as bytes, on average, None where it isn't kept so;
    `array_bytes` what all arrays take that hold items, and for baselines users too.
    """

    answer_us: float | None
    answer_p99_us: float | None
    learning_us: float
    user_bytes: int | None
    array_bytes: int


class Costs(msgspec.Struct, frozen=True):
    """Of each policy, and the most memory that the process had: of all of them, and of the report."""

    peak_bytes: int
    policies: dict[str, Cost]


class Clock:
    """How long one policy takes.

    >>> clock = Clock()
    >>> began = now()
    >>> clock.answered(began, now()), clock.learned(began, began + 3000)
    (None, None)
    >>> clock.cost(None, 0).learning_us
    3.0
    """

    def __init__(self) -> None:
        self._answers = array("f")  # microseconds
        self._learning = 0  # nanoseconds
        self._events = 0

    def answered(self, began: int, ended: int) -> None:
        """One answer was made between two times of `now`."""
        self._answers.append((ended - began) / 1000)

    def learned(self, began: int, ended: int, without: int = 0) -> None:
        """One event was learned from between two times of `now`, `without` nanoseconds of other things."""
        self._learning += ended - began - without
        self._events += 1

    def cost(self, user_bytes: int | None, array_bytes: int) -> Cost:
        """All of it."""
        median = p99 = None
        if self._answers:
            median, p99 = (round(float(us), 1) for us in np.percentile(np.array(self._answers), (50, 99)))
        return Cost(median, p99, round(self._learning / 1000 / max(1, self._events), 1), user_bytes, array_bytes)


def mean_bytes(*kept: Iterable[bytes]) -> int | None:
    """How many bytes a user takes: the sum of the means of each of `kept`, None where there is none.

    >>> mean_bytes([b"12", b"1234"], [b"1"])
    4
    """
    means = [sum(sizes) / len(sizes) for sizes in ([len(each) for each in states] for states in kept) if sizes]
    return round(sum(means)) if means else None


def array_bytes(thing: object, apart: Iterable[object] = ()) -> int:
    """The bytes of all arrays that are reached from `thing` by attributes and containers, those of `apart` left out.

    >>> array_bytes({"a": np.zeros(3), "b": [array("i", [1])]})
    28
    """
    seen = {id(each) for each in apart}
    waiting, total = [thing], 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, np.ndarray):
            if isinstance(each.base, np.ndarray):
                waiting.append(each.base)
            else:
                total += each.nbytes
        elif isinstance(each, array):
            total += each.itemsize * len(each)
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, (list, tuple)):
            waiting += each
        elif type(each).__module__.startswith("riverrank."):
            slots = [
                getattr(each, name, None) for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ())
            ]
            waiting += [*getattr(each, "__dict__", {}).values(), *slots]
    return total


def peak_bytes() -> int:
    """The most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
