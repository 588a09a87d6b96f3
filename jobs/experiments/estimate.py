"""`riverrank estimate`: what another configuration would have earned, from logged slates and what followed them."""

from collections.abc import Iterator

import msgspec
import numpy as np
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import UsageError
from riverrank.jobs.local.reading import read
from riverrank.operators.flink.arrivals import Arrival, event_of, item_of
from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Item

from .clusters import Estimate
from .compare import log_warnings
from .credit import Credit, Earned, credit_warnings
from .estimators import FIRST, SLATE, Asked, Estimators, Figure
from .items import ItemsInTime
from .log import SlateLog, slate_log
from .policy import OtherPolicy

FEW = 100  # effective slates, below which an estimate is not to be trusted
MOST_EMPTY = 0.01  # share of slates, beyond which the other policy seems to know other items than were served
MOST_FIXED = 0.99  # share of slates without any chance, from which on there is nothing to go by


class Estimation(msgspec.Struct, frozen=True):
    """All of it: of the `first slot` and of the `slate` what was earned, the mean weight, and what estimators say."""

    slates: int
    users: int
    depth: int
    seen: bool
    earned: dict[str, Estimate]
    weights: dict[str, Estimate]
    figures: list[Figure]
    warnings: list[str]


def run(config: Config, other: Behaviour, window: int, depth: int, *, seen: bool) -> Estimation:
    """Estimate what `other` would have earned on the events and slates of `config`. Raises UsageError where rewards are
    not the same, so that nothing could be compared.
    """
    own = config.behaviour
    if other.reward != own.reward or other.history.story != own.history.story:
        raise UsageError(
            "--policy: [reward] or history.story differ from those of --config: what is earned has to be counted "
            "alike; give the configuration that was logged by --config, and the same rewards in both"
        )
    log = slate_log(config)
    return estimate(other, read(config, "items"), read(config, "events"), log, window, depth, seen=seen)


def estimate(
    other: Behaviour,
    items: Iterator[Arrival],
    events: Iterator[Arrival],
    log: SlateLog,
    window: int,
    depth: int,
    *,
    seen: bool = False,
) -> Estimation:
    """Estimate in one pass, by the events that the logged slates answered."""
    told = (item for arrival in items if isinstance(item := item_of(arrival, other), Item))
    policy, estimators = OtherPolicy(other, ItemsInTime(told)), Estimators(depth)
    credit = Credit[Asked](window, other.allowed_lateness)
    for feedback, slate, asked in policy.events(
        ((arrival, event_of(arrival, other)) for arrival in events), log.answer_to, depth
    ):
        if feedback.event.type == "erase":
            _add(estimators, credit.close(feedback.event.user_id), seen)
            continue
        credit.take(feedback)
        if slate is not None:
            _add(estimators, credit.open(slate, asked), seen)
    _add(estimators, credit.close(), seen)
    return _report(estimators, [*log_warnings(log), *credit_warnings(credit, seen)], seen)


def _add(estimators: Estimators, finished: Iterator[Earned[Asked]], seen: bool) -> None:
    for earned in finished:
        if seen and not earned.seen:
            continue
        slots = earned.slate.items[: estimators.depth]
        if not slots:  # nothing might be served: nothing to choose
            continue
        rewards = np.array([earned.rewards.get(rank, 0.0) for rank in range(len(slots))])
        propensity = np.array([slot.propensity for slot in slots])
        estimators.add(earned.slate.user_id, rewards, propensity, earned.beside)


def _report(estimators: Estimators, of_log: list[str], seen: bool) -> Estimation:
    figures = estimators.figures() if estimators.slates else []
    earned = {of: estimators.earned(of) for of in (FIRST, SLATE)}
    weights = {of: estimators.weight(of) for of in (FIRST, SLATE)}
    warnings = [*_warnings(estimators, figures, weights), *of_log]
    depth, slates = estimators.depth, estimators.slates
    return Estimation(slates, estimators.users, depth, seen, earned, weights, figures, warnings)


def _warnings(estimators: Estimators, figures: list[Figure], weights: dict[str, Estimate]) -> Iterator[str]:
    if not estimators.slates:
        yield "no slate answers any of the events: are these the slates and the events of one run?"
        return
    if not estimators.earned(SLATE).value:
        yield "no slate earned anything: what another policy would have earned can't be told, nor how sure that is"
    if estimators.fixed > MOST_FIXED * estimators.slates:
        yield (
            f"{estimators.fixed} of {estimators.slates} slates were drawn with no chance in it, as by exploration.rate "
            "0: of anything that they did not show the log can't tell"
        )
    if estimators.empty > MOST_EMPTY * estimators.slates:
        yield (
            f"{estimators.empty} of {estimators.slates} slates would be empty with the other policy, and count as "
            "slates that earn nothing: do the items, and its rules, say what might be served then?"
        )
    for of, weight in weights.items():
        low, high = weight.once
        told = f"{of}: the mean weight is {weight.value:.2g}, and should be 1: "
        if high < 1.0:
            yield told + (
                "the other policy does what was never logged, or so seldom that it did not come; IPS is too low by "
                "that, and only DR guesses the rest"
            )
        elif low > 1.0:
            yield told + (
                "slates came more often than their propensities say, so these are not what they were drawn by, and "
                "no estimate of them holds"
            )
    for of in (FIRST, SLATE):
        sample = next(figure.sample for figure in figures if figure.of == of)
        if sample < FEW:
            yield (
                f"{of}: {estimators.slates} slates are worth {sample:.0f} of the other policy's own (effective sample "
                f"size): below {FEW} intervals are too narrow; explore more, or ask for a policy nearer to the logged"
            )
