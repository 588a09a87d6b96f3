"""The numbers that an index keeps beside its table, and what it was made with."""

import msgspec
from riverrank.operators.made_with import OF_INDEX, made_with, require
from riverrank.operators.settings import Behaviour
from riverrank.state.codec import Layout

KEY = "meta"


class Meta(msgspec.Struct, array_like=True, tag=1):
    """The numbers beside the table, kept under `meta`: layout 1. By shard: feedbacks learned from, and ratings. `made`
    is what it was made with, by the settings' names; nothing where that was not noted.
    """

    ts: int = 0
    events: dict[int, int] = {}
    ratings: dict[int, tuple[float, float]] = {}
    made: dict[str, int] = {}


META = Layout("index", Meta)


def begun(behaviour: Behaviour) -> Meta:
    """That of an index that knows nothing."""
    return Meta(made=made_with(behaviour, OF_INDEX))


def restored(raw: bytes, behaviour: Behaviour) -> Meta:
    """What `raw` holds, where the index can go on from it with these settings; else raises ValueError with the mend."""
    meta, made = META.decode(raw), made_with(behaviour, OF_INDEX)
    require(meta.made, made)
    meta.made = made
    return meta
