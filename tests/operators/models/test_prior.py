"""What a shop's ranker starts from: what another learned, by names of features; a state wins; nothing else gets in."""

import logging
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from learner_inputs import SPACE, shop
from riverrank.operators.candidates.context import COLD, WARM
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.ensemble import INITIAL_LOSSES
from riverrank.operators.models.net import Net
from riverrank.operators.models.prior import NET_LOSS, PriorFile, check, rating_before, weights_before
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.models.weights import RankerWeights
from riverrank.operators.settings import Behaviour, PriorSettings, RewardSettings
from riverrank.operators.slate.recommend import Recommend
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.learners import RANKER, NetState, RankerState
from riverrank.state.messages import Feedback, Outcome, Seen
from riverrank.state.prior import Prior, from_file, read_file, to_file
from riverrank.state.records.incoming import Event

PLAIN = Behaviour()


def taught(index: ItemIndex, events: int = 60, behaviour: Behaviour = PLAIN) -> Ranker:
    """A ranker that learned from users who take what is of one category, and from lists that were shown."""
    ranker = Ranker(behaviour, index)
    for k in range(events):
        history = (Seen("i0", k, 1.0), Seen("i4", k, 1.0)) if k % 3 else ()
        outcomes = (Outcome(f"s{k}", k, ("i8", "i1"), (1, 0)),) if k % 5 == 0 else ()
        for outcome in outcomes:
            shown = Event(outcome.event_id, "impression", f"u{k % 7}", k, items=outcome.items)
            ranker.learn(Feedback(shown, 0.0, history))
        event = Event(f"e{k}", "click", f"u{k % 7}", k, f"i{8 + k % 8 * 4}")
        ranker.learn(Feedback(event, 1.0, history, outcomes))
    return ranker


def starting_from(prior: Prior, behaviour: Behaviour = PLAIN) -> Behaviour:
    return msgspec.structs.replace(behaviour, prior=PriorSettings(file="shop.prior", learned=to_file(prior)))


def replaced(prior: Prior, **fields: object) -> Prior:
    """The prior with other fields of its ranker's state."""
    return msgspec.structs.replace(prior, ranker=RANKER.encode(msgspec.structs.replace(state_of(prior), **fields)))


def state_of(prior: Prior) -> RankerState:
    return RANKER.decode(prior.ranker)


@pytest.fixture(scope="module")
def index() -> ItemIndex:
    return shop()


@pytest.fixture(scope="module")
def teacher(index: ItemIndex) -> Ranker:
    return taught(index)


def test_a_ranker_and_the_first_slate_go_by_what_another_had_learned(index: ItemIndex, teacher: Ranker) -> None:
    behaviour = starting_from(teacher.prior())
    first, plain = weights_before(behaviour, SPACE), RankerWeights.of(None)
    features = np.random.default_rng(1).random((9, SPACE.size))
    for segment, model in enumerate(Ranker(behaviour, index).models):
        learned = teacher.models[segment].net.arrays.values
        assert (model.net.arrays.values == learned).all() and (model.weights == SPACE.prior[segment]).all()
        assert model.losses.tolist() == [*INITIAL_LOSSES[:-1], NET_LOSS]
        logits = first.logits(features, segment)
        assert logits == pytest.approx(model.logits(features) + teacher.bias)
        assert np.abs(logits - teacher.bias - plain.logits(features, segment)).max() > 1e-4
    assert (first.version, first.bias) == (0, teacher.bias) and teacher.bias

    request = Feedback(Event("r", "request", "new", 1000), 0.0, (Seen("i0", 1, 1.0),))
    slates = [Recommend(settings, index).answer(request, None).slate for settings in (PLAIN, behaviour)]
    scores = [re.findall(rb'"score":([0-9.]+)', slate or b"") for slate in slates]
    assert scores[0] != scores[1] and len(scores[0]) == len(scores[1]) == 20


def test_a_net_that_orders_this_shop_well_is_soon_gone_by(index: ItemIndex, teacher: Ranker) -> None:
    """And one that learned nothing is not, after as many choices."""
    shares = []
    for behaviour in (PLAIN, starting_from(taught(index, 400).prior())):
        ranker = taught(index, 120, behaviour)
        shares.append(float(ranker.models[WARM].shares()[-1]))
    assert shares[1] > max(0.5, 2 * shares[0])


def test_nothing_of_a_user_or_an_item_is_in_it(index: ItemIndex, teacher: Ranker) -> None:
    raw = to_file(teacher.prior())
    assert sum(net.count for net in teacher._state().nets) > 0  # choices, each of one user
    assert all(net == NetState(net.steps, 0, net.values, b"", b"") for net in state_of(from_file(raw)).nets)
    for name in (*index.table.ids, *(f"u{k}" for k in range(8)), *(f"e{k}" for k in range(60)), "c1", "brand"):
        packed = msgspec.msgpack.encode(name)
        assert packed not in raw, name
    assert len(raw) < 1 << 17


def test_features_that_are_new_or_gone_leave_the_others_as_they_were(index: ItemIndex, teacher: Ranker) -> None:
    state = state_of(teacher.prior())
    names = tuple(f"gone:{name}" if name.startswith("content") else name for name in state.names)
    behaviour = starting_from(replaced(teacher.prior(), names=names))
    check(behaviour.prior.learned)
    models = Ranker(behaviour, index).models
    new = np.array([name.startswith("content") for name in SPACE.names])
    assert 0 < new.sum() < SPACE.size
    begun = Net(1.0, SPACE.prior[COLD]).arrays.values  # as every net begins
    for segment, model in enumerate(models):
        values, learned = model.net.arrays.values, teacher.models[segment].net.arrays.values
        assert (values[:-2][new] == begun[:-2][new]).all()
        assert (values[:-2][~new] == learned[:-2][~new]).all() and (values[-2:] == learned[-2:]).all()


