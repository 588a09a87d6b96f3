"""The slate for whoever has none yet: what is most popular now."""

import time
from collections.abc import Callable

from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.weights import LatestRanker
from riverrank.state.messages import POPULAR, CacheWrite
from riverrank.state.records.outgoing import Cause, ModelInfo, Slate, Slot, to_json

_CAUSES = (Cause("popular"),)


class PopularSlate:
    """Makes the popular slate of `size` items of `index`, once in `every` milliseconds at most: of event time, or of
    the wall clock where that is sooner, as after an event from the future. `clock` gives seconds.
    """

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
        self.every = every
        self.clock = clock
        self._made_at: tuple[int, float, int] | None = None  # event time, clock, and feedbacks learned from

    def at(self, ts: int, *, last: bool = False) -> CacheWrite | None:
        """The slate at event time `ts`; None where the one before is recent enough for all but the `last`, or says the
        same, or there is nothing to serve.

        Its version is one more than the events that the signals have learned from, so it grows over restarts too.
        """
        index, events = self.index, self.index.events
        if self._made_at is not None:
            made_ts, made_at, learned = self._made_at
            is_early = ts < made_ts + self.every and 1000 * (self.clock() - made_at) < self.every
            if (is_early and not last) or events <= learned:
                return None
        rows = index.popular()
        rows = rows[index.servable[rows]][: self.size]
        if not len(rows):
            return None
        self._made_at = (ts, self.clock(), events)
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
