"""The slate for whoever has none yet: what is most popular now."""

from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.weights import LatestRanker
from riverrank.state.messages import POPULAR
from riverrank.state.records import Cause, ModelInfo, Slate, Slot, to_json

_CAUSES = (Cause("popular"),)


class PopularSlate:
    """Makes the popular slate of `size` items of `index`, once in `every` milliseconds of event time at most."""

    def __init__(self, index: ItemIndex, ranker: LatestRanker, size: int, every: int) -> None:
        self.index = index
        self.ranker = ranker
        self.size = size
        self.every = every
        self._made_at: tuple[int, int] | None = None  # event time, and feedbacks learned from

    def at(self, ts: int) -> bytes | None:
        """The slate as JSON at event time `ts`; None where the last one is recent enough, or there is nothing to serve.

        Its version is one more than the events that the signals have learned from, so it grows over restarts too.
        """
        index, events = self.index, self.index.events
        if self._made_at is not None and (events <= self._made_at[1] or ts < self._made_at[0] + self.every):
            return None
        rows = index.popular()
        rows = rows[index.servable[rows]][: self.size]
        if not len(rows):
            return None
        self._made_at = (ts, events)
        scores = index.popularity(rows)
        scores = (scores / max(float(scores[0]), 1.0)).round(5)
        slots = tuple(
            Slot(index.table.ids[row], rank, score, 1.0, (POPULAR,), _CAUSES)
            for rank, (row, score) in enumerate(zip(rows.tolist(), scores.tolist(), strict=True), start=1)
        )
        info = ModelInfo(0, self.ranker.read().version)
        version = events + 1
        return to_json(Slate(f"{POPULAR}:{version}", POPULAR, version, ts, POPULAR, "cold", "control", info, slots))
