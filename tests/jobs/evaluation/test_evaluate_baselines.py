"""Each baseline ranks as its idea says, held against the idea written out plainly; none ranks what it must not."""

import math
import pickle
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from riverrank.jobs.data import datasets
from riverrank.jobs.data.convert import Collector
from riverrank.jobs.evaluation.baselines.factors import BPRMF, IncrementalMF
from riverrank.jobs.evaluation.baselines.items import CoVisitation, ItemCosine, Neighbours, Popular
from riverrank.jobs.evaluation.baselines.ledger import Ledger
from riverrank.jobs.evaluation.baselines.panel import HALF_LIFE_EVENTS, NAMES, Panel
from riverrank.operators.settings import Behaviour, SlateSettings
from riverrank.state.event_types import INTERACTIONS
from riverrank.state.records.decoding import decode_event
from riverrank.state.records.incoming import Event

REPEAT = Behaviour(slate=SlateSettings(hide=()))


def click(number: int, user_id: str, item_id: str) -> Event:
    return Event(f"e{number}", "click", user_id, number, item_id)


def stream(events: int = 400, users: int = 12, items: int = 40, seed: int = 3) -> list[Event]:
    """Clicks of users who each keep to a third of the items, some items more popular than others."""
    rng = random.Random(seed)
    found = []
    for number in range(events):
        user = rng.randrange(users)
        item = min(rng.randrange(items), rng.randrange(items)) // 3 * 3 + user % 3
        found.append(click(number, f"u{user}", f"i{item}"))
    return found


def taught(names: list[str], behaviour: Behaviour, events: list[Event]) -> Panel:
    panel = Panel(names, behaviour)
    for event in events:
        panel.answer(event, 1.0, k=5)
    return panel


@pytest.mark.parametrize("name", NAMES)
def test_a_list_has_distinct_items_and_none_that_is_hidden_from_the_user(name: str) -> None:
    panel, seen = Panel([name], Behaviour(slate=SlateSettings(hide=tuple(INTERACTIONS)))), defaultdict(set)
    lengths = []
    for event in stream():
        seen[event.user_id].add(event.item_id)
        (listed,) = panel.answer(event, 1.0, k=8)
        assert len(set(listed)) == len(listed)
        assert not seen[event.user_id] & set(listed)
        lengths.append(len(listed))
    assert min(lengths[100:]) == 8


def test_what_is_hidden_is_hidden_as_the_job_does_it() -> None:
    """For a time where the setting says so, and what was refused last whatever it says."""
    panel = Panel(["popular"], Behaviour(slate=SlateSettings(hide=("purchase:1d",))))

    def listed(number: int, kind: str, item: str | None, reward: float, *, day: float) -> list[str]:
        event = Event(f"e{number}", kind, "u", int(day * 86_400_000), item)
        return sorted(panel.answer(event, reward, k=5)[0])

    assert listed(1, "purchase", "soap", 2.0, day=1) == []
    assert listed(2, "click", "lamp", 1.0, day=1) == ["lamp"]
    assert listed(3, "request", None, 0.0, day=2.1) == ["lamp", "soap"]
    assert listed(4, "dislike", "lamp", -1.0, day=2.1) == ["soap"]
    assert listed(5, "like", "lamp", 1.0, day=3) == ["lamp", "soap"]


@pytest.mark.parametrize("name", NAMES)
def test_seen_items_come_back_where_repeats_are_wanted(name: str) -> None:
    panel, again = Panel([name], REPEAT), 0
    seen = defaultdict(set)
    for event in stream():
        seen[event.user_id].add(event.item_id)
        (listed,) = panel.answer(event, 1.0, k=8)
        again += len(seen[event.user_id] & set(listed))
    assert again > 400


@pytest.mark.parametrize("name", NAMES)
def test_what_may_not_be_served_is_on_no_list(name: str) -> None:
    panel = Panel([name], REPEAT, servable=lambda item_id: int(item_id[1:]) % 2 == 0)
    listed = [item for event in stream() for item in panel.answer(event, 1.0, k=8)[0]]
    assert len(listed) > 2000
    assert {int(item[1:]) % 2 for item in listed} == {0}


@pytest.mark.parametrize("name", NAMES)
def test_recommending_leaves_no_trace(name: str) -> None:
    panel = Panel([name], Behaviour(), servable=bool)  # unlike a lambda, it pickles
    for event in stream(100):
        panel.answer(event, 1.0, k=5)
    before, baseline = pickle.dumps(panel), panel.baselines[name]
    assert baseline.recommend("u1", 5) == baseline.recommend("u1", 5) != []
    assert baseline.recommend("a stranger", 5) != []
    assert pickle.dumps(panel) == before


@pytest.mark.parametrize("name", NAMES)
def test_one_who_was_forgotten_is_a_stranger(name: str) -> None:
    panel = taught([name], Behaviour(), stream(200))
    baseline = panel.baselines[name]
    panel.forget("u1")
    assert baseline.recommend("u1", 5) == baseline.recommend("a stranger", 5) != []


