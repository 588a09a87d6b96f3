"""SESSION: what one user's event means. Removes redeliveries, sets late events aside, joins impressions with what
follows them, and hands every learner a feedback that carries the history it needs.

An event's fate depends on that user's own events and their times alone; the wall clock only closes the impressions of
users who do not come back.
"""

from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple

import msgspec
import numpy as np
from riverrank.operators.recent import Recent
from riverrank.operators.settings import Behaviour, EmbeddingSettings, RankerSettings, RewardSettings
from riverrank.operators.signals.pairs import paired_with
from riverrank.state.event_types import ASKING, EVENT_TYPES, INTERACTIONS, PREVIEW, PREVIEWED, stage_of
from riverrank.state.hashing import hash32, hash64, shard_of, uniform
from riverrank.state.messages import EMPTY, Feedback, History, Outcome, Seen
from riverrank.state.records.bounds import MAX_PROFILE_BYTES
from riverrank.state.records.decoding import Reject
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json
from riverrank.state.sessions import OpenImpression, SessionState, decode_session, encode_session

MAX_ATTRIBUTES = 32
MARKS = 32  # newest interactions whose slates are known, for the impressions that are still to come
LATE_IDS = 64  # ids remembered of a user's late events, so that a redelivery is no second dead letter
SAMPLING_BUCKET_MS = 3_600_000  # milliseconds of event time within which a user's feedbacks are sampled together
NO_MARK = bytes(4)
LEAST_REFUSED = 0.05  # what a rating just below `reward.rate_from` is worth, below 0
_UINT64 = Struct("<Q")


class Accepted(NamedTuple):
    """What became of an event: a feedback, or a reject, or neither for a redelivery. `state` None: nothing is kept.
    `waiting` is how many impressions wait for what follows them.
    """

    state: bytes | None
    feedback: Feedback | None = None
    reject: Reject | None = None
    waiting: int = 0


def reward_of(event: Event, settings: RewardSettings) -> float:
    """What `event` is worth, from the weight of its type; 0 for an event that is no interaction.

    >>> reward_of(Event("e", "rate", "u", 1, "i", 5.0), RewardSettings())
    1.0
    """
    entry = EVENT_TYPES[event.type]
    if not entry.interaction:
        return 0.0
    if entry.is_rating:
        below = settings.rate_from - max(event.value or 0.0, settings.rate_least)
        return 1.0 if below <= 0.0 else -max(below / (settings.rate_from - settings.rate_least), LEAST_REFUSED)
    return float(getattr(settings, event.type, entry.reward) or 0.0)


