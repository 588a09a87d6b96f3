"""Devices learn the shared ranker together: none tells an event, and where it is sealed nobody sees less than a sum."""

import math

import msgspec
import numpy as np
import pytest
from learner_inputs import SPACE, shop_updates
from noised_shop import noised
from riverrank.operators.federated.edge import Edge
from riverrank.operators.federated.rounds import EdgeUpdate, Rounds, decode_edge, encode_edge
from riverrank.operators.federated.sealing import KeyHolder, Sealer, packed, unpacked
from riverrank.operators.privacy.budget import budget_of
from riverrank.operators.privacy.choices import GRID
from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Slate

BITS = 512  # of a key that protects nothing and is quick
SIZE = SPACE.prior.size
TOLD = shop_updates()


@pytest.fixture(scope="module")
def holder() -> KeyHolder:
    return KeyHolder(least=3, bits=BITS)


def device(name: str, behaviour: Behaviour | None = None, **options: object) -> Edge:
    """A device that knows a shop, told of a first round, and clicked again: so it has a choice to tell of."""
    edge = Edge(behaviour or noised(secret=name.encode()), name, **options)
    for update in TOLD:
        edge.hear(update)
    for k in range(2):
        edge.learner.end_batch()
        answer = edge.event(Event(f"{name}{k}", "click", name, 1000 + k, f"i{4 * k}"))
        assert answer is not None and answer.slate is not None
        assert len(msgspec.json.decode(answer.slate, type=Slate).items) == 20
    return edge


def numbers(raw: bytes) -> np.ndarray:
    return np.frombuffer(decode_edge(raw).numbers, "<i8")


def test_a_device_answers_by_itself_and_tells_a_gradient_with_noise_and_no_event():
    edge, quiet = device("ada"), Edge(noised(secret=b"x"), "bob")
    choice = edge.learner._sum.copy()
    assert 0 < np.linalg.norm(choice) <= edge.behaviour.noise.clip
    told = numbers(raw := edge.update(0)) / GRID
    assert not any(word in raw for word in (b"ada", b"i0", b"i4"))
    assert len(raw) < 1000
    deviation = budget_of(edge.behaviour.noise).choices
    assert np.std(told - choice.ravel()) == pytest.approx(deviation, rel=0.4)
    assert np.std(numbers(quiet.update(0)) / GRID) == pytest.approx(deviation, rel=0.4), "who did nothing tells as much"
    assert not edge.learner._sum.any()
    assert abs(np.corrcoef(numbers(edge.update(1)), numbers(edge.update(2)))[0, 1]) < 0.5


def test_rounds_end_with_enough_devices_each_heard_once_and_all_go_on_by_the_same_weights():
    rounds = Rounds(SPACE, least=3, rate=0.05)
    edges = [device(name) for name in ("ada", "bob", "cyn")]
    for edge in edges:
        edge.hear(rounds.told())
    told = [edge.update(0) for edge in edges]
    assert rounds.take(told[0]) == ""
    assert rounds.take(told[0]) == "told already"
    assert rounds.take(encode_edge(EdgeUpdate(7, "d", told[0]))).startswith("of round 7")
    assert rounds.take(b"\xc1").startswith("no update")
    assert rounds.take(encode_edge(EdgeUpdate(0, "d", b"short"))).startswith("5 bytes")
    with pytest.raises(ValueError, match="expected 3 at least"):
        rounds.summed()
    assert [rounds.take(raw) for raw in told[1:]] == ["", ""]
    summed = rounds.summed()
    assert np.array_equal(summed, sum(map(numbers, told)))
    weights = rounds.step(summed)
    assert rounds.number == weights.version == 1 and rounds.devices == 0
    for edge in edges:
        edge.hear(weights)
        assert np.allclose(edge.learner.weights, rounds.weights)
    assert not np.allclose(rounds.weights, SPACE.prior)


