"""The start of a ranker from what that of another shop learned, by names of features; and what is left to others.

The net carries over, the bias of a click on a shown item, and the mean of ratings. The linear models begin as in any
new shop, and are gone by where the net does worse: so a prior from a shop of another kind does no harm.
What is learned of items, such as their vectors and lists, does not carry over: it is by their ids.
"""

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec
import numpy as np
from riverrank.operators.candidates.context import SEGMENTS
from riverrank.operators.candidates.features import FeatureSpace
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour, PriorSettings
from riverrank.state.learners import RANKER, NetState, RankerState, by_name
from riverrank.state.messages import Weights
from riverrank.state.prior import Prior, from_file, write_file

from .ensemble import Ensemble
from .net import WIDTH
from .weights import SHARD, RankerWeights

NET_LOSS = 6.0  # that a net with a past begins with, twice that of a new one: it has to prove better here
MOST_RATINGS = 20  # of this shop, that the mean of another is worth
MOST = 1e6  # of a number in a file, either way: no logit of finite features overflows

log = logging.getLogger(__name__)


@lru_cache(maxsize=2)
def _opened(raw: bytes) -> tuple[Prior, RankerState]:
    prior = from_file(raw)
    return prior, RANKER.decode(prior.ranker)


def begun(behaviour: Behaviour, features: FeatureSpace) -> tuple[list[Ensemble], float]:
    """The models of a ranker that has learned nothing yet, one a segment, and its bias: by the prior, if there is one.

    What the net knows of a feature that there no longer is is left out; of a new one it knows nothing.
    """
    models = [Ensemble(behaviour.ranker.rate, prior) for prior in features.prior]
    if not behaviour.prior.learned:
        return models, 0.0
    _, state = _opened(behaviour.prior.learned)
    was = by_name(np.arange(len(state.names)), state.names, features.names, np.array(-1))
    for model, net in zip(models, state.nets, strict=True):
        losses = model.losses.copy()
        losses[-1] = NET_LOSS
        model.load(model.weights, losses, net, was)
    return models, state.bias


def told(
    models: Sequence[Ensemble],
    features: FeatureSpace,
    bias: float,
    version: int = 0,
    clicks: tuple[tuple[str, ...], bytes] = ((), b""),
) -> Weights:
    """The weights of `models` as everyone is told of them, and what a model of `clicks` publishes."""
    published = zip(*(model.publish() for model in models), strict=True)
    linear, units = (b"".join(map(np.ndarray.tobytes, each)) for each in published)
    return Weights(SHARD, version, linear, bias, features.names, units, *clicks)


def weights_before(behaviour: Behaviour, features: FeatureSpace) -> RankerWeights:
    """What RECOMMEND goes by until RANKER has told of its first weights."""
    if not behaviour.prior.learned:
        return RankerWeights.of(None, features)
    models, bias = begun(behaviour, features)
    return RankerWeights.of(told(models, features, bias), features)


def rating_before(behaviour: Behaviour) -> tuple[float, float]:
    """What to expect of an item before anyone has rated any, and how many ratings that is worth beside those that came:
    0 where it is but the middle between what is positive and what is not.
    """
    reward = behaviour.reward
    share, number = _opened(behaviour.prior.learned)[0].ratings if behaviour.prior.learned else (0.0, 0.0)
    if not number:
        return reward.rate_from - 0.5, 0.0
    return reward.rate_least + share * (reward.rate_most - reward.rate_least), min(number, MOST_RATINGS)


def without_prior(behaviour: Behaviour) -> Behaviour:
    """The settings of whatever goes on from a state, which knows what it began from."""
    replace = msgspec.structs.replace
    return replace(behaviour, prior=replace(behaviour.prior, learned=b""))


def prior_of(state: RankerState, index: ItemIndex) -> Prior:
    """What a ranker with that state, over that index, leaves to others: of its nets neither the choices that they keep
    nor the mean of their last slopes, which are of single users; the mean of squares is that of a thousand.
    """
    nets = []
    for net in state.nets:
        held = np.frombuffer(net.values, "<f4").reshape(3, -1, WIDTH).copy()
        held[1] = 0.0
        nets.append(NetState(net.steps, 0, held.tobytes(), b"", b""))
    ranker = RankerState(bias=state.bias, names=state.names, nets=tuple(nets))
    return Prior(RANKER.encode(ranker), _ratings_of(index), state.version)


def _ratings_of(index: ItemIndex) -> tuple[float, float]:
    reward, mean = index.behaviour.reward, index.rating_mean()
    if mean is None:
        return 0.0, 0.0
    share = (mean - reward.rate_least) / (reward.rate_most - reward.rate_least)
    return min(1.0, max(0.0, share)), sum(number for _, number in index.meta.ratings.values())


def check(raw: bytes) -> None:
    """Whether a ranker of this version can start from the bytes of a file.

    Raises:
        ValueError: they are damaged, of a newer riverrank, or hold what no ranker of this version has.
    """
    prior, state = _opened(raw)
    shape = 3, len(state.names) + 2, WIDTH
    sizes = [len(net.values) for net in state.nets]
    if not state.names or sizes != [4 * int(np.prod(shape))] * SEGMENTS:
        raise ValueError(
            f"of other dimensions: nets of {sizes} bytes; this version has {SEGMENTS}, of {WIDTH} numbers a feature"
        )
    if any(net.count or net.kept or net.kept_of or net.steps < 0 for net in state.nets):
        raise ValueError("its nets keep choices, which none leaves to others")
    held = [np.frombuffer(net.values, "<f4") for net in state.nets]
    numbers = np.concatenate([*held, [state.bias, prior.ratings[0]]])
    above = np.concatenate([*(net.reshape(shape)[2].ravel() for net in held), prior.ratings])
    if not ((np.abs(numbers) <= MOST).all() and (above >= 0.0).all()):  # neither holds of what is no number
        raise ValueError(f"its numbers are not all within {MOST:g} either way, or squares are below 0")


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
        made = make()
        if not made.learned_from:  # what is there may be worth something
            return
        try:
            write_file(self.settings.out, made)
        except OSError as error:
            log.warning("prior.out: cannot write %s (%s)", self.settings.out, error.strerror)
