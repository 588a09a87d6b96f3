"""SIGNALS with noise: one user changes what is counted by no more than the bound, and nothing else of it is told."""

import math

import numpy as np
import pytest
from noised_shop import HOUR, T0, events, feedbacks, noised, updates
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.privacy.bounds import contribution_of
from riverrank.operators.privacy.budget import Accountant, budget_of, sensitivities
from riverrank.operators.privacy.signals import NoisedSignals
from riverrank.operators.signals.signals import Signals
from riverrank.state.codec import StateRefused
from riverrank.state.item_tables import POPULARITY
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import Feedback, encode
from riverrank.state.records.incoming import Event

RARE = "rare-a", "rare-b"


def with_one_more(n: int = 1500, takes: tuple[str, ...] = RARE) -> list[Event]:
    """A stream in which a user takes these items amid it; without them, the user's events are of no item."""
    stream = events(n)
    for k, item_id in enumerate(takes):
        at = n // 2 + 3 * k
        stream.insert(at, Event(f"own{k}", "click", "one", stream[at].ts, item_id))
    return stream


def zeroed(stream: list[Feedback], user: str) -> list[Feedback]:
    """The same feedbacks, of which those of the user contribute nothing (an erased user's)."""
    return [
        Feedback(each.event, each.reward, each.history, epoch=1) if each.event.user_id == user else each
        for each in stream
    ]


def cells(signals: NoisedSignals, part: str) -> dict[tuple[object, ...], float]:
    """What was counted, by block and cell."""
    found: dict[tuple[object, ...], float] = {}
    for block in (*signals.blocks.held, signals.kept.open):
        if part == "pairs":
            found |= {(block.number, a, b): w for a, after in block.pairs.items() for b, w in after.items()}
        else:
            found |= {(block.number, "+", a): w for a, w in block.liked.items()}
            found |= {(block.number, "-", a): w for a, w in block.disliked.items()}
    return found


@pytest.mark.parametrize("takes", [RARE, tuple(f"i{k}" for k in range(9)), tuple(f"own{k}" for k in range(30))])
def test_one_user_changes_what_is_counted_by_no_more_than_the_noise_is_made_for(takes):
    behaviour = noised()
    stream = feedbacks(with_one_more(takes=takes), behaviour)
    learned = []
    for of in (stream, zeroed(stream, "one")):
        signals = NoisedSignals(behaviour)
        updates(behaviour, of, signals)
        learned.append(signals)
    for part, most in sensitivities(behaviour.noise).items():
        if part == "choices":
            continue
        ours, others = (cells(signals, part) for signals in learned)
        change = math.sqrt(sum((ours.get(cell, 0.0) - others.get(cell, 0.0)) ** 2 for cell in ours | others))
        assert 0 < change <= most + 1e-12
    assert [block.events for block in learned[0].blocks.held] == [block.events for block in learned[1].blocks.held]


def test_told_are_the_counts_with_noise_of_the_promised_scale():
    """Over 150 secrets: what is told of one item deviates from what was counted as the budget says, and is right on
    average.
    """
    behaviour = noised(release=1000)
    stream = feedbacks(events(1000), behaviour)
    wanted = sum(1 for each in stream if (c := contribution_of(each, behaviour)) and c.liked and c.item_id == "i0")
    found = []
    for k in range(150):
        of_secret = noised(secret=b"secret %d" % k, release=1000)
        update = updates(of_secret, stream)[-1]
        at = update.ids.index("i0")
        found.append(float(np.frombuffer(update.stats, "<f4").reshape(-1, 6)[at, POPULARITY]))
    deviation = budget_of(behaviour.noise).counts
    assert abs(np.mean(found) - wanted) < 4 * deviation / math.sqrt(len(found))
    assert abs(np.std(found) / deviation - 1) < 4 / math.sqrt(2 * len(found))


