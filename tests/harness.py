"""Runs one of the job's process functions without Java: keyed and broadcast state, timers, main and side outputs.

It is as strict as thread mode is: what raises there raises here. `Store` outlives an instance, as a savepoint does.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, OutputTag
from pyflink.datastream.functions import KeyedBroadcastProcessFunction

EVENT_TIME, PROCESSING_TIME = "event time", "processing time"
END = (1 << 63) - 1  # the last watermark
SUBTASK, SUBTASKS = 0, 1


class Store:
    """All that a checkpoint would hold: values and maps by state name and key, broadcast maps, timers."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.maps: dict[str, dict[str, dict[str, bytes]]] = defaultdict(lambda: defaultdict(dict))
        self.broadcast: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.timers: set[tuple[str, int, str]] = set()  # domain, time, key


class Harness:
    """One instance of a function over a store. `main` and `sides` (by tag id) hold what it emitted."""

    def __init__(self, function: Any, store: Store | None = None, now: int = 1_000_000) -> None:
        self.function, self.now = function, now
        self.store = Store() if store is None else store
        self.key: str | None = None
        self.main: list[Any] = []
        self.sides: dict[str, list[Any]] = defaultdict(list)
        self.metrics: dict[str, int] = {}
        function.open(_Runtime(self))

    def element(self, value: Any, key: str | None = None) -> None:
        """A record on the keyed side, or the only one."""
        self.key = key
        with_broadcast = isinstance(self.function, KeyedBroadcastProcessFunction)
        context = _ReadOnly(self) if with_broadcast else _Keyed(self)
        self._collect(self.function.process_element(value, context))
        self.key = None

    def broadcast(self, value: bytes) -> None:
        """A record on the broadcast side, which has no key."""
        self._collect(self.function.process_broadcast_element(value, _Writable(self)))

    def advance(self, milliseconds: int) -> int:
        """Let processing time pass, and fire what is due, in order of time; how many timers that were."""
        until, fired = self.now + milliseconds, 0
        while due := sorted(t for t in self.store.timers if t[0] == PROCESSING_TIME and t[1] <= until):
            self.now = max(self.now, due[0][1])
            self._fire(due[0])
            fired += 1
        self.now = until
        return fired

    def end_of_input(self) -> None:
        """The last watermark: every timer of event time fires."""
        while due := sorted(t for t in self.store.timers if t[0] == EVENT_TIME):
            self._fire(due[0])

    def restored(self, function: Any) -> "Harness":
        """Another instance over the same store, as after a crash: what was kept in the old instance alone is gone."""
        return Harness(function, self.store, self.now)

    def timers(self, domain: str) -> list[tuple[int, str]]:
        return sorted((ts, key) for kind, ts, key in self.store.timers if kind == domain)

    def _fire(self, timer: tuple[str, int, str]) -> None:
        self.store.timers.remove(timer)
        _, timestamp, self.key = timer
        emitted = list(self.function.on_timer(timestamp, _Keyed(self)) or ())
        self.key = None
        assert not any(_is_tagged(one) for one in emitted), "a timer reaches no side output in thread mode"
        self.main += map(_plain, emitted)

    def _collect(self, emitted: Iterable[Any] | None) -> None:
        for one in emitted or ():
            if _is_tagged(one):
                self.sides[one[0].tag_id].append(_plain(one[1]))
            else:
                self.main.append(_plain(one))


def _plain(one: Any) -> Any:
    return tuple(one) if isinstance(one, Row) else one


def _is_tagged(one: Any) -> bool:
    return isinstance(one, tuple) and isinstance(one[0], OutputTag)