def test_sealed_the_job_and_the_key_holder_see_the_sum_and_nothing_less(holder):
    sealer = Sealer(holder.n)
    rounds = Rounds(SPACE, least=3, rate=0.05, sealer=sealer)
    behaviours = [noised(secret=name.encode()) for name in ("ada", "bob", "cyn")]
    sealed = [
        device(name, of, sealer=sealer, least=3) for name, of in zip(("ada", "bob", "cyn"), behaviours, strict=True)
    ]
    told = [edge.update(0) for edge in sealed]
    assert rounds.take(told[0]) == "" and not decode_edge(told[0]).numbers
    with pytest.raises(ValueError, match="expected 3 at least"):
        rounds.sealed()
    assert [rounds.take(raw) for raw in told[1:]] == ["", ""]
    opened = holder.open(0, rounds.devices, rounds.sealed(), SIZE)
    # The same devices without a seal, whose noise is a share as well: what they tell adds up to what was opened.
    plain = []
    for name, of in zip(("ada", "bob", "cyn"), behaviours, strict=True):
        edge = device(name, of)
        edge.deviation /= math.sqrt(3)
        plain.append(numbers(edge.update(0)))
    assert np.array_equal(opened, sum(plain))
    with pytest.raises(ValueError, match="a round after 0"):
        holder.open(0, 3, rounds.sealed(), SIZE)
    with pytest.raises(ValueError, match="devices: expected 3 at least, got 2"):
        holder.open(1, 2, rounds.sealed(), SIZE)
    with pytest.raises(ValueError, match="a key holder opens it"):
        rounds.summed()
    assert rounds.take(encode_edge(EdgeUpdate(0, "d", plain[0].tobytes()))) == "not sealed"
    rounds.step(opened)
    assert rounds.number == 1


def test_shares_of_noise_add_up_to_the_promise(holder):
    """Of the sum of `least` sealed devices the noise deviates as that of one alone would."""
    sealer, least = Sealer(holder.n), 25
    edges = [Edge(noised(secret=b"%d" % k), f"u{k}", sealer, least) for k in range(least)]
    summed = np.zeros(SIZE)
    for edge in edges:
        edge.sealer = None
        summed += numbers(edge.update(0)) / GRID
    assert np.std(summed) == pytest.approx(budget_of(edges[0].behaviour.noise).choices, rel=4 / math.sqrt(2 * SIZE))


def test_numbers_of_either_sign_are_summed_in_their_places(holder):
    rng, sealer = np.random.default_rng(2), Sealer(holder.n)
    each = rng.integers(-(1 << 40), 1 << 40, (5, 37))
    opened = holder.open(9, 5, sealer.add(sealer.seal(row) for row in each), 37)
    assert np.array_equal(opened, each.sum(axis=0))
    assert unpacked(packed([-1, 0, 5]), 3) == [-1, 0, 5]
    again = sealer.seal(each[0]), sealer.seal(each[0])
    assert again[0] != again[1], "the same numbers are never the same ciphertext"
    with pytest.raises(ValueError, match="numbers: expected at most"):
        sealer.seal(np.array([1 << 41]))
    with pytest.raises(ValueError, match="ciphertexts of this key"):
        sealer.add([(b"",)])


def test_devices_together_learn_what_their_choices_have_in_common():
    """Ten rounds of forty devices that know a shop as it is: the shared weights move the way of their gradients, though
    each round has noise (at an epsilon so high that forty are enough).
    """
    rounds, way = Rounds(SPACE, least=40, rate=5.0), np.zeros(SIZE)
    edges = [Edge(noised(100.0, secret=b"%d" % k), f"u{k}") for k in range(40)]
    for edge in edges:
        for update in TOLD:
            edge.hear(update)
    for number in range(10):
        for k, edge in enumerate(edges):
            edge.hear(rounds.told())
            item = f"i{(k + 7 * number) % 10 * 4 + k % 4}"
            edge.event(Event(f"e{k}-{number}", "click", f"u{k}", 100_000_000 * number + k, item))
            way -= edge.learner._sum.ravel()
            assert rounds.take(edge.update(number)) == ""
        rounds.step(rounds.summed())
    moved = (rounds.weights - SPACE.prior).ravel()
    assert way.any()
    assert moved @ way / np.linalg.norm(moved) / np.linalg.norm(way) > 0.3
