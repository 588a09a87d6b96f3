"""Whatever comes, each thing that is kept stays within what the settings allow, and grows no more once it is there."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import hostile
import pytest
from kept import Kept, bounds
from riverrank.operators.models import net
from riverrank.state import journal

CHUNKS = 8  # after each of which all is measured; the first half is to fill what the second must not grow
GROWTH = 1.05  # of the most in the second half beside the first, where what is kept comes and goes in turns
SLACK = 1024  # bytes, likewise


class Row(NamedTuple):
    """A stream, how many records of it make a chunk, how many items its impressions have, and what share of its bound
    it fills of each thing that it is made to break, at least. `released`: whether updates find their event time;
    `depth`: places of a slate that are cached.
    """

    stream: Callable[[], Iterator[bytes]]
    chunk: int
    shown: int
    fills: Mapping[str, float]
    released: bool = True
    depth: int = 0


ROWS = (
    Row(hostile.one_user, 300, 0, {"session": 0.8, "signals base": 0.9, "signals log": 0.2, "index base": 0.5}),
    Row(hostile.late_events, 300, 0, {}),
    Row(hostile.one_user_of_a_catalogue, 450, 0, {"learner": 0.8}),
    Row(hostile.impressions_that_stay_open, 20, 1000, {"session": 0.9, "ranker log": 0.2}),
    Row(hostile.impressions_that_are_resolved, 20, 1000, {"signals base": 0.3, "signals log": 0.4, "ranker log": 0.4}),
    Row(hostile.short_impressions, 500, 1, {}),
    Row(hostile.profiles, 100, 0, {"session": 0.6}),
    Row(hostile.cohorts, 400, 0, {"gathered": 0.9}),
    Row(hostile.contexts, 300, 0, {}),
    Row(hostile.strangers, 300, 0, {"outbox": 0.3, "sender": 0.15}),
    Row(hostile.strangers, 300, 0, {"outbox": 0.2}, depth=15),
    Row(hostile.one_user, 300, 0, {"waiting": 0.05}, released=False),
    Row(hostile.goods, 600, 0, {"items": 0.9, "vocabulary": 0.5}),
    Row(hostile.shelves, 300, 0, {"lists": 0.2}),
    Row(hostile.erasures, 300, 0, {}),
)


@pytest.fixture(autouse=True)
def short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs and the choices that a net keeps are filled in a few hundred events."""
    monkeypatch.setattr(journal, "LEAST_BYTES", 1 << 14)
    monkeypatch.setattr(net, "KEPT", 64)


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: row.stream.__name__ + "-ahead" * (not row.released) + "-deep" * bool(row.depth)
)
def test_whatever_comes_nothing_passes_its_bound_and_what_is_full_grows_no_more(row: Row) -> None:
    kept, records, seen = Kept(depth=row.depth), row.stream(), []
    for _ in range(CHUNKS):
        assert kept.take(islice(records, row.chunk), released=row.released) > row.chunk // 2
        seen.append(kept.bytes())
    most = bounds(kept, row.shown)
    half = CHUNKS // 2
    for part, bound in most.items():
        series = [each[part] for each in seen]
        first, second = max(series[:half]), max(series[half:])
        assert max(series) <= bound, (part, series, bound)
        assert second <= GROWTH * first + SLACK, (part, series)
        assert max(series) >= row.fills.get(part, 0.0) * bound, (part, series, bound)
    assert set(row.fills) <= set(most) == set(seen[0])
