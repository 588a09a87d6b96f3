"""RECOMMEND: slates, predictions and state of one user, without Flink."""

import msgspec
import pytest
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.models.learner import Learners
from riverrank.operators.recent import Recent
from riverrank.operators.session.session import Session
from riverrank.operators.settings import (
    Behaviour,
    EmbeddingSettings,
    ExplorationSettings,
    HistorySettings,
    LearnerSettings,
    SlateSettings,
)
from riverrank.state.learners import decode_learner
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Slate
from shop_pipeline import PLAIN, Shop, ids


def test_a_click_brings_what_goes_with_it():
    shop = Shop()
    shop.crowd()
    slate = shop.send("new", "click", "i2")
    assert sum(int(item[1:]) % 6 == 2 for item in ids(slate)[:8]) >= 7
    reasons = [reason for slot in slate.items[:8] for reason in slot.reasons]
    assert any(reason.code == "because_you_clicked" and reason.item_id == "i2" for reason in reasons)


def test_versions_grow_by_one_and_only_answered_events_count():
    shop = Shop()
    slates = [
        shop.send("u", "request"),
        shop.send("u", "impression", items=("i1", "i2")),
        shop.send("u", "profile", attributes={"age_band": "18-24"}),
        shop.send("u", "click", "i1"),
    ]
    assert [s and (s.slate_id, s.version) for s in slates] == [("u:1", 1), None, None, ("u:2", 2)]


def test_examples_count_interactions_and_items_of_resolved_impressions():
    shop = Shop()
    shop.send("u", "impression", items=("i1", "i2", "i3"))
    assert shop.send("u", "click", "i2").model.examples == 1
    shop.sent += 3600
    assert shop.send("u", "request").model.examples == 4
    assert [(p.event_id, p.item_id, p.label) for p in shop.predictions[1:]] == [
        ("e1", "i1", 0.0),
        ("e1", "i2", 1.0),
        ("e1", "i3", 0.0),
    ]


def test_hidden_unavailable_and_deleted_items_are_left_out():
    shop = Shop(items=30)
    shop.item("i3", ts=2, available=False)
    shop.item("i4", ts=2, deleted=True)
    slate = [shop.send("u", "purchase", f"i{k}") for k in (5, 6, 7)][-1]
    assert len(slate.items) == 20
    assert not {"i3", "i4", "i5", "i6", "i7"} & set(ids(slate))


def test_a_page_view_hides_nothing():
    shop = Shop(items=12)
    assert "i5" in ids(shop.send("u", "view", "i5"))


def test_where_all_is_hidden_what_was_hidden_longest_comes_back_and_what_was_refused_last():
    shop = Shop(items=6)
    for k in range(6):
        slate = shop.send("u", "dislike" if k == 2 else "purchase", f"i{k}")
    assert sorted(ids(slate)) == [f"i{k}" for k in range(6) if k != 2]
    refused = Shop(items=6)
    for k in range(6):
        slate = refused.send("u", "dislike", f"i{k}")
    assert sorted(ids(slate)) == [f"i{k}" for k in range(6)]
    few = Shop(msgspec.structs.replace(PLAIN, slate=SlateSettings(size=3)), items=6)
    for k in range(6):
        slate = few.send("u", "dislike" if k == 0 else "purchase", f"i{k}")
    assert sorted(ids(slate)) == ["i1", "i2", "i3"]


def test_a_word_that_comes_late_is_not_the_last_one():
    shop = Shop(msgspec.structs.replace(PLAIN, slate=SlateSettings(hide=())), items=12)
    shop.send("u", "dislike", "i5", ts=20_000)
    assert "i5" not in ids(shop.send("u", "click", "i5", ts=10_000))
    assert "i5" in ids(shop.send("u", "click", "i5", ts=30_000))
    assert "i5" in ids(shop.send("u", "dislike", "i5", ts=25_000))
    assert "i5" not in ids(shop.send("u", "dislike", "i5", ts=30_000))


def test_items_that_were_bought_come_back_where_nothing_is_hidden():
    shop = Shop(msgspec.structs.replace(PLAIN, slate=SlateSettings(hide=())), items=12)
    shop.send("u", "purchase", "i5")
    assert "i5" in ids(shop.send("u", "request"))


