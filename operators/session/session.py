"""SESSION: what one user's event means. Removes redeliveries, sets late events aside, joins impressions with what
follows them, and hands every learner a feedback that carries the history it needs.

An event's fate depends on that user's own events and their times alone.
"""

from typing import NamedTuple

import numpy as np
from riverrank.operators.settings import Behaviour, EmbeddingSettings, RankerSettings, RewardSettings
from riverrank.state.hashing import hash32, hash64, uniforms
from riverrank.state.messages import Feedback, Outcome, Seen
from riverrank.state.records import INTERACTIONS, Event, Reject
from riverrank.state.sessions import OpenImpression, SessionState, decode_session, encode_session

_ID = np.dtype([("hash", "<u8"), ("ts", "<u8")])
MAX_ATTRIBUTES = 32
SAMPLING_BUCKET_MS = 3_600_000  # milliseconds of event time within which a user's feedbacks are sampled together


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
    if event.type not in INTERACTIONS:
        return 0.0
    if event.type == "rate":
        return 1.0 if (event.value or 0.0) >= settings.rate_from else -1.0
    return float(getattr(settings, event.type))


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

    def accept(self, event: Event, state: bytes | None) -> Accepted:
        """Take one event of a user, with the state that was returned for the last one (None at first)."""
        session = decode_session(state)
        ids = np.frombuffer(session.ids, _ID)
        identity = hash64(event.event_id)
        if (ids["hash"] == identity).any():
            return Accepted(state)
        if event.type == "erase":
            return self._erase(event, identity, session)
        lateness = self.behaviour.allowed_lateness
        oldest = session.newest - lateness
        if event.ts < oldest or event.ts <= session.floor:
            detail = f"ts: {event.ts} is older than the user's newest event {session.newest} by more than {lateness} ms"
            self._remember(session, ids, identity, session.newest)
            return Accepted(encode_session(session), reject=Reject("late", detail))
        if session.epoch and event.ts <= session.epoch:
            return Accepted(state)  # from before the erasure: redelivered, or what the user asked to forget
        session.newest = max(session.newest, event.ts)
        self._remember(session, ids, identity, event.ts)
        outcomes = self._resolve(session, event)
        if event.type == "profile":
            merged = {**session.attributes, **(event.attributes or {})}
            session.attributes = dict(list(merged.items())[-MAX_ATTRIBUTES:])
        reward = reward_of(event, self.behaviour.reward)
        feedback = Feedback(event, reward, tuple(session.history), outcomes, session.attributes, session.epoch)
        if event.item_id is not None and event.type in INTERACTIONS:
            self._extend(session, Seen(event.item_id, event.ts, reward, INTERACTIONS.index(event.type)))
        elif event.type == "impression" and event.items:
            items = tuple(dict.fromkeys(event.items))
            session.impressions.append(
                OpenImpression(event.event_id, event.ts, items, [0] * len(items), event.slate_id)
            )
        return Accepted(encode_session(session), feedback)

    def routes(self, feedback: Feedback) -> tuple[int, ...]:
        """The shards of SIGNALS that have something to learn from `feedback`: those of the items it is about."""
        event, shards = feedback.event, self.behaviour.signals.shards
        if event.type == "erase":
            return tuple(range(shards))  # each has told of the user in its own time
        if not (feedback.outcomes or event.type in INTERACTIONS):
            return ()
        if shards == 1:
            return (0,)
        window = self.behaviour.signals.window
        names = [item_id for outcome in feedback.outcomes for item_id in outcome.items]
        if event.item_id is not None and event.type in INTERACTIONS:
            names += [event.item_id, *(seen.item_id for seen in feedback.history[-window:])]
        return tuple(sorted({hash32(name) % shards for name in names}))

    def sampled(self, feedback: Feedback) -> bool:
        """Whether RANKER learns from `feedback`: always during this instance's warm-up, then a share of them.

        A user's feedbacks of one SAMPLING_BUCKET_MS go together: a choice is learned from the answer before it.
        """
        if not (feedback.outcomes or feedback.reward > 0):
            return False
        self.sent += 1
        event = feedback.event
        stretch = f"sample:{event.user_id}:{event.ts // SAMPLING_BUCKET_MS}"
        return drawn(self.behaviour.embedding, self.sent, self.behaviour.seed, stretch)

    def _erase(self, event: Event, identity: int, session: SessionState) -> Accepted:
        """All goes but the mark of the erasure itself: its time, and its id, so that its redelivery does nothing."""
        ids = np.array([(identity, event.ts)], _ID).tobytes()
        epoch = max(event.ts, session.epoch + 1)
        return Accepted(encode_session(SessionState(epoch=epoch, ids=ids)), Feedback(event, 0.0, (), epoch=epoch))

    def _remember(self, session: SessionState, ids: np.ndarray, identity: int, ts: int) -> None:
        """Keep the id for as long as its event could still be in time; what room is lacking for counts as late."""
        in_time = ids["ts"] + self.behaviour.allowed_lateness >= session.newest
        if not in_time.all():
            ids = ids[in_time]
        room = self.behaviour.history.event_ids - 1
        if len(ids) > room:
            ids = ids[np.argsort(ids["ts"], kind="stable")]
            session.floor = max(session.floor, int(ids["ts"][len(ids) - room - 1]))
            ids = ids[len(ids) - room :]
        session.ids = ids.tobytes() + np.array([(identity, ts)], _ID).tobytes()

    def _resolve(self, session: SessionState, event: Event) -> tuple[Outcome, ...]:
        """Mark what the event answers, and close the impressions that are over: by time, or for want of room."""
        if not session.impressions:
            return ()
        window, most = self.behaviour.impression.window, self.behaviour.impression.max_open
        if event.item_id is not None and reward_of(event, self.behaviour.reward) > 0:
            for impression in session.impressions:
                if impression.ts <= event.ts <= impression.ts + window and event.item_id in impression.items:
                    impression.labels[impression.items.index(event.item_id)] = 1
        room = most - 1 if event.type == "impression" else most
        over = len(session.impressions) - room
        closed: list[OpenImpression] = []
        still_open: list[OpenImpression] = []
        for position, impression in enumerate(session.impressions):
            done = position < over or session.newest > impression.ts + window
            (closed if done else still_open).append(impression)
        session.impressions = still_open
        return tuple(Outcome(i.event_id, i.ts, i.items, tuple(i.labels), i.slate_id) for i in closed)

    def _extend(self, session: SessionState, seen: Seen) -> None:
        """Put an interaction in its place by time, newest last; of equal times the later arrival is the newer."""
        history = session.history
        position = len(history)
        while position and history[position - 1].ts > seen.ts:
            position -= 1
        history.insert(position, seen)
        del history[: -self.behaviour.history.size]


def drawn(settings: EmbeddingSettings | RankerSettings, number: int, seed: int, text: str) -> bool:
    """Whether the `number`-th feedback is learned from: all in the warm-up, then a share that `text` draws for."""
    return number <= settings.warmup_events or bool(uniforms(seed, text, 1)[0] < settings.sample)
