"""Which items were deleted or are sold out, for whoever reads cached slates that still hold them: `rr:gone`."""

from collections.abc import Iterator

from riverrank.operators.index.item_index import ItemIndex
from riverrank.state.messages import GONE, CacheWrite, CatalogueUpdate


class Gone:
    """The items of `index` that may not be served, by id, and what tells the cache of each that goes or comes back."""

    def __init__(self, index: ItemIndex, ttl_ms: int) -> None:
        """`ttl_ms`: how long slates are cached, 0 for ever."""
        self.index = index
        self.ttl_ms = ttl_ms
        self.ids = {item_id for item_id in index.items if not index.servable[index.row(item_id)]}

    def first(self, now: int) -> Iterator[CacheWrite]:
        """What to tell of items that went while no job ran, `now` in epoch milliseconds: slates from before them may be
        cached.
        """
        for item_id in sorted(self.ids):
            ts = self.index.items[item_id]
            if not self.ttl_ms or ts > now - self.ttl_ms:
                yield told(item_id, ts, gone=True)

    def after(self, update: CatalogueUpdate) -> CacheWrite | None:
        """What to tell after an update that the index took; None where the item is as it was, or the update is old."""
        item = update.item
        gone = item.deleted or not item.available
        if self.index.items.get(item.item_id) != item.ts or gone == (item.item_id in self.ids):
            return None
        if gone:
            self.ids.add(item.item_id)
        else:
            self.ids.remove(item.item_id)
        return told(item.item_id, item.ts, gone=gone)


def told(item_id: str, ts: int, *, gone: bool) -> CacheWrite:
    """The write that says of an item whether it is gone since `ts`."""
    return CacheWrite(GONE + item_id, 0, ts, b"1" if gone else b"0")
