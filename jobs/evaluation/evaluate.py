"""`riverrank evaluate`: the job's own policy beside baselines, in one pass over a file of events.

Every event is a test, then it teaches: a positive interaction is looked for on the slate that answered the same user's
latest earlier event, of each policy alike. Nothing is held back, and nothing is read twice.
"""

import sys
import time
from array import array
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.local.reading import STANDARD, read, read_lines
from riverrank.operators.candidates import registry
from riverrank.operators.catalogue.vectors import DIMENSIONS
from riverrank.operators.flink.arrivals import Arrival, event_of, item_of
from riverrank.operators.session.session import reward_of
from riverrank.operators.settings import Behaviour, FairnessSettings, SourceSettings
from riverrank.state.messages import Feedback
from riverrank.state.outputs import PREDICTIONS
from riverrank.state.records.decoding import Reject
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import Prediction

from . import report as evaluate_report
from .baselines.ledger import START, grown
from .baselines.panel import Panel
from .cohorts import Cohort, cohorts_of
from .costs import Costs, peak_bytes
from .exposure import Exposure, Known
from .job import Job
from .metrics import MISS, NEW_USER, SHOWN, Shown, Tests, clicks_of, hits_of, ratings_of
from .picture import drawn
from .report import OWN, Against, Noise, PolicyReport, Report, Segment
from .segments import Moment, Segments, Standing

WITHOUT, AGAINST = "without ", "against "
ALL, LEARNER, FLOORS = "all", "learner", "floors"  # of what can be left out, beside the names of sources


def run(
    config: Config,
    baselines: Sequence[str],
    variants: Mapping[str, Behaviour],
    by: Sequence[str],
    picture: Path | None,
    as_json: bool,
    exposure: Sequence[str] = (),
    cohorts: Sequence[str] = (),
) -> None:
    """Read it all, and print the report on standard output; `by` names segments, and `picture` is where the learning
    curves go, as SVG; `exposure` names what groups of items are by, and `cohorts` attributes of users.

    Raises:
        UsageError: there is no such baseline, segmentation or file.
        Failure: nobody came back, so there is nothing to judge.
    """
    files = config.files
    if not files.events:
        raise UsageError("no events to read: give --events FILE (- is standard input)")
    drawing = _made(picture) if picture is not None else None
    evaluation = Evaluation(config, baselines, variants, by, exposure, cohorts)
    for arrival in read(config, "items"):
        evaluation.item(arrival)
    with closing(_watched(files.events)) as arrivals:
        for arrival in arrivals:
            evaluation.event(arrival)
    report = evaluation.report()
    if drawing is not None:
        drawing.write_text(drawn(report), "utf-8")
    print(msgspec.json.encode(report).decode() if as_json else evaluate_report.text(report))


