"""What is kept in memory of the users who came last, beside what is kept in state. It is no state, so whoever asks has
to do without: decode a state again, find again what would be served, or, in RANKER, not learn from a choice.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

MOST = 1000  # users

Held = TypeVar("Held")


class Recent(Generic[Held]):
    """Something of each of the MOST users that came last, good for as long as what it was made from is the same.

    >>> recent = Recent()
    >>> recent.put("u", b"12", [1, 2])
    >>> recent.pop("u", b"12"), recent.pop("u", b"12")
    ([1, 2], None)
    >>> recent.put("u", b"12", [1, 2])
    >>> recent.pop("u", b"1")
    """

    def __init__(self) -> None:
        self._by_user: OrderedDict[str, tuple[object, Held]] = OrderedDict()

    def put(self, user_id: str, made_from: object, held: Held) -> None:
        """Keep what was made from `made_from`, such as the bytes of a state; who puts it here changes it no more."""
        self._by_user[user_id] = made_from, held
        self._by_user.move_to_end(user_id)
        if len(self._by_user) > MOST:
            self._by_user.popitem(last=False)

    def pop(self, user_id: str, made_from: object) -> Held | None:
        """What was made from an equal `made_from`, if it is here; nothing of the user is kept then."""
        held = self._by_user.pop(user_id, None)
        return held[1] if held is not None and held[0] == made_from else None

    def forget(self, user_id: str) -> None:
        """Keep nothing of the user."""
        self._by_user.pop(user_id, None)
