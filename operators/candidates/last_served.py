"""What users were answered with of late, kept in memory for the next feedback. It is no state: where it is missing,
candidates are found anew.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

from riverrank.operators.index.item_index import ItemIndex

MOST = 1000  # users

Answer = TypeVar("Answer")


class LastServed(Generic[Answer]):
    """The last answer of the MOST users that were answered last."""

    def __init__(self, index: ItemIndex) -> None:
        self.index = index
        self._by_user: OrderedDict[str, tuple[int, Answer]] = OrderedDict()

    def put(self, user_id: str, served: Answer) -> None:
        """Keep the user's last answer."""
        self._by_user[user_id] = (self.index.releases, served)
        self._by_user.move_to_end(user_id)
        if len(self._by_user) > MOST:
            self._by_user.popitem(last=False)

    def take(self, user_id: str) -> Answer | None:
        """The user's last answer; None where it is not known any more, or its rows may be other items by now."""
        releases, served = self._by_user.pop(user_id, (-1, None))
        return served if releases == self.index.releases else None