@pytest.mark.parametrize("name", NAMES)
def test_the_same_events_give_the_same_lists(name: str) -> None:
    one, two = (taught([name], Behaviour(), stream(150)).baselines[name] for _ in range(2))
    lists = [one.recommend(f"u{k}", 10) for k in range(12)]
    assert lists == [two.recommend(f"u{k}", 10) for k in range(12)]
    assert len(lists[0]) == 10


def test_what_was_not_liked_is_seen_and_teaches_nothing() -> None:
    panel = Panel(["popular", "covisit"], Behaviour())
    panel.answer(click(1, "u", "good"), 1.0, k=5)
    panel.answer(click(2, "v", "bad"), -1.0, k=5)
    assert panel.answer(Event("e3", "request", "v", 3), 0.0, k=5) == [["good"], ["good"]]


def test_a_baseline_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"no baseline 'populr'; there are popular, decayed, "):
        Panel(["populr"], Behaviour())


def test_the_most_popular_are_exact_though_few_are_kept_in_order() -> None:
    ledger = Ledger(REPEAT)
    popular, counts, rng = Popular(ledger), Counter(), random.Random(1)
    for number in range(12_000):
        item = f"i{int(3000 * rng.random() ** 3)}"
        popular.learn(click(number, "u", item), ledger.row(item))
        counts[item] += 1
        if number % 1000 == 999:
            listed = popular.recommend("u", 50)
            assert [counts[item] for item in listed] == sorted(counts.values(), reverse=True)[:50]
    assert len(counts) > 2 * Popular.POOL > len(popular.pool)


def test_decayed_popularity_halves_in_its_half_life() -> None:
    panel = Panel(["decayed"], REPEAT)
    for number in range(30):
        panel.answer(click(number, "u", "old"), 1.0, k=2)
    for number in range(HALF_LIFE_EVENTS):
        panel.answer(click(100 + number, "u", f"filler{number % 1000}"), 1.0, k=2)
    for number in range(16):
        (listed,) = panel.answer(click(10_000 + number, "u", "new"), 1.0, k=2)
    assert listed == ["new", "old"]  # 16 now, and 30 half-lived
    panel = Panel(["popular"], REPEAT)
    for item, times in (("old", 30), ("new", 16)):
        for number in range(times):
            (listed,) = panel.answer(click(number, "u", item), 1.0, k=2)
    assert listed == ["old", "new"]


def test_item_cosine_is_the_cosine_of_users_shrunk() -> None:
    panel, liked, together = Panel(["cosine"], Behaviour()), defaultdict(list), Counter()
    for event in stream():
        panel.answer(event, 1.0, k=5)
        mine = liked[event.user_id]
        if event.item_id not in mine:
            for other in mine[-ItemCosine.LAST :]:
                together[other, event.item_id] += 1
                together[event.item_id, other] += 1
        else:
            mine.remove(event.item_id)
        mine.append(event.item_id)
    users = Counter(item for mine in liked.values() for item in mine)
    expected = Counter()
    for mine in liked["u1"][-ItemCosine.LAST :]:
        expected[mine] += users[mine] / (users[mine] + ItemCosine.SHRINKAGE)  # it is like itself
        for item in users:
            if together[mine, item]:
                norm = math.sqrt(users[mine] * users[item]) + ItemCosine.SHRINKAGE
                expected[item] += together[mine, item] / norm
    assert_scores(panel, "cosine", "u1", expected)


def test_covisitation_weighs_what_is_near_and_what_is_late() -> None:
    panel, history, visits = Panel(["covisit"], Behaviour()), defaultdict(list), Counter()
    for event in stream():
        panel.answer(event, 1.0, k=5)
        mine = history[event.user_id]
        for between, other in enumerate(mine[: -CoVisitation.WINDOW - 1 : -1]):
            visits[other, event.item_id] += CoVisitation.NEAR**between
            if other != event.item_id:
                visits[event.item_id, other] += CoVisitation.BACKWARD * CoVisitation.NEAR**between
        if event.item_id in mine:
            mine.remove(event.item_id)
        mine.append(event.item_id)
    expected, items = Counter(), {item for pair in visits for item in pair}
    for since, mine in enumerate(history["u1"][: -CoVisitation.WINDOW - 1 : -1]):
        total = sum(visits[mine, item] for item in items) + CoVisitation.SHRINKAGE
        for item in items:
            expected[item] += CoVisitation.RECENT**since * visits[mine, item] / total
    assert_scores(panel, "covisit", "u1", Counter({item: score for item, score in expected.items() if score}))


def assert_scores(panel: Panel, name: str, user_id: str, expected: Counter[str]) -> None:
    scores = panel.baselines[name].scores(user_id)
    found = {panel.ledger.ids[row]: scores[row] for row in np.flatnonzero(scores > -np.inf)}
    assert len(found) > 10
    assert found == pytest.approx(dict(expected), rel=1e-5)


