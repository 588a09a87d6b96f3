"""The report of `riverrank evaluate`: its shape as JSON, and as text for a terminal. Computes nothing."""

from collections.abc import Iterable, Sequence

import msgspec
from riverrank.state.records.printable import printable

from .cohorts import Cohort
from .costs import Costs
from .exposure import Group
from .metrics import AT, Clicks, Difference, Hits, Less, Ratings, Showing

OWN = "riverrank"
MOST_TOLD = 10  # groups of exposure, in text
BLOCKS = "▁▂▃▄▅▆▇█"


class PolicyReport(msgspec.Struct, frozen=True):
    """The figures of one policy; `curve` is HR@10 over consecutive stretches of the tests."""

    all: Hits
    first_5: Hits
    from_20th: Hits
    last_fifth: Hits
    shown: Showing
    curve: list[float]


class Against(msgspec.Struct, frozen=True, rename=AT):
    """The job's own policy less another, by test; `first` and `first_5` are HR@10 of users' first and first five."""

    hr10: Difference
    ndcg10: Difference
    first: Difference
    first_5: Difference


class Segment(msgspec.Struct, frozen=True):
    """The tests of one `value`: how many they are, each policy's figures, and the job's own less each other."""

    value: str
    tests: int
    policies: dict[str, Hits]
    differences: dict[str, Less]


class Noise(msgspec.Struct, frozen=True):
    """What noise promises of a window, and of so many `windows` as there were, of a user who was in all of them."""

    epsilon: float
    windows: int
    epsilon_of_all: float
    delta_of_all: float


class Report(msgspec.Struct, frozen=True):
    """All of it; but for `seconds` and `costs` it is the same from run to run. `noise` is there where a policy has it.
    `unserved` counts positive interactions
    before their user's first slate, which are no tests.
    """

    events: int
    dead_letters: int
    slates: int
    tests: int
    unserved: int
    users: int
    servable_items: int
    hide: tuple[str, ...]
    seconds: float
    policies: dict[str, PolicyReport]
    differences: dict[str, Against]
    segments: dict[str, list[Segment]]
    exposure: dict[str, list[Group]]
    cohorts: dict[str, list[Cohort]]
    ratings: Ratings | None
    clicks: Clicks | None
    costs: Costs
    noise: dict[str, Noise] | msgspec.UnsetType = msgspec.UNSET


def text(report: Report) -> str:
    """The report in plain text."""
    head = (
        f"{report.events} events, {report.slates} slates, {report.tests} tests of {report.users} users "
        f"({report.unserved} positive interactions came before any slate), {report.dead_letters} dead letters, "
        f"slate.hide [{', '.join(report.hide)}], {report.seconds:.0f} s"
    )
    parts = [head, _quality(report), _differences(report), _costs(report.costs), _curves(report)]
    parts += [_segments(name, segments) for name, segments in report.segments.items()]
    parts += [_exposure(name, groups) for name, groups in report.exposure.items()]
    parts += [_cohorts(name, cohorts) for name, cohorts in report.cohorts.items()]
    parts += [_predictions(report), *_noise(report)]
    return "\n\n".join(part for part in parts if part)


def _quality(report: Report) -> str:
    heads = "HR@10 HR@20 NDCG@10 MRR@20 first_5 from_20th last_fifth coverage Gini novelty diversity"
    rows = [["", *heads.split()]]
    for name, policy in report.policies.items():
        hits, shown = policy.all, policy.shown
        others = (policy.first_5.hr10, policy.from_20th.hr10, policy.last_fifth.hr10)
        shares = (hits.hr10, hits.hr20, hits.ndcg10, hits.mrr20, *others)
        cells = [_figure(share, 4) for share in shares]
        cells += [_figure(shown.coverage, 3), _figure(shown.gini, 3), _figure(shown.novelty, 2)]
        rows.append([name, *cells, _figure(shown.diversity, 3)])
    note = "first_5, from_20th, last_fifth: HR@10 of users' first five and from their 20th on, and of the last fifth"
    return f"{_table(rows)}\n{note}"


def _differences(report: Report) -> str:
    if not report.differences:
        return ""
    rows = [[f"{OWN} less", "HR@10", "in errors", "NDCG@10", "in errors", "first", "in errors", "first_5", "in errors"]]
    for name, against in report.differences.items():
        cells = [name]
        for difference in msgspec.structs.astuple(against):
            cells += _difference(difference)
        rows.append(cells)
    note = "paired by test, standard errors clustered by user; first, first_5: HR@10 of users' first and first five"
    return f"{_table(rows)}\n{note}"


def _curves(report: Report) -> str:
    highest = max((max(policy.curve) for policy in report.policies.values()), default=0.0)
    rows = [["HR@10 over time", "", "first", "last"]]
    for name, policy in report.policies.items():
        curve = policy.curve
        rows.append([name, sparkline(curve, highest), _figure(curve[0], 4), _figure(curve[-1], 4)])
    return f"{_table(rows)}\n{len(curve)} stretches of equal length, from 0 to {highest:.4f}"


