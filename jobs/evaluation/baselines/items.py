"""Baselines that count items, alone and in pairs: popularity, item cosine, co-visitation."""

from array import array

import numpy as np
from riverrank.state.records.incoming import Event

from .ledger import NONE, START, Ledger, grown, summed, top


class Popular:
    """The most popular items, or those of late, where a positive interaction loses half its weight in
    `half_life_events` positive interactions.

    Keeps the most popular rows in a pool, which is exact: what is not in it weighs no more than what is.
    """

    POOL = 500

    def __init__(self, ledger: Ledger, half_life_events: float = np.inf) -> None:
        self.ledger = ledger
        self.growth = 2.0 ** (1.0 / half_life_events)  # new events weigh more, in place of old ones that weigh less
        self.event_weight = 1.0
        self.weights = np.zeros(START)
        self.pool = array("i")
        self.in_pool = np.zeros(START, bool)
        self.floor = 0.0

    def learn(self, event: Event, row: int) -> None:
        self.weights, self.in_pool = grown(self.weights, row), grown(self.in_pool, row)
        self.event_weight *= self.growth
        if self.event_weight > 1e100:
            self.weights /= self.event_weight
            self.floor /= self.event_weight
            self.event_weight = 1.0
        self.weights[row] += self.event_weight
        if not self.in_pool[row] and self.weights[row] > self.floor:
            self.pool.append(row)
            self.in_pool[row] = True
            if len(self.pool) >= 2 * self.POOL:
                self._shrink()

    def recommend(self, user_id: str, k: int) -> list[str]:
        return [self.ledger.ids[row] for row in self.rank(self.ledger.allowed(user_id), k).tolist()]

    def rank(self, allowed: np.ndarray, k: int) -> np.ndarray:
        """Up to `k` rows of `allowed`, bool (rows,), best first: int (<= k,)."""
        pool = np.array(self.pool, np.int32)
        pool = pool[allowed[pool]]
        if len(pool) < k:  # the user has seen the pool, or it is all there is
            pool = np.flatnonzero(allowed[: len(self.weights)])
            pool = pool[self.weights[pool] > 0]
        return pool[top(self.weights[pool], k)]

    def forget(self, user_id: str) -> None:
        pass

    def _shrink(self) -> None:
        pool = np.array(self.pool, np.int32)
        kept = np.sort(pool[top(self.weights[pool], self.POOL)])
        self.floor = float(self.weights[kept].min())
        self.in_pool[pool] = False
        self.in_pool[kept] = True
        self.pool = array("i", kept.tolist())


class Scored:
    """A baseline that scores all rows at once, and leaves to popularity the places that it has nothing for."""

    def __init__(self, ledger: Ledger, popular: Popular) -> None:
        self.ledger = ledger
        self.popular = popular

    def scores(self, user_id: str) -> np.ndarray | None:
        """Float64 (<= rows,), -inf for what is not ranked; None where nothing is known of the user."""
        raise NotImplementedError

    def recommend(self, user_id: str, k: int) -> list[str]:
        allowed = self.ledger.allowed(user_id)
        scores = self.scores(user_id)
        rows = NONE
        if scores is not None:
            rows = np.flatnonzero(allowed[: len(scores)] & (scores > -np.inf))
            rows = rows[top(scores[rows], k)]
        found = rows.tolist()
        if len(found) < k:
            allowed[rows] = False
            found += self.popular.rank(allowed, k - len(found)).tolist()
        return [self.ledger.ids[row] for row in found]

    def forget(self, user_id: str) -> None:
        pass