class Evaluation:
    """The pass itself. The policies are the job's own, the baselines, and the job with each of other `variants`, by
    name: what counts as positive is as the job's own settings say.
    """

    def __init__(
        self,
        config: Config,
        baselines: Sequence[str],
        variants: Mapping[str, Behaviour] = MappingProxyType({}),
        by: Sequence[str] = (),
        exposure: Sequence[str] = (),
        cohorts: Sequence[str] = (),
    ) -> None:
        self.started = time.monotonic()
        self.behaviour = config.behaviour
        self.job = Job(config.behaviour, {PREDICTIONS.name: self._predicted})
        self.own = self.job.pipeline
        self.variants = {name: Job(behaviour) for name, behaviour in variants.items()}
        with _told_of("--baselines"):
            self.panel = Panel(baselines, config.behaviour, self._servable)
        with _told_of("--by"):
            self.segments = Segments(by)
        self.cohorts = Segments([f"user.{name}" for name in cohorts])
        self.standing = Standing()
        self.names = [OWN, *self.panel.baselines, *self.variants]
        self.tests = Tests(len(self.names))
        self.shown = Shown(len(self.names))
        self.exposure = Exposure(exposure, len(self.names), self._servable)
        self.predictions = {"rating": (array("d"), array("d")), "click": (array("d"), array("d"))}
        self.events = self.unserved = 0
        self._known: set[str] = set()
        self._slates: dict[str, list[list[str]]] = {}  # of each policy, by user
        self._stories: dict[tuple[str, str], int] = {}  # by user and item, the test that the last one began with
        self._positives: dict[str, int] = {}
        self._popularity = np.zeros(START)  # positive interactions by row of the panel's ledger
        self._interactions = 0
        self._vectors = np.zeros((START, DIMENSIONS), np.float32)
        self._described = 0

    def item(self, arrival: Arrival) -> None:
        """Take a record of the items stream; all of them come before the first event."""
        for job in (self.job, *self.variants.values()):
            job.pipeline.item(arrival)
        if self.segments.names or self.exposure.names:
            item = item_of(arrival, self.behaviour)
            if isinstance(item, Item):
                self.segments.item(item)
                self.exposure.item(item)

    def event(self, arrival: Arrival) -> None:
        """Test what an event is a test of, then let every policy learn from it and answer it."""
        self.events += 1
        event = event_of(arrival, self.behaviour)
        if isinstance(event, Reject):
            self.own.event(arrival)
            return
        reward = reward_of(event, self.behaviour.reward)
        accepted = self.job.accept(event, arrival)
        feedback = accepted if isinstance(accepted, Feedback) else None
        choice = reward > 0 if feedback is None else feedback.is_choice
        if event.event_id not in self._known:
            self._known.add(event.event_id)
            if choice:
                self._test(event, feedback)
            elif reward > 0:
                self._go_on(event)
        answer = self.job.answer()
        for job in self.variants.values():
            job.accept(event, arrival)
            job.answer()
        if answer is None:
            return
        if answer.erased:
            self.panel.forget(event.user_id)
        if answer.slate is not None:
            baselines = self.panel.answer(event, reward, k=self.behaviour.slate.size, choice=choice)
            slates = [self.job.slate, *baselines, *(job.slate for job in self.variants.values())]
            self._slates[event.user_id] = slates
            self._show(event, slates, choice)

    def report(self) -> Report:
        """All figures. Raises Failure where there is no test."""
        if not len(self.tests):
            raise Failure(
                f"nothing to judge in {self.events} events: no user has a positive interaction after an event that was "
                "answered; `riverrank check` says what the events hold"
            )
        servable = int(self.own.index.servable[: len(self.own.index.table)].sum())
        own = self.tests.of(0)
        policies: dict[str, PolicyReport] = {}
        differences: dict[str, Against] = {}
        for number, name in enumerate(self.names):
            judged = self.tests.of(number)
            policies[name] = PolicyReport(
                judged.all(), judged.first_5(), judged.from_20th(), judged.last_fifth(),
                self.shown.of(number, servable), judged.curve(),
            )  # fmt: skip
            if number:
                first, first_5 = (own.less(judged, new).hr10 for new in (own.nth < 1, own.nth < NEW_USER))
                less = own.less(judged)
                differences[name] = Against(less.hr10, less.ndcg10, first, first_5)
        ratings, clicks = ((np.array(p), np.array(y)) for p, y in self.predictions.values())
        return Report(
            events=self.events,
            dead_letters=sum(self.own.tally.dead.values()),
            slates=self.own.slates,
            tests=len(self.tests),
            unserved=self.unserved,
            users=self.tests.users,
            servable_items=servable,
            hide=self.behaviour.slate.hide,
            seconds=round(time.monotonic() - self.started, 1),
            policies=policies,
            differences=differences,
            segments={name: self._segments(name) for name in self.segments.names},
            exposure={name: self.exposure.of(name, self.names) for name in self.exposure.names},
            cohorts={name.removeprefix("user."): self._cohorts(name) for name in self.cohorts.names},
            ratings=ratings_of(*ratings, self.behaviour.reward.rate_from),
            clicks=clicks_of(*clicks),
            costs=self._costs(),
            noise=self._noise() or msgspec.UNSET,
        )

    def _noise(self) -> dict[str, Noise]:
        jobs = {OWN: self.job, **self.variants}
        spent = {name: spent for name, job in jobs.items() if (spent := job.spent()) is not None}
        return {
            name: Noise(jobs[name].pipeline.behaviour.noise.epsilon, *windows_and_more)
            for name, windows_and_more in spent.items()
        }

    def _segments(self, by: str) -> list[Segment]:
        """The figures of each value of one segmentation."""
        found: list[Segment] = []
        judged = [self.tests.of(number) for number in range(len(self.names))]
        for value, tests in self.segments.of(by):
            hits = {name: hits_of(each.ranks[tests]) for name, each in zip(self.names, judged, strict=True)}
            others = zip(self.names[1:], judged[1:], strict=True)
            less = {name: judged[0].less(each, tests) for name, each in others}
            found.append(Segment(value, len(tests), hits, less))
        return found

    def _cohorts(self, by: str) -> list[Cohort]:
        judged = {name: self.tests.of(number) for number, name in enumerate(self.names)}
        return cohorts_of(self.cohorts.of(by), judged, self.behaviour.cohorts.users)

    def _costs(self) -> Costs:
        variants = {name: job.cost() for name, job in self.variants.items()}
        return Costs(peak_bytes(), {OWN: self.job.cost(), **self.panel.costs(), **variants})

    def _test(self, event: Event, feedback: Feedback | None) -> None:
        """Look for what was taken on the slates that the user saw last; `feedback` is None for what came too late."""
        user, item = event.user_id, event.item_id or ""
        nth = self._positives.get(user, 0)
        self._positives[user] = nth + 1
        self._stories.pop((user, item), None)
        slates = self._slates.get(user)
        if slates is None:
            self.unserved += 1
            return
        self._stories[user, item] = len(self.tests)
        self.tests.add(user, nth, [items.index(item) + 1 if item in items else MISS for items in slates])
        if self.segments.names or self.cohorts.names:
            row = self.panel.ledger.rows.get(item, -1)
            standing = self.standing.of(row, self._popularity, self._interactions)
            attributes = feedback.attributes if feedback is not None else {}
            for segments in (self.segments, self.cohorts):
                segments.add(Moment(event, nth, attributes, standing))

    def _go_on(self, event: Event) -> None:
        """What goes on with a story is no second test, but the first is of how far it came."""
        test = self._stories.get((event.user_id, event.item_id or ""))
        if test is not None:
            self.segments.retype(test, event.type)

    def _show(self, event: Event, slates: list[list[str]], liked: bool) -> None:
        """Count what is on the slates, once the event itself is counted."""
        ledger, view = self.panel.ledger, self.own.index
        most = self.behaviour.slate.size if self.exposure.names else SHOWN
        rows = np.full((len(slates), max(most, SHOWN)), -1)
        known = ledger.rows
        for place, items in enumerate(slates):
            top = [known[item] if item in known else ledger.row(item) for item in items[:most]]
            rows[place, : len(top)] = top
        taken = ledger.row(event.item_id) if liked and event.item_id is not None else -1
        last = len(ledger) - 1
        self._popularity, self._vectors = grown(self._popularity, last), grown(self._vectors, last)
        for row in range(self._described, len(ledger)):
            if (there := view.row(ledger.ids[row])) >= 0:
                self._vectors[row] = view.content[there]
        self._described = len(ledger)
        if self.exposure.names:
            self.exposure.enter(ledger.ids, event.ts)
            if taken >= 0:
                self.exposure.take(taken, Known(event.ts, self._popularity, self._interactions))
        if taken >= 0:
            self._popularity[taken] += 1
            self._interactions += 1
        if self.exposure.names:
            self.exposure.show(rows, Known(event.ts, self._popularity, self._interactions))
        self.shown.add(rows[:, :SHOWN], self._popularity, self._interactions, self._vectors)

    def _predicted(self, key: str, value: bytes | None) -> None:
        assert value is not None, "only slates have tombstones"
        record = msgspec.json.decode(value, type=Prediction)
        predictions, labels = self.predictions[record.kind]
        predictions.append(record.prediction)
        labels.append(record.label)

    def _servable(self, item_id: str) -> bool:
        view = self.own.index
        row = view.row(item_id)
        return bool(view.servable[row]) if row >= 0 else not self.behaviour.catalogue.strict


