"""What tests of SIGNALS share: a stream of feedbacks, the lists that come of it, and what a restore makes of them."""

import random

from riverrank.operators.settings import Behaviour, SignalSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.item_tables import ItemTable
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import Feedback, Seen
from riverrank.state.records.incoming import Event

SMALL = Behaviour(signals=SignalSettings(neighbours=8, items=200, flush_events=7))


def made_stream(n: int, items: int = 60, seed: int = 1) -> list[Feedback]:
    rng = random.Random(seed)
    feedbacks = []
    past: dict[int, list[Seen]] = {}
    for k in range(n):
        user = rng.randrange(10)
        item = f"i{(user % 3) * 20 + rng.randrange(20)}" if rng.random() < 0.8 else f"i{rng.randrange(items)}"
        history = past.setdefault(user, [])
        reward = 1.0 if rng.random() < 0.9 else -1.0
        event = Event(f"e{k}", "click" if reward > 0 else "dislike", f"u{user}", 1000 + k, item)
        feedbacks.append(Feedback(event, reward, tuple(history[-50:]), attributes={"band": str(user % 2)}))
        history.append(Seen(item, 1000 + k, reward))
    return feedbacks


def lists_of(table: ItemTable) -> dict[str, dict[str, tuple[float, ...]]]:
    """Each row's neighbours by name, with their weights."""
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for name, row in table.rows.items():
        held = [(position, n) for position, n in enumerate(table.neighbours[row].tolist()) if n >= 0]
        found[name] = {table.ids[n]: tuple(table.weights[row, position].tolist()) for position, n in held}
    return {name: neighbours for name, neighbours in found.items() if neighbours}


def whole_and_restored(
    behaviour: Behaviour, stream: list[Feedback], *, flushed: bool = False
) -> tuple[Signals, Signals]:
    """What learned the stream at once, and what was restored after 550 feedbacks, until which both are `flushed`."""
    entries = DictEntries()
    whole, first = Signals(behaviour, 0), Signals.restore(behaviour, 0, Journal(entries, limit=100))
    for feedback in stream[:550]:
        for signals in (whole, first):
            signals.learn(feedback)
            signals.flush() if flushed and signals.due() else ()
    second = Signals.restore(behaviour, 0, Journal(DictEntries(entries), limit=100))
    for feedback in stream[550:]:
        whole.learn(feedback)
        second.learn(feedback)
    whole.settle()
    second.settle()
    return whole, second
