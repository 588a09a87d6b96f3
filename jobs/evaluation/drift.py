"""`riverrank drift`: how soon slates follow when every customer of the simulated shop comes to like other things.

The job's operators run in this process, as `riverrank replay` has them; customers look at their slates and act.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import UsageError
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.event_types import EVENT_TYPES, INTERACTIONS

from .listed import Listed, listed
from .shop import Shop, ShopSettings

log = logging.getLogger(__name__)
FIRST_SEED = 7
BEFORE, AFTER = 60, 40  # interactions of each customer, until tastes flip and from then on
STRETCH = 5  # interactions
LEVEL_OVER = 20  # interactions before the flip, over which the former level is the mean
BACK_AT = 0.9  # of it
BETWEEN_VISITS_MS = 3_600_000
OPENS_AT_MS = 1_764_000_000_000
MOST_VISITS = 10  # for each interaction of a customer; who needs more stays behind


class Figure(msgspec.Struct, frozen=True):
    """The mean of a figure over the shops, and its standard deviation, 0 for one shop."""

    mean: float
    spread: float


class Stretch(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """What customers saw from their interaction number `start` after the flip on, up to number `end`."""

    start: int
    end: int
    visits: Figure  # a customer
    click_through: Figure
    share: Figure  # of the former level


class Report(msgspec.Struct, frozen=True):
    """All figures. `back_after` is the interaction from which on the share is BACK_AT and more, None for none."""

    shops: int
    customers: int
    interactions_before: int
    former_level: Figure
    after: list[Stretch]
    back_after: int | None
    back_after_in_each: list[int | None]


class Look(NamedTuple):
    """A customer looked at a slate after so many `interactions`; `click_through` is what it brings in expectation."""

    customer: int
    interactions: int
    click_through: float


def run(config: Config, customers: int, shops: int, without: Collection[str] = (), *, as_json: bool) -> None:
    """Measure, and print the report on standard output. The job hears nothing of events of the types `without`.

    Raises UsageError where one of them is no type of event.
    """
    for name in without:
        if name not in EVENT_TYPES:
            raise UsageError(f"--without: {name!r} is no type of event; there are {', '.join(EVENT_TYPES)}")
    courses = []
    for number in range(shops):
        courses.append(course(config, FIRST_SEED + number, customers, BEFORE, AFTER, without))
        log.info("shop %d of %d", number + 1, shops)
    report = summed_up(courses, BEFORE)
    print(msgspec.json.encode(report).decode() if as_json else text(report))


def course(
    config: Config, seed: int, customers: int, before: int, after: int, without: Collection[str] = ()
) -> tuple[list[Look], list[Look]]:
    """What the customers of one shop saw until each had interacted `before` times, and after all tastes flipped."""
    shop = _Open(config, Shop(ShopSettings(seed=seed, customers=customers, drift=0.0)), without)
    old = shop.until(before)
    shop.shop.flip()
    new = shop.until(after)
    if not (old and new):
        raise UsageError("--without: nobody was shown anything; leave the job what it answers, a click or a request")
    return old, new


def summed_up(courses: Sequence[tuple[list[Look], list[Look]]], before: int) -> Report:
    """The report of the courses of some shops."""
    levels = np.array([_level(old) for old, _ in courses])
    parts = [_stretches(new) for _, new in courses]
    number = min(map(len, parts))
    customers = len(_by_customer(courses[0][0]))
    visits, through = (
        np.array([[of(looks) for looks in part[:number]] for part in parts])
        for of in (lambda looks: len(looks) / customers, _mean)
    )
    shares = through / levels[:, None]
    return Report(
        shops=len(courses),
        customers=customers,
        interactions_before=before,
        former_level=_figure(levels),
        after=[
            Stretch(
                STRETCH * k,
                STRETCH * (k + 1),
                *(_figure(of[:, k]) for of in (visits, through, shares)),
            )
            for k in range(number)
        ],
        back_after=_back_after(shares.mean(axis=0)),
        back_after_in_each=[_back_after(share) for share in shares],
    )


def text(report: Report) -> str:
    """The report for a reader."""
    level = report.former_level
    lines = [
        f"{report.shops} shops of {report.customers} customers, whose tastes flip after {report.interactions_before} "
        "interactions of each; +- is the standard deviation over shops",
        f"click-through before: {level.mean:.3f} +- {level.spread:.3f} (over the last {LEVEL_OVER} interactions)",
        "",
        "interactions since  visits of each  click-through    of that before",
    ]
    for part in report.after:
        through = f"{part.click_through.mean:.3f} +- {part.click_through.spread:.3f}"
        share = f"{part.share.mean:.0%} +- {part.share.spread:.0%}"
        lines.append(f"{part.start:9d} to {part.end:<8d}{part.visits.mean:14.1f}  {through:>15}{share:>15}")
    back = [f"after {n}" if n is not None else "never" for n in (report.back_after, *report.back_after_in_each)]
    lines += ["", f"back at {BACK_AT:.0%}: {back[0]} interactions; in each shop: {', '.join(back[1:])}"]
    return "\n".join(lines)


class _Open:
    """A shop that is open: the job answers, and its customers come in turn, an hour apart. Of events of the types
    `without` the job hears nothing.
    """

    def __init__(self, config: Config, shop: Shop, without: Collection[str]) -> None:
        self.shop = shop
        self.without = without
        self.slates: dict[str, Listed] = {}  # the latest, by user
        # All that its customers took, and the job was told of, is hidden: they tire of it.
        slate = msgspec.structs.replace(config.behaviour.slate, hide=tuple(INTERACTIONS))
        self.pipeline = Pipeline(msgspec.structs.replace(config.behaviour, slate=slate))
        for item in shop.catalogue(OPENS_AT_MS):
            self.pipeline.lessons.item(item)
        self.ts = OPENS_AT_MS
        self.sent = 0

    def until(self, interactions: int) -> list[Look]:
        """Let every customer come until they have interacted that often from now on; what they saw meanwhile."""
        counts = dict.fromkeys(range(self.shop.settings.customers), 0)
        looks: list[Look] = []
        for _ in range(MOST_VISITS * interactions):
            self.ts += BETWEEN_VISITS_MS
            coming = [customer for customer, count in counts.items() if count < interactions]
            for customer in coming:
                counts[customer] += self._visit(customer, counts[customer], looks)
            if not coming:
                break
        return looks

    def _visit(self, customer: int, before: int, looks: list[Look]) -> int:
        """One visit; how many interactions it brought."""
        slate = self.slates.get(self.shop.users[customer])
        items = [] if slate is None else slate.ids()
        if shown := items[: self.shop.settings.shown]:
            looks.append(Look(customer, before, self.shop.expected_click_through(customer, shown)))
        visit = self.shop.visit(customer, None if slate is None else slate.slate_id, items, self.ts)
        for event in visit.events:
            if event.type in self.without:
                continue
            answer = self.pipeline.take(event, Arrival(0, self.sent, 0, None))
            self.sent += 1
            if answer is not None and answer.slate is not None:
                self.slates[event.user_id] = listed(answer.slate)
        return sum(event.type in INTERACTIONS for event in visit.events)


def _by_customer(looks: Sequence[Look]) -> dict[int, list[Look]]:
    by_customer: dict[int, list[Look]] = defaultdict(list)
    for look in looks:
        by_customer[look.customer].append(look)
    return by_customer


def _mean(looks: Sequence[Look]) -> float:
    """The click-through of the average customer."""
    each = [np.mean([look.click_through for look in mine]) for mine in _by_customer(looks).values()]
    return float(np.mean(each)) if each else 0.0


def _level(looks: Sequence[Look]) -> float:
    last = [
        look
        for mine in _by_customer(looks).values()
        for look in mine
        if look.interactions > mine[-1].interactions - LEVEL_OVER
    ]
    return _mean(last)


def _stretches(looks: Sequence[Look]) -> list[list[Look]]:
    parts: list[list[Look]] = [[] for _ in range(1 + max(look.interactions for look in looks) // STRETCH)]
    for look in looks:
        parts[look.interactions // STRETCH].append(look)
    return parts


def _back_after(shares: np.ndarray) -> int | None:
    below = np.flatnonzero(shares < BACK_AT)
    first = int(below[-1]) + 1 if len(below) else 0
    return STRETCH * first if first < len(shares) else None


def _figure(values: np.ndarray) -> Figure:
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Figure(round(float(values.mean()), 4), round(spread, 4))
