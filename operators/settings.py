"""What can be set of the behaviour: one structure a configuration section, every field with a default and a unit."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from riverrank.state.event_types import EVENT_TYPES

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0.0, le=10.0)]
Milliseconds = Annotated[int, Meta(ge=0, extra={"unit": "ms"})]
MOST_WINDOW = 200


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


def reward_section() -> type[Section]:
    """A section with a setting for each event type that has a reward.

    >>> reward_section()().dislike
    -1.0
    """
    rewards = [(e.name, float, e.reward) for e in EVENT_TYPES.values() if e.reward is not None]
    return msgspec.defstruct("Rewards", rewards, bases=(Section,), module=__name__, frozen=True)


_Rewards: Any = reward_section()


class RewardSettings(_Rewards):
    """What a feedback of each type is worth; above 0 is positive. A rating is worth 1 from `rate_from` on, -1 below."""

    rate_from: float = 4.0


class HistorySettings(Section):
    """How much of a user's past is kept."""

    size: Annotated[int, Meta(ge=1, le=500)] = 50
    event_ids: Annotated[int, Meta(ge=16, le=100_000)] = 4096  # remembered at most, a user


class ImpressionSettings(Section):
    """How long an impression waits for what follows it, and how many may wait at once."""

    window: Milliseconds = 600_000
    open: Annotated[int, Meta(ge=1, le=100)] = 4


class SignalSettings(Section):
    """What is learned of items from all users."""

    shards: Count = 1
    neighbours: Annotated[int, Meta(ge=4, le=500)] = 60  # kept of each item
    window: Annotated[int, Meta(ge=1, le=MOST_WINDOW)] = 20  # items of a history that a new interaction is paired with
    forgetting: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.995  # factor on a list each time that it is updated
    half_life_events: Count = 20_000  # of popularity
    trend_half_life_events: Count = 2_000  # of what is trending
    items: Count = 200_000  # lists kept a shard; the least popular go first
    sessions: Count = 4096  # of all users, kept: the most recent
    flush_events: Count = 4  # feedbacks between two updates
    flush_every: Milliseconds = 200  # and no later than this (wall clock)


class EmbeddingSettings(Section):
    """Vectors of items, learned from what is taken after what."""

    dimensions: Annotated[int, Meta(ge=4, le=256)] = 32
    rate: Rate = 0.1
    negatives: Annotated[int, Meta(ge=8, le=10_000)] = 1000  # items that a block of feedbacks is held against
    items: Count = 200_000  # vectors kept; those that moved least go first
    warmup_events: int = 100_000  # feedbacks that are all learned from
    sample: Share = 0.25  # share that is learned from later


class SourceSettings(Section):
    """Which sources of candidates are asked; one that is not gives no score either."""

    covisit: bool = True
    cosine: bool = True
    embedding: bool = True
    sessions: bool = True
    content: bool = True
    text: bool = True
    interest: bool = True
    cohort: bool = True
    popular: bool = True
    trending: bool = True
    new: bool = True
    repeat: bool = True  # where slate.repeat is on


class RankerSettings(Section):
    """The global ranker."""

    rate: Rate = 0.05
    warmup_events: int = 5_000  # feedbacks that are all learned from
    sample: Share = 0.25  # share that is learned from later, of what the vectors are learned from
    flush_events: Count = 64
    flush_every: Milliseconds = 500


class LearnerSettings(Section):
    """The per-user learner: a River class by name with its parameters."""

    model: str = "linear_model.LogisticRegression"
    optimizer: str = "optim.SGD"
    rate: Rate = 0.02
    parameters: dict[str, Any] = {}
    negatives: Count = 4
    tokens: Annotated[int, Meta(ge=0, le=1000)] = 32  # content weights kept a user
    drift: Share = 0.2  # significance of a change of taste


class SlateSettings(Section):
    """The answer."""

    size: Annotated[int, Meta(ge=1, le=200)] = 20
    repeat: bool = False
    candidates: Annotated[int, Meta(ge=10, le=2000)] = 120
    seen: Annotated[int, Meta(ge=1, le=100_000)] = 4096  # seen items remembered at most, a user


class DiversitySettings(Section):
    """Maximal marginal relevance: 0 is none, 1 nothing but diversity. A user gets as much as the history is spread."""

    strength: Share = 0.1
    novelty: Annotated[float, Meta(ge=0.0, le=10.0)] = 0.0  # logits that the least popular items gain
    category_cap: Annotated[int, Meta(ge=0)] = 0


class ExplorationSettings(Section):
    """How much is tried, and how: 0 is none, 1 the most. It shrinks as a user's model becomes sure."""

    kind: Literal["epsilon", "softmax", "thompson"] = "epsilon"
    rate: Share = 0.02
    sure_after: Count = 50  # feedbacks that a user's learner learned from


Amount = Annotated[float, Meta(gt=0.0, le=100.0)]


class RulesSettings(Section):
    """What the shop wants by attribute: each key names tokens, such as `category=horror`; amounts are logits."""

    pin: tuple[str, ...] = ()
    boost: dict[str, Amount] = {}
    bury: dict[str, Amount] = {}
    exclude: tuple[str, ...] = ()


class CatalogueSettings(Section):
    """The item side."""

    strict: bool = False
    items: Count = 2_000_000
    new_items: Count = 200  # the newest that are proposed as new


class Behaviour(Section):
    """All that operators may be told, handed to each of them whole."""

    allowed_lateness: Milliseconds = 3_600_000
    seed: int = 0
    reward: RewardSettings = RewardSettings()
    history: HistorySettings = HistorySettings()
    impression: ImpressionSettings = ImpressionSettings()
    signals: SignalSettings = SignalSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    sources: SourceSettings = SourceSettings()
    ranker: RankerSettings = RankerSettings()
    learner: LearnerSettings = LearnerSettings()
    slate: SlateSettings = SlateSettings()
    diversity: DiversitySettings = DiversitySettings()
    exploration: ExplorationSettings = ExplorationSettings()
    rules: RulesSettings = RulesSettings()
    catalogue: CatalogueSettings = CatalogueSettings()