def _predictions(report: Report) -> str:
    rows = [
        [f"{kind}", *(f"{name} {_figure(value, 4)}" for name, value in msgspec.structs.asdict(figures).items())]
        for kind, figures in (("ratings", report.ratings), ("clicks", report.clicks))
        if figures is not None
    ]
    return "predictions, made before learning\n" + "\n".join(", ".join(row) for row in rows) if rows else ""


def _noise(report: Report) -> list[str]:
    if isinstance(report.noise, msgspec.UnsetType):
        return []
    return [
        f"{name}: epsilon {noise.epsilon:g} a window; of a user in all of {noise.windows} windows so far epsilon "
        f"{noise.epsilon_of_all:.2f}, delta {noise.delta_of_all:.1e}"
        for name, noise in report.noise.items()
    ]


def _segments(name: str, segments: Sequence[Segment]) -> str:
    rows = [[f"by {name}", "tests", "policy", "HR@10", "NDCG@10", f"{OWN} less", "in errors", "NDCG@10", "in errors"]]
    for segment in segments:
        head = printable(segment.value), str(segment.tests)
        for policy, hits in segment.policies.items():
            less = segment.differences.get(policy)
            cells = [*_difference(less.hr10), *_difference(less.ndcg10)] if less else [""] * 4
            rows.append([*head, policy, _figure(hits.hr10, 4), _figure(hits.ndcg10, 4), *cells])
            head = "", ""
    return _table(rows)


def _exposure(name: str, groups: Sequence[Group]) -> str:
    rows = [[f"exposure by {name}", "of items", "of feedback", "policy", "exposure", "over items", "over feedback"]]
    for group in groups[:MOST_TOLD]:
        head = printable(group.value), f"{group.catalogue:.4f}", f"{group.feedback:.4f}"
        for policy, given in group.policies.items():
            ratios = _figure(given.of_catalogue, 2), _figure(given.of_feedback, 2)
            rows.append([*head, policy, f"{given.share:.4f}", *ratios])
            head = "", "", ""
    more = f"; {len(groups) - MOST_TOLD} groups more in JSON" if len(groups) > MOST_TOLD else ""
    return (
        f"{_table(rows)}\nshares: of what could be shown, of positive interactions, of rank-discounted exposure{more}"
    )


def _cohorts(name: str, cohorts: Sequence[Cohort]) -> str:
    rows = [[f"cohort {name}", "users", "tests", "policy", "HR@10", "less the rest", "in errors", "NDCG@10"]]
    rows[0] += ["less the rest", "in errors"]
    for cohort in cohorts:
        head = printable(cohort.value), str(cohort.users), str(cohort.tests)
        for policy, quality in cohort.policies.items():
            rest = quality.less_rest
            hits = f"{quality.hr10.mean:.4f} ± {quality.hr10.error:.4f}", *_difference(rest.hr10)
            gains = f"{quality.ndcg10.mean:.4f} ± {quality.ndcg10.error:.4f}", *_difference(rest.ndcg10)
            rows.append([*head, policy, *hits, *gains])
            head = "", "", ""
    note = "cohorts of few users (cohorts.users) are told of together; standard errors clustered by user"
    return f"{_table(rows)}\n{note}" if cohorts else f"cohort {name}: fewer users than may be told of (cohorts.users)"


def _costs(costs: Costs) -> str:
    rows = [["cost", "us an answer", "99th percentile", "us to learn an event", "bytes a user", "MB of arrays"]]
    for name, cost in costs.policies.items():
        user = _figure(cost.user_bytes, 0)
        times = (_figure(us, 0) for us in (cost.answer_us, cost.answer_p99_us, cost.learning_us))
        rows.append([name, *times, user, f"{cost.array_bytes / 1e6:.1f}"])
    note = "median and 99th percentile of all answers, each by its own call; arrays of what is kept of items"
    return f"{_table(rows)}\n{note}; {costs.peak_bytes / 1e6:.0f} MB at most in all"


def _difference(difference: Difference) -> tuple[str, str]:
    """Mean and error, and how many errors it is; dashes where it never differs, and of one user there is no error.

    >>> _difference(Difference(-0.00001, 0.002)), _difference(Difference(0.5, 0.0)), _difference(Difference(0.0, 0.0))
    (('+0.0000 ± 0.0020', '+0.0'), ('+0.5000', '-'), ('-', '-'))
    """
    mean, error = difference.mean, difference.error
    if not error:
        return f"{mean:+.4f}" if mean else "-", "-"
    return f"{mean:+z.4f} ± {error:.4f}", f"{difference.errors:+z.1f}"


def sparkline(values: Sequence[float], highest: float) -> str:
    """Values from 0 to `highest` as blocks of eight heights.

    >>> sparkline([0.0, 0.5, 1.0], 1.0)
    '▁▄█'
    """
    scale = (len(BLOCKS) - 1) / highest if highest > 0 else 0.0
    return "".join(BLOCKS[int(value * scale)] for value in values)


def _figure(value: float | None, digits: int) -> str:
    """A number of `digits` after the point, a dash where there is none.

    >>> _figure(0.5, 3), _figure(7, 3), _figure(None, 3)
    ('0.500', '7', '-')
    """
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def _table(rows: Iterable[Sequence[str]]) -> str:
    """Columns of cells: the first to the left, the others to the right."""
    held = list(rows)
    widths = [max(map(len, column)) for column in zip(*held, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in held
    )
