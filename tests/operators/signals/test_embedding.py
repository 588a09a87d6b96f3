"""Vectors of items: what is taken after what comes near, for every source of randomness but the seed."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.settings import Behaviour, EmbeddingSettings
from riverrank.operators.signals.embedding import USER_RECENCY, Embedding, last_items, recency
from riverrank.operators.signals.embedding_kernels import BIAS, CONTEXT, TARGET, TOLERANCE, publish
from riverrank.state.hashing import uniforms
from riverrank.state.item_tables import VectorTable, from_bfloat16, to_bfloat16
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import Feedback, Seen, VectorUpdate, decode_update, encode
from riverrank.state.records.incoming import Event

SMALL = Behaviour(embedding=EmbeddingSettings(dimensions=8, negatives=64))


def clicks(number: int, first: int = 0) -> list[Feedback]:
    """Users who take two items of one of four shelves of six."""
    feedbacks = []
    draws = np.random.default_rng(0).integers(0, (4, 6, 6), (4000, 3)).tolist()
    for k in range(first, first + number):
        shelf, one, other = draws[k]
        before, after = f"s{shelf}-{one}", f"s{shelf}-{other}"
        event = Event(f"e{k}", "click", f"u{k}", 1000 + k, after)
        feedbacks.append(Feedback(event, 1.0, (Seen(before, 999, 1.0), Seen("refused", 999, -1.0))))
    return feedbacks


def learned(number: int, behaviour: Behaviour = SMALL) -> Embedding:
    made = Embedding(behaviour, VectorTable(behaviour.embedding.dimensions))
    stream = clicks(number)
    for k in range(0, number, 16):
        made.learn(stream[k : k + 16])
    return made


def best_shelf(made: Embedding, item: str) -> float:
    """The share of the item's own shelf among the five that are most likely after it."""
    table = made.table
    names = [name for name in table.rows if name != item]
    rows = [table.rows[name] for name in names]
    score = table.target[rows] @ table.context[table.rows[item]] + table.bias[rows]
    best = [names[k] for k in np.argsort(-score)[:5]]
    return sum(name[:2] == item[:2] for name in best) / 5


def test_what_is_taken_after_an_item_comes_near_it():
    before, after = learned(16), learned(2400)
    assert np.mean([best_shelf(after, f"s{shelf}-0") for shelf in range(4)]) > 0.9
    assert np.mean([best_shelf(before, item) for item in list(before.table.rows)[:4]]) < 0.7


def test_what_was_refused_has_no_vector():
    assert "refused" not in learned(64).table.rows


def test_the_gradient_is_that_of_the_softmax():
    """One step from known vectors against the formulas, written out with loops."""
    made = learned(160)
    table = made.table
    rows = [table.rows[name] for name in ("s0-0", "s0-1", "s1-2")]
    target = table.rows["s2-3"]
    before = {name: getattr(table, name).astype(float).copy() for name in ("context", "target", "bias", "steps")}
    made._step(np.array(rows, np.int32), np.array([3]), np.array([target], np.int32), "draw")
    weights = USER_RECENCY ** np.arange(3)
    user = (weights / np.linalg.norm(weights)) @ before["context"][rows]
    against = np.flatnonzero((table.target != before["target"].astype("<f4")).any(axis=1))
    assert target in against and len(against) > 5
    logits = before["target"][against] @ user + before["bias"][against]
    slope = -np.exp(logits) / np.exp(logits).sum() + (against == target)
    for k, row in enumerate(against):
        gradient = slope[k] * user
        steps = before["steps"][row, 1] + (gradient**2).mean()
        moved = before["target"][row] + 0.1 * gradient / np.sqrt(steps)
        assert table.target[row] == pytest.approx(moved, rel=1e-3, abs=1e-5)
    pull = slope @ before["target"][against]
    gradient = pull * (weights / np.linalg.norm(weights))[0]
    steps = before["steps"][rows[0], 0] + (gradient**2).mean()
    assert table.context[rows[0]] == pytest.approx(
        before["context"][rows[0]] + 0.1 * gradient / np.sqrt(steps), rel=1e-3
    )


def test_the_same_feedbacks_give_the_same_vectors():
    first, second = learned(320).table, learned(320).table
    assert first.rows == second.rows != {}
    assert (first.target == second.target).all() and (first.context == second.context).all()
    other = learned(320, Behaviour(seed=1, embedding=SMALL.embedding)).table
    assert not (first.target == other.target).all()


def test_vectors_are_bounded_and_those_that_move_stay():
    behaviour = Behaviour(embedding=EmbeddingSettings(dimensions=4, negatives=8, items=100))
    made = Embedding(behaviour, VectorTable(4))
    for k in range(300):
        history = (Seen("star", 0, 1.0),)
        made.learn([Feedback(Event(f"e{k}", "click", "u", k, f"i{k}"), 1.0, history)])
    assert len(made.table.rows) <= 100
    assert "star" in made.table.rows


