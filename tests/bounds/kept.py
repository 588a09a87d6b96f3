"""All that the job keeps, its operators in one process over the journals and the outbox that they have in Flink: how
many bytes each part takes, and the most that the settings let it take. docs/architecture.md has the same as a table.
"""

from collections.abc import Iterable

from fake_redis import Redis
from riverrank.jobs.local.pipeline import Pipeline, Rejected
from riverrank.operators.cache.outbox import MOST_ERASURES, Outbox
from riverrank.operators.cache.sender import Sender
from riverrank.operators.candidates.context import SEGMENTS
from riverrank.operators.catalogue.tokens import MAX_COHORTS, MAX_CONTEXTS, MAX_TOKENS
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.index import event_time_buffer
from riverrank.operators.index.event_time_buffer import MOST_WAITING, EventTimeBuffer
from riverrank.operators.index.item_index import ITEM
from riverrank.operators.models import net as net_module
from riverrank.operators.models.drift import MOST_BYTES as MOST_LOSSES
from riverrank.operators.models.ensemble import RATE_MULTIPLIERS
from riverrank.operators.models.net import KEPT_ROWS, WIDTH
from riverrank.operators.models.ratings import HEAD, SHAPE
from riverrank.operators.recent import MOST, MOST_BYTES
from riverrank.operators.session.session import LATE_IDS, MARKS
from riverrank.operators.settings import (
    AutoencoderSettings,
    Behaviour,
    CatalogueSettings,
    CohortSettings,
    EmbeddingSettings,
    HistorySettings,
    ImpressionSettings,
    LearnerSettings,
    RankerSettings,
    SignalSettings,
    SlateSettings,
)
from riverrank.operators.signals.signals import COHORTS
from riverrank.operators.slate.attribution import KEPT as KEPT_SLATES
from riverrank.operators.slate.explain import MOST_PHRASED
from riverrank.state import journal as journal_module
from riverrank.state.item_tables import SESSION_BLOCK_ROWS, SESSION_ITEMS, ItemTable, VectorTable
from riverrank.state.journal import LOG, DictEntries, Journal
from riverrank.state.messages import CacheWrite, CatalogueUpdate, Feedback, Update, encode
from riverrank.state.records.bounds import (
    MAX_CONTEXT_BYTES,
    MAX_ID_BYTES,
    MAX_IMPRESSION_ITEMS,
    MAX_PROFILE_BYTES,
    MAX_SLATE_ID_BYTES,
)
from riverrank.state.records.decoding import decode_event, decode_item
from riverrank.state.records.incoming import Event, Item
from riverrank.state.table import Table

SECOND = 1_000
SMALL = Behaviour(
    allowed_lateness=600 * SECOND,
    history=HistorySettings(size=20, event_ids=64),
    impression=ImpressionSettings(max_open=3),
    cohorts=CohortSettings(users=2),
    signals=SignalSettings(neighbours=8, window=5, items=256, sessions=64),
    embedding=EmbeddingSettings(dimensions=4, negatives=8, items=256),
    autoencoder=AutoencoderSettings(items=32),
    ranker=RankerSettings(flush_events=4),
    learner=LearnerSettings(tokens=8),
    slate=SlateSettings(size=5, candidates=20, seen=40, hide=("click", "purchase")),
    catalogue=CatalogueSettings(items=150, new_items=20),
)
SLATE_MS = 600_000  # how long a Redis that is away would have kept a slate
LISTS = 1.0  # of items, that are made for each answer
# What MessagePack has beside the bytes of a text (3 up to 64 KB), and for a whole number, at most.
TEXT, NUMBER = 3, 9
ID = MAX_ID_BYTES + TEXT
LARGER = 9 / 4  # what a value takes as MessagePack beside its JSON, at most: 0.5 and a comma are 9 bytes
HEADS = 256  # bytes of a layout beside what it holds: names of its columns, their shapes, heads of arrays


class Counted(DictEntries):
    """Entries that know the most bytes that they took since they were last asked: those of a log, and all others."""

    def __init__(self) -> None:
        super().__init__()
        self._held, self._most = [0, 0], [0, 0]

    def put(self, key: str, value: bytes) -> None:
        self.remove(key)
        super().put(key, value)
        self._count(key, len(key) + len(value))

    def remove(self, key: str) -> None:
        if key in self:
            self._count(key, -len(key) - len(self[key]))
        super().remove(key)

    def peaks(self) -> tuple[int, int]:
        """Of all that is no log, and of the log."""
        most, self._most = tuple(self._most), [*self._held]
        return most[0], most[1]

    def _count(self, key: str, more: int) -> None:
        which = 2 if key.startswith(ITEM) else int(key.startswith(LOG))
        if which < 2:
            self._held[which] += more
            self._most[which] = max(self._most[which], self._held[which])


