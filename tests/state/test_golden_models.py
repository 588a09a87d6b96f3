"""Bytes that learners and rankers were kept in: each layout is still read, with the same weights of the same features.

A golden file is written once, when its layout is new, by the operators themselves, bytes within bytes included:
`PYTHONPATH=tests:tests/operators/models python FILE NAME`, with the function that NAME has in WRITERS. Those of layout
1 that have no function were written in the same way by the version that had that layout, or by hand before.
"""

import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import numpy as np
import pytest
from golden_files import kept, write
from learner_inputs import shop
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.features import feature_space
from riverrank.operators.clicks.features import NAMES as CLICK_FEATURES
from riverrank.operators.models.drift import HEAD, Change, take
from riverrank.operators.models.ensemble import INITIAL_LOSSES
from riverrank.operators.models.learner import Learners, LinearLearner, RiverLearner
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.models.ratings import Ratings
from riverrank.operators.models.weights import RankerWeights
from riverrank.operators.settings import Behaviour, ExplorationSettings, LearnerSettings
from riverrank.operators.slate.attribution import find
from riverrank.operators.slate.recommend import Recommend
from riverrank.state.hashing import hash32
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.learners import (
    FEATURES_1,
    OF_ANY_TYPE,
    RANKER,
    REFUSED,
    LearnerState,
    decode_learner,
    encode_learner,
)
from riverrank.state.messages import Feedback, Outcome, Seen, Weights, decode_update, encode
from riverrank.state.records.incoming import Event

T = TypeVar("T")
SPACE = feature_space(registry.SOURCES)
PLAIN, OF_ADAM = LearnerSettings(), LearnerSettings(optimizer="optim.Adam")
ADAM = LearnerSettings(optimizer="optim.Adam", tokens=6)
BAYES = LearnerSettings(model="naive_bayes.BernoulliNB", tokens=2)


def feedbacks() -> list[Feedback]:
    """What a user did: 30 interactions, among them ratings, and impressions of which little was taken, at last less."""
    history: list[Seen] = []
    made = []
    for k in range(30):
        kind, reward = (("click", 1.0), ("rate", 1.0), ("purchase", 2.0), ("rate", -1.0), ("view", 0.3))[k % 5]
        event = Event(f"e{k}", kind, "u", 1000 * k, f"i{k * 7 % 40}", (4.5, 2.0)[k % 2] if kind == "rate" else None)
        labels = (1, 1, 0) if k < 20 else (0, 0, 0)
        outcomes = (Outcome(f"s{k}", 1000 * k, (f"i{k}", f"i{k + 1}", f"i{k + 5}"), labels),) if k % 2 else ()
        made.append(Feedback(event, reward, tuple(history[-20:]), outcomes))
        history.append(Seen(event.item_id or "", event.ts, reward))
    return made


def user_of(settings: LearnerSettings, kind: str = "epsilon") -> bytes:
    """What RECOMMEND kept of that user."""
    behaviour = Behaviour(learner=settings, exploration=ExplorationSettings(kind=kind))
    recommend, state = Recommend(behaviour, shop()), None
    for feedback in feedbacks():
        state = recommend.answer(feedback, state).state
    assert state is not None
    return state


def ranker_of() -> tuple[bytes, bytes]:
    """What RANKER kept of what it learned from that user and one without a history, and published last."""
    entries = DictEntries()
    ranker = Ranker.restore(Behaviour(), shop(), Journal(entries, limit=31))
    for feedback in (Feedback(Event("e", "click", "v", 1, "i3"), 1.0, ()), *feedbacks()):
        ranker.learn(feedback)
    published = ranker.flush()[0]
    return entries["model"], published


WRITERS: dict[str, Callable[[], bytes]] = {
    "learner-3": lambda: user_of(LearnerSettings()),
    "learner-3-adam": lambda: user_of(ADAM, "thompson"),
    "learner-3-pickled": lambda: user_of(BAYES),
    "ranker-3": lambda: ranker_of()[0],
    "update-weights-2-units": lambda: ranker_of()[1],
    "learner-3-slates": lambda: user_of(LearnerSettings()),
    "ranker-3-clicks": lambda: ranker_of()[0],
    "ranker-3-rewarded": lambda: ranker_of()[0],
    "update-weights-2-clicks": lambda: ranker_of()[1],
}
OLDER = (
    *("learner-2", "learner-2-adam", "learner-2-pickled"),
    *("learner-1", "learner-1-ratings", "learner-1-precision", "learner-1-drift"),
    *("learner-1-sgd", "learner-1-adam", "learner-1-pickled"),
    *("ranker-2", "ranker-1", "ranker-1-ensemble", "ranker-1-learned"),
    *("update-weights-2", "update-weights", "update-weights-learned"),
)
NAMES = {*WRITERS, *OLDER}  # of the golden files that are tested here


