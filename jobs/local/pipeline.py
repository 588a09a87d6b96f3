"""The job's operators in one process, without Flink: the one place that wires them, for `replay`, `evaluate`, `drift`,
`starters`, `check` and tests.

What is broadcast in the job is applied here at once. Records and outputs are handed in: it opens nothing.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec
from riverrank.operators.cache.redis_cache import slate_key
from riverrank.operators.export.learner import learner_pieces
from riverrank.operators.export.sessions import session_pieces
from riverrank.operators.flink.arrivals import Arrival, event_of, item_of, wall_ms
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.models.weights import SHARD
from riverrank.operators.privacy.ranker import ranker_of
from riverrank.operators.privacy.signals import NoisedSignals, signals_of
from riverrank.operators.published.gone import Gone
from riverrank.operators.published.lists import ItemLists
from riverrank.operators.session.session import Accepted, Session
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.signals import Signals
from riverrank.operators.slate.recommend import Answer, Recommend, receipt_of
from riverrank.operators.tally import Tally
from riverrank.state.event_types import ASKING, EXPORT
from riverrank.state.messages import CacheWrite, CatalogueUpdate, Feedback, Update
from riverrank.state.outputs import PREDICTIONS, PREVIEWS, Origin, Records
from riverrank.state.records.decoding import Reject, dead_letter
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import Part

Write = Callable[[str, bytes | None], None]  # takes the key and the JSON of one record; None is a tombstone


class Rejected(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A record of the events stream that cannot be used."""

    arrival: Arrival
    reject: Reject


