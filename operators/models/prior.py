"""The start of a ranker from what that of another shop learned, by names of features; and what is left to others.

The order of candidates, the bias of a click on a shown item and the mean of ratings carry over. What is learned of
items, such as their vectors and lists, does not: it is by their ids.
"""

import logging
import math
import os
from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec
import numpy as np
from riverrank.operators.candidates.context import SEGMENTS
from riverrank.operators.candidates.features import FeatureSpace
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour, PriorSettings
from riverrank.state.learners import RANKER, NetState, RankerState
from riverrank.state.messages import Weights
from riverrank.state.prior import Prior, from_file, write_file

from .ensemble import INITIAL_LOSSES, RATE_MULTIPLIERS, Ensemble
from .net import WIDTH
from .weights import RankerWeights, by_name

log = logging.getLogger(__name__)
EXP = set(os.environ.get("PRIOR_EXP", "").split(","))
MOST_RATINGS = 20  # that the mean of another shop is worth
MOST_WEIGHT = 1e6  # of what a file may hold, either way: no logit of finite features overflows


def dump(models: Sequence[Ensemble], names: tuple[str, ...], bias: float, version: int, reward: float) -> RankerState:
    """All of the `models`, one a segment, of features of these `names`, beside the numbers of the ranker."""
    weights, losses, nets = zip(*(model.dump() for model in models), strict=True)
    linear, of_net = (array.tobytes() for array in np.split(np.stack(losses), [len(RATE_MULTIPLIERS)], axis=1))
    held = np.stack(weights).tobytes()
    return RankerState(version, held, bias, linear, reward, names, RATE_MULTIPLIERS, of_net, nets)


def load(models: Sequence[Ensemble], state: RankerState, features: FeatureSpace) -> None:
    """Put back what `dump` gave: a weight where its feature and its model are, others begin as new ones do."""
    shape = (len(models), len(state.rates), len(state.names))
    if len(state.weights) != 8 * math.prod(shape) or not state.weights:
        return
    weights = np.frombuffer(state.weights, "<f8").reshape(shape)
    losses = np.frombuffer(state.losses, "<f8").reshape(shape[:2])
    of_nets = np.frombuffer(state.net_losses, "<f8").reshape(-1, 1)
    was = by_name(np.arange(len(state.names)), state.names, features.names, np.array(-1))
    for segment, (model, prior) in enumerate(zip(models, features.prior, strict=True)):
        named = by_name(weights[segment], state.names, features.names, prior)
        rated = by_name(named.T, state.rates, RATE_MULTIPLIERS, prior[:, None]).T
        lost = by_name(losses[segment], state.rates, RATE_MULTIPLIERS, np.array(INITIAL_LOSSES[:-1]))
        net = state.nets[segment] if state.nets else None
        model.load(rated, np.append(lost, of_nets[segment]) if net else lost, net, was)


def carried_over(state: RankerState) -> RankerState:
    """Of a ranker's state, what another shop's may start from: nothing of any user's choice."""
    if "moments" in EXP:
        nets = tuple(NetState(net.steps, 0, net.values, b"", b"") for net in state.nets)
    else:
        nets = tuple(NetState(0, 0, _without_steps(net.values), b"", b"") for net in state.nets)
    return msgspec.structs.replace(state, version=0, reward=1.0, nets=nets)


def _without_steps(values: bytes) -> bytes:
    held = np.frombuffer(values, "<f4").reshape(3, -1).copy()
    held[1:] = 0.0
    return held.tobytes()


@lru_cache(maxsize=4)
def ranker_of(raw: bytes) -> RankerState:
    """The ranker in the bytes of a file."""
    return RANKER.decode(from_file(raw).ranker)


def begun(behaviour: Behaviour, features: FeatureSpace) -> list[Ensemble]:
    """The models of a ranker that has learned nothing yet, one a segment: as the prior says, where there is one."""
    models = [Ensemble(behaviour.ranker.rate, prior) for prior in features.prior]
    if behaviour.prior.learned:
        state = ranker_of(behaviour.prior.learned)
        load(models, state, features)
        for model, prior in zip(models, features.prior):
            if "losses" in EXP:
                model.losses[:] = INITIAL_LOSSES
            if "scratch3" in EXP:
                model.weights[2] = prior
            if "scratch1" in EXP:
                model.weights[0] = prior
            if "half" in EXP:
                w = model._mean()[0]
            model._publish()
    return models


def told(models: Sequence[Ensemble], features: FeatureSpace, bias: float, version: int, shard: int = 0) -> Weights:
    """The weights of `models` as everyone is told of them."""
    published = zip(*(model.publish() for model in models), strict=True)
    linear, units = (b"".join(map(np.ndarray.tobytes, each)) for each in published)
    return Weights(shard, version, linear, bias, features.names, units)