def user(name: str) -> LearnerState:
    """The golden user, as the newest layout has it."""
    state = decode_learner(kept(name))
    assert decode_learner(encode_learner(state)) == state
    return state


def named(learner: LinearLearner) -> dict[str, float]:
    return dict(zip(("ranker", *SPACE.names), learner.weights.tolist(), strict=False))


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_now_has_the_shape_of_what_was(name: str) -> None:
    """Field by field: a layout that was released does not change, but for fields with a default after the others."""
    was, now = (msgspec.msgpack.decode(raw) for raw in (kept(name), WRITERS[name]()))
    now = now[: len(was)]
    assert [type(field) for field in was] == [type(field) for field in now]
    assert was[0] == now[0] == int(re.findall(r"\d", name)[0])


def rows_of(raw: bytes) -> list[list[tuple[int, int]]]:
    buckets = iter(zip(raw[HEAD::2], raw[HEAD + 1 :: 2], strict=True))
    return [[next(buckets) for _ in range(length)] for length in raw[1:HEAD]]


def test_a_user_of_layout_2_is_read_as_was_meant() -> None:
    state = user("learner-2")
    learner = Learners(LearnerSettings(), SPACE).of(state)
    assert (state.version, state.examples, len(state.seen), state.rated[0]) == (30, 75, 120, 12)
    assert (state.seen_at, state.seen_by) == (bytes(120), 30 * bytes([OF_ANY_TYPE]))  # all is hidden, as it was
    assert (learner.steps, learner.intercept) == (141, pytest.approx(-0.07737279836))
    weights = named(learner)
    assert weights["ranker"] == pytest.approx(0.527758, abs=1e-6)
    assert weights["sessions:share"] == pytest.approx(-0.172377, abs=1e-6)
    assert weights["repeat:root"] == 0.0
    tokens = dict(zip(learner.tokens.tolist(), learner.weights[1 + SPACE.size :].tolist(), strict=True))
    assert tokens[hash32("brand=b0")] == pytest.approx(0.06631232, abs=1e-8)
    assert len(tokens) == 9


def test_what_a_user_of_layout_3_is_not_served_is_read_as_was_meant() -> None:
    """The items of ratings and purchases, since when, and by what: three of five of 30 interactions, one a second, of
    which the ratings below 4 are refusals as well.
    """
    state = user("learner-3")
    did = [("click", "rate", "purchase", "rate", "view")[k % 5] for k in range(30)]
    expected = []
    for k, kind in enumerate(did):
        mark = hash32(f"i{k * 7 % 40}")
        expected += [(mark, k, {"rate": 6, "purchase": 5}[kind])] if kind in ("rate", "purchase") else []
        expected += [(mark, k, REFUSED)] if k % 5 == 3 else []
    columns = (
        np.frombuffer(state.seen, "<u4"),
        np.frombuffer(state.seen_at, "<u4"),
        np.frombuffer(state.seen_by, "u1"),
    )
    assert list(zip(*[column.tolist() for column in columns], strict=True)) == expected


def test_losses_of_layout_2_are_read_as_was_meant() -> None:
    """And gone on with: what is kept after eight more is what the version that wrote them would have kept."""
    losses = user("learner-2").losses
    assert rows_of(losses) == [
        [(0, 2), (1, 0), (1, 0), (1, 0), (0, 1)],
        [(2, 0), (1, 1), (1, 1), (2, 0)],
        [(1, 2), (2, 2), (2, 2), (3, 2)],
        [(3, 3), (3, 4), (3, 4), (3, 3), (1, 3)],
        *[[]] * 4,
    ]
    after, change = take(losses, 8 * [1], took=True, significance=0.9)
    assert change is None
    assert rows_of(after) == [
        [(1, 0), (1, 0), (1, 0), (1, 0), (1, 1)],
        [(1, 2), (2, 0), (1, 1), (2, 0)],
        [(2, 2), (3, 2), (3, 1), (3, 1)],
        [(3, 4), (3, 3), (1, 3), (3, 4)],
        [(6, 7)],
        *[[]] * 3,
    ]
    # Of seven that may have come since, two are of the bucket which the change is in, and need not have.
    assert take(losses, 20 * [1], took=True, significance=0.9)[1] == Change(worse=True, taken=5)
    watched = user("learner-1-drift")
    assert (rows_of(watched.losses)[0], watched.losses[0], watched.since) == ([(1, 3)], 2, 1_764_000_000_000)


