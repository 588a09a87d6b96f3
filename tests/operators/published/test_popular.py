"""The popular slate: how often it is made, whatever the times of events say."""

import json

from riverrank.operators.candidates.features import feature_space
from riverrank.operators.candidates.registry import SOURCES
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.weights import LatestRanker
from riverrank.operators.published.popular import PopularSlate
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.signals import Signals
from riverrank.state.messages import CatalogueUpdate, Feedback, decode_update
from riverrank.state.records.incoming import Event, Item

EVERY = 10_000
MINUTE = 60_000


class Shop:
    """An index that has learned from as many clicks as were asked for, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.index, self.signals, self.seconds = ItemIndex(Behaviour()), Signals(Behaviour(), 0), 0.0
        self.index.apply(CatalogueUpdate(Item("i-1", 1)))
        ranker = LatestRanker(self.index.weights, feature_space(SOURCES))
        self.popular = PopularSlate(self.index, ranker, 20, EVERY, lambda: self.seconds)

    def click(self, ts: int) -> int | None:
        """The version of the slate after a click at `ts`, None where none is made."""
        self.signals.learn(Feedback(Event(f"e-{ts}", "click", "u", ts, "i-1"), 1.0, ()))
        for update in self.signals.flush():
            self.index.apply(decode_update(update))
        made = self.popular.at(ts)
        assert made is None or json.loads(made.slate)["version"] == made.version
        return None if made is None else made.version


def test_it_is_made_once_in_an_interval_of_event_time() -> None:
    shop = Shop()
    assert [shop.click(ts) for ts in (1, 2, EVERY, EVERY + 1, EVERY + 2)] == [2, None, None, 5, None]


def test_an_event_from_the_future_stops_it_for_an_interval_of_the_wall_clock_at_most() -> None:
    shop = Shop()
    assert shop.click(1) == 2
    assert shop.click(9 * MINUTE) == 3
    assert [shop.click(ts) for ts in (2, EVERY + 2)] == [None, None]
    shop.seconds = EVERY / 1000
    assert shop.click(EVERY + 3) == 6
    assert [shop.click(ts) for ts in (EVERY + 4, 2 * EVERY + 3)] == [None, 8]


def test_where_nothing_was_learned_there_is_no_new_one() -> None:
    shop = Shop()
    assert shop.click(1) == 2
    shop.seconds = 100.0
    assert shop.popular.at(MINUTE) is None
