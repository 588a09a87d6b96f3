"""What a user is not served again, and for how long: `slate.hide`, and what the user said no to last."""

import numpy as np
from riverrank.operators.settings import SlateSettings
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.hashing import hash32
from riverrank.state.learners import OF_ANY_TYPE, REFUSED, LearnerState
from riverrank.state.messages import History

ALWAYS = 1 << 40  # seconds, more than any time has


class Hiding:
    """What the settings hide, by the type of what the user did. Raises ValueError as `SlateSettings.hidden` does.

    >>> hiding = Hiding(SlateSettings(hide=("purchase:30d", "rate")))
    >>> state = LearnerState()
    >>> hiding.remember(state, "i-1", "purchase", 0, 2.0)
    >>> len(hiding.hidden(state, 86_400_000)), len(hiding.hidden(state, 31 * 86_400_000))
    (1, 0)
    """

    def __init__(self, settings: SlateSettings) -> None:
        self.most = settings.seen
        self.times = settings.hidden()  # milliseconds by code, 0 for ever
        self._named = bytes(self.times)
        # Kinds that hide at any time: what was hidden whatever the user did is so where anything is.
        always = [code for code, ms in self.times.items() if not ms]
        self._plain = bytes([*always, REFUSED, *([OF_ANY_TYPE] if self.times else [])])
        self._seconds = np.full(256, -ALWAYS, np.int64)
        for code, ms in self.times.items():
            self._seconds[code] = ms // 1000
        self._seconds[[*self._plain]] = ALWAYS

    def remember(self, state: LearnerState, item_id: str, type_: str, ts: int, reward: float) -> None:
        """Note that the user interacted with the item, `ts` epoch milliseconds: the last word on it stands, and of a
        type the last time. The oldest is forgotten where there is no room.
        """
        code, mark = EVENT_TYPES[type_].code, hash32(item_id).to_bytes(4, "little")
        refused = _row(state, mark, REFUSED) if reward > 0 else -1
        if refused >= 0 and _seconds(state, refused) <= ts // 1000:  # else the refusal is the later word
            _forget(state, refused)
        for kind in ([code] if code in self.times else []) + ([REFUSED] if reward < 0 else []):
            seconds, held = min(ts // 1000, (1 << 32) - 1), _row(state, mark, kind)
            if held >= 0:
                seconds = max(seconds, _seconds(state, held))
                _forget(state, held)
            state.seen = (state.seen + mark)[-4 * self.most :]
            state.seen_at = (state.seen_at + seconds.to_bytes(4, "little"))[-4 * self.most :]
            state.seen_by = (state.seen_by + bytes([kind]))[-self.most :]

    def hidden(self, state: LearnerState, ts: int) -> np.ndarray:
        """The hashes of what is not to be served at `ts`, those that were hidden first before others: uint32."""
        marks = np.frombuffer(state.seen, "<u4")
        if not state.seen_by.translate(None, self._plain):
            return marks
        return marks[self._holds(state, ts)]

    def among(self, history: History, ts: int) -> list[str]:
        """The items of a history (newest last) that are hidden at `ts`."""
        hides = len(history.kinds.translate(None, self._named)) < len(history)
        if not hides and history.rewards[7::8].isascii():  # no sign is set: nothing was refused
            return []
        found: list[str] = []
        said: set[str] = set()  # items on which there was a word
        for seen in reversed(history):
            ms = self.times.get(seen.kind)
            refused = seen.reward < 0 and seen.item_id not in said
            if refused or (ms is not None and (not ms or ts // 1000 < seen.ts // 1000 + ms // 1000)):
                found.append(seen.item_id)
            if seen.reward:
                said.add(seen.item_id)
        return found

    def oldest(self, state: LearnerState, ts: int, marks: np.ndarray, most: int) -> np.ndarray:
        """Of items with the hashes `marks`, uint32, that are all hidden, those to serve all the same where nothing else
        is left: `most` positions, what was hidden longest first, and of what was refused last only where there is
        nothing but that: int64.
        """
        holds = self._holds(state, ts)
        kinds, hashes = np.frombuffer(state.seen_by, np.uint8)[holds], np.frombuffer(state.seen, "<u4")[holds]
        n = len(hashes)
        distinct, of = np.unique(hashes, return_inverse=True)
        ranks = np.zeros(len(distinct), np.int64)
        np.maximum.at(ranks, of, np.arange(n) + n * (kinds == REFUSED))
        ranks = ranks[np.searchsorted(distinct, marks)]
        order = np.argsort(ranks, kind="stable")
        wanted = np.count_nonzero(ranks < n) or len(ranks)
        return order[: min(most, wanted)]

    def _holds(self, state: LearnerState, ts: int) -> np.ndarray:
        """Which of the rows hide at `ts`."""
        at = np.frombuffer(state.seen_at, "<u4").astype(np.int64)
        return at + self._seconds[np.frombuffer(state.seen_by, np.uint8)] > ts // 1000


def _row(state: LearnerState, mark: bytes, kind: int) -> int:
    """The row of that item and kind, -1 where there is none."""
    at = state.seen.find(mark)
    while at >= 0:
        if not at % 4 and state.seen_by[at // 4] == kind:
            return at // 4
        at = state.seen.find(mark, at + 1)
    return -1


def _seconds(state: LearnerState, row: int) -> int:
    """Since when a row hides, in seconds."""
    return int.from_bytes(state.seen_at[4 * row : 4 * row + 4], "little")


def _forget(state: LearnerState, row: int) -> None:
    """Take a row out."""
    state.seen = state.seen[: 4 * row] + state.seen[4 * row + 4 :]
    state.seen_at = state.seen_at[: 4 * row] + state.seen_at[4 * row + 4 :]
    state.seen_by = state.seen_by[:row] + state.seen_by[row + 1 :]
