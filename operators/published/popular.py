"""The slate for whoever has none yet: what is most popular now."""

import time
from collections.abc import Callable

from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.weights import LatestRanker
from riverrank.state.messages import POPULAR, CacheWrite
from riverrank.state.records.outgoing import Cause, ModelInfo, Slate, Slot, to_json

from .refresh import Refresh

_CAUSES = (Cause("popular"),)


class PopularSlate:
    """Makes the popular slate of `size` items of `index`, once in `every` milliseconds at most (see Refresh)."""

    def __init__(
        self,
        index: ItemIndex,
        ranker: LatestRanker,
        size: int,
        every: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.index = index
        self.ranker = ranker
        self.size = size
        self.refresh = Refresh(every, clock)

    def at(self, ts: int, *, last: bool = False) -> CacheWrite | None:
        """The slate at event time `ts`; None where the one before is recent enough for all but the `last`, or says the
        same, or there is nothing to serve.

        Its version is one more than the events that the signals have learned from, so it grows over restarts too.
        """
        index, events = self.index, self.index.events
        if not self.refresh.is_due(ts, events, last=last):
            return None
        rows = index.popular()
        rows = rows[index.servable[rows]][: self.size]
        if not len(rows):
            return None
        self.refresh.done(ts, events)
        scores = index.popularity(rows)
        scores = (scores / max(float(scores[0]), 1.0)).round(5)
        slots = tuple(
            Slot(index.table.ids[row], rank, score, 1.0, (POPULAR,), _CAUSES)
            for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True), start=1)
        )
        info = ModelInfo(0, self.ranker.read().version)
        version = events + 1
        slate = Slate(f"{POPULAR}:{version}", POPULAR, version, ts, POPULAR, "cold", "control", info, slots)
        return CacheWrite(POPULAR, 0, version, to_json(slate))