def attacked(behaviour, stream):
    """Whether lists or counts name what one user alone took, as anyone would look for it."""
    told = updates(behaviour, stream) if behaviour.noise.epsilon else []
    if not behaviour.noise.epsilon:
        signals = Signals(behaviour, 0)
        for feedback in stream:
            signals.learn(feedback)
        told = signals.updates()
    index = ItemIndex(behaviour)
    for update in told:
        index.apply(update)
    named = {item_id for item_id in RARE if index.row(item_id) >= 0}
    if not named:
        return False
    rows = [index.row(item_id) for item_id in RARE]
    return len(named) == 2 and rows[1] in index.table.neighbours[rows[0]]


def test_who_looks_for_a_rare_pair_finds_it_without_noise_and_guesses_with_it():
    """Half of 40 streams have a user who took the pair, half have not: the attack tells which, or half of them."""
    right = {0.0: 0, 1.0: 0, 8.0: 0}
    for k in range(40):
        for epsilon in right:
            behaviour = noised(epsilon, secret=b"secret %d" % k)
            stream = feedbacks(with_one_more(600), behaviour)
            stream = (
                stream
                if k % 2
                else zeroed(stream, "one")
                if epsilon
                else [each for each in stream if each.event.user_id != "one"]
            )
            right[epsilon] += attacked(behaviour, stream) == bool(k % 2)
    assert right[0.0] == 40
    assert right[1.0] == right[8.0] == 20, "nothing is found, so every other answer is right"


def test_who_knows_all_others_guesses_little_better_of_a_common_item_than_epsilon_allows():
    """The best attack on a count, with everything else known: is what is told above what is without the user by half?
    Of 1,000 secrets, on either side.
    """
    behaviour = noised(1.0, contributions=1, pairs=1)
    deviation = budget_of(behaviour.noise).counts
    stream = feedbacks(with_one_more(95, ("i0",)), behaviour)
    without, guessed = zeroed(stream, "one"), []
    for of in (stream, without):
        behaviours = [noised(1.0, secret=b"s%d" % k, contributions=1, pairs=1, release=96) for k in range(1000)]
        told = []
        for each in behaviours:
            signals = NoisedSignals(each)
            updates(each, of, signals)
            blocks = signals.blocks
            rows = {"i0": 0}
            names = [(blocks._name("i0"), 0)]
            told.append(blocks._sums("counts", names, blocks._amounts("liked", rows))[0, 0])
        guessed.append(np.array(told))
    middle = (guessed[0].mean() + guessed[1].mean()) / 2
    assert guessed[0].std() == pytest.approx(deviation, rel=0.1)
    true, false = np.mean(guessed[0] > middle), np.mean(guessed[1] > middle)
    sampling = 4 * math.sqrt(0.25 / 1000)
    assert true <= math.e * false + behaviour.noise.delta + (1 + math.e) * sampling
    assert true < 0.65 + sampling


def test_two_runs_that_differ_in_one_user_have_no_noise_in_common():
    """Else their difference would be what the user took, without noise."""
    behaviour = noised(release=400)
    stream = feedbacks(with_one_more(1000), behaviour)
    sums = []
    for of in (stream, zeroed(stream, "one")):
        signals = NoisedSignals(behaviour)
        updates(behaviour, of, signals)
        blocks = signals.blocks
        names = [(k, 0) for k in range(400)]
        blocks.held = type(blocks.held)([blocks.held[1]])
        blocks._keys = type(blocks._keys)([blocks._keys[1]])
        sums.append(blocks._sums("counts", names, np.zeros((400, 1)))[0])
    assert abs(np.corrcoef(sums)[0, 1]) < 0.2
    assert np.std(sums[0] - sums[1]) == pytest.approx(math.sqrt(2) * budget_of(behaviour.noise).counts, rel=0.15)


def test_the_same_events_and_secret_tell_the_same_and_another_secret_other_numbers():
    stream = feedbacks(events(1500), noised())
    first, again, other = (updates(noised(secret=key), stream) for key in (b"a", b"a", b"b"))
    assert [*map(encode, first)] == [*map(encode, again)] != [*map(encode, other)]
    assert any(update.ids for update in first)