def without_each(behaviour: Behaviour, names: Sequence[str]) -> dict[str, Behaviour]:
    """The settings with each of `names` left out: sources of candidates, LEARNER, FLOORS where there are any, or ALL of
    what is on. Raises UsageError where there is none of that name, or nothing would be left.
    """
    others = (LEARNER, *((FLOORS,) if behaviour.fairness.floors else ()))
    off = behaviour.sources.off
    on = [source.name for source in registry.sources_of(behaviour) if source.name not in off]
    if ALL in names:
        names = [*on, *(name for name in others if name != LEARNER or behaviour.learner.rate)]
    changed = {}
    for name in names:
        if name not in (*on, *others):
            raise UsageError(f"--without: expected {ALL}, or some of {', '.join((*others, *on))}; got {name}")
        if on == [name]:
            raise UsageError(
                f"--without: expected two sources or more to leave one out of, sources.off leaves {len(on)} on"
            )
        part: dict[str, Any] = (
            {"learner": msgspec.structs.replace(behaviour.learner, rate=0.0)}
            if name == LEARNER
            else {"fairness": FairnessSettings()}
            if name == FLOORS
            else {"sources": SourceSettings(off=(*off, name))}
        )
        changed[WITHOUT + name] = msgspec.structs.replace(behaviour, **part)
    return changed


@contextmanager
def _told_of(flag: str) -> Iterator[None]:
    """What is no such value is a fault of that flag."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from error


def _made(picture: Path) -> Path:
    """The file for the picture, made now: whoever waited for the end would hear too late that it cannot be."""
    if picture.suffix != ".svg":
        raise UsageError(f"--picture: expected a file that ends in .svg, got {picture}")
    try:
        picture.write_text("", "utf-8")
    except OSError as error:
        raise UsageError(f"--picture: cannot write {picture}: {error.strerror}; mend the path") from error
    return picture


def _watched(path: str) -> Generator[Arrival, None, None]:
    """The records of a file, with a bar of progress on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield from read_lines(path)
        return
    known = path != STANDARD and Path(path).is_file()
    total = sum(1 for _ in read_lines(path)) if known else None
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        yield from progress.track(read_lines(path), total=total, description="events")
