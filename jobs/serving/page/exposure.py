"""Who gets shown and who is served well, as tables of the page. Counts nothing: see `watch`."""

from dataclasses import dataclass

import numpy as np
from riverrank.jobs.serving.groups import ROOM, ItemGroups
from riverrank.jobs.serving.watch.cohorts import Cohort
from riverrank.jobs.serving.watch.exposure import Given
from riverrank.jobs.serving.watch.minutes import MINUTE_MS, MINUTES, ArmCounts
from riverrank.jobs.serving.watch.seen import Seen
from riverrank.operators.slate.fairness.groups import NONE

from .text import shown

MOST_ROWS = 12  # values, or cohorts, that have a row; what has a floor has one beside


@dataclass(frozen=True)
class Row:
    """Shares of one value, or of several together; None of feedback where there was none of any. `bar` is the exposure
    and `mark` the share of items, in hundredths of the largest of the table.
    """

    value: str
    exposure: float
    items: float
    feedback: float | None
    floor: float | None
    bar: float
    mark: float


@dataclass(frozen=True)
class Table:
    """The values of one attribute, those with the most exposure first, out of so many slates and interactions."""

    name: str
    rows: tuple[Row, ...]
    slates: int
    interactions: int


@dataclass(frozen=True)
class ExposureFigures:
    """All that the section shows, of the last `minutes`; cohorts by attribute, each of `least` users."""

    tables: tuple[Table, ...] = ()
    cohorts: tuple[tuple[str, tuple[Cohort, ...]], ...] = ()
    minutes: int = 0
    least: int = 1


def exposure_of(seen: Seen, now_ms: int, since_ms: int | None) -> ExposureFigures:
    """The figures of all minutes that are held and were followed."""
    first = max(now_ms - (MINUTES - 1) * MINUTE_MS, since_ms or 0)
    counted = seen.exposure(first, now_ms)
    tables = () if counted is None else tuple(table_of(*counted, name) for name in counted[0].names)
    cohorts = tuple((shown(name), _common(told)) for name, told in seen.cohorts().items())
    return ExposureFigures(tables, cohorts, (now_ms - first) // MINUTE_MS + 1, seen.least)


def table_of(groups: ItemGroups, given: Given, name: str) -> Table:
    """The values of `name`: MOST_ROWS with the most exposure and those that have a floor, the rest together, and what
    has no value.
    """
    begin, prefix = groups.names.index(name) * ROOM, f"{name}="
    floors = {each.removeprefix(prefix): share for each, share in groups.floors.items() if each.startswith(prefix)}
    values = list(groups.values(name))
    values += [value for value in floors if value not in values]  # what nothing is of yet
    span = slice(begin, begin + min(len(values), ROOM))
    counts = np.stack([given.exposed[span], np.array(groups.counts[span]), given.taken[span]])
    shares = np.zeros((3, len(values)))  # of exposure, items, feedback
    totals = np.array([given.exposure, groups.items, given.interactions], np.float64)
    shares[:, : counts.shape[1]] = counts / np.maximum(totals, 1e-12)[:, None]
    ranked = sorted(range(2, len(values)), key=lambda code: (*(-shares[:2, code]).tolist(), values[code]))
    alone = [code for rank, code in enumerate(ranked) if rank < MOST_ROWS or values[code] in floors]
    rest = [code for code in {*ranked, 1}.difference(alone) if shares[:, code].any()]
    found = [(values[code], shares[:, code], floors.get(values[code])) for code in alone]
    if rest:
        found.append((f"others ({len(rest)} more)", shares[:, rest].sum(axis=1), None))
    if shares[:, 0].any():
        found.append((NONE, shares[:, 0], None))
    largest = max((float(row[:2].max()) for _, row, _ in found), default=0.0) or 1.0
    told = tuple(_row(shown(value), row, floor, largest, given.interactions > 0) for value, row, floor in found)
    return Table(shown(name), told, given.slates, given.interactions)


def _row(value: str, shares: np.ndarray, floor: float | None, largest: float, has_feedback: bool) -> Row:
    exposure, items, feedback = shares.tolist()
    bar, mark = (round(100 * share / largest, 2) for share in (exposure, items))
    return Row(value, exposure, items, feedback if has_feedback else None, floor, bar, min(mark, 99.2))


def _common(cohorts: list[Cohort]) -> tuple[Cohort, ...]:
    """The first MOST_ROWS, and the rest together."""
    rest = cohorts[MOST_ROWS:]
    if not rest:
        return tuple(cohorts)
    counts = ArmCounts.together(each.counts for each in rest)
    return (*cohorts[:MOST_ROWS], Cohort(f"others ({len(rest)} more)", sum(each.users for each in rest), counts))
