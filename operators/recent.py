"""What is kept in memory of the users who came last, beside what is kept in state. It is no state, so whoever asks has
to do without: decode a state again, find again what would be served, or, in RANKER, not learn from a choice.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from riverrank.state.hashing import hash32

MOST = 1200  # users
MOST_BYTES = 32 << 20  # of the states that something was made from; those of usual users are a fifth of it
MOST_SHOWN = 100_000  # items, of all that users were shown: some 40 MB with their ids
MOST_LISTS = 20_000  # lists of these: one takes 3 KB, however short it is

SHARES = 12  # of all users; those of one share are answered in one process, however many there are

Held = TypeVar("Held")


class Counted(Protocol):
    """What has a number of items."""

    @property
    def size(self) -> int: ...


Items = TypeVar("Items", bound=Counted)


def share_of(user_id: str) -> int:
    """Which of the SHARES the user belongs to.

    >>> share_of("u-17")
    8
    """
    return hash32(user_id) % SHARES


class Shares(Generic[Held]):
    """A thing for the users of each share, that is bounded without a look at the others: so what is kept of a user is
    the same whatever other shares are answered beside theirs.

    >>> shares = Shares(list)
    >>> shares.of("u").append(1)
    >>> shares.of("u"), shares.of("v")
    ([1], [])
    """

    def __init__(self, make: Callable[[], Held]) -> None:
        self._each = [make() for _ in range(SHARES)]

    def of(self, user_id: str) -> Held:
        """That of the user's share."""
        return self._each[share_of(user_id)]


class ListMark(NamedTuple):
    """Which list an impression showed, beside its user and event id: an id that is forgotten may come again with other
    items. The items are distinct, `releases` the index's, `ts` the impression's, `epoch` the user's.
    """

    releases: int
    epoch: int
    ts: int
    items: tuple[str, ...]


class Recent(Generic[Held]):
    """Something of each of the `most` users that came last, good for as long as what it was made from is the same: of
    fewer users where that are more than `most_bytes` bytes.

    >>> recent = Recent()
    >>> recent.put("u", b"12", [1, 2])
    >>> recent.pop("u", b"12"), recent.pop("u", b"12")
    ([1, 2], None)
    >>> recent.put("u", b"12", [1, 2])
    >>> recent.pop("u", b"1")
    """

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._by_user: OrderedDict[str, tuple[object, Held]] = OrderedDict()
        self._bytes = 0

    def put(self, user_id: str, made_from: object, held: Held) -> None:
        """Keep what was made from `made_from`, such as the bytes of a state; who puts it here changes it no more."""
        by_user = self._by_user
        if user_id in by_user:
            self.forget(user_id)
        by_user[user_id] = made_from, held
        if isinstance(made_from, bytes):
            self._bytes += len(made_from)
        while len(by_user) > self._most or self._bytes > self._most_bytes:
            self.forget(next(iter(by_user)))

    def pop(self, user_id: str, made_from: object) -> Held | None:
        """What was made from an equal `made_from`, if it is here; nothing of the user is kept then."""
        entry = self._by_user.pop(user_id, None)
        if entry is None:
            return None
        held_from, held = entry
        if isinstance(held_from, bytes):
            self._bytes -= len(held_from)
        return held if held_from == made_from else None

    def apart(self, user_id: str) -> "Recent[Held]":
        """A copy with what is here of the user, and of no other."""
        copied: Recent[Held] = Recent(self._most, self._most_bytes)
        if user_id in self._by_user:
            copied.put(user_id, *self._by_user[user_id])
        return copied

    def forget(self, user_id: str) -> None:
        """Keep nothing of the user."""
        self.pop(user_id, None)


class Shown(Generic[Items]):
    """What users were shown last, by the user and a name of it, good for as long as `made_from` is the same: `lists`
    lists at most, of `most` items in all, and then the oldest goes.

    >>> from types import SimpleNamespace
    >>> shown = Shown(most=3)
    >>> shown.put("u", "e-1", 0, SimpleNamespace(size=2))
    >>> shown.put("u", "e-2", 0, SimpleNamespace(size=2))
    >>> shown.get("u", "e-1", 0), shown.get("u", "e-2", 0), shown.get("u", "e-2", 1)
    (None, namespace(size=2), None)
    """

    def __init__(self, most: int = MOST_SHOWN, lists: int = MOST_LISTS) -> None:
        self._most, self._most_lists, self._held = most, lists, 0
        self._lists: OrderedDict[tuple[str, str], tuple[object, Items]] = OrderedDict()
        self._names: dict[str, set[str]] = {}  # of a user's lists

    def put(self, user_id: str, name: str, made_from: object, items: Items) -> None:
        """Keep a list."""
        self.forget(user_id, name)
        self._lists[user_id, name] = made_from, items
        self._names.setdefault(user_id, set()).add(name)
        self._held += items.size
        while self._held > self._most or len(self._lists) > self._most_lists:
            self.forget(*next(iter(self._lists)))

    def get(self, user_id: str, name: str, made_from: object) -> Items | None:
        """The list of that name, made from an equal `made_from`, if it is here."""
        held = self._lists.get((user_id, name))
        return held[1] if held is not None and held[0] == made_from else None

    def apart(self, user_id: str) -> "Shown[Items]":
        """A copy with the lists of the user that are here, and of no other."""
        copied: Shown[Items] = Shown(self._most, self._most_lists)
        for name in self._names.get(user_id, ()):
            copied.put(user_id, name, *self._lists[user_id, name])
        return copied

    def forget(self, user_id: str, name: str) -> None:
        """Keep no list of that name."""
        held = self._lists.pop((user_id, name), None)
        if held is None:
            return
        self._held -= held[1].size
        names = self._names[user_id]
        names.remove(name)
        if not names:
            del self._names[user_id]

    def forget_user(self, user_id: str) -> None:
        """Keep no list of the user."""
        for name in tuple(self._names.get(user_id, ())):
            self.forget(user_id, name)
