"""`riverrank check`: what the inputs hold, before a job reads them. How many records would be dead letters and why,
and which items events name that the catalogue lacks. Each event goes through SESSION's own logic, so late is late.
"""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime

import msgspec
from riverrank.jobs.config.preflight import broker_errors, check_topic
from riverrank.jobs.config.schema import Config, each_rule
from riverrank.jobs.local.pipeline import Intake
from riverrank.jobs.local.reading import STANDARD, read
from riverrank.operators.arms import arms_of
from riverrank.operators.catalogue.tokens import token_of, tokens_of
from riverrank.operators.flink.arrivals import Arrival, event_of, item_of
from riverrank.operators.session.session import reward_of, within_scale
from riverrank.operators.settings import Behaviour, RewardSettings
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.records.decoding import Reject
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.printable import printable

EXAMPLES = 5
YEAR_MS = 365 * 86_400_000


class Rejected(msgspec.Struct):
    """The records of one reason, with the first of them."""

    count: int
    where: str
    detail: str


class Sampled(msgspec.Struct):
    """What an input holds. `complete`: it was read to its present end."""

    origin: str
    is_topic: bool
    records: int = 0
    complete: bool = True
    dead_letters: dict[str, Rejected] = {}


class UnknownItems(msgspec.Struct):
    """Items that events name and the catalogue lacks or says are deleted: how many, in how many events, the first."""

    items: int
    events: int
    examples: list[str]


class Times(msgspec.Struct):
    """The oldest and the newest event time, in epoch milliseconds, and how many events are older than the one that
    stands before them.
    """

    oldest: int
    newest: int
    backwards: int = 0


class Rated(msgspec.Struct):
    """Ratings: how many, of these outside the scale that is set, and how many count as positive."""

    ratings: int = 0
    outside: int = 0
    positive: int = 0


class Findings(msgspec.Struct):
    """Both inputs. `unknown_items` is None where the catalogue was not read to its end; `idle` are rules and floors,
    each by what it names, that no item of a catalogue that was has anything to do with.
    """

    events: Sampled | None = None
    items: Sampled | None = None
    times: Times | None = None
    rated: Rated = msgspec.field(default_factory=Rated)
    types: dict[str, int] = {}
    users: int = 0
    redeliveries: int = 0
    unknown_items: UnknownItems | None = None
    idle: list[str] = []


def sample(config: Config, most: int) -> Findings:
    """Read up to `most` records of each input, and judge them as the job would. Writes nothing anywhere."""
    findings = Findings()
    catalogue: dict[str, Item] = {}
    if origin := _origin(config, "items"):
        findings.items = Sampled(*origin)
        for arrival in _limited(config, "items", most, findings.items):
            item = item_of(arrival, config.behaviour)
            if isinstance(item, Reject):
                _reject(findings.items, arrival, item)
            elif item.item_id not in catalogue or catalogue[item.item_id].ts <= item.ts:
                catalogue[item.item_id] = item
        if findings.items.complete:
            findings.idle = _idle(config.behaviour, catalogue.values())
    if origin := _origin(config, "events"):
        findings.events = Sampled(*origin)
        named = _judge_events(config, most, findings, findings.events)
        if findings.items and findings.items.complete:
            known = {item_id for item_id, item in catalogue.items() if not item.deleted}
            unknown = {item_id: count for item_id, count in named.items() if item_id not in known}
            findings.unknown_items = UnknownItems(len(unknown), sum(unknown.values()), list(unknown)[:EXAMPLES])
    return findings


def describe(findings: Findings) -> list[str]:
    """The findings as lines to read."""
    lines = []
    for name, sampled in (("events", findings.events), ("items", findings.items)):
        if sampled is None:
            lines.append(f"{name}: no input is configured")
            continue
        extent = "" if sampled.complete else " read of more (--sample N reads more)"
        lines.append(f"{name}: {sampled.records} records in {sampled.origin}{extent}")
        if name == "events" and findings.types:
            types = ", ".join(f"{count} {type_}" for type_, count in sorted(findings.types.items()))
            lines.append(f"  {findings.users} users, {types}")
        if name == "events" and findings.times:
            lines += _told_times(findings.times, sampled.records)
        if name == "events":
            lines += _told_ratings(findings.rated)
        if name == "events" and findings.redeliveries:
            lines.append(f"  {findings.redeliveries} redeliveries, or from before an erasure: these do nothing")
        lines.append(f"  {sum(r.count for r in sampled.dead_letters.values())} would be dead letters")
        for reason, rejected in sorted(sampled.dead_letters.items()):
            lines.append(f"    {rejected.count} {reason}; the first, {rejected.where}: {rejected.detail}")
    if unknown := findings.unknown_items:
        named = f", such as {', '.join(unknown.examples)}" if unknown.examples else ""
        lines.append(f"{unknown.items} items that {unknown.events} events name are not in the catalogue{named}")
    elif findings.events and findings.items:
        lines.append("whether the catalogue lacks items is not known: it was not read to its end (--sample N)")
    lines += [
        f"no item is {rule}, which [rules], [fairness] or an arm names: see how it is spelt" for rule in findings.idle
    ]
    return [printable(line) for line in lines]


