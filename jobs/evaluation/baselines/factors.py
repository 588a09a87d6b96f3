"""Matrix factorisation as baselines: River's own on likes alone, and pairwise (BPR)."""

from array import array

import numpy as np
from river import optim, reco
from riverrank.state.hashing import uniforms
from riverrank.state.records.incoming import Event

from .items import Popular, Scored
from .ledger import START, Ledger, grown


class IncrementalMF(Scored):
    """River's `reco.FunkMF`, told of likes alone, each as a 1; its latents of items are kept by row for scoring.

    Vinagre et al., Fast incremental matrix factorization for recommendation with positive-only feedback (2014).
    """

    FACTORS = 16
    RATE = 0.03
    L2 = 0.01

    def __init__(self, ledger: Ledger, popular: Popular, seed: int) -> None:
        super().__init__(ledger, popular)
        self.model = reco.FunkMF(
            n_factors=self.FACTORS,
            optimizer=optim.SGD(self.RATE),
            l2=self.L2,
            initializer=optim.initializers.Normal(mu=0.0, sigma=0.1, seed=seed),
        )
        self.items = np.zeros((START, self.FACTORS))
        self.known = np.zeros(START, bool)

    def learn(self, event: Event, row: int) -> None:
        self.items, self.known = grown(self.items, row), grown(self.known, row)
        self.model.learn_one(event.user_id, row, 1.0)
        self.items[row] = self.model.i_latents[row]
        self.known[row] = True

    def scores(self, user_id: str) -> np.ndarray | None:
        if user_id not in self.model.u_latents:  # which reading would start
            return None
        n = min(len(self.ledger), len(self.items))
        return np.where(self.known[:n], self.items[:n] @ self.model.u_latents[user_id], -np.inf)

    def forget(self, user_id: str) -> None:
        self.model.u_latents.pop(user_id, None)


class BPRMF(Scored):
    """Factors and item biases that put what was liked above what was not.

    Rendle et al., BPR: Bayesian personalized ranking from implicit feedback (2009): one step a like, against
    `NEGATIVES` items drawn evenly from those that anyone liked.
    """

    FACTORS = 32
    RATE = 0.01
    L2 = 0.003
    NEGATIVES = 60

    def __init__(self, ledger: Ledger, popular: Popular, seed: int) -> None:
        super().__init__(ledger, popular)
        self.seed = seed
        self.users: dict[str, np.ndarray] = {}
        self.items = np.zeros((START, self.FACTORS))
        self.biases = np.full(START, -np.inf)  # of what nobody liked yet
        self.known = array("i")

    def learn(self, event: Event, row: int) -> None:
        user, biases = self._vectors(event.user_id, row)
        draws = uniforms(self.seed, f"bpr:{event.event_id}", self.NEGATIVES)
        drawn = np.array(self.known, np.int32)[(draws * len(self.known)).astype(np.int64)]
        taken = np.zeros(len(self.ledger), bool)
        taken[self.ledger.liked(event.user_id)] = taken[row] = True
        against = drawn[~taken[drawn]]
        others = self.items[against]
        gaps = self.items[row] - others
        pull = 1.0 / (1.0 + np.exp(gaps @ user + biases[row] - biases[against]))
        self.items[row] += self.RATE * (pull.sum() * user - self.L2 * self.items[row])
        np.subtract.at(self.items, against, self.RATE * (pull[:, None] * user + self.L2 * others))
        biases[row] += self.RATE * pull.sum()
        np.subtract.at(biases, against, self.RATE * pull)
        user += self.RATE * (pull @ gaps - self.L2 * user)

    def scores(self, user_id: str) -> np.ndarray | None:
        user = self.users.get(user_id)
        if user is None:
            return None
        n = min(len(self.ledger), len(self.items))
        return self.items[:n] @ user + self.biases[:n]

    def forget(self, user_id: str) -> None:
        self.users.pop(user_id, None)

    def _vectors(self, user_id: str, row: int) -> tuple[np.ndarray, np.ndarray]:
        """The user's vector and all biases, with both the user and the item of `row` begun."""
        self.items, self.biases = grown(self.items, row), grown(self.biases, row, -np.inf)
        if self.biases[row] == -np.inf:
            self.biases[row] = 0.0
            self.items[row] = self._start(f"item:{row}")
            self.known.append(row)
        if user_id not in self.users:
            self.users[user_id] = self._start(f"user:{user_id}")
        return self.users[user_id], self.biases

    def _start(self, name: str) -> np.ndarray:
        return 0.2 * (uniforms(self.seed, name, self.FACTORS) - 0.5)
