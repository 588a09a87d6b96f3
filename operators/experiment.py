"""Which arm of an experiment a user is in: by a keyed hash of the user's id, so that it is the same in every process,
run and restart. Knows nothing of what an arm changes (`operators.arms`).
"""

import hashlib
from bisect import bisect_right
from typing import Annotated, Any

import msgspec
from msgspec import Meta

CONTROL = "control"  # the arm of whoever is in no other: the settings as they are
MOST_ARMS = 16
SHARE = "share"


class ExperimentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An experiment: arms, which answer their users by other settings. Whoever is in none of them is in `control`."""

    salt: Annotated[
        str, Meta(max_length=200, description="what users are drawn into arms with: another one draws all of them anew")
    ] = ""
    arms: Annotated[
        dict[str, dict[str, Any]],
        Meta(
            description="arms by name, such as [experiment.arms.bold]: `share`, of all users, and the settings that "
            "the arm changes (docs/experiments.md)"
        ),
    ] = {}

    def shares(self) -> dict[str, float]:
        """The share of each arm, `control` last with what the others leave."""
        shares = {name: float(arm[SHARE]) for name, arm in sorted(self.arms.items())}
        return {**shares, CONTROL: max(0.0, 1.0 - sum(shares.values()))}


class Assignment:
    """The arm of each user, of so many as `shares` say.

    A user has a place in [0, 1), by a keyed hash (BLAKE2b as a MAC, RFC 7693 section 2.9). Arms, by name, each begin at
    a place of their own (0, 1/2, 1/4, 3/4, 1/8, ..: van der Corput, 1935), and take from there on what no arm before
    them took, as far as their share goes. So who grows or shrinks one arm moves users between it and `control` alone,
    as long as it does not reach the beginning of another; beyond that it pushes the other on. Likewise who ends one by
    a share of 0, or adds one whose name sorts last; a name that comes or goes before others gives these other places.

    >>> small, grown = Assignment("salt", {"a": 0.1, "b": 0.2}), Assignment("salt", {"a": 0.3, "b": 0.2})
    >>> users = [f"u-{n}" for n in range(1000)]
    >>> sum(small(user) == "b" for user in users), {(small(u), grown(u)) for u in users if small(u) != grown(u)}
    (202, {('control', 'a')})
    """

    def __init__(self, salt: str, shares: dict[str, float]) -> None:
        """`shares`, of at most 1 together, by arm; what they leave is in CONTROL, whatever is said of it."""
        # Of a salt of any length, a key.
        self._key = hashlib.blake2b(salt.encode("utf-8", "surrogatepass"), person=b"riverrank arms").digest()
        taken: list[tuple[float, float, str]] = []
        for number, name in enumerate(sorted(shares.keys() - {CONTROL})):
            taken = sorted([*taken, *_taken(_place(number), shares[name], name, taken)])
        self._starts, self._names = [0.0], [CONTROL]
        for start, end, name in taken:
            self._put(start, name)
            if end < 1.0:
                self._put(end, CONTROL)

    def __call__(self, user_id: str) -> str:
        """The user's arm. About 1 us."""
        if len(self._names) == 1:
            return self._names[0]
        mark = hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key).digest()
        place = (int.from_bytes(mark, "little") >> 11) * 2.0**-53  # as many bits as a float holds, below 1
        return self._names[bisect_right(self._starts, place) - 1]

    def _put(self, start: float, name: str) -> None:
        """From `start` on, which is no less than any before, it is `name`."""
        if self._starts[-1] == start:
            self._names[-1] = name
        else:
            self._starts.append(start)
            self._names.append(name)


def _place(number: int) -> float:
    """The number with its bits mirrored at the point: 0, 1/2, 1/4, 3/4, 1/8, ..."""
    return int(f"{number:b}"[::-1], 2) / 2.0 ** max(1, number.bit_length())


def _taken(
    start: float, share: float, name: str, taken: list[tuple[float, float, str]]
) -> list[tuple[float, float, str]]:
    """What an arm that begins at `start` takes of [0, 1), and past its end from 0 on, beside what is `taken`."""
    found, left = [], share
    for first, last in ((start, 1.0), (0.0, start)):
        at = first
        for begin, end, _ in [*taken, (last, last, "")]:
            free = min(begin, last) - at
            if free > 0.0 and left > 0.0:
                found.append((at, at + left if left < free else min(begin, last), name))
                left -= free
            at = max(at, min(end, last))
    return found