def _idle(behaviour: Behaviour, items: Iterable[Item]) -> list[str]:
    """What rules and floors of any arm name, and none of `items` has."""
    named: dict[str, None] = {}  # each once, in order
    for arm in arms_of(behaviour).values():
        named |= dict.fromkeys([*(rule for _, rule in each_rule(arm.rules)), *arm.fairness.floors])
    held = {token for item in items if not item.deleted for token in tokens_of(item)}
    return [rule for rule in named if token_of(rule) not in held]


def _told_times(times: Times, records: int) -> list[str]:
    lines = [f"  times from {_day(times.oldest)} to {_day(times.newest)}"]
    if times.newest < YEAR_MS:
        lines.append("  all of them lie in 1970: are these seconds? ts is in milliseconds since 1970")
    elif times.oldest < YEAR_MS:
        lines.append("  some of them lie in 1970: are these seconds, or missing? ts is in milliseconds since 1970")
    if 2 * times.backwards > records:
        lines.append(
            f"  {times.backwards} events are older than the one before them: the input is in reverse order; sort it by "
            "ts, or most are late"
        )
    return lines


def _told_ratings(rated: Rated) -> list[str]:
    lines = []
    if rated.outside:
        lines.append(
            f"  {rated.outside} of {rated.ratings} ratings are outside reward.rate_least to reward.rate_most, and "
            "taken for the nearer one: set both, and reward.rate_from, to your scale"
        )
    if rated.ratings and rated.positive in (0, rated.ratings):
        which = "none" if rated.positive == 0 else "each"
        lines.append(f"  of {rated.ratings} ratings {which} reaches reward.rate_from: set it to where a like begins")
    return lines


def _day(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _judge_events(config: Config, most: int, findings: Findings, sampled: Sampled) -> dict[str, int]:
    """Each event through SESSION; how many events name each item."""
    intake = Intake(config.behaviour)
    users: set[str] = set()
    named: dict[str, int] = {}
    before = 0
    for arrival in _limited(config, "events", most, sampled):
        event = event_of(arrival, config.behaviour)
        if isinstance(event, Reject):
            _reject(sampled, arrival, event)
            continue
        times = findings.times = findings.times or Times(event.ts, event.ts)
        times.oldest, times.newest = min(times.oldest, event.ts), max(times.newest, event.ts)
        times.backwards += event.ts < before
        before = event.ts
        _note_rating(findings.rated, event, config.behaviour.reward)
        users.add(event.user_id)
        accepted = intake.accept(event)
        if accepted.reject is not None:
            _reject(sampled, arrival, accepted.reject)
        elif accepted.feedback is None:
            findings.redeliveries += 1
        else:
            findings.types[event.type] = findings.types.get(event.type, 0) + 1
            for item_id in _items_of(event):
                named[item_id] = named.get(item_id, 0) + 1
    findings.users = len(users)
    return named


def _note_rating(rated: Rated, event: Event, settings: RewardSettings) -> None:
    if EVENT_TYPES[event.type].is_rating:
        rated.ratings += 1
        rated.outside += within_scale(event, settings) is not event
        rated.positive += reward_of(event, settings) > 0


def _items_of(event: Event) -> set[str]:
    return {*(event.items or ()), *(() if event.item_id is None else (event.item_id,))}


def _reject(sampled: Sampled, arrival: Arrival, reject: Reject) -> None:
    if reject.reason in sampled.dead_letters:
        sampled.dead_letters[reject.reason].count += 1
    else:
        where = (
            f"partition {arrival.partition}, offset {arrival.offset}" if sampled.is_topic else f"line {arrival.offset}"
        )
        sampled.dead_letters[reject.reason] = Rejected(1, where, reject.detail)


def _origin(config: Config, name: str) -> tuple[str, bool] | None:
    """Where an input comes from, and whether that is a topic; None where there is no such input."""
    path, topic = getattr(config.files, name), getattr(config.kafka, name)
    if path:
        return ("standard input" if path == STANDARD else path), False
    return (f"topic {topic}", True) if config.kafka.bootstrap and topic else None


def _limited(config: Config, name: str, most: int, sampled: Sampled) -> Iterator[Arrival]:
    """At most `most` records of an input. Lines of a file and offsets count from 0."""
    if sampled.is_topic:
        check_topic(config.kafka, getattr(config.kafka, name))
    with broker_errors(config.kafka) if sampled.is_topic else nullcontext():
        for arrival in read(config, name):
            if sampled.records == most:
                sampled.complete = False
                return
            sampled.records += 1
            yield arrival
