"""How many bytes a user and an item take: as they are stored, and in the memory of a process."""

import gc
import itertools
import os
from pathlib import Path
from typing import NamedTuple

from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour
from riverrank.state.messages import CatalogueUpdate, encode

from .figures import Spread, alone
from .local import Local
from .streams import ZipfShop

FEW = 1_000  # items that are loaded first, so that what is there once is not counted
MET = 3  # interactions with each item


class Sizes(NamedTuple):
    """Bytes of a user after so many `interactions` (of SESSION, of the learner, of both), and of an item."""

    interactions: int
    session: Spread
    learner: Spread
    user: Spread
    item_stored: float  # as a broadcast update
    item: float  # in memory, of an index, where nobody met it
    item_met: float  # in memory, of all operators, more once it was met


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


def _resident() -> int:
    """Bytes of memory that this process holds now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
