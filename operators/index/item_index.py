"""What is known of all items when a user is answered: the catalogue, the signals, the ranker's weights.

RANKER and RECOMMEND each hold one, fed by the broadcast of updates; answering reads it and never writes what is kept.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from riverrank.operators.catalogue.tokens import COHORT, MAX_TOKENS, token_of, tokens_of
from riverrank.operators.catalogue.vectors import DIMENSIONS, text_of, vector_of
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.sessions import Sessions
from riverrank.state.hashing import hash32
from riverrank.state.item_tables import (
    DECAYED,
    NEGATIVES,
    POPULARITY,
    POSITIVES,
    TRENDING,
    ItemTable,
    decay_of,
)
from riverrank.state.messages import (
    CatalogueUpdate,
    SignalUpdate,
    Update,
    VectorUpdate,
    Weights,
    decode_update,
    encode,
)
from riverrank.state.records import Item

from .apply_updates import apply_signals, apply_vectors

POPULAR = 400  # rows kept in order of popularity, and of trend
POOL = 4096  # rows, the most popular, that the embedding looks for candidates among
BEST = 60  # rows kept of each token
REFRESH_EVENTS = 64  # learned from, after which the orders are made anew; in the beginning sooner
_META = "meta"
ITEM = "item:"
WEIGHTS = "weights:"
LAYOUT = 1


class Meta(msgspec.Struct, array_like=True):
    """The numbers beside the table, kept under `meta`: layout 1. By shard: feedbacks learned from, and ratings."""

    layout: int = LAYOUT
    ts: int = 0
    events: dict[int, int] = {}
    ratings: dict[int, tuple[float, float]] = {}


class Pool(NamedTuple):
    """The items that the embedding looks among: `rows` int32 (n,), `target` float32 (n, d), `bias` float32 (n,)."""

    rows: np.ndarray
    target: np.ndarray
    bias: np.ndarray


class ItemIndex:
    """Items by row of `table`, in arrays of its capacity:

    `known` bool: the catalogue holds it; `servable` bool: it may be on a slate; `hash` uint32 of its id; `content` and
    `text` float32 (DIMENSIONS,); `tokens` int32 (MAX_TOKENS,), numbers of `token_names`, -1 for none; `born` float64:
    publication in epoch milliseconds.
    """

    known: np.ndarray
    servable: np.ndarray
    hash: np.ndarray
    content: np.ndarray
    text: np.ndarray
    tokens: np.ndarray
    born: np.ndarray

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.table = ItemTable(behaviour.signals.neighbours, behaviour.embedding.dimensions)
        self.sessions = Sessions(behaviour.signals.sessions, self.table.capacity)
        self.meta = Meta()
        self.items: dict[str, int] = {}  # newest ts of each item of the catalogue, deleted ones too
        self.token_names: list[str] = []
        self.token_numbers: dict[str, int] = {}
        self.token_rows: list[list[int]] = []
        self.token_hashes = np.zeros(1024, np.uint32)
        self.token_sizes = np.zeros(1024, np.int32)  # items that have the token
        self.tokens_of_hash: dict[int, list[int]] = {}
        self.tokens_of_value: dict[str, list[int]] = {}
        self.weights: dict[int, Weights] = {}
        self.row_of_hash: dict[int, int] = {}  # of two items with one hash, the later
        self._fit()
        self._excluded = frozenset(map(token_of, behaviour.rules.exclude))
        self.forgotten: list[str] = []  # deleted items that were given up, for whoever keeps their records
        self._log_decay = np.log(
            decay_of((behaviour.signals.half_life_events, behaviour.signals.trend_half_life_events))
        )
        self._item_changes = 0
        self.releases = 0  # how often rows were given up, which may be other items then
        self._orders: dict[str, Any] = {}

    @classmethod
    def restore(cls, behaviour: Behaviour, base: dict[str, bytes]) -> "ItemIndex":
        """The index that `dump` and records of items and weights, by their keys, tell of."""
        index = cls(behaviour)
        if _META in base:
            index.meta = msgspec.msgpack.decode(base.pop(_META), type=Meta)
            if index.meta.layout != LAYOUT:
                raise ValueError(f"index of layout {index.meta.layout}: this version reads {LAYOUT}")
        index.table.load(base)
        index._fit()
        index.sessions.load(base)
        for item_id, row in index.table.rows.items():
            index._enter(row, item_id)
        for key, value in base.items():
            if key.startswith((ITEM, WEIGHTS)):
                index.apply(decode_update(value))
        return index

    def dump(self) -> dict[str, bytes]:
        """What the signals changed since the last dump, by the key it is kept under."""
        return {_META: encode(self.meta), **self.table.dump(), **self.sessions.dump()}

    def apply(self, update: Update) -> bool:
        """Take an update; whether it changed anything."""
        if isinstance(update, CatalogueUpdate):
            return self._apply_item(update.item)
        if isinstance(update, SignalUpdate):
            self._apply_signals(update)
        elif isinstance(update, VectorUpdate):
            self._apply_vectors(update)
        else:
            self.weights[update.shard] = update
        return True

    @property
    def events(self) -> int:
        """How many feedbacks the signals that are here were learned from."""
        return sum(self.meta.events.values())

    def row(self, item_id: str) -> int:
        """The row of `item_id`, -1 where the index knows nothing of it."""
        return self.table.rows.get(item_id, -1)

    def popularity(self, rows: np.ndarray) -> np.ndarray:
        """Decayed popularity of `rows`, float64, as of the newest event."""
        return self.decayed(rows)[:, 0]

    def decayed(self, rows: np.ndarray) -> np.ndarray:
        """Decayed popularity and trend of `rows`, float64 (n, 2), as of the newest event."""
        table = self.table
        age = self._events_of(table.shard[rows]) - table.at[rows]
        return table.stats[rows, DECAYED] * np.exp(age[:, None] * self._log_decay)

    def popular(self) -> np.ndarray:
        """The POPULAR most popular servable rows, most popular first; among equals the first that was known."""
        return self._order("popular", self._find_popular, REFRESH_EVENTS)

    def trending(self) -> np.ndarray:
        """The POPULAR servable rows that trend most, as `popular`."""
        return self._order("trending", lambda: self._find_popular(TRENDING), REFRESH_EVENTS)

    def highest_popularity(self) -> float:
        """That of the most popular row, 1 at least."""
        first = self.popular()[:1]
        return max(1.0, float(self.popularity(first)[0])) if len(first) else 1.0

    def pool(self) -> Pool:
        """The POOL most popular servable rows with their vectors."""
        return self._order("pool", self._find_pool, REFRESH_EVENTS)

    def newest(self) -> np.ndarray:
        """The `catalogue.new_items` newest servable rows of the catalogue: those of which least is known come first, so
        that each has its first exposures; of equals the newest.
        """
        return self._order("newest", self._find_newest, REFRESH_EVENTS)

    def best_of(self, token: int) -> np.ndarray:
        """The BEST most popular servable rows that have `token`."""
        return self._order(f"token {token}", lambda: self._find_best(token), 16 * REFRESH_EVENTS)

    def rating_mean(self) -> float | None:
        """The mean of all ratings; None where there is none."""
        total = sum(t for t, _ in self.meta.ratings.values())
        number = sum(n for _, n in self.meta.ratings.values())
        return total / number if number else None

    def _order(self, name: str, find: Any, patience: int) -> Any:
        made, events = self._orders.get(name), self.events
        if made is None or events - made[0] >= min(patience, 1 + events // 16):
            made = (events, find())
            self._orders[name] = made
        return made[1]

    def _find_popular(self, column: int = POPULARITY, most: int = POPULAR) -> np.ndarray:
        n = len(self.table)
        rows = np.flatnonzero(self.servable[:n])
        score = -self.decayed(rows)[:, column]
        if len(rows) > most:
            top = np.argpartition(score, most)[:most]
            top.sort()
            rows, score = rows[top], score[top]
        return rows[np.argsort(score, kind="stable")].astype(np.int32)

    def _find_pool(self) -> Pool:
        rows = self._find_popular(most=POOL)
        rows = rows[self.table.target[rows].any(axis=1)]
        return Pool(rows, self.table.target[rows], self.table.bias[rows])

    def _find_newest(self) -> np.ndarray:
        n = len(self.table)
        rows = np.flatnonzero(self.servable[:n] & self.known[:n])
        order = np.argsort(-self.born[rows], kind="stable")[: self.behaviour.catalogue.new_items]
        rows = rows[order]
        known = self.table.stats[rows, POSITIVES] + self.table.stats[rows, NEGATIVES]
        return rows[np.argsort(known, kind="stable")].astype(np.int32)

    def _find_best(self, token: int) -> np.ndarray:
        rows = np.array(self.token_rows[token], np.int64)
        rows = rows[self.servable[rows]] if len(rows) else rows
        return rows[np.argsort(-self.popularity(rows), kind="stable")[:BEST]].astype(np.int32)

    def _events_of(self, shards: np.ndarray) -> np.ndarray:
        events = self.meta.events
        if len(events) <= 1:
            return np.full(len(shards), float(next(iter(events.values()), 0)))
        lookup = np.zeros(max(events) + 1)
        lookup[list(events)] = list(events.values())
        return lookup[shards]

    def _fit(self) -> None:
        """Make the arrays as long as the table."""
        capacity, held = self.table.capacity, len(vars(self).get("hash", ()))
        if capacity == held:
            return
        shapes = {
            "known": (),
            "servable": (),
            "hash": (),
            "content": (DIMENSIONS,),
            "text": (DIMENSIONS,),
            "tokens": (MAX_TOKENS,),
            "born": (),
        }
        kinds: dict[str, type] = {"known": bool, "servable": bool, "hash": np.uint32, "tokens": np.int32}
        kinds |= {"content": np.float32, "text": np.float32}
        for name, shape in shapes.items():
            new: np.ndarray = np.full((capacity, *shape), -1 if name == "tokens" else 0, kinds.get(name, np.float64))
            if held:
                new[:held] = getattr(self, name)
            setattr(self, name, new)
        self.sessions.fit(capacity)

    def _enter(self, row: int, item_id: str) -> None:
        """Begin a row of the arrays; one without a catalogue entry may be servable."""
        mark = hash32(item_id)
        self.row_of_hash[mark] = row
        self.hash[row] = mark
        self.servable[row] = not self.behaviour.catalogue.strict and not item_id.startswith(COHORT)

    def _row(self, item_id: str) -> int:
        row = self.table.rows.get(item_id)
        if row is None:
            row = self.table.row(item_id)
            self._fit()
            self._enter(row, item_id)
        return row

    def _make_room(self, rows: int) -> None:
        """Where `rows` more would be too many, release the least popular that the catalogue does not hold."""
        table, limit = self.table, self.behaviour.catalogue.items
        if len(table.rows) + rows <= limit:
            return
        spare = np.array([row for row in table.rows.values() if not self.known[row]], np.int64)
        order = spare[np.argsort(self.popularity(spare), kind="stable")]
        gone = order[: max(rows, limit // 32)]
        for row in gone.tolist():
            if self.items.pop(table.ids[row], None) is not None:
                self.forgotten.append(table.ids[row])
            self.row_of_hash.pop(int(self.hash[row]), None)
        table.release(gone)
        self.sessions.release(gone)
        self.releases += 1
        self.servable[gone] = False
        self._orders.clear()

    def _apply_item(self, item: Item) -> bool:
        """Put the item in its row, unless a newer record of it was there; whether it did."""
        if item.ts < self.items.get(item.item_id, -1):
            return False
        self._make_room(1)
        self.items[item.item_id] = item.ts
        row = self._row(item.item_id)
        for token in self.tokens[row].tolist():
            if token >= 0:
                self.token_rows[token].remove(row)
                self.token_sizes[token] -= 1
        self.tokens[row] = -1
        names = [] if item.deleted else tokens_of(item)
        for position, name in enumerate(names):
            number = self._token(name)
            self.tokens[row, position] = number
            self.token_rows[number].append(row)
            self.token_sizes[number] += 1
        self.content[row] = vector_of(item, names)
        self.text[row] = text_of(item)
        self.known[row] = not item.deleted
        allowed = self._excluded.isdisjoint(names) and not item.item_id.startswith(COHORT)
        self.servable[row] = item.available and not item.deleted and allowed
        self.born[row] = item.published_ts if item.published_ts is not None else item.ts
        self._item_changes += 1
        if 64 * self._item_changes > len(self.items):  # else the orders may lag: what is not servable is left out later
            self._orders.clear()
            self._item_changes = 0
        return True

    def _token(self, name: str) -> int:
        number = self.token_numbers.get(name)
        if number is None:
            number = self.token_numbers[name] = len(self.token_names)
            self.token_names.append(name)
            self.token_rows.append([])
            if number == len(self.token_hashes):
                self.token_hashes = np.append(self.token_hashes, np.zeros(number, np.uint32))
                self.token_sizes = np.append(self.token_sizes, np.zeros(number, np.int32))
            self.token_hashes[number] = hash32(name)
            self.tokens_of_hash.setdefault(hash32(name), []).append(number)
            self.tokens_of_value.setdefault(name.partition("=")[2], []).append(number)
        return number

    def _apply_signals(self, update: SignalUpdate) -> None:
        apply_signals(self, update)

    def _apply_vectors(self, update: VectorUpdate) -> None:
        apply_vectors(self, update)