def test_a_full_list_of_neighbours_lets_the_lightest_go() -> None:
    lists = Neighbours(width=3)
    lists.add_to(0, np.array([1, 2, 3], np.int32), np.array([3.0, 1.0, 2.0]))
    lists.add_to(0, np.array([4, 3], np.int32), np.array([0.5, 4.0]))
    lists.add_to_each(np.array([0, 5], np.int32), 6, np.array([0.25, 0.75]))
    held = [dict(zip(lists.rows[row].tolist(), lists.weights[row].tolist(), strict=True)) for row in (0, 5)]
    assert held == [{1: 3.0, 3: 6.0, 6: 0.25}, {6: 0.75, -1: 0.0}]


def test_incremental_mf_ranks_as_river_predicts() -> None:
    panel = taught(["mf"], REPEAT, stream())
    mf = panel.baselines["mf"]
    assert isinstance(mf, IncrementalMF)
    rows = range(len(panel.ledger))
    predicted = [mf.model.predict_one("u1", row) for row in rows]
    assert mf.scores("u1") == pytest.approx(predicted)
    best = sorted(rows, key=lambda row: -predicted[row])[:5]
    assert mf.recommend("u1", 5) == [panel.ledger.ids[row] for row in best]


def test_a_step_of_bpr_goes_down_the_slope_of_its_loss() -> None:
    """Against the numeric slope of the loss over the negatives that were drawn, in every factor and bias."""
    panel = taught(["bpr"], Behaviour(), stream(150))
    bpr, event = panel.baselines["bpr"], click(900, "u1", "i2")
    assert isinstance(bpr, BPRMF)
    row = panel.ledger.row("i2")
    user, items, biases = bpr.users["u1"].copy(), bpr.items.copy(), bpr.biases.copy()
    bpr.L2 = 0.0
    bpr.learn(event, row)
    moved = np.flatnonzero(bpr.biases[: len(panel.ledger)] != biases[: len(panel.ledger)])
    against = {other: round((biases[other] - bpr.biases[other]) / bpr.RATE, 12) for other in moved if other != row}
    assert len(against) > 5
    gap = {other: (items[row] - items[other]) @ user + biases[row] - biases[other] for other in against}
    times = {other: round(pull * (1 + math.exp(gap[other]))) for other, pull in against.items()}
    assert sum(times.values()) <= bpr.NEGATIVES
    assert bpr.biases[row] - biases[row] == pytest.approx(bpr.RATE * sum(against.values()))

    def loss(user: np.ndarray, own: np.ndarray) -> float:
        gaps = {other: (own - items[other]) @ user + biases[row] - biases[other] for other in times}
        return sum(n * math.log1p(math.exp(-gaps[other])) for other, n in times.items())

    for factor in range(bpr.FACTORS):
        nudge = np.zeros(bpr.FACTORS)
        nudge[factor] = 1e-5
        slope = (loss(user + nudge, items[row]) - loss(user - nudge, items[row])) / 2e-5
        assert bpr.users["u1"][factor] - user[factor] == pytest.approx(-bpr.RATE * slope, rel=1e-4, abs=1e-9)
        slope = (loss(user, items[row] + nudge) - loss(user, items[row] - nudge)) / 2e-5
        assert bpr.items[row][factor] - items[row][factor] == pytest.approx(-bpr.RATE * slope, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", ["cosine", "covisit", "bpr", "mf"])
def test_what_learns_of_users_finds_their_third_of_the_items(name: str) -> None:
    """A user keeps to a third of the items, so chance is a third."""
    panel = taught([name], REPEAT, stream(3000))
    own = [
        int(item[1:]) % 3 == user % 3 for user in range(12) for item in panel.baselines[name].recommend(f"u{user}", 10)
    ]
    assert len(own) == 120
    assert sum(own) / len(own) > 0.9


def test_baselines_are_as_strong_as_they_were_on_movielens() -> None:
    """HR@10 over the first 10,000 likes, some way below what was measured."""
    if not datasets.river_data().exists():
        pytest.skip("MovieLens 100K is not there: its licence forbids that it comes with the project")
    collector = Collector()
    datasets.movielens_100k(datasets.river_data(), collector)
    panel, latest, hits, tests = Panel(NAMES, Behaviour()), {}, Counter(), 0
    for event in map(decode_event, collector.events()):
        if event.type == "rate" and event.value >= 4 and tests < 10_000:
            if event.user_id in latest:
                tests += 1
                hits.update(name for name, listed in latest[event.user_id].items() if event.item_id in listed)
            listed = panel.answer(event, 1.0, k=10)
            latest[event.user_id] = dict(zip(NAMES, listed, strict=True))
    least = {"popular": 0.085, "decayed": 0.085, "cosine": 0.140, "covisit": 0.155, "mf": 0.036, "bpr": 0.118}
    assert {name: hits[name] / tests for name in NAMES if hits[name] / tests < least[name]} == {}
