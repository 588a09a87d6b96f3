"""What the followers saw: users' last events and slates, minutes, dead letters. Bounded; for one thread that adds and
others that read. Ids of users are text here and in memory alone; an erasure takes its user out, and what was counted of
it by what it stated.
"""

import copy
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from riverrank.jobs.serving.groups import ItemGroups
from riverrank.operators.slate.fairness.groups import NONE
from riverrank.state.event_types import ASKING, INTERACTIONS
from riverrank.state.messages import POPULAR
from riverrank.state.records.decoding import decode_event
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import DeadLetter

from .cohorts import Cohort, cohorts_of, stated_of
from .exposure import Exposure, Given
from .minutes import ArmCounts, Minute, Minutes

MOST_USERS = 1_000
MOST_EVENTS = 40  # of a user
MOST_SLATES = 3  # of a user: what is shown now, and before
MOST_SLATE_BYTES = 64 * 1024  # a longer slate is counted and not kept
MOST_DEAD_LETTERS = 20
MOST_RECENT = 20_000  # events, or dead letters, that are known where they come again
POPULAR_ARM = "popular slate"  # lists of users who had no slate of their own
UNKNOWN_ARM = "arm not seen"  # of users whose slate the followers did not see


class _Place(msgspec.Struct):
    item_id: str


class _Answer(msgspec.Struct):
    """As much of a slate as is counted by."""

    user_id: str
    version: int
    ts: int
    trigger: str
    arm: str
    items: list[_Place]


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_dead_letter = msgspec.json.Decoder(DeadLetter).decode
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # the last where a field is nested deeply


@dataclass(frozen=True)
class SeenEvent:
    """An event of a user, as far as a page shows it."""

    event_id: str
    type: str
    ts: int
    item_id: str | None
    items: int  # that were shown


@dataclass(frozen=True)
class SeenSlate:
    """A slate of a user: what it holds, and the record itself."""

    version: int
    ts: int
    trigger: str
    arm: str
    item_ids: tuple[str, ...]
    raw: bytes


@dataclass
class SeenUser:
    """The last of one user, oldest first."""

    user_id: str
    events: deque[SeenEvent] = field(default_factory=lambda: deque(maxlen=MOST_EVENTS))
    slates: deque[SeenSlate] = field(default_factory=lambda: deque(maxlen=MOST_SLATES))
    stated: dict[str, str] = field(default_factory=dict)  # by attribute
    counts: ArmCounts = field(default_factory=ArmCounts)  # since it is held

    def event(self, event_id: str) -> SeenEvent | None:
        """The event of that id, where it is still held."""
        return next((event for event in reversed(self.events) if event.event_id == event_id), None)


class _Recent:
    """Keys that came before, the last MOST_RECENT of them, as hashes: nobody is read out of these."""

    def __init__(self) -> None:
        self._hashes: OrderedDict[int, None] = OrderedDict()

    def again(self, *key: object) -> bool:
        """Whether it came before; from now on it has."""
        hashed = hash(key)
        if hashed in self._hashes:
            return True
        self._hashes[hashed] = None
        if len(self._hashes) > MOST_RECENT:
            self._hashes.popitem(last=False)
        return False


