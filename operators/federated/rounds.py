"""Rounds of the shared ranker: devices tell how it should be other, and from enough of them together it becomes so."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from riverrank.operators.candidates.features import FeatureSpace
from riverrank.operators.models.weights import SHARD
from riverrank.operators.privacy.choices import GRID, stepped
from riverrank.state.messages import Weights

if TYPE_CHECKING:
    from .sealing import Sealer


class EdgeUpdate(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What a `device` tells in a round: a gradient with noise in steps of 1 / GRID, as `numbers` int64 (SEGMENTS * F,),
    or `sealed`. Of a device the round hears once; its name may be another in each.
    """

    number: int
    device: str
    numbers: bytes = b""
    sealed: tuple[bytes, ...] = ()


decode_edge = msgspec.msgpack.Decoder(EdgeUpdate).decode
encode_edge = msgspec.msgpack.Encoder().encode


class Rounds:
    """The job's side: `weights` float64 (SEGMENTS, F), made by rounds of `least` devices or more.

    It holds what devices told of the round that is open, or where that is sealed their ciphertexts, and no more.
    """

    def __init__(self, features: FeatureSpace, least: int, rate: float, sealer: "Sealer | None" = None) -> None:
        self.features, self.least, self.rate, self.sealer = features, least, rate, sealer
        self.weights = features.prior.copy()
        self.number = 0
        self._told: dict[str, EdgeUpdate] = {}

    def told(self) -> Weights:
        """What devices go by in this round."""
        return Weights(SHARD, self.number, self.weights.tobytes(), 0.0, self.features.names)

    @property
    def devices(self) -> int:
        """How many have told of this round."""
        return len(self._told)

    def take(self, raw: bytes) -> str:
        """Take what a device tells; why it is of no use, "" where it is."""
        try:
            update = decode_edge(raw)
        except msgspec.DecodeError as error:
            return f"no update: {error}"
        if update.number != self.number:
            return f"of round {update.number}, and it is {self.number} now"
        if update.device in self._told:
            return "told already"
        if bool(update.sealed) is (self.sealer is None):
            return "sealed, and none is expected to be" if update.sealed else "not sealed"
        if self.sealer is None and len(update.numbers) != 8 * self.weights.size:
            return f"{len(update.numbers)} bytes, where {8 * self.weights.size} were expected"
        self._told[update.device] = update
        return ""

    def summed(self) -> np.ndarray:
        """The sum of what devices told, int64 (SEGMENTS * F,). Raises ValueError where it is sealed, or of too few."""
        self._require_enough()
        if self.sealer is not None:
            raise ValueError("the sum is sealed: a key holder opens it")
        return np.sum([np.frombuffer(update.numbers, "<i8") for update in self._told.values()], axis=0)

    def sealed(self) -> tuple[bytes, ...]:
        """The sum as a key holder opens it. Raises ValueError where devices are too few, or nothing is sealed."""
        self._require_enough()
        if self.sealer is None:
            raise ValueError("nothing is sealed")
        return self.sealer.add(update.sealed for update in self._told.values())

    def step(self, summed: np.ndarray) -> Weights:
        """End the round by the sum, int64 (SEGMENTS * F,), of what its devices told; the weights of the next."""
        gradient = summed.reshape(self.weights.shape) / GRID
        self.weights = stepped(self.weights, gradient, self.rate, self.features.prior)
        self.number += 1
        self._told = {}
        return self.told()

    def _require_enough(self) -> None:
        if self.devices < self.least:
            raise ValueError(f"devices: expected {self.least} at least before anything is summed, got {self.devices}")
