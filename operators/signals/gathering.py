"""Cohorts that too few users have stated as yet: of each a hash of its name, and of those who stated it."""

from collections import OrderedDict

import msgspec
from riverrank.state.codec import Layout
from riverrank.state.hashing import hash64

KEY_BYTES = 4  # of a user


class Gathered(msgspec.Struct, array_like=True, tag=1):
    """What a shard keeps of them: layout 1. `names` holds a hash of each name, unsigned 64-bit, the one that was stated
    longest ago first; `users` the keys of its users, 32-bit, in the order in which they came. All little-endian.
    """

    names: bytes = b""
    users: list[bytes] = []


GATHERED = Layout("gathered cohorts", Gathered)


class Gathering:
    """Who stated what, until `least` users have; of `most` cohorts, and of those that were stated last.

    >>> gathering = Gathering(least=2, most=10)
    >>> gathering.suffices("age=25", 1), gathering.suffices("age=25", 1), gathering.suffices("age=25", 2)
    (False, False, True)
    """

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most
        self._users: OrderedDict[bytes, bytes] = OrderedDict()
        self.changed = False  # since it was last encoded

    def suffices(self, name: str, user: int) -> bool:
        """Whether enough users have stated it, with this one, of that key; then it is no longer held here."""
        if self._least <= 1:
            return True
        hashed, key = hash64(name).to_bytes(8, "little"), user.to_bytes(KEY_BYTES, "little")
        users = self._users.pop(hashed, b"")
        self.changed = True
        if key not in _each(users):
            users += key
            if len(users) >= KEY_BYTES * self._least:
                return True
        self._users[hashed] = users
        while len(self._users) > self._most:  # once one at most, but where the setting was lowered
            self._users.popitem(last=False)
        return False

    def forget(self, user: int) -> None:
        """The user stated nothing."""
        key = user.to_bytes(KEY_BYTES, "little")
        named = [hashed for hashed, users in self._users.items() if key in _each(users)]
        for hashed in named:
            left = b"".join(each for each in _each(self._users[hashed]) if each != key)
            if left:
                self._users[hashed] = left
            else:
                del self._users[hashed]
        self.changed |= bool(named)

    def encode(self) -> bytes:
        """What `load` reads."""
        self.changed = False
        return GATHERED.encode(Gathered(b"".join(self._users), [*self._users.values()]))

    def load(self, raw: bytes) -> None:
        """Take the place of what is held with what was encoded."""
        held = GATHERED.decode(raw)
        names = [held.names[at : at + 8] for at in range(0, len(held.names), 8)]
        self._users = OrderedDict(zip(names, held.users, strict=True))


def _each(users: bytes) -> list[bytes]:
    return [users[at : at + KEY_BYTES] for at in range(0, len(users), KEY_BYTES)]