class ItemCosine(Scored):
    """Cosine of items over the users who liked them, shrunk where these are few, summed over the user's last 20.

    Sarwar et al., Item-based collaborative filtering recommendation algorithms (2001); shrinkage after Bell and Koren,
    Scalable collaborative filtering with jointly derived neighborhood interpolation weights (2007). A user's like
    counts once, together with the `LAST` before it.
    """

    LAST = 20
    WIDTH = 200  # neighbours kept of an item
    SHRINKAGE = 10.0

    def __init__(self, ledger: Ledger, popular: Popular) -> None:
        super().__init__(ledger, popular)
        self.together = Neighbours(self.WIDTH)
        self.users = np.zeros(START)

    def learn(self, event: Event, row: int) -> None:
        self.together.fit(row)
        self.users = grown(self.users, row)
        liked = self.ledger.liked(event.user_id)
        if (liked == row).any():
            return
        self.users[row] += 1.0
        once = np.ones(len(liked := liked[-self.LAST :]))
        self.together.add_to_each(liked, row, once)
        self.together.add_to(row, liked, once)

    def scores(self, user_id: str) -> np.ndarray | None:
        liked = self.ledger.liked(user_id)[-self.LAST :]
        if not len(liked):
            return None
        rows, own = self.together.rows[liked], self.users[liked]
        norm = np.sqrt(own[:, None] * self.users[rows])
        scores = summed(rows, self.together.weights[liked] / (norm + self.SHRINKAGE), len(self.ledger))
        scores[liked] = np.maximum(scores[liked], 0.0) + own / (own + self.SHRINKAGE)  # an item is like itself
        return scores


class CoVisitation(Scored):
    """What is taken within a window of the user's interactions, nearer ones weighing more, as a share of all that is
    taken around an item, summed over the user's last ones, later ones weighing more.
    """

    WINDOW = 20
    WIDTH = 200  # neighbours kept of an item
    NEAR = 0.9  # of a pair's weight, for each interaction in between
    BACKWARD = 0.6  # weight of "taken before" beside "taken after"
    RECENT = 0.8  # of what an item of the history tells, for each one after it
    SHRINKAGE = 10.0

    def __init__(self, ledger: Ledger, popular: Popular) -> None:
        super().__init__(ledger, popular)
        self.visits = Neighbours(self.WIDTH)
        self._near = self.NEAR ** np.arange(self.WINDOW)[::-1]
        self._recent = self.RECENT ** np.arange(self.WINDOW)[::-1]

    def learn(self, event: Event, row: int) -> None:
        self.visits.fit(row)
        before = self.ledger.liked(event.user_id)[-self.WINDOW :]
        near = self._near[self.WINDOW - len(before) :]
        self.visits.add_to_each(before, row, near)
        others = before != row
        self.visits.add_to(row, before[others], self.BACKWARD * near[others])

    def scores(self, user_id: str) -> np.ndarray | None:
        liked = self.ledger.liked(user_id)[-self.WINDOW :]
        if not len(liked):
            return None
        visits = self.visits.weights[liked]
        told = self._recent[self.WINDOW - len(liked) :] / (visits.sum(axis=1) + self.SHRINKAGE)
        return summed(self.visits.rows[liked], visits * told[:, None], len(self.ledger))


class Neighbours:
    """For each row a bounded list of other rows with weights; the lightest give way to new ones.

    `rows` int32 (items, width), -1 for none; `weights` float32 of the same shape.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows = np.full((START, width), -1, np.int32)
        self.weights = np.zeros((START, width), np.float32)

    def fit(self, row: int) -> None:
        """Make room for `row`."""
        self.rows, self.weights = grown(self.rows, row, -1), grown(self.weights, row)

    def add_to_each(self, rows: np.ndarray, neighbour: int, weights: np.ndarray) -> None:
        """Add `weights`, float (n,), to the weight of `neighbour` in the lists of distinct `rows`, int32 (n,)."""
        same = self.rows[rows] == neighbour
        held = same.any(axis=1)
        places = np.where(held, same.argmax(axis=1), self.weights[rows].argmin(axis=1))
        self.weights[rows, places] = np.where(held, self.weights[rows, places], 0.0) + weights
        self.rows[rows, places] = neighbour

    def add_to(self, row: int, neighbours: np.ndarray, weights: np.ndarray) -> None:
        """Add `weights`, float (n,), to those of distinct `neighbours`, int32 (n <= width,), in the list of `row`."""
        own = self.weights[row]
        same = self.rows[row] == neighbours[:, None]
        held = same.any(axis=1)
        places = same.argmax(axis=1)[held]
        own[places] += weights[held]
        if new := int(np.count_nonzero(~held)):
            rank = own.copy()
            rank[places] = np.inf
            lightest = np.argpartition(rank, new - 1)[:new]
            self.rows[row, lightest] = neighbours[~held]
            own[lightest] = weights[~held]