def test_a_cold_user_gets_the_stated_taste_first():
    shop = Shop()
    shop.crowd(events=3)
    stranger = shop.send("x", "request")
    shop.send("y", "profile", attributes={"likes": ["c4"]})
    stated = shop.send("y", "request")
    assert stranger.strategy == stated.strategy == "cold"
    assert len(stranger.items) == len(stated.items) == 20
    assert sum(int(item[1:]) % 6 == 4 for item in ids(stated)[:5]) > sum(
        int(item[1:]) % 6 == 4 for item in ids(stranger)[:5]
    )
    assert all(int(item[1:]) % 6 == 4 for item in ids(stated)[:3])


def test_a_cold_user_gets_what_the_cohort_takes():
    shop = Shop()
    for user in range(16):
        band = "old" if user % 2 else "warmup_events"
        shop.send(f"m{user}", "profile", attributes={"band": band})
        for k in range(6):
            shop.send(f"m{user}", "click", f"i{k + (30 if user % 2 else 0)}")
    for band, first in (("old", 30), ("warmup_events", 0)):
        shop.send(f"new {band}", "profile", attributes={"band": band})
        slate = shop.send(f"new {band}", "request")
        assert set(ids(slate)[:6]) == {f"i{first + k}" for k in range(6)}
        assert "cohort" in {reason.code for reason in slate.items[0].reasons}


def test_every_slot_has_sources_reasons_and_a_propensity():
    shop = Shop(Behaviour(exploration=ExplorationSettings(rate=0.5)))
    shop.crowd(events=4)
    for slate in (shop.send("u", "request"), shop.send("u", "click", "i1"), shop.send("u", "cart", "i2")):
        assert [slot.rank for slot in slate.items] == list(range(1, 21))
        for slot in slate.items:
            assert slot.sources and slot.reasons and 0 < slot.propensity <= 1
    explored = [slot for slot in slate.items if slot.reasons[0].code == "exploration"]
    assert explored and all(slot.propensity < 0.5 for slot in explored)


def test_erasure_leaves_no_state_and_the_next_slate_is_the_first():
    shop = Shop()
    shop.send("u", "click", "i1")
    assert shop.send("u", "erase") is None
    assert "u" not in shop.users
    slate = shop.send("u", "click", "i2")
    assert (slate.version, slate.model.examples) == (1, 1)


def test_an_item_that_nobody_knows_is_learned_from_without_harm():
    shop = Shop()
    slate = shop.send("u", "purchase", "stranger")
    assert slate.model.examples == 1 and len(slate.items) == 20


def test_ratings_are_predicted_in_their_own_units():
    shop = Shop()
    for k in range(30):
        shop.send(f"r{k}", "rate", "i1", value=5.0)
        shop.send(f"r{k}", "rate", "i2", value=2.0)
    shop.send("u", "rate", "i1", value=5.0)
    shop.send("u", "rate", "i2", value=2.0)
    first, second = shop.predictions[-2:]
    assert (first.kind, first.label) == ("rating", 5.0)
    assert first.prediction == pytest.approx(5.0, abs=0.5)
    assert second.prediction == pytest.approx(2.0, abs=0.5)


def test_answering_a_request_teaches_nothing():
    shop = Shop()
    shop.crowd(events=2)
    shop.send("u", "click", "i1")
    before = decode_learner(shop.users["u"])
    shop.send("u", "request")
    after = decode_learner(shop.users["u"])
    assert after.version == before.version + 1
    assert (after.weights, after.tokens, after.examples) == (before.weights, before.tokens, before.examples)


def test_state_stays_small():
    shop = Shop(items=300)
    for k in range(150):
        shop.send("u", "click", f"i{(k * 7) % 300}")
    state = shop.users["u"]
    assert state is not None and 400 < len(state) < 4096


def test_popular_is_due_once_per_interval_and_its_version_grows():
    shop = Shop()
    first = shop.recommend.popular(0)
    assert first is not None and shop.recommend.popular(0) is None
    shop.crowd(events=2)
    second = msgspec.json.decode(shop.recommend.popular(20_000).slate, type=Slate)
    assert second.version > first.version
    assert len(second.items) == 20 and second.items[0].sources == ("popular",)
    assert shop.recommend.popular(20_001) is None


