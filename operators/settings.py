"""What can be set of the behaviour: one structure a section of the configuration, and one field a setting, which says
all of it: type, bounds, default, unit and what it means. Help, `riverrank check` and docs/settings.md are made of them.
"""

from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta
from riverrank.operators.catalogue.tokens import EVERY
from riverrank.operators.experiment import ExperimentSettings
from riverrank.state.event_types import EVENT_TYPES, INTERACTIONS
from riverrank.state.runtime.durations import milliseconds

from .setting_types import Count, CountOrNone, Logits, Milliseconds, Rate, Reward, Share

MOST_WINDOW = 200
MOST_HISTORY = 500


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the configuration file."""


def reward_section() -> type[Section]:
    """A section with a setting for each event type that has a reward.

    >>> reward_section()().dislike
    -1.0
    """
    fields = [
        (kind.name, Annotated[Reward, Meta(description=f"reward of a {kind.name}; above 0 is positive")], kind.reward)
        for kind in EVENT_TYPES.values()
        if kind.reward is not None
    ]
    return cast(type[Section], msgspec.defstruct("Rewards", fields, bases=(Section,), module=__name__, frozen=True))


_Rewards: Any = reward_section()


class RewardSettings(_Rewards):
    """What a feedback of each type is worth; above 0 is positive. A rating is worth 1 from `rate_from` on,
    and below it less than 0: from nearly nothing just below, for who rates an item chose it all the same, to -1 at
    `rate_least`.
    """

    rate_least: Annotated[float, Meta(ge=-1e6, le=1e6, description="a rating below this is taken for it")] = 0.0
    rate_most: Annotated[
        float, Meta(ge=-1e6, le=1e6, description="a rating above this is taken for it: no wild one moves a mean")
    ] = 5.0
    rate_from: Annotated[
        float,
        Meta(
            ge=-1e6,
            le=1e6,
            description="a rating from this value on is worth 1, below it less than 0, -1 at rate_least",
        ),
    ] = 4.0


class HistorySettings(Section):
    """How much of a user's past is kept."""

    size: Annotated[int, Meta(ge=1, le=MOST_HISTORY, description="interactions kept of a user")] = 100
    event_ids: Annotated[int, Meta(ge=16, le=100_000, description="event ids remembered of a user, at most")] = 4096
    story: Annotated[
        Milliseconds,
        Meta(
            description="how long after an interaction another with the same item, as a purchase after a click, goes "
            "on with it: the two count as one; 0: none does"
        ),
    ] = 1_800_000


class ImpressionSettings(Section):
    """How long an impression waits for what follows it, and how many may wait at once."""

    window: Annotated[Milliseconds, Meta(description="how long an impression waits for what follows it")] = 600_000
    max_open: Annotated[int, Meta(ge=1, le=100, description="impressions of a user that may wait, at most")] = 8


class CohortSettings(Section):
    """Which users are taken together: those who stated the same of themselves."""

    attributes: Annotated[
        tuple[str, ...],
        Meta(description='attributes of profiles whose values make cohorts of users; "*" is all of them'),
    ] = (EVERY,)
    users: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="users of a cohort before anything of it is kept: what fewer have stated is no name anywhere",
        ),
    ] = 5


class SignalSettings(Section):
    """What is learned of items from all users."""

    shards: Annotated[int, Meta(ge=1, le=1024, description="parallel learners of the items' signals")] = 1
    neighbours: Annotated[int, Meta(ge=4, le=500, description="neighbours kept of an item")] = 60
    window: Annotated[
        int, Meta(ge=1, le=MOST_WINDOW, description="items of a history that a new interaction is paired with")
    ] = 20
    forgetting: Annotated[
        float, Meta(gt=0.0, le=1.0, description="factor on a neighbour list each time that it is updated")
    ] = 0.995
    half_life_events: Annotated[
        Count, Meta(description="half-life of popularity, in feedbacks that its shard learns from")
    ] = 20_000
    trend_half_life_events: Annotated[Count, Meta(description="half-life of what is trending, in the same")] = 2_000
    items: Annotated[
        Count,
        Meta(
            description="items and cohorts with a neighbour list, a shard; the least popular are removed first, and of "
            "cohorts, an eighth of all at most, those that were told least recently"
        ),
    ] = 200_000
    sessions: Annotated[
        Count, Meta(description="users whose last items are kept for session neighbours; the least active go first")
    ] = 4096
    flush_events: Annotated[Count, Meta(description="feedbacks between two updates of the signals")] = 8
    flush_every: Annotated[Milliseconds, Meta(description="longest time between them, by the wall clock")] = 200