def test_a_state_wins_over_the_prior(index: ItemIndex, teacher: Ranker) -> None:
    entries = DictEntries()
    began = Ranker.restore(PLAIN, index, Journal(entries))
    began.learn(Feedback(Event("e", "click", "u", 1, "i4"), 1.0, ()))
    began.flush()
    again = Ranker.restore(starting_from(teacher.prior()), index, Journal(entries))
    for one, other in zip(again.models, began.models, strict=True):
        assert (one.net.arrays.values == other.net.arrays.values).all()


def test_what_began_with_a_prior_goes_on_from_it_whatever_the_settings_say_then(
    index: ItemIndex, teacher: Ranker
) -> None:
    entries = DictEntries()
    began = Ranker.restore(starting_from(teacher.prior()), index, Journal(entries))
    began.learn(Feedback(Event("e", "click", "u", 1, "i4"), 1.0, ()))
    began.flush()
    for settings in (PLAIN, starting_from(teacher.prior())):
        again = Ranker.restore(settings, index, Journal(entries))
        for one, other in zip(again.models, began.models, strict=True):
            assert (one.net.arrays.values == other.net.arrays.values).all()
        learned = teacher.models[WARM].net.arrays.values
        assert (again.models[WARM].net.arrays.values == learned).all()  # no choice with a history came since


def spoiled(prior: Prior, number: float, where: int = 3) -> Prior:
    """With another number in the net of segment COLD."""
    cold, warm = state_of(prior).nets
    values = np.frombuffer(cold.values, "<f4").copy()
    values[where] = number
    return replaced(prior, nets=(msgspec.structs.replace(cold, values=values.tobytes()), warm))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda prior: spoiled(prior, np.nan), "not all within 1e"),
        (lambda prior: spoiled(prior, -np.inf), "not all within 1e"),
        (lambda prior: spoiled(prior, 1e30), "not all within 1e"),
        (lambda prior: spoiled(prior, -1.0, where=-1), "squares are below 0"),
        (lambda prior: replaced(prior, bias=float("nan")), "not all within 1e"),
        (lambda prior: msgspec.structs.replace(prior, ratings=(float("inf"), 1.0)), "not all within 1e"),
        (lambda prior: msgspec.structs.replace(prior, ratings=(0.5, float("nan"))), "squares are below 0"),
        (lambda prior: replaced(prior, names=()), "of other dimensions: nets of"),
        (lambda prior: replaced(prior, names=(*state_of(prior).names, "more")), "of other dimensions: nets of"),
        (lambda prior: replaced(prior, nets=()), "of other dimensions: nets of"),
        (
            lambda prior: replaced(prior, nets=(NetState(0, 0, b"\0" * 64, b"", b""),) * 2),
            "of other dimensions: nets of",
        ),
        (
            lambda prior: replaced(
                prior, nets=tuple(msgspec.structs.replace(net, count=3) for net in state_of(prior).nets)
            ),
            "its nets keep choices",
        ),
        (lambda prior: Prior(b"\x91\x7f"), "ranker state of layout 127: this version reads up to"),
        (lambda prior: Prior(b"\xc1"), "ranker state: "),
        (lambda prior: Prior(), "ranker state: "),
    ],
)
def test_what_no_ranker_could_have_learned_is_refused(teacher: Ranker, spoil: object, told: str) -> None:
    check(to_file(teacher.prior()))
    assert callable(spoil)
    with pytest.raises(ValueError, match=told):
        check(to_file(spoil(teacher.prior())))


def test_ratings_are_expected_to_be_as_another_shop_has_them_on_the_scale_of_this_one(teacher: Ranker) -> None:
    prior = msgspec.structs.replace(teacher.prior(), ratings=(0.75, 1000.0))
    percent = RewardSettings(rate_least=0.0, rate_most=100.0, rate_from=60.0)
    assert rating_before(starting_from(prior, msgspec.structs.replace(PLAIN, reward=percent))) == (75.0, 20)
    assert rating_before(starting_from(prior)) == (3.75, 20)
    assert rating_before(PLAIN) == rating_before(starting_from(teacher.prior())) == (3.5, 0)
    index = ItemIndex(PLAIN)
    assert index.rating_mean(3.75, 20.0) == 3.75 and index.rating_mean(3.5, 0.0) is None
    index.meta.ratings[0] = (40.0, 20.0)
    assert (index.rating_mean(3.0, 20.0), index.rating_mean()) == (2.5, 2.0)
    assert Ranker(PLAIN, index).prior().ratings == (0.4, 20.0)


def test_a_job_writes_its_prior_every_so_often_and_at_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, now = tmp_path / "shop.prior", [1000]

    def learned(ranker: bytes) -> Prior:
        return Prior(ranker, learned_from=1)

    file = PriorFile(PriorSettings(out=str(path), every=500), lambda: now[0])
    file.write_if_due(lambda: learned(b"early"))
    assert not path.exists()
    now[0] = 1500
    file.write_if_due(lambda: learned(b"due"))
    file.write_if_due(lambda: learned(b"too soon"))
    assert from_file(read_file(str(path))).ranker == b"due"
    file.write(lambda: learned(b"last"))
    file.write(lambda: Prior(b"of nothing"))
    assert from_file(read_file(str(path))).ranker == b"last"
    with caplog.at_level(logging.WARNING):
        PriorFile(PriorSettings(out=str(tmp_path / "no" / "folder")), lambda: 0).write(lambda: learned(b""))
    assert "prior.out: cannot write" in caplog.text
    PriorFile(PriorSettings(), lambda: 0).write(lambda: learned(b"nowhere"))
