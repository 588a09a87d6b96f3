"""The pieces of an export: cut so that each goes into one record of a topic, and put together again. What is kept of a
user, and where, is not known here.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from .incoming import Event
from .outgoing import Export, Part, to_json

MAX_PIECE_BYTES = 900_000  # of a record: a broker takes 1 MiB, unless told otherwise
MAX_EXPORT_BYTES = 256 << 20  # of all records that are taken for one export
Kept = Mapping[str, Any]  # by name: a list of rows, each far smaller than a piece, or one value that is

_decode = msgspec.json.Decoder(Export).decode


def cut(asked: Event, part: Part, then: Part | None, kept: Kept, most: int = MAX_PIECE_BYTES) -> tuple[bytes, ...]:
    """What a part keeps of a user, as records (JSON) of `most` bytes at most, one at least; what is empty is left out.

    `asked` is the event of the export, `then` the part that follows, if any. Lists are cut between their rows.
    Raises ValueError where one row or value alone is larger than a piece.

    >>> asked = Event("x", "export", "u", 1)
    >>> pieces = cut(asked, "sessions", None, {"rows": ["a" * 99] * 3, "one": 1, "none": []}, most=400)
    >>> len(pieces), join(map(_decode, pieces))
    (2, {'rows': ['aaa...'], 'one': 1})
    """
    head = Export(asked.event_id, asked.user_id, asked.ts, part, then, 999_999, 999_999, 16 * "0", {})
    room, used, digest = most - len(to_json(head)), 0, hashlib.blake2b(digest_size=8)
    pieces: list[dict[str, Any]] = [{}]
    for name, value in kept.items():
        if value is None or (isinstance(value, list | dict) and not value):
            continue
        rows = value if isinstance(value, list) else [value]
        named = len(to_json(name)) + 4  # with a colon, a comma and brackets
        digest.update(name.encode())
        for row in rows:
            raw = to_json(row)
            digest.update(raw)
            if named + len(raw) + 1 > room:
                raise ValueError(f"{part}.{name}: {len(raw)} bytes do not fit into a piece of {most}")
            if used + named + len(raw) + 1 > room:
                pieces.append({})
                used = 0
            used += len(raw) + 1 + (named if name not in pieces[-1] else 0)
            if value is rows:
                pieces[-1].setdefault(name, []).append(msgspec.Raw(raw))
            else:
                pieces[-1][name] = msgspec.Raw(raw)
    fixed = {"pieces": len(pieces), "digest": digest.hexdigest()}
    replace = msgspec.structs.replace
    return tuple([to_json(replace(head, piece=at, kept=each, **fixed)) for at, each in enumerate(pieces, 1)])


def join(pieces: Iterable[Export]) -> dict[str, Any]:
    """What a part keeps, from its pieces in their order."""
    kept: dict[str, Any] = {}
    for piece in pieces:
        for name, value in piece.kept.items():
            if isinstance(value, list):
                kept.setdefault(name, []).extend(value)
            else:
                kept[name] = value
    return kept


class Collector:
    """Puts an export together from the records of a topic, in whatever order they come, and however often.

    >>> asked = Event("x", "export", "u", 1)
    >>> collector = Collector(asked)
    >>> collector.take(cut(asked, "sessions", "learner", {"a": 1})[0]), collector.whole()
    (None, None)
    >>> collector.take(cut(asked, "learner", None, {})[0]), collector.whole()
    (None, {'sessions': {'a': 1}, 'learner': {}})
    """

    def __init__(self, asked: Event) -> None:
        self._asked = asked
        self._bytes = 0
        # By part, and by digest: after a failure the job may tell again, when it knows more of all items.
        self._found: dict[str, dict[tuple[str, int], dict[int, Export]]] = {}

    def take(self, record: bytes | None) -> None:
        """Take a record; one of another export, or that is none, is left out. Raises ValueError where they are too much
        for one export.
        """
        try:
            piece = _decode(record or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if (piece.event_id, piece.user_id) != (self._asked.event_id, self._asked.user_id):
            return
        self._bytes += len(record or b"")
        if self._bytes > MAX_EXPORT_BYTES:
            raise ValueError(f"more than {MAX_EXPORT_BYTES} bytes")
        self._found.setdefault(piece.part, {}).setdefault((piece.digest, piece.pieces), {})[piece.piece] = piece

    def whole(self) -> dict[str, dict[str, Any]] | None:
        """By part what is kept, once all of it is there."""
        parts: dict[str, dict[str, Any]] = {}
        then: str | None = "sessions"
        while then is not None:
            pieces = self._complete(then)
            if pieces is None or then in parts:
                return None
            parts[then] = join(pieces)
            then = pieces[0].next
        return parts

    def missing(self) -> str:
        """What came of it, for a message."""
        told = [f"{len(one)} of {n} of {part}" for part, of in self._found.items() for (_, n), one in of.items()]
        return ", ".join(told) or "nothing of it came"

    def _complete(self, part: str) -> Sequence[Export] | None:
        for (_, number), pieces in self._found.get(part, {}).items():
            if len(pieces) == number and all(at in pieces for at in range(1, number + 1)):
                return [pieces[at] for at in range(1, number + 1)]
        return None