def test_ratings_are_read_as_was_meant() -> None:
    model = Ratings(shop(), user("learner-2"), 3.5)
    assert (model.number, *model.numbers[:3].tolist()) == (12, 2.0, 4.5, 1.0)
    assert [model.predict(row) for row in (3, 5)] == pytest.approx([3.298395, 3.289084], abs=1e-6)
    state = user("learner-1-ratings")
    assert (state.rated, np.frombuffer(state.ratings, "<f4", 5).tolist()) == ((3, 0.0), [1.0, 5.0, 20.5, 0.25, 0.5])
    assert np.frombuffer(state.ratings, "<f2", offset=20).tolist() == [0.5, -0.125]


def test_what_an_optimiser_and_exploration_keep_is_read_as_was_meant() -> None:
    learner = Learners(ADAM, SPACE, measured=True).of(user("learner-2-adam"))
    assert learner.steps == 141
    assert learner.tokens.tolist()[:2] == [hash32("brand=b0"), hash32("brand=b2")]
    position = {name: k for k, name in enumerate(("ranker", *SPACE.names))}["popular:share"]
    of_ranker, of_feature, of_token = learner._values[:, [0, position, 1 + SPACE.size]].T.tolist()
    assert of_ranker == pytest.approx([0.62855816, 56.7983055, 0.0564673188, 0.0524097920], rel=1e-6)
    assert of_feature == pytest.approx([-0.259420544, 10.5840445, 0.0214573116, 0.00879052966], rel=1e-6)
    assert of_token == pytest.approx([0.352645874, 11.1585426, 0.0160729800, 0.00857278594], rel=1e-6)


@pytest.mark.parametrize("name", ["learner-2-pickled", "learner-1-pickled"])
def test_a_pickled_model_is_read(name: str) -> None:
    state = user(name)
    learner = Learners(BAYES, SPACE).of(state)
    assert isinstance(learner, RiverLearner)
    seen = learner.model["BernoulliNB"].class_counts
    assert sum(seen.values()) > state.examples / 3 > 9


def test_a_ranker_of_layout_2_is_read_as_was_meant() -> None:
    ranker = Ranker(Behaviour(), shop())
    state = RANKER.decode(kept("ranker-2"))
    assert RANKER.decode(RANKER.encode(state)) == state
    ranker._recall(state)
    assert (ranker.version, ranker.bias, ranker.reward) == pytest.approx((31, -0.205888393, 1.08811496))
    cold, warm = (dict(zip(SPACE.names, model.weights.T.tolist(), strict=True)) for model in ranker.models)
    assert cold["trending:root"] == pytest.approx([-0.000028, -0.000069, -0.000207], abs=1e-6)
    assert warm["after:root"] == pytest.approx([1.971512, 1.939174, 1.886317], abs=1e-6)
    assert warm["content:share"] == pytest.approx([-0.068446, -0.145688, -0.276229], abs=1e-6)
    assert ranker.models[1].losses == pytest.approx([93.3411883, 90.5147945, 118.778733, INITIAL_LOSSES[3]])
    new = Ranker(Behaviour(), shop()).models[1].net
    assert ranker.models[1].net.dump() == new.dump()  # there was none


def test_a_net_of_layout_3_is_read_as_was_meant() -> None:
    ranker = Ranker(Behaviour(), shop())
    state = RANKER.decode(kept("ranker-3"))
    assert RANKER.decode(RANKER.encode(state)) == state
    ranker._recall(state)
    assert [(model.net.steps, model.net.count) for model in ranker.models] == [(2, 2), (43, 43)]
    net, row = ranker.models[1].net, SPACE.names.index("after:root")
    assert ranker.models[1].losses[3] == pytest.approx(104.040342)
    assert net.arrays.values[row, :3].tolist() == pytest.approx([1.94995642, -0.0519371815, -0.159513667])
    assert (net.arrays.mean[row, 0], net.arrays.square[row, 0]) == pytest.approx((0.068382084, 0.0021036936))
    assert net.arrays.kept_of[7].tolist() == pytest.approx([2.0, 0.0, 1.0])
    rows = (net.arrays.kept[7, :2, row].astype(np.uint32) << 16).view(np.float32)
    assert rows.tolist() == pytest.approx([0.0, 0.1435546875])
    assert net.published.tolist() == net.arrays.values.tolist()


