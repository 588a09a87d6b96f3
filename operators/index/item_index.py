"""What is known of all items when a user is answered: the catalogue, the signals, the ranker's weights.

RANKER and RECOMMEND each hold one, fed by the broadcast of updates; answering reads it and never writes what is kept.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from riverrank.operators.catalogue.tokens import COHORT, MAX_TOKENS, first_value, token_of, tokens_of
from riverrank.operators.catalogue.vectors import DIMENSIONS, vector_of
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.sessions import Sessions
from riverrank.state.hashing import hash32
from riverrank.state.item_tables import (
    DECAYED,
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
)
from riverrank.state.records.incoming import Item

from .apply_updates import apply_autoencoder, apply_signals, apply_vectors
from .changed_rows import ChangedRows
from .domains import Domains
from .item_weights import ItemWeights
from .lists import POPULAR, Lists
from .meta import KEY, META, begun, restored
from .pool import Pool
from .vocabulary import Vocabulary

ITEM = "item:"
WEIGHTS = "weights:"


class ItemIndex:
    """Items by row of `table`, in arrays of its capacity:

    `known` bool: the catalogue holds it; `available` bool: neither deleted nor sold out, as far as it says; `servable`
    bool: it may be on a slate; `hash` uint32 of its id; `content` float32 (DIMENSIONS,); `tokens` int32 (MAX_TOKENS,),
    numbers of `token_names`, -1 for none; `born` float64: publication in epoch milliseconds.
    """

    known: np.ndarray
    available: np.ndarray
    servable: np.ndarray
    hash: np.ndarray
    content: np.ndarray
    tokens: np.ndarray
    born: np.ndarray

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.table = ItemTable(behaviour.signals.neighbours, behaviour.embedding.dimensions)
        self.sessions = Sessions(behaviour.signals.sessions, self.table.capacity)
        self.item_weights = ItemWeights(self.table.capacity)
        self.meta = begun(behaviour)
        self.clock = np.zeros(1)  # by shard, how many feedbacks it has learned from
        self.items: dict[str, int] = {}  # newest ts of each item of the catalogue, deleted ones too
        self.vocabulary = Vocabulary()
        self.token_names, self.token_numbers = self.vocabulary.names, self.vocabulary.numbers
        self.tokens_of_value = self.vocabulary.by_value
        self.weights: dict[int, Weights] = {}
        self.domains = Domains(behaviour.domain.attribute)
        self.changed = ChangedRows()
        self._cohorts: set[int] = set()  # rows of the cohorts: those that SIGNALS holds, which bounds them
        self._fit()
        self._excluded = frozenset(map(token_of, behaviour.rules.exclude))
        self.forgotten: list[str] | None = None  # items that were given up, where their records are kept: see `restore`
        self._log_decay = np.log(
            decay_of((behaviour.signals.half_life_events, behaviour.signals.trend_half_life_events))
        )
        self.hidden_for_ever = bytes(code for code, ms in behaviour.slate.hidden().items() if not ms)
        self.releases = 0  # how often rows were given up, which may be other items then
        self.lists = Lists(self)
        self._pool = Pool(self.table, POPULAR, behaviour.embedding.dimensions)

    @property
    def token_hashes(self) -> np.ndarray:
        """By token number: uint32."""
        return self.vocabulary.hashes

    @property
    def token_sizes(self) -> np.ndarray:
        """How many items have the token, by its number: int32."""
        return self.vocabulary.sizes

    @classmethod
    def restore(cls, behaviour: Behaviour, base: dict[str, bytes]) -> "ItemIndex":
        """The index that `dump` and records of items and weights, by their keys, tell of. Who keeps these is to take
        what becomes `forgotten` from there.
        """
        index = cls(behaviour)
        index.forgotten = []
        if KEY in base:
            index.meta = restored(base.pop(KEY), behaviour)
            index._set_clock()
        index.table.load(base)
        kept = [decode_update(value) for key, value in base.items() if key.startswith((ITEM, WEIGHTS))]
        items = [update for update in kept if isinstance(update, CatalogueUpdate)]
        index.table.place({update.item.item_id: update.row for update in items if update.row >= 0})
        index._fit()
        index.sessions.load(base)
        if behaviour.autoencoder.items:  # else nothing would ever take their place
            index.item_weights.load(base, index.table.rows.find)
        for item_id, row in index.table.rows.items():
            index._enter(row, item_id)
        items.sort(key=lambda update: (update.row, update.item.item_id))
        for update in (*items, *(update for update in kept if not isinstance(update, CatalogueUpdate))):
            index.apply(update)
        index._make_room(())  # where it was larger before
        return index

    def dump(self) -> dict[str, bytes]:
        """What the signals changed since the last dump, by the key it is kept under."""
        return {**self.noted(), **self.table.dump(), **self.sessions.dump(), **self.item_weights.dump()}

    def noted(self) -> dict[str, bytes]:
        """Its numbers and what it was made with, by the key they are kept under."""
        return {KEY: META.encode(self.meta)}

    def apply(self, update: Update) -> bool:
        """Take an update; whether it changed anything."""
        if isinstance(update, CatalogueUpdate):
            return self._apply_item(update.item)
        if isinstance(update, Weights):
            self.weights[update.shard] = update
            return True
        self._settle()
        if isinstance(update, SignalUpdate):
            apply_signals(self, update)
        elif isinstance(update, VectorUpdate):
            apply_vectors(self, update)
        else:
            apply_autoencoder(self, update)
        self._make_room(())  # what made room for it may have been what it tells of, and begun again then
        self._settle()
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
        age = self.clock[table.shard[rows]] - table.at[rows]
        return table.stats[rows, DECAYED] * np.exp(age[:, None] * self._log_decay)

    def decayed_into(self, rows: np.ndarray, which: int, scores: np.ndarray, column: int) -> None:
        """Decayed popularity or trend of `rows`, int32 (c,), as of the newest event, into a column of `scores`."""
        table = self.table
        decayed(rows, table.stats, which, table.at, table.shard, self.clock, self._log_decay[which], scores, column)

    def keys_of(self, rows: np.ndarray, which: int) -> np.ndarray:
        """What orders `rows`, int (n,), by popularity or trend whenever they were counted: float64 (n,)."""
        table = self.table
        with np.errstate(divide="ignore"):
            keys = np.log(table.stats[rows, which].astype(np.float64))
        return keys - (table.at[rows] - self.lists.clock[table.shard[rows]]) * self._log_decay[which]

    def both_keys_of(self, rows: np.ndarray) -> np.ndarray:
        """`keys_of` by popularity, and by trend: float64 (2, n)."""
        table = self.table
        keys = gather_decayed(rows, table.stats)
        np.log(keys, out=keys)
        as_of_start(keys, rows, table.stats, table.at, table.shard, self.lists.clock, self._log_decay)
        return keys

    def popular(self) -> np.ndarray:
        """The 4,096 most popular servable rows (a sixteenth fewer where some went), most popular first; of equals the
        lowest row: int32.
        """
        self.lists.make_ready()
        return self.lists.popular.rows[: self.lists.popular.n]

    def trending(self) -> np.ndarray:
        """The 400 servable rows that trend most, as `popular`."""
        self.lists.make_ready()
        return self.lists.trending.rows[: self.lists.trending.n]

    def newest(self) -> np.ndarray:
        """The `catalogue.new_items` newest servable rows of the catalogue: those of which least is known come first, so
        that each has its first exposures; of equals the newest.
        """
        self.lists.make_ready()
        return self.lists.least_known()

    def pool(self) -> Pool:
        """The learned ones of the most popular rows, with their target embeddings."""
        if not self._pool.is_filled:
            self._pool.fill(self.popular())
        return self._pool

    def best_of(self, token: int) -> np.ndarray:
        """The 60 most popular servable rows that have `token`: int32."""
        self.lists.make_ready()
        return self.lists.best_of(token)

    def best_of_each(self, tokens: np.ndarray) -> np.ndarray:
        """`best_of` each of `tokens`, int32, one after another: int32."""
        self.lists.make_ready()
        return self.lists.best_of_each(tokens)

    def highest_popularity(self) -> float:
        """That of the most popular row, 1 at least."""
        first = self.popular()[:1]
        return max(1.0, float(self.popularity(first)[0])) if len(first) else 1.0

    def rating_mean(self, more: float = 0.0, weight: float = 0.0) -> float | None:
        """The mean of all ratings, and of `weight` that are `more`; None where there is none."""
        total = sum((t for t, _ in self.meta.ratings.values()), weight * more)
        number = sum((n for _, n in self.meta.ratings.values()), weight)
        return total / number if number else None

    def _settle(self) -> None:
        """Make the lists and the pool again where enough changed. Done before and after what was learned is applied,
        and never when they are read: they follow from the updates alone, whoever reads in between.
        """
        self.lists.settle()
        if self._pool.wants_refresh(self.events):
            self._pool.fill(self.popular(), self.events)

    def _set_clock(self) -> None:
        events = self.meta.events
        self.clock = np.zeros(max(events, default=0) + 1)
        self.clock[list(events)] = list(events.values())

    def _fit(self) -> None:
        """Make the arrays as long as the table."""
        capacity, held = self.table.capacity, len(vars(self).get("hash", ()))
        if capacity == held:
            return
        shapes = {
            "known": (),
            "available": (),
            "servable": (),
            "hash": (),
            "content": (DIMENSIONS,),
            "tokens": (MAX_TOKENS,),
            "born": (),
        }
        kinds: dict[str, type] = {
            "known": bool,
            "available": bool,
            "servable": bool,
            "hash": np.uint32,
            "tokens": np.int32,
            "content": np.float32,
        }
        for name, shape in shapes.items():
            new: np.ndarray = np.full((capacity, *shape), -1 if name == "tokens" else 0, kinds.get(name, np.float64))
            if held:
                new[:held] = getattr(self, name)
            setattr(self, name, new)
        self.vocabulary.fit(capacity)
        self.sessions.fit(capacity)
        self.item_weights.fit(capacity)
        self.domains.fit(capacity)
        self.changed.fit(capacity)

    def _enter(self, row: int, item_id: str) -> None:
        """Begin a row of the arrays; one without a catalogue entry may be servable."""
        is_cohort = item_id.startswith(COHORT)
        if is_cohort:
            self._cohorts.add(row)
        self.hash[row] = hash32(item_id)
        self.servable[row] = not self.behaviour.catalogue.strict and not is_cohort
        self.born[row] = 0.0
        if self.servable[row]:
            self.lists.change(row, self.tokens[row])

    def _row(self, item_id: str) -> int:
        row = self.table.rows.get(item_id)
        if row is None:
            row = self.table.row(item_id)
            self._fit()
            self._enter(row, item_id)
        return row

    def _make_room(self, ids: Sequence[str]) -> None:
        """Where with those of `ids` that have no row yet there would be too many, release the least popular items that
        the catalogue does not hold; and where it holds all, of those. Cohorts are no items: SIGNALS gives them up.
        """
        table, limit = self.table, self.behaviour.catalogue.items + len(self._cohorts)
        if len(table.rows) + len(ids) <= limit:
            return
        new = [item_id for item_id in ids if item_id not in table.rows and not item_id.startswith(COHORT)]
        wanted = len(table.rows) + len(new) - limit
        if wanted <= 0:
            return
        rows = table.used()
        if self._cohorts:
            rows = rows[~np.isin(rows, np.fromiter(self._cohorts, np.int64, len(self._cohorts)))]
        known = self.known[rows]
        order = rows[np.lexsort((self.popularity(rows), known))]
        gone = order[: max(wanted, min(self.behaviour.catalogue.items // 32, np.count_nonzero(~known)))]
        for row in gone.tolist():
            if self.items.pop(table.ids[row], None) is not None and self.forgotten is not None:
                self.forgotten.append(table.ids[row])
            self.vocabulary.unlink(row, self.tokens[row])
            self.tokens[row] = -1
        table.release(gone)
        self.sessions.release(gone)
        self.item_weights.release(gone)
        self.domains.release(gone)
        self.releases += 1
        self.servable[gone] = self.available[gone] = self.known[gone] = False
        self.content[gone] = 0.0
        self.lists.forget()
        self._pool.forget()

    def _release_cohorts(self, names: Sequence[str]) -> None:
        """Give up cohorts that SIGNALS gave up. Nothing but their lists is held of them, so nobody else is to know."""
        rows = self.table.rows_of(names)
        self.table.release_cohorts(rows)
        self._cohorts.difference_update(rows.tolist())

    def _apply_item(self, item: Item) -> bool:
        """Put the item in its row, unless a newer record of it was there; whether it did."""
        if item.ts < self.items.get(item.item_id, -1):
            return False
        self._make_room((item.item_id,))
        self.items[item.item_id] = item.ts
        row = self._row(item.item_id)
        self.vocabulary.make_room(self.tokens)
        before = self.tokens[row].copy()
        self.vocabulary.unlink(row, before)
        names = [] if item.deleted else tokens_of(item)
        self.tokens[row] = -1
        self.tokens[row, : len(names)] = list(map(self.vocabulary.number, names))
        self.vocabulary.link(row, self.tokens[row])
        self.content[row] = vector_of(item, names)
        self.known[row] = not item.deleted
        self.available[row] = item.available and not item.deleted
        allowed = self._excluded.isdisjoint(names) and not item.item_id.startswith(COHORT)
        self.servable[row] = self.available[row] and allowed
        if self.domains.attribute:
            self.domains.put(row, first_value(item, self.domains.attribute), self.servable[row])
        self.born[row] = item.published_ts if item.published_ts is not None else item.ts
        self.lists.change(row, np.append(before, self.tokens[row]))
        self._pool.catalogue_changed()
        self.changed.note(self.changed.likeness, row)
        return True


@njit(cache=True)
def decayed(rows, stats, which, at, shard, clock, log_decay, scores, column):  # type: ignore[no-untyped-def]
    """Column `which` of the stats of `rows`, int32 (c,), as of now, into a column of `scores`. About 10 ns a row."""
    for c in range(len(rows)):
        row = rows[c]
        held = stats[row, which]
        if held > 0.0:
            scores[c, column] = held * np.exp((clock[shard[row]] - at[row]) * log_decay)


@njit(cache=True)
def gather_decayed(rows, stats):  # type: ignore[no-untyped-def]
    """Decayed popularity and trend of `rows`, int (n,), as they stand, 1 for 0: float64 (2, n)."""
    numbers = np.empty((2, len(rows)))
    for k in range(len(rows)):
        for which in range(2):  # DECAYED begins at 0
            held = np.float64(stats[rows[k], which])
            numbers[which, k] = held if held > 0.0 else 1.0
    return numbers


@njit(cache=True)
def as_of_start(logs, rows, stats, at, shard, clock, log_decay):  # type: ignore[no-untyped-def]
    """What `gather_decayed` gave, of which `logs`, float64 (2, n), are the logarithms, as of `clock`; of 0 is -inf."""
    for k in range(len(rows)):
        row = rows[k]
        age = at[row] - clock[shard[row]]
        for which in range(2):
            log = logs[which, k] if stats[row, which] > 0.0 else -np.inf
            logs[which, k] = log - age * log_decay[which]