class Kept:
    """The job over journals and an outbox that are dicts, with a Redis that is away. `now` is event time."""

    def __init__(self, behaviour: Behaviour = SMALL, depth: int = 0) -> None:
        self.behaviour, self.now, self.places = behaviour, 0, max(depth, behaviour.slate.size)
        self.largest = 0  # bytes of the largest record that came
        self.erased: set[str] = set()  # users who asked for it
        redis = Redis()
        redis.away = True
        self.entries = DictEntries()
        self.sender = Sender(redis, 0, 0)  # type: ignore[arg-type]
        self.outbox = Outbox(self.entries, self.sender, SLATE_MS)
        self.pipeline = Pipeline(behaviour, {}, self, lists=LISTS, depth=depth)
        lessons = self.pipeline.lessons
        self.signals, self.ranker, self.index = Counted(), Counted(), Counted()
        lessons.signals[0].journal = Journal(self.signals)
        lessons.ranker.journal = Journal(self.ranker)
        self.buffer = EventTimeBuffer(behaviour, Journal(self.index))

    def put(self, write: CacheWrite) -> None:
        """What the pipeline asks of its cache."""
        self.outbox.add(encode(CacheWrite(write.key, write.epoch, write.version, write.slate, write.receipt, self.now)))

    def take(self, records: Iterable[bytes], *, released: bool = True) -> int:
        """Take records of either stream; how many were used. `released`: whether updates find their event time."""
        used = 0
        for raw in records:
            event = decode_event(raw)
            self.largest = max(self.largest, len(raw))
            if isinstance(event, Event):
                self.now = max(self.now, event.ts)
                self.erased |= {event.user_id} if event.type == "erase" else set()
                for message in self.pipeline.messages(event, Arrival(0, 0, 0, raw)):
                    used += isinstance(message, Feedback | Rejected)
                    self._hear(message)
                    self.pipeline.hear(message)
                self.outbox.expire(self.now)
                if released:
                    self.buffer.release(self.now)
            else:
                item = decode_item(raw)
                assert isinstance(item, Item), item
                used += 1
                self.pipeline.item(Arrival(0, 0, 0, raw))
                self.buffer.take(CatalogueUpdate(item))
        return used

    def _outbox(self) -> dict[str, int]:
        """What waits for Redis: lists of items, and all else."""
        sizes = {"outbox": 0, "lists": 0}
        for key, value in self.entries.items():
            is_list = key.startswith(("slate\0similar:", "slate\0together:"))
            sizes["lists" if is_list else "outbox"] += len(key) + len(value)
        return sizes

    def _hear(self, message: object) -> None:
        if isinstance(message, Update):
            self.buffer.take(message)

    def bytes(self) -> dict[str, int]:
        """What each part takes now, of journals the most since they were last asked; of users, the largest."""
        signals, recommend = self.pipeline.lessons.signals[0], self.pipeline.recommend
        rows = self.pipeline.index.vocabulary
        return {
            "session": max(map(len, self.pipeline.intake.states.values()), default=0),
            "learner": max(map(len, self.pipeline.users.values()), default=0),
            **_journal("signals", self.signals),
            **_journal("ranker", self.ranker),
            **_journal("index", self.index),
            "items": sum(len(key) + len(value) for key, value in self.index.items() if key.startswith(ITEM)),
            "waiting": sum(len(encoded) for _, encoded in self.buffer._waiting),
            "gathered": len(signals._gathering.encode()),
            **self._outbox(),
            "sender": sum(len(given.write.slate or b"") for of in self.sender._given.values() for given in of.values()),
            "texts": recommend.control.writer._ids.used + recommend.control.explainer.phrases.texts.used,
            "vocabulary": sum(map(len, rows.names)) + rows.hashes.nbytes * 4,
            "decoded": self.pipeline.intake.session.recent._bytes + recommend.decoded._bytes,
        }


def _journal(name: str, entries: Counted) -> dict[str, int]:
    base, log = entries.peaks()
    return {f"{name} base": base, f"{name} log": log}


def session_bytes(b: Behaviour, shown: int = MAX_IMPRESSION_ITEMS) -> int:
    """Of one user: ids with their times, late ones, the history, what slates it answers, impressions of as many items
    as are `shown`, the profile.
    """
    answer = 3 + 1 + NUMBER + 1  # position, and time and label
    impression = (ID + NUMBER + shown * (ID + answer) + MAX_SLATE_ID_BYTES + TEXT + NUMBER) if shown else 0
    history = b.history.size * (ID + 17) + 4 * min(MARKS, b.history.size)
    ids = 16 * b.history.event_ids + 8 * LATE_IDS
    return int(ids + history + b.impression.max_open * impression + LARGER * MAX_PROFILE_BYTES + ID + HEADS)


