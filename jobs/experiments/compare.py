"""`riverrank compare`: the arms that ran, by what followed their slates."""

import math
from collections.abc import Iterable, Iterator, Mapping

import msgspec
from riverrank.jobs.config.schema import Config
from riverrank.jobs.local.pipeline import Intake
from riverrank.jobs.local.reading import read
from riverrank.operators.experiment import CONTROL, MOST_ARMS
from riverrank.operators.flink.arrivals import Arrival, event_of
from riverrank.operators.settings import Behaviour
from riverrank.state.records.decoding import Reject

from .clusters import LEAST_USERS, Estimate, Mean, Sums
from .credit import Credit, Earned, credit_warnings
from .log import SlateLog, slate_log
from .ratios import SUSPECT, mismatch

HIT = 10  # ranks
FEW_USERS = 100  # of an arm, below which intervals are not to be trusted
LOST = 0.01  # share of slates, beyond which their loss is told
MOST_SEEN = 4 * MOST_ARMS  # arms, of a log that may be of several experiments
OTHERS = "(other arms)"  # beyond that

_SLATES, _CLICKED, _REWARD, _CHOICES, _HITS, _GAIN = range(6)
# Of each measure, what it is called, and which sums it is the ratio of.
MEASURES = {
    "click_through": (_CLICKED, _SLATES),
    "reward": (_REWARD, _SLATES),
    "hr10": (_HITS, _CHOICES),
    "ndcg10": (_GAIN, _CHOICES),
}


class ArmReport(msgspec.Struct, frozen=True):
    """The figures of an arm, and by how much each measure is above that of control, but for control's own."""

    users: int
    slates: int
    choices: int
    share: float
    expected_share: float | None
    measures: dict[str, Estimate]
    differences: dict[str, Estimate]


class Comparison(msgspec.Struct, frozen=True):
    """All of it. `seen`: only slates that were seen count. `sample_ratio` is the p-value of the shares of users, None
    where no shares are configured; `crossed` are users who were in several arms.
    """

    arms: dict[str, ArmReport]
    seen: bool
    slates: int
    events: int
    crossed: int
    sample_ratio: float | None
    warnings: list[str]


class Tally:
    """Sums by arm and user, of slates as they are done with. `seen`: of those that were seen alone."""

    def __init__(self, seen: bool = False) -> None:
        self.seen = seen
        self.arms: dict[str, Sums] = {}
        self.arm_of: dict[str, str] = {}  # by user, the first
        self.crossed: set[str] = set()

    def add(self, finished: Iterable[Earned[None]]) -> None:
        """Count what slates earned."""
        for earned in finished:
            slate = earned.slate
            arm = slate.arm if slate.arm in self.arms or len(self.arms) < MOST_SEEN else OTHERS
            if self.arm_of.setdefault(slate.user_id, arm) != arm:
                self.crossed.add(slate.user_id)
            sums = self.arms.setdefault(arm, Sums(6))
            counts = not self.seen or earned.seen
            ranks = [rank for rank in earned.choices if 1 <= rank <= HIT]
            numbers = [
                counts,
                counts and any(reward > 0 for reward in earned.rewards.values()),
                earned.reward if counts else 0.0,
                len(earned.choices),
                len(ranks),
                sum(1.0 / math.log2(rank + 1) for rank in ranks),
            ]
            sums.add(slate.user_id, [float(number) for number in numbers])

    def means(self, arm: str) -> dict[str, Mean]:
        """The measures of an arm. Of users who are all alike, as where none clicked, no error can be told: nan."""
        means = {name: self.arms[arm].ratio(*columns) for name, columns in MEASURES.items()}
        return {name: mean if mean.error else mean._replace(error=math.nan) for name, mean in means.items()}

    def users(self) -> dict[str, int]:
        """How many users each arm has, each in the first that they were seen in."""
        counted = dict.fromkeys(self.arms, 0)
        for arm in self.arm_of.values():
            counted[arm] += 1
        return counted