def within_scale(event: Event, settings: RewardSettings) -> Event:
    """A rating as it is on the scale that the settings say; any other event as it is.

    >>> within_scale(Event("e", "rate", "u", 1, "i", 1e6), RewardSettings()).value
    5.0
    """
    if event.value is None or not EVENT_TYPES[event.type].is_rating:
        return event
    value = min(max(event.value, settings.rate_least), settings.rate_most)
    return event if value == event.value else msgspec.structs.replace(event, value=value)


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

    def accept(self, event: Event, state: bytes | None, now: int = 0) -> Accepted:
        """Take one event of a user, with the state that was returned for the last one (None at first). `now` is the
        wall clock in epoch milliseconds, for `close` to go by.
        """
        session = self.recent.pop(event.user_id, state) or decode_session(state)
        accepted = self._accept(event, state, session, now)
        if accepted.state is not None and event.type != "erase":
            self.recent.put(event.user_id, accepted.state, session)
        return accepted

    def close(self, state: bytes | None, now: int | None = None) -> Accepted:
        """Resolve the impressions of a user who did not come back: those that arrived at least the window before `now`,
        or all where that is None. The feedback, if there is one, is of an event that says nothing, a profile.
        """
        session, window = decode_session(state), self.behaviour.impression.window
        outcomes = _take_out(session, lambda each: now is None or each.arrived + window <= now)
        if not outcomes:
            return Accepted(state, waiting=len(session.impressions))
        self.recent.forget(session.user_id)
        event = Event(outcomes[0].event_id, "profile", session.user_id, max(session.newest, 0))
        feedback = Feedback(event, 0.0, session.history, outcomes, session.attributes, session.epoch)
        _name(session, session.user_id)
        return Accepted(encode_session(session), feedback, waiting=len(session.impressions))

    def _accept(self, event: Event, state: bytes | None, session: SessionState, now: int) -> Accepted:
        """See `accept`: `session` is what `state` holds, and what is returned holds it as it is then, or is `state`."""
        identity = _UINT64.pack(hash64(event.event_id))
        if self._is_known(session, identity):
            return Accepted(state)
        if event.type == "erase":
            return self._erase(event, identity, state, session)
        lateness, waiting = self.behaviour.allowed_lateness, len(session.impressions)
        if event.ts < session.second - lateness:
            second = session.second
            detail = f"ts: {event.ts} is older than the user's second newest event {second} by more than {lateness} ms"
            session.late = (session.late + identity)[-8 * LATE_IDS :]
            return Accepted(encode_session(session), reject=Reject("late", detail), waiting=waiting)
        if session.epoch and event.ts <= session.epoch:  # redelivered, or what the user asked to forget
            return Accepted(state, waiting=waiting)
        if event.type in ASKING:  # all but its id is as it was
            feedback = Feedback(event, 0.0, EMPTY, epoch=session.epoch)
            if event.type == PREVIEW:
                feedback = self._imagine(event, decode_session(state), now)
        else:
            feedback = self._take(event, session, now)
        self._remember(session, identity, event.ts)
        return Accepted(encode_session(session), feedback, waiting=len(session.impressions))

    def _take(self, event: Event, session: SessionState, now: int) -> Feedback:
        """Put an event that is in time into what is known of its user, and say what it means."""
        session.newest, session.second = _two_newest(session.newest, session.second, event.ts)
        event = within_scale(event, self.behaviour.reward)
        reward = reward_of(event, self.behaviour.reward)
        outcomes = self._resolve(session, event, reward)
        if event.type == "profile":
            session.attributes = _merged(session.attributes, event.attributes or {})
        story = self._story_reward(session, event) if reward > 0 else 0.0
        feedback = Feedback(event, reward, session.history, outcomes, session.attributes, session.epoch, story)
        entry = EVENT_TYPES[event.type]
        if entry.interaction and event.item_id is not None:
            self._extend(session, Seen(event.item_id, event.ts, reward, entry.code), event.slate_id)
        elif event.type == "impression" and event.items:
            self._open(session, event, now)
        _name(session, event.user_id)
        return feedback

    def _imagine(self, event: Event, session: SessionState, now: int) -> Feedback:
        """What a preview would mean if it were what it is of. `session` is a copy, which nobody keeps. As the preview
        itself is no interaction, it is worth nothing: RECOMMEND knows what a click is worth.
        """
        click = msgspec.structs.replace(event, type=PREVIEWED)
        return msgspec.structs.replace(self._take(click, session, now), event=event, reward=0.0)

    def routes(self, feedback: Feedback) -> tuple[int, ...]:
        """The shards of SIGNALS that have something to learn from `feedback`: those of the items it is about, and where
        it is positive those of what it is paired with: items taken before, the user's cohorts, and its context.
        """
        event, shards = feedback.event, self.behaviour.signals.shards
        if event.type == "erase":
            return tuple(range(shards))  # each has told of the user in its own time
        if not (feedback.outcomes or event.type in INTERACTIONS) or event.type in ASKING:
            return ()
        if shards == 1:
            return (0,)
        names = [item_id for outcome in feedback.outcomes for item_id in outcome.items]
        if event.item_id is not None and event.type in INTERACTIONS:
            names.append(event.item_id)
            past, members = paired_with(feedback, self.behaviour)
            names += [*past, *members]
        return tuple(sorted({shard_of(name, shards) for name in names}))

    def draw_sample(self, feedback: Feedback) -> bool:
        """Whether RANKER hears of `feedback`: always during this instance's warm-up, then a share of them; and of each
        erasure.

        A user's feedbacks of one SAMPLING_BUCKET_MS go together: a choice is learned from the answer before it.
        """
        event = feedback.event
        if event.type == "erase":
            return True
        asks_within = event.type == "request" and bool(event.context)  # from its answer the user chooses next
        teaches = feedback.outcomes or feedback.reward > 0 or event.type == "impression" or asks_within
        if not teaches or event.type in ASKING:
            return False
        self.sent += 1
        if self.sent <= self.behaviour.embedding.warmup_events:
            return True
        stretch = f"sample:{event.user_id}:{event.ts // SAMPLING_BUCKET_MS}"
        return drawn(self.behaviour.embedding, self.sent, self.behaviour.seed, stretch)

    def _erase(self, event: Event, identity: bytes, state: bytes | None, session: SessionState) -> Accepted:
        """All that came before it goes, and stays gone when it is delivered again; a mark of the erasure stays: its
        times, and its id. One that is no newer than the mark does nothing, nor one that finds nothing since: it is a
        redelivery, however late, or asks to forget what is forgotten.
        """
        if session.epoch and (
            event.ts <= (session.asked or session.epoch) or (event.ts <= session.epoch and session.newest < 0)
        ):
            return Accepted(state)
        epoch = max(event.ts, session.newest, 1)  # 0 is none
        mark = SessionState(epoch=epoch, hashes=identity, times=_UINT64.pack(event.ts), asked=max(event.ts, 1))
        return Accepted(encode_session(mark), Feedback(event, 0.0, History(), epoch=epoch))

    def _is_known(self, session: SessionState, identity: bytes) -> bool:
        """Whether an event of that id was accepted, or late, and could still be in time. Costs 1 us for 300 ids."""
        oldest = session.second - self.behaviour.allowed_lateness
        at = session.hashes.find(identity)
        while at >= 0:
            if not at % 8 and _UINT64.unpack_from(session.times, at)[0] >= oldest:
                return True
            at = session.hashes.find(identity, at + 1)
        return any(session.late[at : at + 8] == identity for at in range(0, len(session.late), 8))

    def _remember(self, session: SessionState, identity: bytes, ts: int) -> None:
        """Keep the id for as long as its event could still be in time, and there is room for it.

        Of ids that are too old, those before the first that is not are forgotten at once, the others where their room
        is needed.
        """
        oldest = session.second - self.behaviour.allowed_lateness
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
            hashes, times = hashes[order[-room:]], times[order[-room:]]
        session.hashes, session.times = hashes.tobytes(), times.tobytes()

    def _story_reward(self, session: SessionState, event: Event) -> float:
        """The reward of the interaction that a positive `event` goes on with: the last word on the same item before it,
        if that was positive, of another type that stands no later on the way to a verdict, and either shortly before it
        or an answer to the same slate. 0 where there is none.
        """
        entry, history, window = EVENT_TYPES[event.type], session.history, self.behaviour.history.story
        if not window or not history.kinds.translate(None, _not_before(entry.code, entry.stage)):
            return 0.0
        own, items, back = _mark(event.slate_id), history.items[::-1], 0
        for _ in range(items.count(event.item_id)):
            back = items.index(event.item_id, back) + 1
            seen = history[-back]
            if not seen.reward or seen.ts > event.ts:
                continue
            marked = session.marks[-4 * back :][:4] if 4 * back <= len(session.marks) else NO_MARK
            is_near = seen.ts >= event.ts - window or (own != NO_MARK and own == marked)
            before = seen.kind != entry.code and stage_of(seen.kind) <= entry.stage
            return max(0.0, seen.reward) if is_near and before else 0.0
        return 0.0

    def _extend(self, session: SessionState, seen: Seen, slate_id: str | None) -> None:
        """Put an interaction into the history by time, and the mark of the slate it answers beside it."""
        history, size = session.history, self.behaviour.history.size
        newer = len(history.since(seen.ts + 1)) if history.newest() > seen.ts else 0
        extended = history.with_entry(seen)
        session.history = extended if len(extended) <= size else extended[-size:]
        at = len(session.marks) - 4 * newer
        if at >= 0:
            marks = session.marks[:at] + _mark(slate_id) + session.marks[at:]
            session.marks = marks[-4 * min(MARKS, len(session.history)) :]

    def _open(self, session: SessionState, event: Event, now: int) -> None:
        """Let an impression wait, with what came before it and answers it. Where there are too many, the oldest is
        closed, and nothing is learned from it.
        """
        impression = OpenImpression(event.event_id, event.ts, event.shown, event.slate_id, arrived=now)
        window, marks = self.behaviour.impression.window, session.marks
        for back, seen in enumerate(reversed(session.history.since(event.ts)), 1):
            marked = marks[-4 * back :][:4] if 4 * back <= len(marks) else NO_MARK
            if seen.ts <= event.ts + window and marked in (NO_MARK, _mark(event.slate_id)):
                _answer(impression, seen.item_id, seen.ts, seen.reward)
        most = self.behaviour.impression.max_open
        opened = sorted([*session.impressions, impression], key=lambda each: each.ts)
        session.impressions = opened[-most:]

    def _resolve(self, session: SessionState, event: Event, reward: float) -> tuple[Outcome, ...]:
        """Note what the event answers, and close the impressions whose time is over."""
        if not session.impressions:
            return ()
        window = self.behaviour.impression.window
        if event.item_id is not None and reward:
            for impression in session.impressions:
                names = event.slate_id is None or event.slate_id == impression.slate_id
                if names and impression.ts <= event.ts <= impression.ts + window:
                    _answer(impression, event.item_id, event.ts, reward)
        return _take_out(session, lambda each: session.newest > each.ts + window)