class Redelivery(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """An event that was accepted before."""


class Answered(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """What RECOMMEND made of the feedback of `event`, whose `epoch` is the user's then."""

    event: Event
    epoch: int
    answer: Answer


class Exported(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """What a part keeps of the user of an export, as records; of RECOMMEND it is what answers it."""

    event: Event
    part: Part
    pieces: tuple[bytes, ...]


# What SESSION and the learners of everyone make of events: all that RECOMMEND and the outputs hear of them. A feedback
# may have been answered elsewhere.
Message = Feedback | Update | Rejected | Redelivery | Answered | Exported


class CacheWriter(Protocol):
    """Where slates are cached: `jobs.local.cache.LocalCache`."""

    def put(self, write: CacheWrite) -> None: ...


class Intake:
    """SESSION for all users.

    >>> intake = Intake(Behaviour())
    >>> click = Event("e-1", "click", "u", 1000, "i")
    >>> intake.accept(click).feedback.reward, intake.accept(click).feedback
    (1.0, None)
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.session = Session(behaviour)
        self.states: dict[str, bytes] = {}  # by user

    def accept(self, event: Event) -> Accepted:
        """What an event means."""
        accepted = self.session.accept(event, self.states.get(event.user_id))
        _keep(self.states, event.user_id, accepted.state)
        return accepted

    def close(self) -> Iterator[Feedback]:
        """What is to be learned from the impressions that wait at the end of the input, user by user."""
        for user_id, state in list(self.states.items()):
            accepted = self.session.close(state)
            _keep(self.states, user_id, accepted.state)
            if accepted.feedback is not None:
                yield accepted.feedback


class Lessons:
    """SIGNALS and RANKER, and the index that takes what they learned as soon as they tell it."""

    def __init__(self, behaviour: Behaviour, session: Session) -> None:
        self.session = session
        self.index = ItemIndex(behaviour)
        learns = signals_of(behaviour)
        self.signals = [learns(behaviour, shard) for shard in range(behaviour.signals.shards)]
        self.ranker = ranker_of(behaviour)(behaviour, self.index)
        self.learners: tuple[Signals | NoisedSignals | Ranker, ...] = (*self.signals, self.ranker)

    def item(self, item: Item) -> None:
        """Take an item of the catalogue."""
        self.index.apply(CatalogueUpdate(item))

    def learn(self, feedback: Feedback) -> list[Update]:
        """Learn what a feedback tells of items, and of their order; the updates that are due, and in the index now."""
        if self.session.draw_sample(feedback):
            self.ranker.learn(feedback)
        for shard in self.session.routes(feedback):
            self.signals[shard].learn(feedback)
        applied: list[Update] = []
        for learner in self.learners:
            if learner.due():
                applied += self._applied(learner.updates())
        return applied

    def finish(self) -> Iterator[Update]:
        """What was learned and not told yet, in the index as it is yielded."""
        self.ranker.embedding.settle()
        for learner in self.learners:
            yield from self._applied(learner.updates())
        while (moved := self.ranker.embedding.moved(SHARD)) is not None:
            yield from self._applied([moved])

    def _applied(self, updates: Sequence[Update]) -> Sequence[Update]:
        for update in updates:
            self.index.apply(update)
        return updates


class Pipeline:
    """All operators in a row, for one record at a time.

    >>> slates = []
    >>> pipeline = Pipeline(Behaviour(), {"slates": lambda key, value: slates.append(key)})
    >>> answer = pipeline.event(Arrival(0, 0, 0, b'{"event_id":"e","type":"request","user_id":"u","ts":1}'))
    >>> answer.version, slates
    (1, ['u'])
    """

    def __init__(
        self,
        behaviour: Behaviour,
        outputs: Mapping[str, Write] | None = None,
        cache: CacheWriter | None = None,
        popular_every: int = 10_000,
        ttl_ms: int = 0,
        topics: Mapping[str, str] | None = None,
        told: bool = False,
        lists: float = 0.0,
        depth: int = 0,
    ) -> None:
        """`outputs` are those of `state.outputs.OUTPUTS` that go anywhere, by name; `popular_every` in milliseconds.
        `ttl_ms`: how long slates are cached, 0 for ever. `topics` are what dead letters call `events` and `items`, if
        otherwise; `told`: whether slates go to a topic, which an erasure is told to by a tombstone. `lists`: of items
        how many are made for the cache with each answer; `depth`: places of a slate in the cache, 0 for its own.
        """
        self.behaviour = behaviour
        self.told = told
        self.outputs = dict(outputs or {})
        self.cache = cache
        self.topics = {"events": "events", "items": "items", **(topics or {})}
        self.intake = Intake(behaviour)
        self.lessons = Lessons(behaviour, self.intake.session)
        self.index = self.lessons.index
        read = {"predict": PREDICTIONS.name in self.outputs, "preview": PREVIEWS.name in self.outputs}
        per_answer, depth = (lists, depth) if cache is not None else (0.0, 0)
        self.recommend = Recommend(behaviour, self.index, **read, popular_every=popular_every, depth=depth)
        self.ttl_ms = ttl_ms
        counts = self.recommend.counts
        self.lists = ItemLists(self.index, per_answer, ttl_ms, popular_every, wall_ms, counts=counts)
        self.users: dict[str, bytes] = {}  # what RECOMMEND keeps, by user
        self.slates = 0
        self.tally = Tally()
        self._answers, self._rejects, self._receipts, self._exports = (
            Records(origin, self.outputs) for origin in (Origin.ANSWER, Origin.REJECT, Origin.RECEIPT, Origin.EXPORT)
        )

    def item(self, arrival: Arrival) -> None:
        """Take a record of the items stream."""
        item = item_of(arrival, self.behaviour)
        if isinstance(item, Item):
            self.lessons.item(item)
        else:
            self._reject(arrival, item, self.topics["items"])

    def open(self) -> None:
        """To be called once the catalogue is read: tell the cache what it has to know of it."""
        if self.cache is not None:
            for write in Gone(self.index, self.ttl_ms, wall_ms).first():
                self.cache.put(write)
        self.refresh_popular()

    def event(self, arrival: Arrival) -> Answer | None:
        """Take a record of the events stream; None where it is not to be answered, or cannot be used."""
        return self.take(event_of(arrival, self.behaviour), arrival)

    def take(self, event: Event | Reject, arrival: Arrival) -> Answer | None:
        """Take an event, which came as `arrival`."""
        answer = None
        for message in self.messages(event, arrival):
            answer = self.hear(message) or answer
        return answer

    def messages(self, event: Event | Reject, arrival: Arrival) -> Iterator[Message]:
        """What SESSION and the learners of everyone make of an event: its feedback, and what they tell once they
        learned from it, which they do when the next message is asked for.
        """
        if isinstance(event, Reject):
            yield Rejected(arrival, event)
            return
        before = self.intake.states.get(event.user_id)
        accepted = self.intake.accept(event)
        if accepted.reject is not None:
            yield Rejected(arrival, accepted.reject)
        if accepted.feedback is not None and event.type in ASKING:
            if event.type == EXPORT and self._exports:
                yield Exported(event, "sessions", session_pieces(event, before))
            yield accepted.feedback
        elif accepted.feedback is not None:
            yield accepted.feedback
            yield from self.lessons.learn(accepted.feedback)
        elif accepted.reject is None:
            yield Redelivery()

    def last_messages(self) -> Iterator[Message]:
        """What SESSION and the learners of everyone tell at the end of the input."""
        yield from self.intake.close()
        yield from self.lessons.finish()

    def hear(self, message: Message) -> Answer | None:
        """Answer a feedback, and write what a message is to be written as. What an update tells is in the index."""
        if isinstance(message, Feedback):
            message = self.answer(message)
        if isinstance(message, Answered):
            self.tally.accepted += 1
            self._tell(message)
            return message.answer
        if isinstance(message, Exported):
            self._tell_export(message)
        elif isinstance(message, Rejected):
            self._reject(message.arrival, message.reject, self.topics["events"])
        elif isinstance(message, Redelivery):
            self.tally.redelivered += 1
        else:
            self.refresh_popular()
        return None

    def answer(self, feedback: Feedback) -> Answered | Exported:
        """Learn from a feedback, and answer it. Nothing is written: to `hear` what was answered is to do that."""
        user_id = feedback.event.user_id
        if feedback.event.type == EXPORT:
            return self._export(feedback.event)
        answer = self.recommend.answer(feedback, self.users.get(user_id))
        _keep(self.users, user_id, answer.state)
        return Answered(feedback.event, feedback.epoch, answer)

    def answer_apart(self, message: Feedback | Update) -> Answered | Exported | None:
        """Take a message in another process than that which is to `hear` what is answered: an answer to a feedback, but
        for the user's state, which stays here; and None for an update, which is in the index of this process then.
        """
        if isinstance(message, Feedback):
            answered = self.answer(message)
            if isinstance(answered, Exported):
                return answered
            return msgspec.structs.replace(answered, answer=answered.answer._replace(state=None))
        self.index.apply(message)
        return None

    def refresh_popular(self, *, last: bool = False) -> None:
        """Put what is for whoever comes in the cache, where it is time for it, or this is the `last` time."""
        if self.cache is None:
            return
        write = self.recommend.popular(self.index.meta.ts, last=last)
        if write is not None:
            self.cache.put(write)
        for write in self.lists.after_update(self.index.meta.ts, last=last):
            self.cache.put(write)

    def learners_digest(self) -> str:
        """The digest of all learners."""
        return learners_digest(self.users)

    def _tell(self, answered: Answered) -> None:
        event, epoch, answer = answered.event, answered.epoch, answered.answer
        self._write(self._answers, event.user_id, answer)
        if answer.slate is not None:
            self.slates += 1
            if self.cache is not None:
                self.cache.put(CacheWrite(slate_key(event.user_id), epoch, answer.version, answer.cached))
                for write in self.lists.after_answer():
                    self.cache.put(write)
        if answer.erased:
            self._erase(event, epoch)

    def _export(self, event: Event) -> Exported:
        """What RECOMMEND keeps of the user."""
        if not self._exports:
            return Exported(event, "learner", ())
        state, names = self.users.get(event.user_id), self.recommend.control.learners.names
        then: Part | None = None if self.cache is None else "cache"
        return Exported(event, "learner", learner_pieces(event, state, self.index, names, then))

    def _tell_export(self, exported: Exported) -> None:
        event = exported.event
        self._write(self._exports, event.user_id, exported.pieces)
        if exported.part == "learner":
            self.tally.accepted += 1
            if self.cache is not None and self._exports:
                self.cache.put(CacheWrite(slate_key(event.user_id), 0, 0, None, asked=event))

    def _erase(self, event: Event, epoch: int) -> None:
        receipt = receipt_of(event, told=self.told, cached=self.cache is not None)
        if self.cache is None:
            self._write(self._receipts, event.user_id, receipt)
        else:
            self.cache.put(CacheWrite(slate_key(event.user_id), epoch, 0, None, receipt))

    def _reject(self, arrival: Arrival, reject: Reject, topic: str) -> None:
        self.tally.refuse(topic, arrival.offset, reject)
        if self._rejects:
            letter = dead_letter(arrival.value, reject, topic, arrival.partition, arrival.offset, arrival.ts)
            self._write(self._rejects, "", letter)

    def _write(self, records: Records, user_id: str, thing: object) -> None:
        for name, key, value in records.of(user_id, thing):
            self.outputs[name](key, value)


def learners_digest(users: Mapping[str, bytes]) -> str:
    """SHA-256 over what RECOMMEND keeps of all users: two runs with the same learners have the same.

    >>> learners_digest({"u": b"1", "v": b"2"}) == learners_digest({"v": b"2", "u": b"1"})
    True
    """
    digest = hashlib.sha256()
    for user_id in sorted(users):
        name = user_id.encode("utf-8", "surrogatepass")
        for part in (name, users[user_id]):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _keep(states: dict[str, bytes], user_id: str, state: bytes | None) -> None:
    if state is None:
        states.pop(user_id, None)
    else:
        states[user_id] = state