@pytest.mark.parametrize("cut", [130, 555, 700])
def test_restored_it_goes_on_as_if_nothing_had_happened(cut):
    behaviour = noised()
    stream, entries = feedbacks(events(1500), behaviour), DictEntries()
    whole = [*map(encode, updates(behaviour, stream))]
    first = NoisedSignals.restore(behaviour, 0, Journal(entries, limit=37))
    told = updates(behaviour, stream[:cut], first)
    second = NoisedSignals.restore(behaviour, 0, Journal(DictEntries(entries), limit=37))
    told += updates(behaviour, stream[cut:], second)
    assert [*map(encode, told)] == whole
    assert second.spent() == Accountant(behaviour.noise).spent(len(second.kept.windows))


def test_after_an_erasure_no_log_names_the_user():
    behaviour, entries = noised(), DictEntries()
    signals = NoisedSignals.restore(behaviour, 0, Journal(entries))
    stream = feedbacks([Event("e1", "click", "canary", T0, "i"), Event("e2", "erase", "canary", T0 + 1)], behaviour)
    signals.learn(stream[0])
    assert any(b"canary" in value for value in entries.values())
    signals.learn(stream[1])
    assert signals.due() and signals.updates() == []
    assert not any(b"canary" in value for value in entries.values())


def test_a_block_ends_with_its_window_and_what_is_late_for_it_counts_nothing():
    behaviour = noised(window=HOUR, release=1000)
    stream = feedbacks(
        [Event("a", "click", "u", T0, "i1"), Event("b", "click", "v", T0 + HOUR, "i2"),
         Event("c", "click", "w", T0 + 1, "i3"), Event("d", "click", "w", T0 + 2 * HOUR, "i4")],
        behaviour,
    )  # fmt: skip
    signals = NoisedSignals(behaviour)
    assert [update.events for update in updates(behaviour, stream, signals)] == [1, 3]
    assert [block.liked for block in signals.blocks.held] == [{"i1": 1.0}, {"i2": 1.0}]


def test_state_with_noise_and_without_do_not_go_on_from_each_other():
    behaviour, kept, bare = noised(), DictEntries(), DictEntries()
    NoisedSignals.restore(behaviour, 0, Journal(kept))
    Signals.restore(noised(0.0), 0, Journal(bare))
    with pytest.raises(StateRefused, match="made with noise"):
        Signals.restore(noised(0.0), 0, Journal(kept))
    with pytest.raises(StateRefused, match="made without noise"):
        NoisedSignals.restore(behaviour, 0, Journal(bare))
    with pytest.raises(StateRefused, match=r"noise\.window = 86400000"):
        NoisedSignals.restore(noised(window=HOUR), 0, Journal(kept))


def test_what_is_told_takes_the_place_of_all_that_was_told():
    """An item that is no longer above the threshold counts nothing, and has no list."""
    behaviour = noised(window=HOUR, release=300)
    often = [Event(f"x{k}", "click", f"u{k // 2}", T0, "ab"[k % 2]) for k in range(1200)]
    never = [Event(f"y{k}", "click", f"v{k // 2}", T0 + HOUR, "cd"[k % 2]) for k in range(9000)]
    index, rows = ItemIndex(behaviour), {}
    for update in updates(behaviour, feedbacks(often + never, behaviour)):
        index.apply(update)
        rows[update.events] = {
            item_id: index.table.stats[index.row(item_id), POPULARITY] for item_id in "abcd" if index.row(item_id) >= 0
        }
    assert rows[1200]["a"] > 400
    assert index.row("b") in index.table.neighbours[index.row("a")] or rows[10_200]["a"] == 0.0
    last = rows[max(rows)]
    assert (last["a"], last["b"]) == (0.0, 0.0) and last["c"] > 1000
    assert (index.table.neighbours[index.row("a")] == -1).all()
    assert index.row("d") in index.table.neighbours[index.row("c")]
