"""The context of an event: what is taken on a device, at an hour, on a page comes first there, and costs nothing where
nobody says any.
"""

import random

import msgspec
import numpy as np
import pytest
from riverrank.operators.candidates.context import context_of
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.session.session import Session
from riverrank.operators.settings import (
    Behaviour,
    DiversitySettings,
    ExplorationSettings,
    SignalSettings,
    SlateSettings,
    SourceSettings,
)
from riverrank.state.messages import Feedback, History, Seen
from riverrank.state.records.incoming import Event
from shop_pipeline import PLAIN, Shop, ids

GREEDY = Behaviour(exploration=ExplorationSettings(rate=0.0), diversity=DiversitySettings(strength=0.0))
DEVICES = ("mobile", "tv", "desktop")


def taught(behaviour: Behaviour = PLAIN) -> Shop:
    """Users who each take the first of 60 items on mobile, and those from the 30th on on tv."""
    shop = Shop(behaviour)
    for user in range(6):
        for k in range(6):
            for device, first in (("mobile", 0), ("tv", 30)):
                shop.send(f"m{user}", "click", f"i{first + k}", context={"device": device})
    return shop


@pytest.mark.parametrize("shards", [1, 3])
def test_a_request_is_answered_with_what_is_taken_in_its_context(shards):
    shop = taught(msgspec.structs.replace(PLAIN, signals=SignalSettings(flush_events=1, shards=shards)))
    plain = ids(shop.send("new", "request"))
    for device, first in (("mobile", 0), ("tv", 30)):
        slate = shop.send("new", "request", context={"device": device, "page": "nobody was there"})
        assert set(ids(slate)[:6]) == {f"i{first + k}" for k in range(6)} != set(plain[:6])
        assert "context" in slate.items[0].sources
        reason = next(reason for reason in slate.items[0].reasons if reason.code == "context")
        assert reason.value == f"device={device}" and reason.weight > 0


def test_a_context_that_says_nothing_known_is_answered_as_none():
    shop = taught()
    plain = ids(shop.send("new", "request"))
    for context in ({}, {"device": "watch"}, {"list": ["mobile"]}, {"price": 9.5}):
        slate = shop.send("new", "request", context=context)
        assert ids(slate) == plain
        assert all("context" not in slot.sources for slot in slate.items)


def test_where_nobody_says_a_context_nothing_is_asked_kept_or_proposed():
    shop, without = (
        Shop(msgspec.structs.replace(PLAIN, sources=SourceSettings(off=off))) for off in ((), ("context",))
    )
    for each in (shop, without):
        each.crowd(users=6, events=6)
    assert [name for name in shop.index.table.rows if name.startswith("\0")] == []
    for kind, item in (("request", None), ("click", "i2"), ("purchase", "i8")):
        assert shop.send("u", kind, item) == without.send("u", kind, item)


def test_the_source_is_not_asked_for_users_who_say_no_context():
    index = taught().index
    retriever = Retriever(PLAIN, index)
    column = retriever.features.names.index("context:root")
    history, attributes = [Seen("i1", 1, 1.0)], {}
    plain = retriever.find(context_of(index, history, attributes), None)
    plans = len(retriever._plans)
    within = retriever.find(context_of(index, history, attributes, "", {"device": "tv"}), None)
    assert not plain.features[:, column].any() and within.features[:, column].any()
    assert len(retriever._plans) == plans + 1
    assert np.array_equal(plain.rows, retriever.find(context_of(index, history, attributes), None).rows)


def test_an_impression_looks_as_it_did_where_it_was_shown():
    """Its own context, not that of the event that resolves it."""
    shop = taught()
    retriever, rows = shop.recommend.retriever, shop.index.table.rows_of(["i30", "i0"])
    column = retriever.features.names.index("context:root")
    shown = Event("s", "impression", "u", 5000, items=("i30", "i0"), context={"device": "tv"})
    _, then = retriever.find_shown(rows, 5000, Feedback(shown, 0.0, ()))
    assert then.features[0, column] > then.features[1, column] == 0.0
    click = Event("c", "click", "u", 9000, "i30", context={"device": "tv"})
    _, later = retriever.find_shown(rows, 5000, Feedback(click, 1.0, ()))
    assert not later.features[:, column].any()


def test_a_request_with_a_context_is_what_the_next_choice_is_learned_from():
    index = taught().index
    session, rankers = Session(GREEDY), [Ranker(GREEDY, index) for _ in range(2)]
    history = History.of([Seen("i1", 1, 1.0)])
    first = Feedback(Event("a", "click", "u", 1, "i1", context={"device": "mobile"}), 1.0, ())
    asks = Feedback(Event("b", "request", "u", 2, context={"device": "tv"}), 0.0, history)
    plain = Feedback(Event("b", "request", "u", 2), 0.0, history)
    assert session.draw_sample(asks) and not session.draw_sample(plain)
    chosen = Feedback(Event("c", "click", "u", 3, "i31", context={"device": "tv"}), 1.0, history)
    for ranker, feedbacks in zip(rankers, ((first, asks, chosen), (first, chosen)), strict=True):
        for feedback in feedbacks:
            ranker.learn(feedback)
    column = rankers[0].retriever.features.names.index("context:share")
    asked, unasked = (ranker.models[1].weights[1, column] for ranker in rankers)
    assert asked > 0.0 >= unasked


def by_device(events: int = 1200, seed: int = 5) -> list[tuple[str, str, str]]:
    """User, device and item of each act: a device has tastes of its own, and so has a user; a third of all by it."""
    rng = random.Random(seed)
    of_device = {device: rng.sample(range(60), 12) for device in DEVICES}
    of_user = [rng.sample(range(60), 12) for _ in range(30)]
    made = []
    for _ in range(events):
        user, device = rng.randrange(30), rng.choice(DEVICES)
        liked = of_device[device] if rng.random() < 0.7 else of_user[user]
        made.append((f"u{user}", device, f"i{liked[int(12 * rng.random() ** 2)]}"))
    return made


def by_page(events: int = 1500, seed: int = 6) -> list[tuple[str, str, str]]:
    """User, page and item: on one page an item that follows from the last, on another one of the user's dozen."""
    rng = random.Random(seed)
    following = [rng.sample(range(60), 3) for _ in range(60)]
    of_user, last = [rng.sample(range(60), 12) for _ in range(30)], [0] * 30
    made = []
    for _ in range(events):
        user, page = rng.randrange(30), rng.choice(("item", "home"))
        last[user] = rng.choice(following[last[user]] if page == "item" else of_user[user])
        made.append((f"u{user}", page, f"i{last[user]}"))
    return made


@pytest.mark.parametrize(("acts", "more"), [(by_device, 1.3), (by_page, 1.2)], ids=["tastes", "which scores count"])
def test_slates_hit_more_where_taste_follows_the_context_or_what_is_gone_by_does(acts, more):
    hits = {}
    for says in (True, False):
        shop = Shop(msgspec.structs.replace(GREEDY, slate=SlateSettings(hide=())))
        found = []
        for user, value, item in acts():
            context = {"page": value} if says else None
            found.append(item in ids(shop.send(user, "request", context=context))[:5])
            shop.send(user, "click", item, context=context)
        hits[says] = float(np.mean(found[len(found) // 3 :]))
    assert hits[False] > 0.1
    assert hits[True] > more * hits[False]
