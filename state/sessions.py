"""What SESSION keeps of one user, and its bytes."""

from typing import Any

import msgspec

from .codec import Fields, Layout
from .messages import EMPTY, History, Seen


class OpenImpression(msgspec.Struct, array_like=True):
    """An impression that waits for what follows it.

    `answers` holds, by the position in `items`, the time of the last word on that item, and its label: 1 where it was
    positive, else 0. `arrived` is when it came, by the wall clock in epoch milliseconds, 0 where nobody looked.
    """

    event_id: str
    ts: int
    items: tuple[str, ...]
    slate_id: str | None = None
    answers: dict[int, tuple[int, int]] = {}
    arrived: int = 0

    def labels(self) -> tuple[int, ...]:
        """The label of each item.

        >>> OpenImpression("e", 5, ("a", "b"), None, {1: (7, 1)}).labels()
        (0, 1)
        """
        return tuple([self.answers.get(position, (0, 0))[1] for position in range(len(self.items))])


class SessionState(msgspec.Struct, array_like=True, tag=3):
    """Layout 3.

    Of each event id that is remembered, oldest arrival first, `hashes` has the 64-bit hash and `times` the event's
    time, unsigned 64-bit numbers, little-endian; `late` has the hashes of the last that came late. `newest` and
    `second` are the two newest event times, -1 for none. `epoch` is the time up to which all is erased, 0 for none, and
    `asked` that of the erasure itself, 0 for the same: what came before it may be newer than it says. `history` is
    newest last; `marks` has a 32-bit hash of the slate's id, 0 for none, of each of its newest entries. `user_id` is
    whose it is while `impressions` wait, as a timer knows but the key; else empty.
    """

    newest: int = -1
    second: int = -1
    epoch: int = 0
    hashes: bytes = b""
    times: bytes = b""
    late: bytes = b""
    history: History = EMPTY
    marks: bytes = b""
    impressions: list[OpenImpression] = []
    attributes: dict[str, Any] = {}
    user_id: str = ""
    asked: int = 0


def _by_columns(fields: Fields) -> Fields:
    """From layout 1: hash and time in turn, a history of entries, labels as a list."""
    defaults: Fields = [-1, -1, 0, b"", [], [], {}]
    newest, floor, epoch, ids, history, impressions, attributes = [*fields, *defaults[len(fields) :]]
    hashes, times = (b"".join(ids[k : k + 8] for k in range(start, len(ids), 16)) for start in (0, 8))
    history = History.of(msgspec.convert(history, list[Seen]))
    for impression in impressions:
        impression[3] = bytes(impression[3])
    return [newest, floor, epoch, hashes, times, history, impressions, attributes]


def _by_words(fields: Fields) -> Fields:
    """From layout 2: no second newest time, for which the newest stands as it did; labels without their times."""
    defaults: Fields = [-1, -1, 0, b"", b"", EMPTY, [], {}]
    newest, _, epoch, hashes, times, history, impressions, attributes = [*fields, *defaults[len(fields) :]]
    opened = [
        [event_id, ts, items, slate_id, {k: (ts, 1) for k, label in enumerate(labels) if label}]
        for event_id, ts, items, labels, slate_id in ([*each, None][:5] for each in impressions)
    ]
    return [newest, newest, epoch, hashes, times, b"", history, b"", opened, attributes]


SESSION = Layout("session state", SessionState, {1: _by_columns, 2: _by_words})
encode_session = SESSION.encode
decode_session = SESSION.decode