def test_index_has_the_embeddings_that_were_published_and_only_what_moved_is_published():
    made, index = learned(640), ItemIndex(SMALL)
    update = made.moved(0)
    assert update is not None and made.moved(0) is None
    assert index.apply(decode_update(encode(update)))
    assert set(index.table.rows) == set(made.table.rows)
    for name, row in made.table.rows.items():
        assert index.table.target[index.row(name)] == pytest.approx(made.table.target[row], rel=0.005, abs=1e-6)
        assert index.table.context[index.row(name)] == pytest.approx(made.table.context[row], rel=0.005, abs=1e-6)
        assert index.table.bias[index.row(name)] == made.table.bias[row]
    made.learn(clicks(1, 640))
    again = made.moved(0)
    assert again is None or len(again.ids) < len(update.ids)


def test_an_update_is_as_old_as_what_it_was_learned_from_after_one_from_the_future():
    """Else all that follows would wait for the time of one wrong clock."""
    made = learned(64)
    for feedback in clicks(16, first=64):
        late = msgspec.structs.replace(feedback.event, ts=10**14)
        made.take(msgspec.structs.replace(feedback, event=late))
    made.settle()
    assert made.moved(0).ts == 10**14
    later = clicks(32, first=80)
    for feedback in later:
        made.take(feedback)
    made.settle()
    assert made.moved(0).ts == max(feedback.event.ts for feedback in later) < 10**14


def test_restored_ranker_has_learned_the_same_embeddings_and_publishes_them_all():
    entries = DictEntries()
    first = Ranker.restore(SMALL, ItemIndex(SMALL), Journal(entries, limit=100))
    for feedback in clicks(330):
        first.learn(feedback)
        if first.due():
            assert first.flush()
    assert any(key.startswith("vectors:") for key in entries)
    second = Ranker.restore(SMALL, ItemIndex(SMALL), Journal(DictEntries(entries), limit=100))
    ours, theirs = first.embedding.table, second.embedding.table
    assert ours.rows == theirs.rows != {}
    assert ours.target == pytest.approx(theirs.target, rel=1e-5) and ours.steps == pytest.approx(theirs.steps, rel=1e-5)
    assert second.version == first.version == 330
    published = [update for update in map(decode_update, second.flush()) if isinstance(update, VectorUpdate)]
    assert [set(update.ids) for update in published] == [set(theirs.rows)]


def test_history_is_the_last_distinct_items_that_were_taken():
    history = [Seen("a", 1, 1.0), Seen("b", 2, 1.0), Seen("c", 3, -1.0), Seen("a", 4, 1.0)]
    assert last_items(history, 5) == ["a", "b"]
    assert last_items(history, 1) == ["a"]
    assert float(recency(7) @ recency(7)) == pytest.approx(1.0)


def test_two_bytes_hold_a_number_to_half_a_percent():
    numbers = np.array([1.0, -0.001, 3.14159, 0.0, 1e-20, -250.7], np.float32)
    halves = [to_bfloat16(number) for number in numbers]
    upper = (numbers.view("<u4").astype(int) + 0x8000) >> 16
    assert halves == upper.tolist()
    assert [from_bfloat16(half) for half in halves] == pytest.approx(numbers, rel=0.004)


