"""SESSION: what one user's event means. Removes redeliveries, sets late events aside, joins impressions with what
follows them, and hands every learner a feedback that carries the history it needs.

An event's fate depends on that user's own events and their times alone.
"""

from bisect import bisect_right
from struct import Struct
from typing import NamedTuple

import numpy as np
from riverrank.operators.recent import Recent
from riverrank.operators.settings import Behaviour, EmbeddingSettings, RankerSettings, RewardSettings
from riverrank.operators.signals.pairs import paired_with
from riverrank.state.event_types import EVENT_TYPES, INTERACTIONS
from riverrank.state.hashing import hash64, shard_of, uniform
from riverrank.state.messages import Feedback, History, Outcome, Seen
from riverrank.state.records import Event, Reject
from riverrank.state.sessions import OpenImpression, SessionState, decode_session, encode_session

MAX_ATTRIBUTES = 32
SAMPLING_BUCKET_MS = 3_600_000  # milliseconds of event time within which a user's feedbacks are sampled together
_UINT64, _INT64 = Struct("<Q"), Struct("<q")


class Accepted(NamedTuple):
    """What became of an event: a feedback, or a reject, or neither for a redelivery. `state` None: nothing is kept."""

    state: bytes | None
    feedback: Feedback | None = None
    reject: Reject | None = None


def reward_of(event: Event, settings: RewardSettings) -> float:
    """What `event` is worth, from the weight of its type; 0 for an event that is no interaction.

    >>> reward_of(Event("e", "rate", "u", 1, "i", 5.0), RewardSettings())
    1.0
    """
    entry = EVENT_TYPES[event.type]
    if not entry.interaction:
        return 0.0
    if entry.is_rating:
        return 1.0 if (event.value or 0.0) >= settings.rate_from else -1.0
    return float(getattr(settings, event.type, entry.reward) or 0.0)