@pytest.mark.parametrize("model", ["naive_bayes.GaussianNB"])
def test_another_river_class_serves_as_well(model):
    shop = Shop(msgspec.structs.replace(PLAIN, learner=msgspec.structs.replace(PLAIN.learner, model=model)))
    assert not Learners(shop.recommend.behaviour.learner).linear
    for k in range(5):
        slate = shop.send("u", "click", f"i{k * 6}")
    assert len(slate.items) == 20 and slate.model.examples == 5
    assert all(slot.reasons for slot in slate.items)


@pytest.mark.parametrize("learner", [LearnerSettings(), LearnerSettings(optimizer="optim.Adam", tokens=3)])
def test_what_is_in_memory_is_what_the_bytes_hold(learner):
    behaviour = msgspec.structs.replace(PLAIN, learner=learner, exploration=ExplorationSettings("thompson", rate=0.2))
    remembers, forgets = Shop(behaviour), Shop(behaviour)
    for k in range(60):
        forgets.recommend.decoded, forgets.pipeline.intake.session.recent = Recent(), Recent()
        kind, item, shown = ("click", "dislike", "request", "impression")[k % 4], f"i{k * 7 % 30}", ("i1", f"i{k}")
        sent = [s.send("uv"[k % 3 == 0], kind, item, items=shown, attributes={"n": k}) for s in (remembers, forgets)]
        assert sent[0] == sent[1]
    assert (remembers.users, remembers.sessions) == (forgets.users, forgets.sessions)


def test_bytes_from_before_are_read_again():
    shop, session = Shop(), Session(PLAIN)
    sessions, users = [None], [None]
    for k in range(4):
        accepted = session.accept(Event(f"e{k}", "click", "u", k, f"i{k}"), sessions[-1])
        sessions.append(accepted.state)
        users.append(shop.recommend.answer(accepted.feedback, users[-1]).state)
    again = session.accept(Event("e2", "click", "u", 2, "i2"), sessions[2])
    answered = []
    for _ in range(2):
        shop.recommend.memory.of("u").served.forget("u")
        answered.append(shop.recommend.answer(again.feedback, users[2]))
    assert again.state == sessions[3] and answered[0] == answered[1] and answered[0].version == 3


@pytest.mark.parametrize("again", [("i3", "i4", "i5"), ("i3", "i4"), ("i4",)])
def test_an_id_that_was_forgotten_may_come_again_with_another_list(again):
    """Each list then teaches what became of its own items, and what is not held in memory counts as it looks now."""
    shop = Shop(msgspec.structs.replace(PLAIN, history=HistorySettings(event_ids=16), embedding=EmbeddingSettings()))
    shop.crowd()
    for items in (("i1", "i2"), again):
        shop.sent += 1
        event = Event("x", "impression", "u", 1000 * shop.sent, items=items)
        assert shop.pipeline.take(event, Arrival(0, shop.sent, 0, None)) is not None
        for _ in range(20):
            shop.send("u", "request")
    shop.send("u", "click", "i4")
    shop.predictions.clear()
    steps = shop.pipeline.lessons.ranker.clicks.steps
    shop.send("u", "request", ts=event.ts + PLAIN.impression.window + 1)
    assert [(each.item_id, each.label) for each in shop.predictions] == [
        ("i1", 0.0),
        ("i2", 0.0),
        *((item_id, float(item_id == "i4")) for item_id in again),
    ]
    assert shop.pipeline.lessons.ranker.clicks.steps == steps + 1  # of the list that it holds


def test_a_choice_of_an_unknown_item_counts_as_one_that_was_missed():
    """Else the rate of hits would stay as it was where a shop's ids change."""
    shop = Shop()
    shop.crowd()
    shop.send("u", "click", "i2")
    [*shop.recommend.counts.take()]
    for item, hits in (("i8", 1), ("elsewhere", 0)):
        shop.send("u", "click", item)
        counted = {name: number for name, _, number in shop.recommend.counts.take()}
        assert (counted["choices"], counted.get("hits", 0)) == (1, hits), item