class Seen:
    """All that is held of what was seen. `most_users` are held, those seen least recently go first. `cohorts` are the
    attributes that users are told of by, where `least` of them stated the same.

    >>> seen = Seen()
    >>> seen.event(b'{"event_id":"e","type":"click","user_id":"u","item_id":"i","ts":5}', at_ms=7)
    >>> seen.user("u").events[0].item_id, seen.minutes(0, 7)[0].events["click"]
    ('i', 1)
    """

    def __init__(self, most_users: int = MOST_USERS, cohorts: Sequence[str] = (), least: int = 1) -> None:
        self._most_users = most_users
        self._cohorts, self.least = tuple(dict.fromkeys(cohorts)), least
        self._exposure: Exposure | None = None
        self._users: OrderedDict[str, SeenUser] = OrderedDict()
        self._minutes = Minutes()
        self._dead_letters: deque[DeadLetter] = deque(maxlen=MOST_DEAD_LETTERS)
        self._reasons: Counter[str] = Counter()
        self._came, self._refused = _Recent(), _Recent()  # events, by user; dead letters, by where the record is
        self._lock = threading.Lock()
        self.unreadable = 0

    def event(self, raw: bytes | None, at_ms: int) -> None:
        """A record of the events topic, of the time `at_ms`; one that came again changes nothing. What is none is left
        to the dead letters to tell.
        """
        event = decode_event(raw)
        if not isinstance(event, Event):
            return
        with self._lock:
            if self._came.again(event.user_id, event.event_id):
                return
            minute = self._minutes.at(at_ms)
            minute.events[event.type] += 1
            if event.type == "erase":
                self._users.pop(event.user_id, None)
                return
            if event.type in ASKING:  # whoever asks about a user has not seen one
                return
            user = self._user(event.user_id)
            shown = len(event.items or ())
            seen = SeenEvent(event.event_id, event.type, event.ts, event.item_id, shown)
            user.events.append(seen)
            user.stated |= stated_of(event.attributes or {}, self._cohorts)
            if self._exposure is not None:
                self._exposure.take(event, at_ms)
            self._count_list(minute, user, event)
            self._judge(minute, user, seen, next((s for s in user.slates if s.trigger == event.event_id), None))

    def slate(self, raw: bytes | None, key: bytes | None, at_ms: int, wait_from_ms: int | None = None) -> None:
        """A record of the slates topic. `wait_from_ms` is now, by the wall clock, where it has just been written."""
        if raw is None:
            with self._lock:
                self._users.pop((key or b"").decode("utf-8", "replace"), None)
            return
        try:
            answer = _decode_answer(raw)
        except UNREADABLE:
            self.unreadable += 1
            return
        with self._lock:
            self._take_slate(answer, raw, at_ms, wait_from_ms)

    def dead_letter(self, raw: bytes | None) -> None:
        """A record of the dead-letters topic."""
        try:
            letter = _decode_dead_letter(raw or b"")
        except UNREADABLE:
            self.unreadable += 1
            return
        with self._lock:
            if self._refused.again(letter.topic, letter.partition, letter.offset):
                return
            self._reasons[letter.reason] += 1
            self._dead_letters.append(letter)

    def count_by(self, exposure: Exposure) -> None:
        """From here on count for it what slates show and what is taken."""
        with self._lock:
            self._exposure = exposure

    def exposure(self, first_ms: int, last_ms: int) -> tuple[ItemGroups, Given] | None:
        """What groups of items got between two times; None where none are counted by."""
        with self._lock:
            counted = self._exposure
            return None if counted is None else (counted.groups, counted.between(first_ms, last_ms))

    def cohorts(self) -> dict[str, list[Cohort]]:
        """By attribute the cohorts of the users held, of those who were shown something or acted."""
        with self._lock:
            users = [user for user in self._users.values() if user.counts.shown or user.counts.judged]
            told = [(user.stated, copy.copy(user.counts)) for user in users]
        return {
            name: cohorts_of([(stated.get(name, NONE), counts) for stated, counts in told], self.least)
            for name in self._cohorts
        }

    def user(self, user_id: str) -> SeenUser | None:
        """What is held of a user, as it is now."""
        with self._lock:
            held = self._users.get(user_id)
            return None if held is None else SeenUser(user_id, held.events.copy(), held.slates.copy())

    def user_ids(self, most: int) -> list[str]:
        """Who was seen last, newest first."""
        with self._lock:
            newest = reversed(self._users)
            return [user_id for user_id, _ in zip(newest, range(most), strict=False)]

    def minutes(self, first_ms: int, last_ms: int) -> list[Minute]:
        """The minutes between two times, as they are now."""
        with self._lock:
            return copy.deepcopy(self._minutes.between(first_ms, last_ms))

    def dead_letters(self) -> tuple[Counter[str], list[DeadLetter]]:
        """How many there were by reason, and the last, newest first."""
        with self._lock:
            return self._reasons.copy(), list(reversed(self._dead_letters))

    def _take_slate(self, answer: _Answer, raw: bytes, at_ms: int, wait_from_ms: int | None) -> None:
        user = self._user(answer.user_id)
        newest = user.slates[-1] if user.slates else None
        if newest is not None and answer.version <= newest.version:
            if answer.ts <= newest.ts:
                return  # it came again
            user.slates.clear()  # an erasure began the versions anew
        item_ids = tuple(place.item_id for place in answer.items)
        kept = raw if len(raw) <= MOST_SLATE_BYTES else b""
        user.slates.append(SeenSlate(answer.version, answer.ts, answer.trigger, answer.arm, item_ids, kept))
        minute = self._minutes.at(at_ms)
        minute.slates += 1
        if self._exposure is not None:
            self._exposure.show(item_ids, at_ms)
        if wait_from_ms is not None:
            self._minutes.wait(at_ms, max(0, wait_from_ms - answer.ts))
        event = user.event(answer.trigger)
        if event is not None:
            self._judge(minute, user, event, user.slates[-1])

    def _judge(self, minute: Minute, user: SeenUser, event: SeenEvent, answer: SeenSlate | None) -> None:
        """Whether the slate before the one that answers an interaction held its item: once both have been seen, in
        either order.
        """
        if answer is None or event.type not in INTERACTIONS:
            return
        before = next((slate for slate in user.slates if slate.version == answer.version - 1), None)
        if before is not None:
            for counts in (minute.arm(before.arm), user.counts):
                counts.judged += 1
                counts.hits += event.item_id in before.item_ids

    def _count_list(self, minute: Minute, user: SeenUser, event: Event) -> None:
        """A list that names its slate, or a click on one."""
        if event.slate_id is None or event.type not in ("impression", "click"):
            return
        if event.slate_id.startswith(f"{POPULAR}:") and event.user_id != POPULAR:
            arm = POPULAR_ARM
        else:
            arm = user.slates[-1].arm if user.slates else UNKNOWN_ARM
        for counts in (minute.arm(arm), user.counts):
            counts.shown += event.type == "impression"
            counts.clicked += event.type == "click"

    def _user(self, user_id: str) -> SeenUser:
        user = self._users.pop(user_id, None) or SeenUser(user_id)
        self._users[user_id] = user  # the newest stands last
        if len(self._users) > self._most_users:
            self._users.popitem(last=False)
        return user