class Session:
    """The logic of SESSION for any user: all it knows of one is in the bytes it is handed.

    >>> session = Session(Behaviour())
    >>> click = Event("e-1", "click", "u", 1000, "i")
    >>> first = session.accept(click, None)
    >>> first.feedback.reward, session.accept(click, first.state).feedback
    (1.0, None)
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.sent = 0
        self.recent: Recent[SessionState] = Recent()

    def accept(self, event: Event, state: bytes | None) -> Accepted:
        """Take one event of a user, with the state that was returned for the last one (None at first)."""
        session = self.recent.pop(event.user_id, state) or decode_session(state)
        accepted = self._accept(event, state, session)
        if accepted.state is not None and event.type != "erase":
            self.recent.put(event.user_id, accepted.state, session)
        return accepted

    def _accept(self, event: Event, state: bytes | None, session: SessionState) -> Accepted:
        """See `accept`: `session` is what `state` holds, and what is returned holds it as it is then, or is `state`."""
        identity = _UINT64.pack(hash64(event.event_id))
        if self._is_known(session, identity):
            return Accepted(state)
        if event.type == "erase":
            return self._erase(event, identity, state, session)
        lateness = self.behaviour.allowed_lateness
        if event.ts < session.newest - lateness or event.ts <= session.floor:
            detail = f"ts: {event.ts} is older than the user's newest event {session.newest} by more than {lateness} ms"
            self._remember(session, identity, session.newest)
            return Accepted(encode_session(session), reject=Reject("late", detail))
        if session.epoch and event.ts <= session.epoch:
            return Accepted(state)  # from before the erasure: redelivered, or what the user asked to forget
        session.newest = max(session.newest, event.ts)
        self._remember(session, identity, event.ts)
        reward = reward_of(event, self.behaviour.reward)
        outcomes = self._resolve(session, event, reward)
        if event.type == "profile":
            merged = {**session.attributes, **(event.attributes or {})}
            session.attributes = dict(list(merged.items())[-MAX_ATTRIBUTES:])
        feedback = Feedback(event, reward, session.history, outcomes, session.attributes, session.epoch)
        entry = EVENT_TYPES[event.type]
        if entry.interaction and event.item_id is not None:
            seen = Seen(event.item_id, event.ts, reward, entry.code)
            session.history = _extended(session.history, seen, self.behaviour.history.size)
        elif event.type == "impression" and event.items:
            items = tuple(dict.fromkeys(event.items))
            session.impressions.append(
                OpenImpression(event.event_id, event.ts, items, bytes(len(items)), event.slate_id)
            )
        return Accepted(encode_session(session), feedback)

    def routes(self, feedback: Feedback) -> tuple[int, ...]:
        """The shards of SIGNALS that have something to learn from `feedback`: those of the items it is about, and where
        it is positive those of what it is paired with, items taken before and the user's cohorts.
        """
        event, shards = feedback.event, self.behaviour.signals.shards
        if event.type == "erase":
            return tuple(range(shards))  # each has told of the user in its own time
        if not (feedback.outcomes or event.type in INTERACTIONS):
            return ()
        if shards == 1:
            return (0,)
        names = [item_id for outcome in feedback.outcomes for item_id in outcome.items]
        if event.item_id is not None and event.type in INTERACTIONS:
            names.append(event.item_id)
            past, members = paired_with(feedback, self.behaviour.signals.window)
            names += [*past, *members]
        return tuple(sorted({shard_of(name, shards) for name in names}))

    def draw_sample(self, feedback: Feedback) -> bool:
        """Whether RANKER learns from `feedback`: always during this instance's warm-up, then a share of them.

        A user's feedbacks of one SAMPLING_BUCKET_MS go together: a choice is learned from the answer before it.
        """
        if not (feedback.outcomes or feedback.reward > 0):
            return False
        self.sent += 1
        if self.sent <= self.behaviour.embedding.warmup_events:
            return True
        event = feedback.event
        stretch = f"sample:{event.user_id}:{event.ts // SAMPLING_BUCKET_MS}"
        return drawn(self.behaviour.embedding, self.sent, self.behaviour.seed, stretch)

    def _erase(self, event: Event, identity: bytes, state: bytes | None, session: SessionState) -> Accepted:
        """All goes but the mark of the erasure itself: its time, and its id. One that is no newer than the mark does
        nothing: it is a redelivery, however late, or asks to forget what is forgotten.
        """
        if session.epoch and event.ts <= session.epoch:
            return Accepted(state)
        epoch = max(event.ts, 1)  # 0 is none
        mark = SessionState(epoch=epoch, hashes=identity, times=_UINT64.pack(event.ts))
        return Accepted(encode_session(mark), Feedback(event, 0.0, History(), epoch=epoch))

    def _is_known(self, session: SessionState, identity: bytes) -> bool:
        """Whether an event of that id was accepted, or late, and could still be in time. Costs 1 us for 300 ids."""
        oldest = session.newest - self.behaviour.allowed_lateness
        at = session.hashes.find(identity)
        while at >= 0:
            if not at % 8 and _UINT64.unpack_from(session.times, at)[0] >= oldest:
                return True
            at = session.hashes.find(identity, at + 1)
        return False

    def _remember(self, session: SessionState, identity: bytes, ts: int) -> None:
        """Keep the id for as long as its event could still be in time; what room is lacking for counts as late.

        Of ids that are too old, those before the first that is not are forgotten at once, the others where their room
        is needed.
        """
        oldest = session.newest - self.behaviour.allowed_lateness
        times, end, past = session.times, len(session.times), 0  # the last in bytes
        while past < end and _UINT64.unpack_from(times, past)[0] < oldest:
            past += 8
        if past:
            session.hashes, session.times = session.hashes[past:], times[past:]
        if len(session.hashes) >= 8 * self.behaviour.history.event_ids:
            self._make_room(session, oldest)
        session.hashes += identity
        session.times += _UINT64.pack(ts)

    def _make_room(self, session: SessionState, oldest: int) -> None:
        """Forget the ids that are too old, then the oldest, until there is room for one more."""
        hashes, times = np.frombuffer(session.hashes, "<u8"), np.frombuffer(session.times, "<u8")
        in_time = times >= max(oldest, 0)
        hashes, times = hashes[in_time], times[in_time]
        room = self.behaviour.history.event_ids - 1
        if len(times) > room:
            order = np.argsort(times, kind="stable")
            session.floor = max(session.floor, int(times[order[-room - 1]]))
            hashes, times = hashes[order[-room:]], times[order[-room:]]
        session.hashes, session.times = hashes.tobytes(), times.tobytes()

    def _resolve(self, session: SessionState, event: Event, reward: float) -> tuple[Outcome, ...]:
        """Mark what the event answers, and close the impressions that are over: by time, or for want of room."""
        if not session.impressions:
            return ()
        window, most = self.behaviour.impression.window, self.behaviour.impression.max_open
        if event.item_id is not None and reward > 0:
            for impression in session.impressions:
                if impression.ts <= event.ts <= impression.ts + window and event.item_id in impression.items:
                    at = impression.items.index(event.item_id)
                    impression.labels = impression.labels[:at] + b"\1" + impression.labels[at + 1 :]
        room = most - 1 if event.type == "impression" else most
        over = len(session.impressions) - room
        closed: list[OpenImpression] = []
        still_open: list[OpenImpression] = []
        for position, impression in enumerate(session.impressions):
            done = position < over or session.newest > impression.ts + window
            (closed if done else still_open).append(impression)
        session.impressions = still_open
        return tuple(Outcome(i.event_id, i.ts, i.items, tuple(i.labels), i.slate_id) for i in closed)


def _extended(history: History, seen: Seen, size: int) -> History:
    """The last `size` of the history with an interaction put in by time; of equal times the later arrival is newer."""
    if not history.items or _INT64.unpack_from(history.ts, len(history.ts) - 8)[0] <= seen.ts:
        extended = history.appended(seen)
        return extended if len(extended.items) <= size else extended[-size:]
    entries = list(history)
    entries.insert(bisect_right(entries, seen.ts, key=lambda entry: entry.ts), seen)
    return History.of(entries[-size:])


def drawn(settings: EmbeddingSettings | RankerSettings, number: int, seed: int, text: str) -> bool:
    """Whether the `number`-th feedback is learned from: all in the warm-up, then a share that `text` draws for."""
    return number <= settings.warmup_events or uniform(seed, text) < settings.sample