def weights_before(behaviour: Behaviour, features: FeatureSpace) -> RankerWeights:
    """What RECOMMEND goes by until RANKER has told of its first weights."""
    if not behaviour.prior.learned:
        return RankerWeights.of({}, features)
    bias = ranker_of(behaviour.prior.learned).bias
    return RankerWeights.of({0: told(begun(behaviour, features), features, bias, 0)}, features)


def bias_before(behaviour: Behaviour) -> float:
    """That of a ranker that has learned nothing yet."""
    return ranker_of(behaviour.prior.learned).bias if behaviour.prior.learned else 0.0


def rating_before(behaviour: Behaviour) -> tuple[float, float]:
    """What to expect of an item before anyone has rated any, and how many ratings that is worth beside those that came:
    0 where it is but the middle between what is positive and what is not.
    """
    reward = behaviour.reward
    share, number = from_file(behaviour.prior.learned).ratings if behaviour.prior.learned else (0.0, 0.0)
    if not number:
        return reward.rate_from - 0.5, 0.0
    return reward.rate_least + share * (reward.rate_most - reward.rate_least), min(number, MOST_RATINGS)


def without_prior(behaviour: Behaviour) -> Behaviour:
    """The settings of whatever goes on from a state, which knows what it began from."""
    replace = msgspec.structs.replace
    return replace(behaviour, prior=replace(behaviour.prior, learned=b""))


def prior_of(state: RankerState, index: ItemIndex) -> Prior:
    """What a ranker with that state, over that index, leaves to others."""
    reward, mean = index.behaviour.reward, index.rating_mean()
    ratings = (0.0, 0.0)
    if mean is not None:
        share = (mean - reward.rate_least) / (reward.rate_most - reward.rate_least)
        ratings = min(1.0, max(0.0, share)), sum(number for _, number in index.meta.ratings.values())
    return Prior(RANKER.encode(carried_over(state)), ratings, state.version)


def check(raw: bytes) -> None:
    """Whether a ranker of this version can start from the bytes of a file.

    Raises:
        ValueError: they are damaged, of a newer riverrank, or hold what no ranker of this version has.
    """
    prior = from_file(raw)
    state = RANKER.decode(prior.ranker)
    names, rates = len(state.names), len(state.rates)
    expected = [
        ("weights", state.weights, 8 * SEGMENTS * rates * names),
        ("losses", state.losses, 8 * SEGMENTS * rates),
        ("losses of nets", state.net_losses, 8 * SEGMENTS),
        *((f"the net of segment {k}", net.values, 12 * (names + 2) * WIDTH) for k, net in enumerate(state.nets)),
    ]
    for what, held, size in expected:
        if len(held) != size or not size:
            raise ValueError(f"of other dimensions: {what} take {len(held)} bytes where this version has {size}")
    if len(state.nets) != SEGMENTS or any(net.count or net.kept or net.kept_of for net in state.nets):
        raise ValueError(f"of other dimensions: {len(state.nets)} nets, or choices kept; expected {SEGMENTS} and none")
    parts = [np.frombuffer(part, "<f8") for part in (state.weights, state.losses, state.net_losses)]
    parts += [np.frombuffer(net.values, "<f4") for net in state.nets]
    numbers = np.concatenate([*parts, [state.bias, *state.rates, *prior.ratings]])
    if not (np.abs(numbers) <= MOST_WEIGHT).all():  # a comparison with what is no number is false
        raise ValueError(f"its numbers are not all within {MOST_WEIGHT:g} either way")


class PriorFile:
    """The file that a job leaves to others: written anew every so often, by the wall clock, and at its end. What can't
    be written is said, and tried again: no job ends for it.
    """

    def __init__(self, settings: PriorSettings, clock_ms: Callable[[], int]) -> None:
        self.settings = settings
        self.clock_ms = clock_ms
        self._next = clock_ms() + settings.every

    def write_if_due(self, make: Callable[[], Prior]) -> None:
        """Write what `make` gives, where it is time to."""
        if self.settings.out and self.clock_ms() >= self._next:
            self.write(make)

    def write(self, make: Callable[[], Prior]) -> None:
        """Write what `make` gives, if there is a file to write."""
        self._next = self.clock_ms() + self.settings.every
        if not self.settings.out:
            return
        try:
            write_file(self.settings.out, make())
        except OSError as error:
            log.warning("prior.out: cannot write %s (%s)", self.settings.out, error.strerror)
