"""What a device runs for its one user: SESSION, RECOMMEND and a learner of the shared ranker, over what is broadcast to
everyone. No event leaves it; a clipped gradient with noise does, once a round.
"""

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.weights import RankerWeights
from riverrank.operators.privacy.choices import GRID, noise_of
from riverrank.operators.privacy.ranker import NoisedRanker
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour
from riverrank.operators.slate.recommend import Answer, Recommend
from riverrank.state.event_types import ASKING
from riverrank.state.messages import Update, Weights
from riverrank.state.records.incoming import Event

from .rounds import EdgeUpdate, encode_edge

if TYPE_CHECKING:
    from .sealing import Sealer


class Edge:
    """One user's device. `behaviour.noise.key` is a secret of the device, which it tells nobody.

    Alone, what it tells has all the noise of the promise (local differential privacy). Where it is sealed, and nobody
    sees less than the sum of `least` devices, each adds a share of it: a `least`-th of the variance. The shares of
    others who hide theirs are missing: of n devices that work together `least - n` shares are left.
    """

    def __init__(self, behaviour: Behaviour, user_id: str, sealer: "Sealer | None" = None, least: int = 1) -> None:
        """`least` is how many devices' shares make the noise, and counts where there is a `sealer`."""
        self.behaviour, self.user_id, self.sealer = behaviour, user_id, sealer
        self.index = ItemIndex(behaviour)
        self.session, self.state = Session(behaviour), b""
        self.recommend, self.user = Recommend(behaviour, self.index), b""
        self.learner = NoisedRanker(behaviour, self.index)
        self.deviation = self.learner.budget.choices / math.sqrt(least if sealer is not None else 1)

    def hear(self, update: Update) -> None:
        """Take what is broadcast: items, what was learned of them, and the weights with which a round begins."""
        self.index.apply(update)
        if isinstance(update, Weights):
            self.learner.go_by(RankerWeights.of(update, self.learner.retriever.features).weights)

    def event(self, event: Event) -> Answer | None:
        """Learn from what the user does, and answer it; None for what came before, or is late."""
        accepted = self.session.accept(event, self.state or None)
        self.state = accepted.state or b""
        if accepted.feedback is None:
            return None
        if event.type not in ASKING:
            self.learner.learn(accepted.feedback)
        answer = self.recommend.answer(accepted.feedback, self.user or None)
        self.user = answer.state or b""
        return answer

    def update(self, number: int) -> bytes:
        """What is told in the round of that number, whether the user did anything or not: the record for a topic.

        One choice a round is in it, no longer than `noise.clip`, and in a window those of `noise.contributions`.
        """
        summed = self.learner.end_batch()
        noised = summed + noise_of(self.behaviour.noise.key, number, summed, self.deviation)
        steps = np.rint(noised * GRID).astype(np.int64).ravel()
        name = hashlib.blake2b(f"{self.user_id}:{number}".encode(), digest_size=16, key=self.behaviour.noise.key[:64])
        if self.sealer is None:
            return encode_edge(EdgeUpdate(number, name.hexdigest(), steps.tobytes()))
        return encode_edge(EdgeUpdate(number, name.hexdigest(), b"", self.sealer.seal(steps)))
