"""How many bytes a user and an item take, as they are stored, and in the memory of a process; and how many an event
adds to what every TaskManager is sent.
"""

import functools
import gc
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour
from riverrank.state.messages import CatalogueUpdate, SignalUpdate, Update, encode

from .figures import Spread, alone, resident
from .local import Local
from .parts import PARTS, wrapped
from .streams import ZipfShop, shop_stream

FEW = 1_000  # items that are loaded first, so that what is there once is not counted
MET = 3  # interactions with each item
FLUSHES = (8, 64, 512)  # feedbacks to an update of the signals: the default, and larger ones


class Sizes(NamedTuple):
    """Bytes of a user after so many `interactions` (of SESSION, of the learner, of both), and of an item."""

    interactions: int
    session: Spread
    learner: Spread
    user: Spread
    item_stored: float  # as a broadcast update
    item: float  # in memory, of an index, where nobody met it
    item_met: float  # in memory, of all operators, more once it was met


class Broadcast(NamedTuple):
    """What an event adds to what every TaskManager is sent, where an update of the signals is of so many feedbacks:
    bytes of SIGNALS and of RANKER, and the microseconds that an index takes to follow both.
    """

    flush_events: int
    signals: float
    ranker: float
    microseconds: Spread


def measure_broadcast(warm_up: int, events: int, rounds: int, folder: Path) -> list[Broadcast]:
    """By each of FLUSHES, in a process of its own."""
    sizes = {"warm_up": warm_up, "events": events, "rounds": rounds}
    found = [alone("sizes.broadcast", {"flush_events": flush, **sizes}, folder) for flush in FLUSHES]
    return [Broadcast._make([*figures, Spread(*spread)]) for *figures, spread in found]


def measure(interactions: int, users: int, catalogue_items: int, learned_items: int, folder: Path) -> Sizes:
    """All of it, each in a process of its own."""
    kept = alone("sizes.user", {"interactions": interactions, "users": users}, folder)
    new = alone("sizes.catalogue", {"items": catalogue_items}, folder)
    met = alone("sizes.learned", {"items": learned_items, "interactions": MET}, folder)
    spreads = {name: Spread(*spread) for name, spread in kept.items()}
    return Sizes(interactions, **spreads, item_stored=new["stored"], item=new["resident"], item_met=met["resident"])


def user(interactions: int, users: int) -> dict[str, Spread]:
    """Bytes that SESSION and RECOMMEND keep of each of `users`, after so many interactions of each."""
    shop, local = ZipfShop(2_000, users), Local()
    local.load(map(local.arrival, shop.catalogue()))
    count = dict.fromkeys(shop.user_ids, 0)
    left = users
    for event in shop.events():
        if count[event.user_id] < interactions:
            count[event.user_id] += 1
            local.run([local.arrival(event)])
            left -= count[event.user_id] == interactions
            if not left:
                break
    session = [float(len(local.sessions[name])) for name in shop.user_ids]
    learner = [float(len(local.learners[name])) for name in shop.user_ids]
    return {
        "session": Spread.of(session),
        "learner": Spread.of(learner),
        "user": Spread.of([a + b for a, b in zip(session, learner, strict=True)]),
    }


def catalogue(items: int) -> dict[str, float]:
    """Bytes of an item that nobody met: as a broadcast update, and in the memory of one index of so many."""
    shop, index = ZipfShop(items, 1), ItemIndex(Behaviour())
    updates = map(CatalogueUpdate, shop.catalogue())
    for update in itertools.islice(updates, FEW):
        index.apply(update)
    before, stored = _resident(), 0
    for update in updates:
        index.apply(update)
        stored += len(encode(update))
    added = items - FEW
    return {"stored": stored / added, "resident": (_resident() - before) / added}


def learned(items: int, interactions: int) -> dict[str, float]:
    """Bytes that an item takes in the memory of all local operators beyond the catalogue's, once it was met so often.

    One index is shared by RANKER and RECOMMEND here; in the job each has one.
    """
    shop, local = ZipfShop(items, 100), Local()
    local.load(map(local.arrival, shop.catalogue()))
    local.run(map(local.arrival, itertools.islice(shop.rounds(), FEW)))
    before = _resident()
    local.run(map(local.arrival, itertools.islice(shop.rounds(), interactions * items)))
    return {"resident": (_resident() - before) / items}


def broadcast(flush_events: int, warm_up: int, events: int, rounds: int) -> Broadcast:
    """That of the stream of the contest, in `rounds` of `events` after `warm_up`, in half of which the vectors and the
    ranker learn from each.
    """
    plain, half = Behaviour(), warm_up // 2
    local = Local(
        msgspec.structs.replace(
            plain,
            signals=msgspec.structs.replace(plain.signals, flush_events=flush_events, flush_every=3_600_000),
            embedding=msgspec.structs.replace(plain.embedding, warmup_events=half),
            ranker=msgspec.structs.replace(plain.ranker, warmup_events=half),
        )
    )
    items, coming = shop_stream(warm_up + rounds * events)
    local.load(map(local.arrival, items))
    arrivals = [local.arrival(event) for event in coming]
    local.run(arrivals[:warm_up])
    told: list[Update] = []
    taken: list[float] = []

    def watched(apply: Callable[[Any, Update], None]) -> Callable[[Any, Update], None]:
        @functools.wraps(apply)
        def called(index: Any, update: Update) -> None:
            started = time.thread_time()
            apply(index, update)
            taken.append(time.thread_time() - started)
            told.append(update)

        return called

    of_round: list[float] = []
    with wrapped(dict.fromkeys(PARTS["index updates"], watched)):
        for at in range(warm_up, len(arrivals), events):
            taken.clear()
            local.run(arrivals[at : at + events])
            of_round.append(sum(taken) / events * 1e6)
    of_signals = _bytes([update for update in told if isinstance(update, SignalUpdate)])
    count = rounds * events
    return Broadcast(flush_events, of_signals / count, (_bytes(told) - of_signals) / count, Spread.of(of_round))


def _bytes(updates: Sequence[Update]) -> int:
    return sum(len(encode(update)) for update in updates)


def _resident() -> int:
    """Bytes of memory that this process holds now, without what nobody refers to."""
    gc.collect()
    return resident()