def learner_bytes(b: Behaviour, features: int, arrays: int = 0) -> int:
    """Of one user: what is hidden, weights of a linear learner and what its optimiser has, ratings, losses, slates."""
    weights = (4 + 4 + 4 * arrays) * (1 + features + b.learner.tokens)
    ratings = 4 * HEAD + 2 * SHAPE[0] * SHAPE[1]
    return 9 * b.slate.seen + weights + ratings + MOST_LOSSES + KEPT_SLATES * (16 + 8 * b.slate.size) + HEADS


def feedback_bytes(b: Behaviour, shown: int) -> int:
    """A feedback as it travels, and stands in logs: an event, the history, the profile, and impressions."""
    event = 5 * ID + MAX_CONTEXT_BYTES + shown * ID
    history, profile = b.history.size * (ID + 17), LARGER * MAX_PROFILE_BYTES
    return int(2 * profile + event + history + b.impression.max_open * shown * (ID + 1) + HEADS)


def rows_of_one(b: Behaviour, shown: int) -> int:
    """Rows that one feedback begins in the table of SIGNALS: all impressions resolved at once."""
    return 1 + b.signals.window + MAX_COHORTS + MAX_CONTEXTS + b.impression.max_open * shown


def blocks_bytes(table: Table, rows: int) -> int:
    """Of as many rows of such a table, in state."""
    row = sum(getattr(table, name)[0].nbytes for name in table.columns) + ID
    return rows * row + (rows // table.block_rows + 1) * HEADS


def bounds(kept: Kept, shown: int) -> dict[str, float]:
    """The most that each part may take, by the settings, where impressions have as many items as are `shown`."""
    b, index = kept.behaviour, kept.pipeline.index
    features = len(kept.pipeline.recommend.retriever.features.names)
    cohorts = max(MAX_COHORTS + MAX_CONTEXTS, b.signals.items // COHORTS)
    counted = max(b.signals.items, cohorts + rows_of_one(b, shown))
    named = b.signals.flush_events * rows_of_one(b, shown)  # items that one update names
    rows = max(b.catalogue.items, named) + cohorts
    gathered = cohorts * (8 + 4 * (b.cohorts.users - 1) + 2) + 16
    signals = blocks_bytes(ItemTable(b.signals.neighbours), counted) + gathered + HEADS
    vectors = max(b.embedding.items, 16 * (b.signals.window + 1))
    net = 12 * (features + 2) * WIDTH + net_module.KEPT * (2 * KEPT_ROWS * features + 12)
    linear = 8 * len(RATE_MULTIPLIERS) * (features + 1)
    models = 2 * SEGMENTS * (net + linear) + 64 * features + 4 * HEADS  # as it is, and as it was last told
    weights = SEGMENTS * (8 * features + 4 * (features + 2) * WIDTH) + 64 * features + 4 * HEADS
    pairs = b.autoencoder.items**2
    ranker = blocks_bytes(VectorTable(b.embedding.dimensions), vectors) + models + 4 * pairs + b.autoencoder.items * ID
    sessions = (b.signals.sessions // SESSION_BLOCK_ROWS + 1) * HEADS + b.signals.sessions * (4 * SESSION_ITEMS + 8 + 9)
    learned = blocks_bytes(index.table, rows) + sessions + 2 * pairs + b.autoencoder.items * ID + weights
    feedback, tokens = feedback_bytes(b, shown), (b.catalogue.items * MAX_TOKENS * 4) // 3
    update = named * (ID + 36 + 14 * b.signals.neighbours) + HEADS
    waiting = min(event_time_buffer.MOST_WAITING_BYTES, MOST_WAITING * update)
    least = journal_module.LEAST_BYTES
    users, slate = SLATE_MS // SECOND + 2, 4 * ID + kept.places * 1024
    lists = users * LISTS * (3 * ID + HEADS + b.slate.size * (ID + 64))  # of the answers of that time
    user = session_bytes(b, shown) + learner_bytes(b, features)
    return {
        "session": session_bytes(b, shown),
        "learner": learner_bytes(b, features),
        "signals base": signals,
        "signals log": max(least, signals) + b.signals.flush_events * feedback,
        "ranker base": ranker,
        "ranker log": max(least, ranker // 2) + b.ranker.flush_events * feedback,
        "index base": learned,
        "index log": max(least, learned // 2) + waiting,
        "items": b.catalogue.items * (kept.largest + 2 * ID),
        "waiting": waiting,
        "gathered": gathered,
        "outbox": users * slate + len(kept.erased) * MOST_ERASURES * 5 * ID,
        "lists": lists,
        "sender": users * slate + lists,
        "texts": 2 * 8 * MAX_ID_BYTES * (index.table.capacity + 2 * MOST_PHRASED),
        "vocabulary": max(1024, 2 * tokens) * (2 * MAX_ID_BYTES + 1 + 16),
        "decoded": min(2 * MOST_BYTES, MOST * user),
    }