def _take_out(session: SessionState, is_over: Callable[[OpenImpression], bool]) -> tuple[Outcome, ...]:
    """What became of the impressions that are over, which wait no more."""
    over: list[OpenImpression] = []
    waiting: list[OpenImpression] = []
    for each in session.impressions:
        (over if is_over(each) else waiting).append(each)
    session.impressions = waiting
    return tuple([Outcome(each.event_id, each.ts, each.items, each.labels(), each.slate_id) for each in over])


def _name(session: SessionState, user_id: str) -> None:
    """Note whose it is, for as long as that has to be known."""
    session.user_id = user_id if session.impressions else ""


def _answer(impression: OpenImpression, item_id: str, ts: int, reward: float) -> None:
    """Note an interaction with an item; the last word on each stands, and of equal times the one that came later."""
    if reward and item_id in impression.items:
        position = impression.items.index(item_id)
        if ts >= impression.answers.get(position, (ts, 0))[0]:
            impression.answers[position] = (ts, int(reward > 0))


@lru_cache(maxsize=256)
def _not_before(code: int, stage: float) -> bytes:
    """The codes of what no story begins with that an interaction of that code and stage goes on with."""
    return bytes(kind for kind in range(256) if kind == code or not stage_of(kind) <= stage)


def _mark(slate_id: str | None) -> bytes:
    """What is remembered of the slate that an interaction names."""
    return NO_MARK if slate_id is None else max(1, hash32(slate_id)).to_bytes(4, "little")


def _two_newest(newest: int, second: int, ts: int) -> tuple[int, int]:
    """The two newest times, with `ts`."""
    return (ts, newest) if ts >= newest else (newest, max(second, ts))


def _merged(attributes: dict[str, Any], stated: dict[str, Any]) -> dict[str, Any]:
    """A profile with what is stated in place of what was; where it is too large, what was stated first goes."""
    merged = list({**{k: v for k, v in attributes.items() if k not in stated}, **stated}.items())[-MAX_ATTRIBUTES:]
    while len(to_json(dict(merged))) > MAX_PROFILE_BYTES:
        del merged[0]
    return dict(merged)


def drawn(settings: EmbeddingSettings | RankerSettings, number: int, seed: int, text: str) -> bool:
    """Whether the `number`-th feedback is learned from: all in the warm-up, then a share that `text` draws for."""
    return number <= settings.warmup_events or uniform(seed, text) < settings.sample
