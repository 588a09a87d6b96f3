"""The job's own records, as they travel between its operators: MessagePack arrays.

Of these, SIGNALS, RANKER and the index of items keep what they learned from in journals until the next compaction
(`Feedback` and `Update`), and CACHE its writes until they are done; so fields are only ever added at the end, with a
default, and what changes otherwise gets a new number as `state.codec` has it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct, pack, unpack
from typing import Any, overload

import msgspec
import numpy as np

from .codec import Fields, Layout
from .event_types import EVENT_TYPES
from .records.incoming import Event, Item

POPULAR, TRENDING = "popular", "trending"  # name what is written for whoever comes, and never expires
GONE = "gone"  # the set of items that are gone; the key of a write by which what was told before its version is over
GONE_ITEM = f"{GONE}:"  # begins the key of one that says of an item, whose id follows, whether it is gone: `1` or `0`


class Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of a history: an interaction with `item_id` at `ts` that was worth `reward`. `kind` is the code of its
    type in EVENT_TYPES, a click unless said.
    """

    item_id: str
    ts: int
    reward: float
    kind: int = 1


class History(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A user's interactions, newest last: a sequence of `Seen`, by columns.

    `items` are the ids; `ts` int64, `rewards` float64 and `kinds` uint8 are little-endian bytes. Decoding 50 entries
    costs 1.5 us, `newest_first` half of one, and each `Seen` 0.1 us.

    >>> history = History.of([Seen("a", 5, 1.0), Seen("b", 7, -1.0, 3)])
    >>> len(history), history[-1], history[:1] == History.of([Seen("a", 5, 1.0)])
    (2, Seen(item_id='b', ts=7, reward=-1.0, kind=3), True)
    >>> list(history.newest_first())
    [('b', -1.0, 3), ('a', 1.0, 1)]
    """

    items: tuple[str, ...] = ()
    ts: bytes = b""
    rewards: bytes = b""
    kinds: bytes = b""

    @classmethod
    def of(cls, entries: Iterable[Seen]) -> "History":
        """The history of these entries, newest last."""
        if isinstance(entries, History):
            return entries
        rows = [(seen.item_id, seen.ts, seen.reward, seen.kind) for seen in entries]
        if not rows:
            return EMPTY
        items, ts, rewards, kinds = zip(*rows, strict=True)
        return cls(items, pack(f"<{len(rows)}q", *ts), pack(f"<{len(rows)}d", *rewards), bytes(kinds))

    def appended(self, seen: Seen) -> "History":
        """This history with one entry more."""
        return History(
            (*self.items, seen.item_id),
            self.ts + _INT.pack(seen.ts),
            self.rewards + _FLOAT.pack(seen.reward),
            self.kinds + _CODE.pack(seen.kind),
        )

    def newest_first(self) -> Iterator[tuple[str, float, int]]:
        """Item id, reward and kind of each interaction, newest first."""
        rewards = unpack(f"<{len(self.items)}d", self.rewards)
        return zip(reversed(self.items), reversed(rewards), reversed(self.kinds), strict=True)

    def taken(self, most: int | None = None) -> Sequence[str]:
        """The items that were taken, newest first, among the last `most` interactions; none that was refused since.

        >>> History.of([Seen("b", 5, 1.0), Seen("a", 6, 1.0), Seen("b", 7, -1.0, 3), Seen("c", 8, 1.0)]).taken()
        ['c', 'a']
        """
        items = self.items
        n = len(items) if most is None else min(most, len(items))
        if not n:
            return ()
        first = 8 * (len(items) - n)
        newest_first = items[: -n - 1 : -1]
        signs = self.rewards[first + 7 :: 8]  # of each reward the highest byte: from 128 on below 0, of 0 it is 0
        if signs.isascii() and 0 not in signs:
            return newest_first
        taken: list[str] = []
        refused: set[str] = set()
        for item_id, reward, _ in self[-n:].newest_first():
            if reward < 0:
                refused.add(item_id)
            elif reward > 0 and item_id not in refused:
                taken.append(item_id)
        return taken

    def since(self, ts: int) -> "History":
        """The interactions from `ts` on."""
        return self[bisect_left(memoryview(self.ts).cast("q"), ts) :]

    def before(self, ts: int) -> "History":
        """The interactions before `ts`."""
        return self[: bisect_left(memoryview(self.ts).cast("q"), ts)]

    def newest(self) -> int:
        """The time of the newest interaction, -1 where there is none."""
        return _INT.unpack_from(self.ts, len(self.ts) - 8)[0] if self.ts else -1

    def with_entry(self, seen: Seen) -> "History":
        """This history with one entry more, put in by time; of equal times the later arrival is newer."""
        if self.newest() <= seen.ts:
            return self.appended(seen)
        entries = list(self)
        entries.insert(bisect_right(entries, seen.ts, key=lambda entry: entry.ts), seen)
        return History.of(entries)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Seen]:
        times, rewards = unpack(f"<{len(self)}q", self.ts), unpack(f"<{len(self)}d", self.rewards)
        return map(Seen, self.items, times, rewards, self.kinds)

    def __reversed__(self) -> Iterator[Seen]:
        n = len(self.items)
        times, rewards = unpack(f"<{n}q", self.ts), unpack(f"<{n}d", self.rewards)
        return map(Seen, reversed(self.items), reversed(times), reversed(rewards), reversed(self.kinds))

    @overload
    def __getitem__(self, which: int) -> Seen: ...
    @overload
    def __getitem__(self, which: slice) -> "History": ...
    def __getitem__(self, which: int | slice) -> "Seen | History":
        if isinstance(which, int):
            k = range(len(self.items))[which]
            ts, reward = _INT.unpack_from(self.ts, 8 * k)[0], _FLOAT.unpack_from(self.rewards, 8 * k)[0]
            return Seen(self.items[k], ts, reward, self.kinds[k])
        start, stop, step = which.indices(len(self.items))
        if step != 1:
            return History.of(list(self)[which])
        part = slice(8 * start, 8 * stop)
        return History(self.items[which], self.ts[part], self.rewards[part], self.kinds[which])


EMPTY = History()
_INT, _FLOAT, _CODE = Struct("<q"), Struct("<d"), Struct("B")


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """A resolved impression: for each item that was shown, 1 if a positive interaction followed, else 0."""

    event_id: str
    ts: int
    items: tuple[str, ...]
    labels: tuple[int, ...]
    slate_id: str | None = None


class Feedback(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """An accepted event of a user with what SESSION knows of them: the one record that every learner reads.

    `history` is the user's as it stood when this event came, newest last; any entries are taken. `reward` is 0 for an
    event that is no interaction. `attributes` is the user's profile as it stands after this event. `epoch` is the event
    time of the user's last erasure, 0 for none. `outcomes` are the impressions that this event resolved. `story_reward`
    is the reward of the interaction that this one goes on with, as a purchase does with a click: the two are one story,
    and this is no second choice. 0 where it begins a story. Of a preview it is what they would be.
    """

    event: Event
    reward: float
    history: History
    outcomes: tuple[Outcome, ...] = ()
    attributes: dict[str, Any] = {}
    epoch: int = 0
    story_reward: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.history, History):
            msgspec.structs.force_setattr(self, "history", History.of(self.history))

    @property
    def is_choice(self) -> bool:
        """Whether the user took something by it, with which it begins a story."""
        return self.reward > 0 and not self.story_reward

    @property
    def gain(self) -> float:
        """Its reward, or where it goes on with a story by how much the story is worth more now."""
        return max(0.0, self.reward - self.story_reward) if self.story_reward else self.reward

    @property
    def is_behind(self) -> bool:
        """Whether interactions came that are newer than this event."""
        return self.history.newest() > self.event.ts

    def history_before(self) -> History:
        """The interactions up to the event's time: what came sooner and happened later is not what it follows from."""
        return self.history.before(self.event.ts + 1) if self.is_behind else self.history

    def history_after(self) -> History:
        """The history with the event's own interaction in it."""
        event = self.event
        if event.item_id is None or not (entry := EVENT_TYPES[event.type]).interaction:
            return self.history
        return self.history.with_entry(Seen(event.item_id, event.ts, self.reward, entry.code))


class SignalUpdate(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """What one shard of SIGNALS learned since its last update. Arrays are little-endian, items are indices into `ids`.

    `counted` int32 (m,) names the items whose `stats`, float32 (m, 6), follow. `lists` int32 (r, 2) is of the first r
    items: how often the list of each was renewed (and so forgot), and how many cells of it changed. A cell is one
    position of a list; in the order of the lists, `positions` uint16 (c,), `neighbours` int32 (c,) and `weights`
    float32 (c, 2) say which, the neighbour now there, and its two weights.
    `events` is how many feedbacks the shard has learned from; `ts` is the newest time of those this update is about.
    `keys` uint32 (p,) are users, by a hash, who each took one of `taken`, int32 (p,), in this order; -1: is erased.
    `whole` int32 (w,) are the lists whose cells are all there are: nothing of what was there before stays. `gone` are
    cohorts that the shard gave up before it learned all this.
    """

    shard: int
    ids: tuple[str, ...]
    counted: bytes
    stats: bytes
    lists: bytes
    positions: bytes
    neighbours: bytes
    weights: bytes
    events: int
    ts: int
    ratings: tuple[float, float]  # their sum and their number, over all items of the shard
    keys: bytes = b""
    taken: bytes = b""
    whole: bytes = b""
    gone: tuple[str, ...] = ()


class Weights(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The weights of one shard's ranker: float64 (segments, names), by the `names` of features; `version` counts what
    it learned from. Where no names are said, the features are `state.learners.FEATURES_1`. The `units` of its nets are
    float32 (segments, names + 2, WIDTH), as in `operators.models.net`; none where nothing is said. `clicks` float64
    (click_names + 2,) are those of the model of clicks on shown lists, by the names of its features, then its
    competition and its intercept (`operators.clicks.model`); none until it learned something.
    """

    shard: int
    version: int
    weights: bytes
    bias: float = 0.0  # makes the logit that of a click on a shown item
    names: tuple[str, ...] = ()
    units: bytes = b""
    click_names: tuple[str, ...] = ()
    clicks: bytes = b""


class VectorUpdate(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Vectors of items that moved since they were last told. Arrays are little-endian, items are indices into `ids`.

    `context_of` int32 (m,) names the items whose `context` embeddings, bfloat16 (m, d), follow; `target_of` int32 (n,)
    those whose `target` embeddings, bfloat16 (n, d), and `bias`, float32 (n,), follow. `ts` is the newest time of what
    this was learned from.
    """

    shard: int
    ids: tuple[str, ...]
    context_of: bytes
    context: bytes
    target_of: bytes
    target: bytes
    bias: bytes
    ts: int


class AutoencoderUpdate(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """What each of the n items of `ids` says of each: `weights` bfloat16 (n, n), a row what one says of all. It takes
    the place of what was told before. `ts` is the newest time of what was learned from since.
    """

    shard: int
    ids: tuple[str, ...]
    weights: bytes
    ts: int


class CatalogueUpdate(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """An item of the `items` stream; in state, also the `row` that the index has it in, so that it comes back there."""

    item: Item
    row: int = -1


class CacheWrite(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """What CACHE is asked to do with one key: put `slate` (JSON) there, or where it is None, erase the key; where it is
    `asked` by the event of an export, to tell what waits of it. Order is by (`epoch`, `version`). `receipt` is the JSON
    that proves an erasure once the key is gone. `made` is when, by the wall clock in epoch milliseconds, 0 if not
    known; so is `version` of GONE and GONE_ITEM.
    """

    key: str
    epoch: int
    version: int
    slate: bytes | None
    receipt: bytes | None = None
    made: int = 0
    asked: Event | None = None


WRITE = Layout("cache write", CacheWrite, {1: list}, unnumbered=1)  # layout 1 had no number and the same fields
decode_write = WRITE.decode


def _by_columns(fields: Fields) -> Fields:
    """From layout 1, which had no number, and whose history was an array of entries."""
    return [*fields[:2], History.of(msgspec.convert(fields[2], list[Seen])), *fields[3:]]


FEEDBACK = Layout("feedback", Feedback, {1: _by_columns}, unnumbered=1)
decode_feedback = FEEDBACK.decode


class _SignalUpdate5(SignalUpdate, frozen=True, array_like=True, tag=5):
    """A SignalUpdate as it was: with a third weight in each cell, that nothing reads any more."""

    def of_now(self) -> SignalUpdate:
        """The same as it is now."""
        weights = np.frombuffer(self.weights, "<f4").reshape(-1, 3)[:, :2]
        return SignalUpdate(**{**msgspec.structs.asdict(self), "weights": weights.tobytes()})


class _SignalUpdate1(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A SignalUpdate before that: `rows` int32 (r,) are the lists that changed, each `renewals` int32 (r,) times, and
    `cells` int32 (c, 3) hold list, position and the neighbour now there.
    """

    shard: int
    ids: tuple[str, ...]
    counted: bytes
    stats: bytes
    rows: bytes
    renewals: bytes
    cells: bytes
    weights: bytes
    events: int
    ts: int
    ratings: tuple[float, float]
    keys: bytes = b""
    taken: bytes = b""

    def of_now(self) -> SignalUpdate:
        """The same as it is now: items with lists stand first, and cells in the order of the lists."""
        rows, cells = np.frombuffer(self.rows, "<i4"), np.frombuffer(self.cells, "<i4").reshape(-1, 3)
        listed = [*dict.fromkeys([*rows.tolist(), *cells[:, 0].tolist()])]
        order = [*dict.fromkeys([*listed, *range(len(self.ids))])]
        now = np.full(len(order) + 1, -1, "<i4")  # by item; the last is -1's
        now[order] = np.arange(len(order))
        lists = np.zeros((len(listed), 2), "<i4")
        lists[now[rows], 0] = np.frombuffer(self.renewals, "<i4")
        lists[:, 1] = np.bincount(now[cells[:, 0]], minlength=len(listed))
        by_list = np.argsort(now[cells[:, 0]], kind="stable")
        return _SignalUpdate5(
            shard=self.shard,
            ids=tuple(self.ids[item] for item in order),
            counted=now[np.frombuffer(self.counted, "<i4")].tobytes(),
            stats=self.stats,
            lists=lists.tobytes(),
            positions=cells[by_list, 1].astype("<u2").tobytes(),
            neighbours=now[cells[by_list, 2]].tobytes(),
            weights=np.frombuffer(self.weights, "<f4").reshape(-1, 3)[by_list].tobytes(),
            events=self.events,
            ts=self.ts,
            ratings=self.ratings,
            keys=self.keys,
            taken=now[np.frombuffer(self.taken, "<i4")].tobytes(),
        ).of_now()


Learned = SignalUpdate | VectorUpdate | AutoencoderUpdate  # what was learned from events up to a time
LAST = 1 << 61  # is added to the time of what is told at the end of the input: it is for no event
Update = Learned | Weights | CatalogueUpdate
_decode_update = msgspec.msgpack.Decoder(Update | _SignalUpdate1 | _SignalUpdate5).decode


def told_last(update: Update) -> Update:
    """The update as it is told at the end of the input; weights have no time, and stay as they are."""
    return msgspec.structs.replace(update, ts=LAST + update.ts) if isinstance(update, Learned) else update


def decode_update(raw: bytes) -> Update:
    """The update that `raw` holds, as it is now or was before."""
    update = _decode_update(raw)
    return update.of_now() if isinstance(update, _SignalUpdate1 | _SignalUpdate5) else update


encode = msgspec.msgpack.Encoder().encode
