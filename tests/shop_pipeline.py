"""The local pipeline as a small shop, for tests that follow single users from event to slate."""

from typing import Any

import msgspec
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.settings import (
    Behaviour,
    DiversitySettings,
    EmbeddingSettings,
    ExplorationSettings,
    SignalSettings,
)
from riverrank.state.outputs import PREDICTIONS
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import Prediction, Slate

# Nothing by chance, each event's signals in the index at once, and a ranker that learns nothing.
PLAIN = Behaviour(
    exploration=ExplorationSettings(rate=0.0),
    diversity=DiversitySettings(strength=0.0),
    signals=SignalSettings(flush_events=1),
    embedding=EmbeddingSettings(warmup_events=0, sample=0.0),
)


class Shop:
    """A catalogue of `items` items of six categories and four brands, and users who act on it one after another."""

    def __init__(self, behaviour: Behaviour = PLAIN, items: int = 60) -> None:
        self.predictions: list[Prediction] = []
        self.pipeline = Pipeline(behaviour, {PREDICTIONS.name: self._predicted})
        self.index, self.recommend = self.pipeline.index, self.pipeline.recommend
        self.users, self.sessions = self.pipeline.users, self.pipeline.intake.states  # bytes, by user
        self.sent = 0
        for k in range(items):
            self.item(f"i{k}", categories=(f"c{k % 6}",), attributes={"brand": f"b{k % 4}"})

    def item(self, item_id: str, ts: int = 1, **fields: Any) -> None:
        """Put an item into the catalogue."""
        self.pipeline.lessons.item(Item(item_id, ts, **fields))

    def send(self, user: str, kind: Any, item: str | None = None, **fields: Any) -> Slate | None:
        """An event, a second after the last one; its slate, None where it is not answered."""
        self.sent += 1
        fields = {"ts": 1000 * self.sent} | fields
        event = Event(f"e{self.sent}", kind, user, fields.pop("ts"), item, **fields)
        answer = self.pipeline.take(event, Arrival(0, self.sent, 0, None))
        return None if answer is None or answer.slate is None else msgspec.json.decode(answer.slate, type=Slate)

    def crowd(self, users: int = 12, events: int = 20) -> None:
        """Users who each keep to one category."""
        for k in range(events):
            for user in range(users):
                self.send(f"crowd{user}", "click", f"i{user % 6 + 6 * ((k * 7 + user) % 10)}")

    def _predicted(self, key: str, value: bytes) -> None:
        self.predictions.append(msgspec.json.decode(value, type=Prediction))


def ids(slate: Slate | None) -> list[str]:
    """The items of a slate, best first."""
    assert slate is not None
    return [slot.item_id for slot in slate.items]


# What is broadcast in the job switched off, so that a learner depends on its user's own events and the catalogue alone:
# then the job's learners are those of replay, byte for byte.
ALONE = {
    "signals": {"flush_events": 10**9, "flush_every": "36500d"},
    "embedding": {"warmup_events": 0, "sample": 0.0},
}
