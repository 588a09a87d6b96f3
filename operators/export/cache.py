"""What CACHE keeps of a user: what Redis has not taken yet."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from riverrank.state.messages import CacheWrite
from riverrank.state.records.incoming import Event
from riverrank.state.records.pieces import cut

_slate = msgspec.json.Decoder(dict[str, Any]).decode


def cache_pieces(asked: Event, waiting: Iterable[CacheWrite]) -> tuple[bytes, ...]:
    """The records of the part `cache`, of the writes that wait for Redis under the user's key.

    >>> write = CacheWrite("slate:u", 0, 1, b'{"version":1,"items":[]}')
    >>> b'"kept":{"slate":{"made":null,"version":1}}' in cache_pieces(Event("x", "export", "u", 1), [write])[0]
    True
    """
    slate: Mapping[str, Any] = {}
    items: list[Any] = []
    erasures: list[Mapping[str, Any]] = []
    for write in waiting:
        made = write.made or None
        if write.slate is None:
            receipt = msgspec.Raw(write.receipt) if write.receipt is not None else None
            erasures.append({"epoch": write.epoch, "made": made, "receipt": receipt})
        else:
            held = _slate(write.slate)
            items = held.pop("items", [])
            slate = {"made": made, **held}
    return cut(asked, "cache", None, {"slate": slate, "slate_items": items, "erasures": erasures})