def test_how_many_were_rewarded_is_read_as_was_meant_and_where_it_was_not_counted_all_were() -> None:
    read = []
    for name in ("ranker-3-rewarded", "ranker-3"):
        ranker = Ranker(Behaviour(), shop())
        ranker._recall(RANKER.decode(kept(name)))
        read.append((ranker.rewarded, ranker.version))
    positive = sum(feedback.reward > 0 for feedback in feedbacks())
    assert read == [(1 + positive, 31), (31, 31)]
    ranker = Ranker(Behaviour(), shop())
    ranker._recall(RANKER.decode(kept("ranker-3-rewarded")))
    assert ranker.reward == pytest.approx((1.0 + 6 * (1.0 + 1.0 + 2.0 + 0.3)) / 25)
    none, again = Ranker(Behaviour(), shop()), Ranker(Behaviour(), shop())
    none.learn(Feedback(Event("e", "request", "u", 1), 0.0, ()))
    again._recall(RANKER.decode(RANKER.encode(none._state())))
    assert (again.rewarded, again.version) == (0, 1)


def test_a_model_of_clicks_is_read_as_was_meant() -> None:
    ranker = Ranker(Behaviour(), shop())
    ranker._recall(RANKER.decode(kept("ranker-3-clicks")))
    message = decode_update(kept("update-weights-2-clicks"))
    assert isinstance(message, Weights) and decode_update(encode(message)) == message
    read = RankerWeights.of(message, SPACE).clicks
    assert ranker.clicks.learned().weights.tolist() == read.weights.tolist()
    named = dict(zip(CLICK_FEATURES, read.weights.tolist(), strict=True))
    assert (ranker.clicks.steps, named["place:log"], read.competition) == pytest.approx((15, -0.467552146, 0.655855565))


def test_the_last_slates_of_a_user_are_read_as_was_meant() -> None:
    state = user("learner-3-slates")
    slate = find(state, "u", f"u:{state.version}")
    assert slate is not None
    assert (slate.ts, slate.taught, slate.items["row"].tolist()[:4]) == (29000, 0, [17, 19, 10, 5])


def test_published_units_are_read_as_was_meant() -> None:
    message = decode_update(kept("update-weights-2-units"))
    assert isinstance(message, Weights) and decode_update(encode(message)) == message
    read = RankerWeights.of(message, SPACE)
    assert read.units[1, SPACE.names.index("after:root"), :3].tolist() == pytest.approx(
        [0.0, -0.0519371815, -0.159513667]
    )
    assert read.units[1, -1, :3].tolist() == pytest.approx([0.0, 0.00407971954, 0.00245501590])


def test_published_weights_are_read_as_was_meant() -> None:
    message = decode_update(kept("update-weights-2"))
    assert isinstance(message, Weights) and decode_update(encode(message)) == message
    read = RankerWeights.of(message, SPACE)
    warm = dict(zip(SPACE.names, read.weights[1].tolist(), strict=True))
    assert (read.version, read.bias) == (31, pytest.approx(-0.205888393))
    assert (warm["after:root"], warm["content:share"]) == pytest.approx((1.94098191, -0.141368693))


def of_now(names: Sequence[str], values: Sequence[T]) -> dict[str, T]:
    """The values of those of `names` that there still are."""
    return {name: value for name, value in zip(names, values, strict=True) if name in ("ranker", *SPACE.names)}


def test_the_features_of_layout_1_stand_as_they_were() -> None:
    assert (len(FEATURES_1), hash32(",".join(FEATURES_1))) == (38, 1062140400)