def stepped(made: Embedding, histories: list[list[int]], targets: list[int], draw: str) -> dict[str, np.ndarray]:
    """What a step makes of the table, in float64 and with loops."""
    table = made.table
    now = {name: getattr(table, name).astype(float) for name in ("context", "target", "bias", "steps")}
    sampled = (uniforms(0, draw, made.settings.negatives) * len(table)).astype(int).tolist()
    against = sorted({*targets, *(row for row in sampled if table.steps[row, TARGET] > 0)})
    users = [recency(len(rows)) @ now["context"][rows] for rows in histories]
    gradients: dict[tuple[str, int], np.ndarray] = {}

    def add(name: str, row: int, gradient: np.ndarray) -> None:
        gradients[name, row] = gradients.get((name, row), 0.0) + gradient

    for user, rows, taken in zip(users, histories, targets, strict=True):
        share = np.exp(now["target"][against] @ user + now["bias"][against])
        slope = (np.array(against) == taken) - share / share.sum()
        pull = slope @ now["target"][against]
        for row, weight in zip(rows, recency(len(rows)), strict=True):
            add("context", row, weight * pull)
        for row, one in zip(against, slope, strict=True):
            add("target", row, one * user)
            add("bias", row, one)
    for (name, row), gradient in gradients.items():
        column = {"context": CONTEXT, "target": TARGET, "bias": BIAS}[name]
        now["steps"][row, column] += np.mean(np.square(gradient))
        now[name][row] += 0.1 * gradient / np.sqrt(now["steps"][row, column])
    return now


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 19), min_size=1, max_size=6, unique=True), st.integers(0, 19))),
    st.sampled_from([4, 7, 32]),
)
def test_a_step_is_that_of_plain_python(users, dimensions):
    users = users[:16] or [([3], 4)]
    made = Embedding(
        Behaviour(embedding=EmbeddingSettings(dimensions=dimensions, negatives=12)), VectorTable(dimensions)
    )
    for k in range(20):
        made._row(f"i{k}")
    made.table.release(np.array([19]))
    histories = [[row for row in rows if row != 19] or [1] for rows, _ in users]
    targets = [min(target, 18) for _, target in users]
    expected = stepped(made, histories, targets, "draw")
    before = made.table.target.copy()
    rows = np.array([row for history in histories for row in history], np.int32)
    made._step(rows, np.array([len(history) for history in histories]), np.array(targets, np.int32), "draw")
    for name, values in expected.items():
        assert getattr(made.table, name) == pytest.approx(values, rel=1e-4, abs=1e-6)
    moved = set(made._moved[: made._moves].tolist())
    changed = np.flatnonzero((before != made.table.target).any(axis=1)).tolist()
    assert moved == {*changed, *(row for rows in histories for row in rows)}
    assert not made._number.any() and np.flatnonzero(made.table.changed).tolist() == [0]


@given(st.integers(0, 10**6), st.sets(st.integers(0, 29)), st.integers(1, 30))
def test_what_is_published_is_what_moved_and_the_rest_waits(seed, rows, most):
    numbers, d = np.random.default_rng(seed), 6
    context, target, old_context, old_target = (numbers.normal(size=(30, d)).astype(np.float32) for _ in range(4))
    steps = np.where(numbers.random((30, 3)) < 0.9, np.float32(1), np.float32(0))
    near = numbers.random((2, 30)) < 0.5
    old_context[near[0]] = context[near[0]] * np.float32(1 + TOLERANCE / 2)
    old_target[near[1]] = target[near[1]] * np.float32(1 + TOLERANCE / 2)
    used = [row for row in sorted(rows) if steps[row, TARGET] > 0]
    far = [[row for row in used if not near[kind, row]] for kind in (0, 1)]
    first = [kind[:most] for kind in far]
    named, of = np.zeros(2 * most, np.int32), np.zeros((2, most), np.int32)
    vectors, moved, has_moved = np.zeros((2, most, d), np.uint16), np.zeros(30, np.int32), np.zeros(30, np.bool_)
    has_moved[list(rows)] = True
    i, m, n, left = publish(
        np.array(sorted(rows), np.int32), steps, context, target, old_context, old_target,
        named, of[0], vectors[0], of[1], vectors[1], moved, has_moved,
    )  # fmt: skip
    assert named[:i].tolist() == sorted({*first[0], *first[1]})
    assert [named[of[0, :m]].tolist(), named[of[1, :n]].tolist()] == first
    assert context[first[0]].tolist() == old_context[first[0]].tolist()
    assert target[first[1]].tolist() == old_target[first[1]].tolist()
    told = np.concatenate([context[first[0]], target[first[1]]])
    assert [*vectors[0, :m].ravel(), *vectors[1, :n].ravel()] == list(map(to_bfloat16, told.ravel()))
    waiting = sorted({*far[0][most:], *far[1][most:]})
    assert moved[:left].tolist() == waiting == np.flatnonzero(has_moved).tolist()


def test_more_than_an_update_holds_is_published_in_the_next():
    made = Embedding(SMALL, VectorTable(8))
    for k in range(5000):
        made._row(f"i{k}")
    made.publish_all()
    updates = [made.moved(0), made.moved(0), made.moved(0)]
    assert [len(update.ids) if update else 0 for update in updates] == [4096, 904, 0]
    assert {name for update in updates if update for name in update.ids} == set(made.table.rows)


def test_every_block_of_rows_that_moved_is_dumped():
    made = learned(320)
    for k in range(200):
        made._row(f"other{k}")
    made.table.dump()
    before = {name: getattr(made.table, name).copy() for name in ("context", "target", "bias", "steps")}
    made.learn(clicks(16, 320))
    changed = set()
    for name, values in before.items():
        apart = (getattr(made.table, name) != values).reshape(len(values), -1).any(axis=1)
        changed |= set((np.flatnonzero(apart) // made.table.block_rows).tolist())
    assert set(np.flatnonzero(made.table.changed).tolist()) == changed == {0, 1, 2, 3}