class EmbeddingSettings(Section):
    """Vectors of items, learned from what is taken after what."""

    dimensions: Annotated[int, Meta(ge=4, le=256, description="length of an item's vectors")] = 32
    rate: Annotated[Rate, Meta(description="learning rate of the vectors")] = 0.1
    negatives: Annotated[
        int, Meta(ge=8, le=10_000, description="sampled items that a block of feedbacks is compared with")
    ] = 1000
    items: Annotated[Count, Meta(description="items with vectors; those that moved least are removed first")] = 200_000
    warmup_events: Annotated[
        CountOrNone, Meta(description="first feedbacks of a subtask after a start, which the vectors all learn from")
    ] = 100_000
    sample: Annotated[Share, Meta(description="share of later feedbacks that they learn from")] = 0.25


class AutoencoderSettings(Section):
    """What items of a history say of each other item, fitted to how often they are taken together."""

    items: Annotated[
        int,
        Meta(
            ge=0,
            le=8192,
            description="items, the most popular ones, each pair of which takes 4 bytes; 0 disables it",
        ),
    ] = 1024


class SourceSettings(Section):
    """Which sources of candidates are asked: all but those that are off."""

    off: Annotated[
        tuple[str, ...],
        Meta(description="sources of candidates that propose nothing and give no scores; docs/slates.md names all"),
    ] = ()


class DomainSettings(Section):
    """Several domains in one shop, such as books and films: a slate can be asked for one of them (`context.domain`)."""

    attribute: Annotated[
        str,
        Meta(
            max_length=100,
            description='attribute of items, or "category", whose first value is the domain that an item is in; empty: '
            "there are none, and `context.domain` asks for nothing",
        ),
    ] = ""


class RankerSettings(Section):
    """The global ranker."""

    rate: Annotated[Rate, Meta(description="learning rate; lower and higher ones compete with it")] = 0.05
    warmup_events: Annotated[CountOrNone, Meta(description="first feedbacks, which the ranker all learns from")] = (
        100_000
    )
    sample: Annotated[
        Share, Meta(description="share of later feedbacks that it learns from, of those the vectors learn from")
    ] = 0.25
    flush_events: Annotated[
        Count, Meta(description="feedbacks between two updates of the weights, fewer in the beginning")
    ] = 64
    flush_every: Annotated[Milliseconds, Meta(description="longest time between them, by the wall clock")] = 500


class LearnerSettings(Section):
    """The per-user learner: a River class by name with its parameters."""

    model: Annotated[str, Meta(description="River class of the per-user learner, below the package river")] = (
        "linear_model.LogisticRegression"
    )
    optimizer: Annotated[str, Meta(description="River class of its optimiser, below the package river")] = "optim.SGD"
    rate: Annotated[
        float,
        Meta(ge=0.0, le=10.0, description="learning rate of a user's weights; with 0 their order is the ranker's"),
    ] = 0.02
    parameters: Annotated[dict[str, Any], Meta(description="further parameters of the class, by name")] = {}
    negatives: Annotated[int, Meta(ge=1, le=1000, description="sampled negatives for each positive feedback")] = 4
    tokens: Annotated[int, Meta(ge=0, le=1000, description="content weights kept of a user")] = 32
    drift: Annotated[
        Share, Meta(description="significance at which a change of taste is detected: higher is sooner, 0 disables it")
    ] = 0.2


