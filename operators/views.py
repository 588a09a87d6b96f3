"""The view that RANKER and RECOMMEND each keep in a subtask: when it is restored, when the catalogue is read,
and how it gets into broadcast state.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from ..state.journal import Journal
from ..state.records import Item
from ..state.wire import CatalogueUpdate, Update, decode_update
from .entries import BroadcastEntries
from .settings import Behaviour
from .view import View

Catalogue = Callable[[], Iterable[Item]]
Lock = AbstractContextManager[Any]


class Views:
    """The one view of a subtask, over broadcast state, restored from it at the first element of either side.

    Then the catalogue is read as it stands: no slate is made without it, after a restore neither. The user's side may
    only read broadcast state, so what it would write waits in memory for the first element of the broadcast side; a
    checkpoint before that lacks it, and the catalogue is read again.
    """

    def __init__(self, behaviour: Behaviour, descriptor: Any, catalogue: Catalogue, turn: Lock) -> None:
        """`descriptor` is of the broadcast state; `turn` is held while an update is applied."""
        self._behaviour, self._descriptor = behaviour, descriptor
        self._catalogue, self._turn = catalogue, turn
        self._view: View | None = None
        self._entries: BroadcastEntries | None = None
        self._journal: Journal | None = None

    def read(self, ctx: Any) -> View:
        """The view, for either side."""
        if self._view is None:
            self._entries = BroadcastEntries(ctx.get_broadcast_state(self._descriptor))
            self._journal = Journal(self._entries)
            self._view = View.restore(self._behaviour, self._journal)
            for item in self._catalogue():
                self._view.apply(CatalogueUpdate(item), self._journal)
        return self._view

    def apply(self, encoded: bytes, ctx: Any) -> Update:
        """Apply an encoded update to the view and to broadcast state; returns it decoded."""
        view = self.read(ctx)
        if self._entries is not None and not self._entries.writable:
            self._entries.make_writable(ctx.get_broadcast_state(self._descriptor))
        update: Update = decode_update(encoded)
        with self._turn:
            view.apply(update, self._journal)
        return update