@pytest.mark.parametrize(("name", "settings"), [("sgd", PLAIN), ("adam", OF_ADAM)])
def test_a_learner_of_layout_1_goes_on_with_the_weights_of_its_features(name: str, settings: LearnerSettings) -> None:
    state, raw = user(f"learner-1-{name}"), msgspec.msgpack.decode(kept(f"learner-1-{name}"))
    measured = name == "adam"
    learner = Learners(settings, SPACE, measured=measured).of(state)
    by_number = np.frombuffer(raw[6], "<f4").tolist()
    weights = named(learner)
    assert weights == dict.fromkeys(weights, 0.0) | of_now(("ranker", *FEATURES_1), by_number)
    assert [weights[key] for key in ("ranker", "after:root", "likes")] == by_number[:2] + by_number[-2:-1]
    assert (learner.steps, learner.intercept, state.examples, len(learner.tokens)) == (42, raw[5], 30, 9)
    if measured:
        order = [0, *(1 + FEATURES_1.index(name) for name in SPACE.names if name in FEATURES_1), *range(39, 48)]
        held = [0, *(1 + k for k, name in enumerate(SPACE.names) if name in FEATURES_1)]
        held += range(1 + SPACE.size, 10 + SPACE.size)
        assert learner.precision is not None
        assert learner.precision[held].tolist() == np.frombuffer(raw[12], "<f4")[order].tolist()
        for row, array in ((2, "m"), (3, "v")):
            assert learner._values[row, held].tolist() == np.frombuffer(raw[9][array])[order].tolist()


@pytest.mark.parametrize(("name", "left"), [("learner-1", (42, 57)), ("learner-1-precision", (0, 0))])
def test_weights_of_layout_1_whose_features_are_not_known_are_left(name: str, left: tuple[int, int]) -> None:
    state = user(name)
    assert (state.version, state.examples) == left
    assert (state.weights, state.tokens, state.precision, state.memory) == (b"", b"", b"", {})
    if name == "learner-1":
        assert (state.seen, state.rated, state.model) == (b"\1\0\0\0\xff\xff\xff\xff", (3, -0.5), b"pickle")


def test_a_ranker_of_layout_1_goes_on_with_the_weights_of_its_features() -> None:
    raw = msgspec.msgpack.decode(kept("ranker-1-learned"))
    ranker = Ranker(Behaviour(), shop())
    ranker._recall(RANKER.decode(kept("ranker-1-learned")))
    priors = [{name: 3 * [prior] for name, prior in zip(SPACE.names, of, strict=True)} for of in SPACE.prior.tolist()]
    by_numbers = np.frombuffer(raw[2]).reshape(2, 3, 38)
    for model, by_number, prior in zip(ranker.models, by_numbers, priors, strict=True):
        found = dict(zip(SPACE.names, model.weights.T.tolist(), strict=True))
        assert found == prior | of_now(FEATURES_1, by_number.T.tolist())
    assert (ranker.version, ranker.models[1].losses[:3].tolist()) == (25, np.frombuffer(raw[4])[3:].tolist())
    for name, reward in (("ranker-1", 1.0), ("ranker-1-ensemble", 1.5)):  # of weights that no features have
        other = Ranker(Behaviour(), shop())
        other._recall(RANKER.decode(kept(name)))
        assert (other.version, other.bias, other.reward) == (7, -0.5, reward)
        assert other.models[1].weights.tolist() == Ranker(Behaviour(), shop()).models[1].weights.tolist()


def test_published_weights_without_names_are_those_of_layout_1() -> None:
    message = decode_update(kept("update-weights-learned"))
    read = RankerWeights.of(message, SPACE)
    by_number = np.frombuffer(message.weights).reshape(2, 38)
    for segment in (0, 1):
        found = dict(zip(SPACE.names, read.weights[segment].tolist(), strict=True))
        prior = dict(zip(SPACE.names, SPACE.prior[segment].tolist(), strict=True))
        assert found == prior | of_now(FEATURES_1, by_number[segment].tolist())
    assert decode_update(kept("update-weights")) == Weights(0, 3, b"\0" * 8, 0.5)


@pytest.mark.parametrize(("decode", "name"), [(decode_learner, "learner-3"), (RANKER.decode, "ranker-3")])
def test_a_layout_of_the_future_is_refused(decode: Callable[[bytes], object], name: str) -> None:
    fields = msgspec.msgpack.decode(kept(name))
    with pytest.raises(ValueError, match=f"layout 99: this version reads up to {name[-1]}"):
        decode(encode([99, *fields[1:]]))


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        write(wanted, WRITERS[wanted])