class SlateSettings(Section):
    """The answer."""

    size: Annotated[int, Meta(ge=1, le=200, description="items on a slate, at most")] = 20
    hide: Annotated[
        tuple[str, ...],
        Meta(
            description='interactions whose items are not served again, such as "purchase", or for a time, '
            '"purchase:30d"; what the user said no to last never is'
        ),
    ] = ("purchase", "rate", "like", "dislike")
    candidates: Annotated[
        int,
        Meta(ge=10, le=2000, description="candidates that are scored; a sixth less where fewer than those are hidden"),
    ] = 120
    seen: Annotated[int, Meta(ge=1, le=100_000, description="hidden items remembered of a user, at most")] = 4096

    def hidden(self) -> dict[int, int]:
        """For how many milliseconds an interaction hides its item, 0 for ever, by the code of its type, of those that
        do. Raises ValueError, with the mend, for what is no type of an interaction, is named twice, or is no duration.
        """
        times: dict[int, int] = {}
        for hidden in self.hide:
            name, with_time, time = hidden.partition(":")
            if name not in INTERACTIONS:
                raise ValueError(
                    f"slate.hide: {name!r} is no interaction; expected some of {', '.join(INTERACTIONS)}, each alone "
                    'or with a time such as "purchase:30d"'
                )
            try:
                ms = milliseconds(time) if with_time else 0
            except ValueError as error:
                raise ValueError(f"slate.hide: {hidden!r}: {error}") from error
            if with_time and ms < 1000:
                raise ValueError(
                    f"slate.hide: {hidden!r}: expected at least 1s; leave {name} out where it hides nothing"
                )
            if EVENT_TYPES[name].code in times:
                raise ValueError(f"slate.hide: expected each type once, got {', '.join(self.hide)}")
            times[EVENT_TYPES[name].code] = ms
        return times


class DiversitySettings(Section):
    """Maximal marginal relevance. A user gets as much of it as the history is spread."""

    strength: Annotated[
        Share, Meta(description="weight of diversity for the widest taste: 0 is none, 1 nothing but diversity")
    ] = 0.1
    novelty: Annotated[
        float, Meta(ge=0.0, le=10.0, description="what the least popular items gain", extra={"unit": "logits"})
    ] = 0.0
    category_cap: Annotated[
        CountOrNone, Meta(description="items of one category on a slate, at most; 0 disables it")
    ] = 0


class ExplorationSettings(Section):
    """How much is tried, and how. It shrinks as a user's model learns."""

    kind: Annotated[
        Literal["epsilon", "softmax", "thompson"],
        Meta(
            description="slots drawn evenly (epsilon), by score (softmax), or by the learner's uncertainty (thompson)"
        ),
    ] = "epsilon"
    rate: Annotated[
        Share, Meta(description="0 is none, 1 the most; for epsilon the share of slots that are drawn evenly")
    ] = 0.02
    halved_after: Annotated[
        Count, Meta(description="feedbacks of a user after which half the rate is left; a fifth always stays")
    ] = 50


class RulesSettings(Section):
    """What the shop wants by attribute: each key names tokens, such as `category=horror`."""

    pin: Annotated[
        tuple[str, ...], Meta(description="attributes whose best items stand at the top, one slot each")
    ] = ()
    boost: Annotated[dict[str, Logits], Meta(description="amounts added by attribute", extra={"unit": "logits"})] = {}
    bury: Annotated[
        dict[str, Logits], Meta(description="amounts taken away by attribute", extra={"unit": "logits"})
    ] = {}
    exclude: Annotated[tuple[str, ...], Meta(description="attributes whose items are left out")] = ()


class FairnessSettings(Section):
    """What slates owe to parts of the catalogue (docs/fairness.md)."""

    floors: Annotated[dict[str, Share], Meta(description="least share of a user's places by attribute, 1 in all")] = {}


class CatalogueSettings(Section):
    """The item side."""

    strict: Annotated[bool, Meta(description="whether only items of the catalogue are recommended")] = False
    items: Annotated[Count, Meta(description="items kept, at most")] = 2_000_000
    new_items: Annotated[int, Meta(ge=1, le=100_000, description="the newest items that are proposed as new")] = 200