def run(config: Config, window: int, *, seen: bool) -> Comparison:
    """Compare the arms of the slates and events of `config`; feedback counts within `window` milliseconds."""
    return compare(config.behaviour, read(config, "events"), slate_log(config), window, seen=seen)


def compare(
    behaviour: Behaviour, events: Iterator[Arrival], log: SlateLog, window: int, *, seen: bool = False
) -> Comparison:
    """Compare arms, in one pass. Events mean what SESSION says of them: redeliveries and what is late count for
    nothing, and rewards are those of `behaviour`.
    """
    intake, tally, accepted = Intake(behaviour), Tally(seen), 0
    credit = Credit[None](window, behaviour.allowed_lateness)
    for arrival in events:
        event = event_of(arrival, behaviour)
        feedback = None if isinstance(event, Reject) else intake.accept(event).feedback
        if feedback is None:
            continue
        accepted += 1
        if feedback.event.type == "erase":
            tally.add(credit.close(feedback.event.user_id))
            continue
        credit.take(feedback)
        slate = log.answer_to(feedback.event)
        if slate is not None:
            tally.add(credit.open(slate, None))
    tally.add(credit.close())
    shares = behaviour.experiment.shares() if behaviour.experiment.arms else {}
    return _report(tally, shares, accepted, [*log_warnings(log), *credit_warnings(credit, seen)], log.read)


def _report(tally: Tally, shares: Mapping[str, float], events: int, of_log: list[str], slates: int) -> Comparison:
    users = tally.users()
    ratio = mismatch(users, shares) if shares and users else None
    means = {arm: tally.means(arm) for arm in sorted(tally.arms, key=lambda arm: (arm != CONTROL, arm))}
    control = means.get(CONTROL)
    arms = {
        arm: ArmReport(
            users=users[arm],
            slates=int(tally.arms[arm].rows()[:, _SLATES].sum()),
            choices=int(tally.arms[arm].rows()[:, _CHOICES].sum()),
            share=users[arm] / max(1, len(tally.arm_of)),
            expected_share=shares.get(arm, 0.0) if shares else None,
            measures={name: mean.estimate() for name, mean in of_arm.items()},
            differences={name: mean.less(control[name]).estimate() for name, mean in of_arm.items()}
            if control is not None and arm != CONTROL
            else {},
        )
        for arm, of_arm in means.items()
    }
    warnings = [*_warnings(arms, tally, ratio), *of_log]
    return Comparison(arms, tally.seen, slates, events, len(tally.crossed), ratio, warnings)


def _warnings(arms: Mapping[str, ArmReport], tally: Tally, ratio: float | None) -> Iterator[str]:
    if not arms:
        yield "no slate answers any of the events: are these the slates and the events of one run?"
        return
    if ratio is not None and ratio < SUSPECT:
        yield (
            f"sample ratio: users by arm do not agree with the shares of [experiment] (p = {ratio:.1g}); find out "
            "where users are lost, or which shares and salt ran, before you believe any difference"
        )
    if tally.crossed:
        yield (
            f"{len(tally.crossed)} users were in several arms, as the salt or the shares changed; compare what came "
            "after the change alone"
        )
    if CONTROL not in arms:
        yield f"no slate is of {CONTROL}: there is nothing to compare with"
    for arm, report in arms.items():
        if report.users < FEW_USERS:
            yield f"{arm} has {report.users} users: below {FEW_USERS} intervals are too narrow"
        alike = [
            name for name, told in report.measures.items() if math.isnan(told.once[0]) and not math.isnan(told.value)
        ]
        if alike and report.users >= LEAST_USERS:
            yield f"{arm}: all users are alike in {', '.join(alike)}, so how sure that is can't be told"


def log_warnings(log: SlateLog) -> Iterator[str]:
    """What is to be told of slates that could not be used."""
    if log.unusable:
        yield f"{log.unusable} records of the slates are no slates, and are left out"
    if log.unmatched > LOST * log.read:
        yield (
            f"{log.unmatched} of {log.read} slates answer none of the events, and are left out: are the events whole, "
            "of the same time, and like the slates in the order of time?"
        )
