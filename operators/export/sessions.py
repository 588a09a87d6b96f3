"""What SESSION keeps of a user, by names: every byte of its state."""

import numpy as np
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.records.incoming import Event
from riverrank.state.records.pieces import Kept, cut
from riverrank.state.sessions import SessionState, decode_session

TYPES = {entry.code: entry.name for entry in EVENT_TYPES.values()}


def session_pieces(asked: Event, state: bytes | None) -> tuple[bytes, ...]:
    """The records of the part `sessions`, of a user's state as it was before the event `asked` came."""
    return cut(asked, "sessions", "learner", {} if state is None else kept_session(decode_session(state)))


def kept_session(state: SessionState) -> Kept:
    """All that the state holds. Ids of events and of slates are hashes there: 64 bits in hex, and a number of 32.

    >>> from riverrank.state.messages import History, Seen
    >>> kept_session(SessionState(newest=5, history=History.of([Seen("i", 5, 1.0)])))["history"]
    [{'item_id': 'i', 'type': 'click', 'ts': 5, 'reward': 1.0, 'slate_hash': None}]
    """
    times = {"newest": state.newest, "second_newest": state.second}
    erased = {"all_up_to": state.epoch, "asked": state.asked or state.epoch} if state.epoch else None
    ids, at = np.frombuffer(state.hashes, "<u8").tolist(), np.frombuffer(state.times, "<u8").tolist()
    return {
        "times": {name: ts for name, ts in times.items() if ts >= 0},
        "erased": erased,
        "user_id": state.user_id or None,
        "history": _history(state),
        "profile": state.attributes,
        "event_ids": [{"hash": f"{one:016x}", "ts": ts} for one, ts in zip(ids, at, strict=True)],
        "late_event_ids": [{"hash": f"{one:016x}"} for one in np.frombuffer(state.late, "<u8").tolist()],
        "impressions": [
            {
                "impression": number,
                "event_id": each.event_id,
                "ts": each.ts,
                "slate_id": each.slate_id,
                "arrived": each.arrived or None,
            }
            for number, each in enumerate(state.impressions, 1)
        ],
        "impression_items": _shown(state),
    }


def _history(state: SessionState) -> list[dict[str, object]]:
    """A row an interaction, oldest first, with the mark of the slate that it answered where one is known."""
    marks = np.frombuffer(state.marks, "<u4").tolist()
    unmarked = len(state.history) - len(marks)
    return [
        {
            "item_id": seen.item_id,
            "type": TYPES.get(seen.kind, seen.kind),
            "ts": seen.ts,
            "reward": seen.reward,
            "slate_hash": (marks[at - unmarked] or None) if at >= unmarked else None,
        }
        for at, seen in enumerate(state.history)
    ]


def _shown(state: SessionState) -> list[dict[str, object]]:
    """A row an item of an impression that waits, by the impression's number, with what answered it so far."""
    rows: list[dict[str, object]] = []
    for number, impression in enumerate(state.impressions, 1):
        for position, item_id in enumerate(impression.items):
            row: dict[str, object] = {"impression": number, "place": position + 1, "item_id": item_id}
            if position in impression.answers:
                ts, label = impression.answers[position]
                row |= {"answered": ts, "positive": bool(label)}
            rows.append(row)
    return rows