class PriorSettings(Section):
    """What the job of another shop learned, to start from; and what this one leaves to others."""

    file: Annotated[
        str,
        Meta(
            description="file that `riverrank prior` or a job wrote, from which whatever has no state starts; none: "
            "it starts knowing nothing"
        ),
    ] = ""
    out: Annotated[
        str,
        Meta(
            description="file to write for others to start from, at the end and by a job every so often; on a cluster, "
            "on the machine that runs the operator ranker; none: nothing is written"
        ),
    ] = ""
    every: Annotated[int, Meta(ge=1, extra={"unit": "ms"}, description="time between two writings by a job")] = 600_000
    learned: Annotated[bytes, Meta(extra={"is_setting": False})] = b""  # what `file` holds, for operators elsewhere

    def __repr__(self) -> str:
        return f"PriorSettings(file={self.file!r}, out={self.out!r}, learned={len(self.learned)} bytes)"


class NoiseSettings(Section):
    """Differential privacy of what is learned from all users (docs/decisions/0034)."""

    epsilon: Annotated[
        float,
        Meta(
            ge=0.0,
            le=100.0,
            description="what one user's contributions of a window may tell anyone else, at most; 0: no noise, and no "
            "bound. It takes a secret, privacy.key_file or RIVERRANK_PRIVACY_KEY, and the extra `privacy`",
        ),
    ] = 0.0
    delta: Annotated[float, Meta(gt=0.0, le=0.01, description="the chance that they tell more")] = 1e-6
    window: Annotated[
        int,
        Meta(ge=1000, extra={"unit": "ms"}, description="event time in which contributions of a user are bounded"),
    ] = 86_400_000
    contributions: Annotated[
        int, Meta(ge=1, le=MOST_HISTORY, description="items that a user contributes in a window; below history.size")
    ] = 8
    pairs: Annotated[int, Meta(ge=1, le=MOST_WINDOW, description="items before it that each is paired with")] = 2
    release: Annotated[Count, Meta(description="interactions between two releases of counts, at most")] = 4_000
    batch: Annotated[Count, Meta(description="feedbacks between two steps of the ranker")] = 1_000
    clip: Annotated[Rate, Meta(description="longest gradient of one choice: longer ones are cut")] = 0.5
    key: Annotated[bytes, Meta(extra={"is_setting": False})] = b""  # what noise is made of, for operators elsewhere

    def __repr__(self) -> str:
        return f"NoiseSettings(epsilon={self.epsilon}, delta={self.delta}, window={self.window})"


class Behaviour(Section):
    """All settings of the operators, handed to each of them whole."""

    allowed_lateness: Annotated[
        Milliseconds, Meta(description="an event older than its user's second newest by more than this is late")
    ] = 3_600_000
    allowed_ahead: Annotated[
        Milliseconds, Meta(description="an event or item that is newer than the wall clock by more than this is ahead")
    ] = 600_000
    seed: Annotated[int, Meta(description="seed of all random choices")] = 0
    reward: RewardSettings = RewardSettings()
    history: HistorySettings = HistorySettings()
    impression: ImpressionSettings = ImpressionSettings()
    cohorts: CohortSettings = CohortSettings()
    signals: SignalSettings = SignalSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    autoencoder: AutoencoderSettings = AutoencoderSettings()
    sources: SourceSettings = SourceSettings()
    domain: DomainSettings = DomainSettings()
    ranker: RankerSettings = RankerSettings()
    learner: LearnerSettings = LearnerSettings()
    slate: SlateSettings = SlateSettings()
    diversity: DiversitySettings = DiversitySettings()
    exploration: ExplorationSettings = ExplorationSettings()
    rules: RulesSettings = RulesSettings()
    fairness: FairnessSettings = FairnessSettings()
    catalogue: CatalogueSettings = CatalogueSettings()
    prior: PriorSettings = PriorSettings()
    noise: NoiseSettings = NoiseSettings()
    experiment: ExperimentSettings = ExperimentSettings()
