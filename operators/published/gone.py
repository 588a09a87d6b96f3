"""Which items were deleted or are sold out, for whoever reads cached slates that still hold them: `rr:gone`."""

from collections.abc import Callable, Iterator

from riverrank.operators.index.item_index import ItemIndex
from riverrank.state.messages import GONE, GONE_ITEM, CacheWrite, CatalogueUpdate


class Gone:
    """The items of `index` that were deleted or became unavailable, by id, and what tells the cache of each that goes
    or comes back. One of a job tells: RECOMMEND's first subtask, which hears of all items as the others do.
    """

    def __init__(self, index: ItemIndex, ttl_ms: int, clock: Callable[[], int]) -> None:
        """`ttl_ms`: how long slates are cached, 0 for ever. `clock` is the wall clock in epoch milliseconds."""
        self.index, self.ttl_ms, self.clock = index, ttl_ms, clock
        self.ids = {item_id for item_id in index.items if not index.available[index.row(item_id)]}

    def first(self) -> Iterator[CacheWrite]:
        """What to tell when a job starts: what went lately, as slates from before may be cached; and that whatever else
        is told to be gone is so no longer, as items that came back while no job ran.
        """
        now = self.clock()
        yield CacheWrite(GONE, 0, now, b"0")
        for item_id in sorted(self.ids):
            if not self.ttl_ms or self.index.items[item_id] > now - self.ttl_ms:
                yield self._told(item_id, now, gone=True)

    def after(self, update: CatalogueUpdate) -> CacheWrite | None:
        """What to tell after an update that the index took; None where the item is as it was, or the update is old."""
        item = update.item
        gone = item.deleted or not item.available
        if self.index.items.get(item.item_id) != item.ts or gone == (item.item_id in self.ids):
            return None
        if gone:
            self.ids.add(item.item_id)
            if len(self.ids) > len(self.index.items):  # the index gives up items too
                self.ids.intersection_update(self.index.items)
        else:
            self.ids.remove(item.item_id)
        return self._told(item.item_id, self.clock(), gone=gone)

    def _told(self, item_id: str, now: int, *, gone: bool) -> CacheWrite:
        return CacheWrite(GONE_ITEM + item_id, 0, now, b"1" if gone else b"0", made=now)
