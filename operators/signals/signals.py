"""SIGNALS: what items tell about each other, learned from all users' feedback by one shard of the items.

Decayed popularity, likes and dislikes, ratings, and for each item a bounded list of the items that are taken with it,
with forgetting. A cohort (a stated attribute of users, or a value of the context that they act in) has such a list as
well, under a name no item can have, once enough users have stated the attribute. Items and cohorts are bounded apart:
what users state must not push out what they take.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from riverrank.operators.catalogue.tokens import COHORT, CONTEXT, MAX_COHORTS, MAX_CONTEXTS, is_listed
from riverrank.operators.made_with import OF_SIGNALS, made_with, require
from riverrank.operators.settings import Behaviour
from riverrank.state.codec import Layout, StateRefused
from riverrank.state.event_types import EVENT_TYPES, INTERACTIONS
from riverrank.state.hashing import session_key, shard_of
from riverrank.state.item_tables import DECAYED, POPULARITY, ItemTable, decay_of
from riverrank.state.journal import NOISED, Journal
from riverrank.state.messages import Feedback, SignalUpdate, decode_feedback, encode, told_last

from .changes import Changes
from .gathering import Gathering
from .neighbour_lists import ADD, COUNT, PLACES, SKIP, learn
from .pairs import paired_with
from .steps import Steps

ORDER_DECAY = 0.9  # of a pair's weight, for each interaction that lies between
DUMPED_BYTES = 1 << 15  # of the table at most, for each record of the log that a dump replaces: some 10 us
BLOCK = 16  # feedbacks at most that are put into the table at once
COHORTS = 8  # rows of the table for each that a cohort may have
MAX_MEMBERS = MAX_COHORTS + MAX_CONTEXTS  # that one feedback is told to
_COUNTS, _GATHERED = "counts", "gathered"


class Counts(msgspec.Struct, array_like=True, tag=1):
    """The numbers of a shard beside its table, kept under `counts`: layout 1. `looks` float64 (PLACES, 2) are those of
    `neighbour_lists.looked_at`, none where nothing was shown. `made` is what all of it was made with, by the settings'
    names; nothing where that was not noted.
    """

    events: int = 0
    ratings: tuple[float, float] = (0.0, 0.0)
    looks: bytes = b""
    made: dict[str, int] = {}


COUNTS = Layout("counts", Counts)


class Signals:
    """The learner of one shard; everything it knows is in its journal.

    >>> from riverrank.state.records.incoming import Event
    >>> signals = Signals(Behaviour(), 0)
    >>> signals.learn(Feedback(Event("e", "click", "u", 1, "i-1"), 1.0, ()))
    >>> len(signals.flush()), len(signals.flush())
    (1, 0)
    """

    def __init__(self, behaviour: Behaviour, shard: int, journal: Journal | None = None) -> None:
        self.behaviour = behaviour
        self.settings = behaviour.signals
        self.shard = shard
        self.journal = journal
        self.table = ItemTable(self.settings.neighbours)
        self.counts = Counts(made=made_with(behaviour, OF_SIGNALS))
        self._looks = np.zeros((PLACES, 2))
        self._decay = decay_of((self.settings.half_life_events, self.settings.trend_half_life_events))
        self._forgetting = np.float32(self.settings.forgetting)
        self._amounts = (ORDER_DECAY ** np.arange(self.settings.window)).astype(np.float32)  # by interactions between
        self._all_owned = np.ones(self.settings.window + MAX_MEMBERS + 1, np.bool_)
        self._changes = Changes(self.table)
        self._cohorts: set[str] = set()  # names of those in the table, or in the step that is to be taken
        self._most_cohorts = max(MAX_MEMBERS, self.settings.items // COHORTS)
        self._gathering = Gathering(behaviour.cohorts.users, self._most_cohorts)
        self._gone: dict[str, None] = {}  # cohorts that were given up since the last update, each once, in order
        self._taken: list[tuple[int, int]] = []  # keys of users and the row that each took, -1: is erased
        self._block: list[Feedback] = []  # not yet in the table
        self._pending = 0  # feedbacks since the last update
        self._newest = 0  # event time of these
        self._compact = False
        self._is_to_forget = False  # whether the log names a user who was erased

    @classmethod
    def restore(cls, behaviour: Behaviour, shard: int, journal: Journal) -> "Signals":
        """The learner as it was when the journal was last written, less cohorts of attributes that are listed no more.
        Raises StateRefused, with the mend, where it was made with settings that it can't go on without.
        """
        signals = cls(behaviour, shard)
        base, log = journal.load()
        if NOISED in base:
            raise StateRefused("state was made with noise, and noise.epsilon is 0 now: start without this savepoint")
        if _COUNTS in base:
            signals._recall(COUNTS.decode(base.pop(_COUNTS)))
        if _GATHERED in base:
            signals._gathering.load(base.pop(_GATHERED))
        signals.table.load(base)
        journal.put({_COUNTS: COUNTS.encode(signals.counts)})  # what it was made with is known from the first time on
        signals._cohorts.update(name for name in signals.table.rows if name.startswith(COHORT))
        for record in log:
            signals.learn(decode_feedback(record))
        signals.settle()
        signals.journal = journal
        if unlisted := [name for name in signals._cohorts if not is_listed(name, behaviour.cohorts.attributes)]:
            signals._give_up(np.sort(signals.table.rows_of(unlisted)))
            signals._is_to_forget = True
        return signals

    def _recall(self, counts: Counts) -> None:
        require(counts.made, self.counts.made)
        counts.made, self.counts = self.counts.made, counts
        if counts.looks:
            self._looks = np.frombuffer(counts.looks, "<f8").reshape(PLACES, 2).copy()

    def learn(self, feedback: Feedback, encoded: bytes | None = None) -> None:
        """Take what `feedback`, which came as `encoded`, if it did, tells of the items of this shard. It is in the
        table after `settle`. Once the next update tells of an erasure, no log names the user.
        """
        self._newest = max(self._newest, feedback.event.ts)
        self._pending += 1
        self._block.append(feedback)
        if len(self._block) == BLOCK:
            self.settle()
        self._is_to_forget |= feedback.event.type == "erase"
        if self.journal is not None:
            self._compact = self.journal.append(encoded or encode(feedback)) or self._compact

    def settle(self) -> None:
        """Put into the table what was learned and is not there yet: all at once, unless rows are to be released."""
        block, self._block = self._block, []
        rows = [self._most_rows(feedback) for feedback in block]
        cohorts_ = sum(map(_most_cohorts, block))
        has_room = len(self._cohorts) + cohorts_ <= self._most_cohorts
        if has_room and len(self.table.rows) + sum(rows) <= self.settings.items:
            self._learn(block)
            return
        for feedback, most in zip(block, rows, strict=True):
            self._make_room(most)
            self._learn([feedback])

    def _most_rows(self, feedback: Feedback) -> int:
        """How many rows the feedback may begin."""
        shown = sum([len(outcome.items) for outcome in feedback.outcomes]) if feedback.outcomes else 0
        others = MAX_MEMBERS if feedback.event.context else MAX_COHORTS
        return 0 if feedback.event.type == "erase" else 1 + self.settings.window + others + shown

    def _learn(self, block: Sequence[Feedback]) -> None:
        steps = Steps(self._all_owned, self._amounts)
        taken: list[tuple[int, int]] = []
        for feedback in block:
            event, item_id = feedback.event, feedback.event.item_id
            if event.type == "erase":
                taken.append((session_key(event.user_id), -1))
                self._gathering.forget(session_key(event.user_id))
                continue
            self.counts.events += 1
            for outcome in feedback.outcomes:
                for place, (shown, label) in enumerate(zip(outcome.items, outcome.labels, strict=True)):
                    if self._owns(shown):
                        steps.show(shown, place, label > 0, self.counts.events)
            if item_id is not None and event.type in INTERACTIONS:
                began = self._learn_interaction(item_id, feedback, steps)
                if began >= 0 and feedback.is_choice:
                    taken.append((session_key(event.user_id), began))
        rows = self._run(steps)
        self._taken += [(key, rows[began] if began >= 0 else -1) for key, began in taken]

    def _learn_interaction(self, item_id: str, feedback: Feedback, steps: Steps) -> int:
        """Begin a step for an interaction; where in the step's names it began, -1 where the item is not of the shard.

        The lists of the item, of what the user took before it, and of the user's cohorts are told of each other.
        """
        event, now = feedback.event, self.counts.events
        own, value = self._owns(item_id), event.value
        past, members = paired_with(feedback, self.behaviour)
        # No list of another shard names a cohort.
        members = [name for name in members if self._owns(name) and self._is_held(name, feedback)]
        owned = amounts = None
        if self.settings.shards > 1:
            owned = np.array([self._owns(name) for name in (*past, *members, item_id)])
            if not own:  # then only lists of this shard are told of the item
                amounts = self._amounts[: len(past)][owned[: len(past)]]
                past = [*filter(self._owns, past)]
                if not (past or members):
                    return -1
                owned = np.append(np.ones(len(past) + len(members), np.bool_), False)
        if members:
            self._admit(members)
        counts = own and not _is_repeated(feedback)
        rated = counts and value is not None and EVENT_TYPES[event.type].is_rating
        if rated and value is not None:
            self.counts.ratings = (self.counts.ratings[0] + value, self.counts.ratings[1] + 1)
        counted = (COUNT if not feedback.story_reward else ADD) if counts else SKIP
        began = steps.pair(
            item_id, past, members, counted, owned, amounts, feedback.gain, value or 0.0, rated, now,
            contexts=sum([name.startswith(CONTEXT) for name in members]) if event.context else 0,
        )  # fmt: skip
        return began if own else -1

    def _run(self, steps: Steps) -> list[int]:
        """Take the steps; the rows of their names."""
        if not steps.names:
            return []
        table, changes = self.table, self._changes
        rows = table.rows_of_each(steps.names, table.row)
        changes.fit(len(rows))
        changes.n = learn(
            table.stats, table.at, self._decay, table.neighbours, table.weights, self._forgetting, self._looks, rows,
            *steps.arrays(), *changes.arrays(),
        )  # fmt: skip
        return rows.tolist()

    def due(self) -> bool:
        """Whether enough was learned since the last update for a new one."""
        return self._pending >= self.settings.flush_events

    def flush(self, *, last: bool = False) -> list[bytes]:
        """The encoded update of all that changed since the last one; none where nothing did. The `last` is for no
        event that is on its way.
        """
        return [encode(told_last(update) if last else update) for update in self.updates()]

    def updates(self) -> list[SignalUpdate]:
        """`flush`, not encoded."""
        if not self._pending:
            return []
        self.settle()
        packed = self._changes.pack(self._decay, self.counts.events, [row for _, row in self._taken])
        update = SignalUpdate(
            shard=self.shard,
            ids=tuple(map(self.table.ids.__getitem__, packed.named.tolist())),
            counted=packed.counted.tobytes(),
            stats=packed.stats.tobytes(),
            lists=packed.lists.tobytes(),
            positions=packed.positions.tobytes(),
            neighbours=packed.neighbours.tobytes(),
            weights=packed.weights.tobytes(),
            events=self.counts.events,
            ts=self._newest,
            ratings=self.counts.ratings,
            keys=np.array([key for key, _ in self._taken], "<u4").tobytes(),
            taken=packed.taken.tobytes(),
            whole=packed.whole.tobytes(),
            gone=tuple(self._gone),
        )
        self._gone = {}
        self._pending = self._newest = 0
        self._taken = []
        journal = self.journal
        if journal is not None and (self._is_to_forget or (self._compact and self._is_worth_dumping(journal))):
            # Only now: what is not in the log was sent.
            self.counts.looks = self._looks.tobytes() if self._looks.any() else b""
            gathered = {_GATHERED: self._gathering.encode()} if self._gathering.changed else {}
            journal.compact({_COUNTS: COUNTS.encode(self.counts), **gathered, **self.table.dump()})
            self._compact = self._is_to_forget = False
        return [update]

    def _is_worth_dumping(self, journal: Journal) -> bool:
        """Whether the log is so long that a dump costs little a record, in a large table many blocks change; or takes
        as many bytes as the dump.
        """
        table = self.table
        row_bytes = sum(getattr(table, name).nbytes for name in table.columns) // table.capacity
        dumped = np.count_nonzero(table.changed) * table.block_rows * row_bytes
        return dumped <= max(journal.length * DUMPED_BYTES, journal.grown)

    def _owns(self, name: str) -> bool:
        return self.settings.shards == 1 or shard_of(name, self.settings.shards) == self.shard

    def _is_held(self, member: str, feedback: Feedback) -> bool:
        """Whether anything is kept of what the feedback is told to beside items: of a context always, of a cohort once
        enough users have stated it.
        """
        if member in self._cohorts or member.startswith(CONTEXT):
            return True
        return self._gathering.suffices(member, session_key(feedback.event.user_id))

    def _make_room(self, rows: int) -> None:
        """Where `rows` more would be too many, release the least popular items, a thirty-second of all."""
        table = self.table
        if len(table.rows) + rows <= self.settings.items:
            return
        used = table.used()
        used = used[~np.isin(used, table.rows_of(self._cohorts))]
        self._decay_to_now(used)
        order = used[np.argsort(table.stats[used, POPULARITY], kind="stable")]
        gone = order[: max(rows, len(table.rows) + rows - self.settings.items, len(order) // 32)]
        table.release(gone)
        self._changes.drop(gone)
        released = set(gone.tolist())
        self._taken = [pair for pair in self._taken if pair[1] not in released]

    def _admit(self, members: Sequence[str]) -> None:
        """Hold the cohorts `members`; where they would be too many, give up those that were told least recently, a
        thirty-second of all at least. Only where a block is one feedback, as `settle` sees to.
        """
        table, held = self.table, self._cohorts
        over = len(held) + sum([name not in held for name in members]) - self._most_cohorts
        if over > 0:
            table.at[table.rows_of(members)] = self.counts.events  # they stay
            rows = np.sort(table.rows_of(held))
            self._give_up(rows[np.argsort(table.at[rows], kind="stable")][: max(over, self._most_cohorts // 32)])
        held.update(members)

    def _give_up(self, rows: np.ndarray) -> None:
        """Forget the cohorts in `rows`, which the next update tells of."""
        names = [self.table.ids[row] for row in rows.tolist()]
        self.table.release_cohorts(rows)
        self._changes.drop(rows)
        self._gone |= dict.fromkeys(names)
        self._cohorts.difference_update(names)

    def _decay_to_now(self, rows: np.ndarray) -> None:
        table, now = self.table, self.counts.events
        table.stats[rows, DECAYED] *= self._decay ** (now - table.at[rows])[:, None]
        table.at[rows] = now


def _most_cohorts(feedback: Feedback) -> int:
    """How many cohorts the feedback may begin."""
    return (MAX_COHORTS if feedback.attributes else 0) + (MAX_CONTEXTS if feedback.event.context else 0)


def _is_repeated(feedback: Feedback) -> bool:
    """Whether the user did the same with the item at another time, as far as the history goes: it is counted once,
    whatever their times say. Pairs are told of it each time.
    """
    event, history = feedback.event, feedback.history
    if event.item_id not in history.items:
        return False
    code = EVENT_TYPES[event.type].code
    return any(item == event.item_id and kind == code for item, kind in zip(history.items, history.kinds, strict=True))