class Told:
    """A group of metrics; `numbers` by its labels and names, as a scraper sees them."""

    def __init__(self, numbers: dict[str, int], path: str = "") -> None:
        self.numbers, self._path = numbers, path

    def add_group(self, name: str, value: str | None = None) -> "Told":
        return Told(self.numbers, f"{self._path}{name}{f'={value}' if value is not None else ''}.")

    def counter(self, name: str) -> Any:
        def inc(n: int) -> None:
            assert type(n) is int and n >= 0
            self.numbers[self._path + name] = self.numbers.get(self._path + name, 0) + n

        return SimpleNamespace(inc=inc)

    def distribution(self, name: str) -> Any:
        def update(n: int) -> None:
            assert type(n) is int
            self.numbers[self._path + name] = n

        return SimpleNamespace(update=update)


class _Runtime:
    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def get_state(self, descriptor: Any) -> "_Value":
        return _Value(self._harness, self._harness.store.values[descriptor.get_name()])

    @property
    def _runtime_context(self) -> Any:
        """Java's, as far as it is asked."""
        info = SimpleNamespace(getIndexOfThisSubtask=lambda: SUBTASK, getNumberOfParallelSubtasks=lambda: SUBTASKS)
        return SimpleNamespace(getTaskInfo=lambda: info)

    def get_metrics_group(self) -> Told:
        return Told(self._harness.metrics)

    def get_map_state(self, descriptor: Any) -> "_Map":
        return _Map(self._of_key(self._harness.store.maps[descriptor.get_name()]))

    def _of_key(self, maps: dict[str, dict[str, bytes]]) -> Callable[[], dict[str, bytes]]:
        return lambda: maps[_current(self._harness)]


class _Value:
    def __init__(self, harness: Harness, values: dict[str, bytes]) -> None:
        self._harness, self._values = harness, values

    def value(self) -> bytes | None:
        held = self._values.get(_current(self._harness))
        return None if held is None else bytes(bytearray(held))  # a copy, as out of a pickle

    def update(self, value: bytes) -> None:
        self._values[_current(self._harness)] = _checked(value)

    def clear(self) -> None:
        self._values.pop(_current(self._harness), None)


class _Map:
    def __init__(self, entries: Callable[[], dict[str, bytes]], writable: bool = True) -> None:
        self._entries = entries
        if writable:
            self.put = lambda key, value: self._entries().__setitem__(key, _checked(value))
            self.remove = lambda key: self._entries().pop(key, None)

    def items(self) -> Iterator[tuple[str, bytes]]:
        yield from self._entries().items()  # live, as Flink's iterator is


class _Keyed(KeyedProcessFunction.OnTimerContext):
    """The context of a keyed record and of a timer."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def get_current_key(self) -> str:
        return _current(self._harness)

    def timer_service(self) -> "_Timers":
        return _Timers(self._harness)

    def timestamp(self) -> int:
        raise AssertionError("no record of the job has a timestamp of Flink's")

    time_domain = timestamp

    def get_broadcast_state(self, descriptor: Any) -> _Map:
        return _Map(lambda: self._harness.store.broadcast[descriptor.get_name()], writable=False)


_ReadOnly = _Keyed


class _Writable:
    """The context of the broadcast side: no key, no timers."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def get_broadcast_state(self, descriptor: Any) -> _Map:
        return _Map(lambda: self._harness.store.broadcast[descriptor.get_name()])


class _Timers:
    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def current_processing_time(self) -> int:
        return self._harness.now

    def register_processing_time_timer(self, timestamp: int) -> None:
        self._harness.store.timers.add((PROCESSING_TIME, timestamp, _current(self._harness)))

    def register_event_time_timer(self, timestamp: int) -> None:
        self._harness.store.timers.add((EVENT_TIME, timestamp, _current(self._harness)))

    def delete_event_time_timer(self, timestamp: int) -> None:
        self._harness.store.timers.discard((EVENT_TIME, timestamp, _current(self._harness)))


def _current(harness: Harness) -> str:
    assert harness.key is not None, "there is no key here: keyed state and timers can't be touched"
    return harness.key


def _checked(value: bytes) -> bytes:
    assert isinstance(value, bytes), f"state holds bytes, not {type(value).__name__}"
    return value
