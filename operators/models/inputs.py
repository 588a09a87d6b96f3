"""Candidates as a learner sees them. Copies nothing: what is picked out of them are positions."""

from collections.abc import Sequence

import numpy as np
from numba import njit
from riverrank.operators.candidates.retrieval import Candidates
from riverrank.operators.index.item_index import ItemIndex
from riverrank.state.hashing import hash32

RANKER = "ranker"  # what the first coordinate is called: the ranker's logit
_EVERY = np.arange(4096)
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, np.ndarray, np.ndarray]


class Inputs:
    """Candidates as a learner sees them: `features` float32 (c, F), `ranker` float64 (c,), the ranker's logits, and
    `rows` int32 (c,), by which the index knows their tokens. `picks` int64 (n,) are those of them that are meant.
    """

    __slots__ = ("extra", "features", "index", "picks", "ranker", "rows")

    def __init__(self, index: ItemIndex, candidates: Candidates, logits: np.ndarray) -> None:
        n = len(candidates.rows)
        self.index = index
        self.features = candidates.features
        self.rows = candidates.rows
        self.ranker = logits
        self.picks = _EVERY[:n] if n <= len(_EVERY) else np.arange(n)
        self.extra = -1

    def __len__(self) -> int:
        return len(self.picks)

    def pick(self, positions: Sequence[int] | np.ndarray) -> "Inputs":
        """Those at `positions` alone."""
        return self._of(self.picks[np.asarray(positions, np.int64)], self.extra)

    def against(self, row: int, position: int, draws: np.ndarray) -> "Inputs":
        """The item of `row`, which stands at `position`; where that is -1, its content alone is known of it. After
        it those of the others that `draws`, uint32 (n,), fall on, each once, in order.
        """
        return self._of(few(self.picks, position, draws), -1 if position >= 0 else row)

    def _of(self, picks: np.ndarray, extra: int) -> "Inputs":
        made = Inputs.__new__(Inputs)
        made.index, made.features, made.rows, made.ranker = self.index, self.features, self.rows, self.ranker
        made.picks, made.extra = picks, extra
        return made

    @property
    def dense(self) -> np.ndarray:
        """The ranker's logit and the features of each: float64 (n, 1 + F)."""
        dense = np.concatenate([self.ranker[self.picks, None], self.features[self.picks]], axis=1)
        dense[self.picks < 0] = 0.0
        return dense

    @property
    def tokens(self) -> np.ndarray:
        """The numbers of the tokens of each: int32 (n, t), -1 for none."""
        return self.index.tokens[np.where(self.picks < 0, self.extra, self.rows[self.picks])]

    def named(self, position: int, names: Sequence[str], buckets: int) -> dict[str, float]:
        """One candidate as River's classes take it, by the `names` of features; its tokens share `buckets` more."""
        one = self.pick([position])
        x = {RANKER: float(one.dense[0, 0])} | dict(zip(names, one.dense[0, 1:].tolist(), strict=True))
        held = (self.index.token_names[number] for number in one.tokens[0].tolist() if number >= 0)
        return x | {f"token {hash32(name) % buckets}": 1.0 for name in held}

    def arrays(self) -> Arrays:
        """All of it, in the order in which kernels take it."""
        index = self.index
        return self.features, self.ranker, self.rows, self.picks, self.extra, index.tokens, index.token_hashes


@njit(cache=True)
def few(picks, position, draws):  # type: ignore[no-untyped-def]
    """Of `picks`, int64 (c,), that at `position`, -1 where that is -1, then those of the others that `draws`, uint32
    (n,) as shares of 2 ** 32, fall on, each once, in order: int64 (up to 1 + n,).
    """
    others = len(picks) - (position >= 0)
    if not others:
        draws = draws[:0]
    drawn = np.sort((draws.astype(np.int64) * others) >> 32)
    chosen, n = np.empty(1 + len(drawn), np.int64), 1
    chosen[0] = picks[position] if position >= 0 else -1
    for k in range(len(drawn)):
        if k == 0 or drawn[k] != drawn[k - 1]:
            chosen[n] = picks[drawn[k] + (0 <= position <= drawn[k])]
            n += 1
    return chosen[:n]
