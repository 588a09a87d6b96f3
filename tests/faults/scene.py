"""The scene of every row: a job between topics of its own and a Redis, the events that it was given, and the one
comparison of what came of them with what `replay` makes of them.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from kafka import KafkaConsumer, TopicPartition
from riverrank.jobs.dev import services
from riverrank.state.event_types import ANSWERED
from shop_events import CATALOGUE, USERS, Expected, expected, stream
from streams import (
    TIMEOUT_SECONDS,
    Answers,
    Record,
    alone,
    answers,
    cached,
    job_of,
    received,
    send,
    topics,
    wait_until,
)

SHOWN = 3  # differences that a message shows
MOST_FAILURES = 1_000  # that Flink is to remember of a job
# Nothing is broadcast, and no list is closed by the wall clock: that is a feedback of its own, after which weights are
# rounded to what is stored once more than by replay, where the user's next event closes it.
SETTINGS = f'{alone()}\n[impression]\nwindow = "2h"'


def fault(what: str, *, short: bool = False, long: bool = False) -> pytest.MarkDecorator:
    """The row of the table that a test is. A short one is run by `make test` too, a long one by --faults-long only."""
    return pytest.mark.fault(what, short=short, long=long)


class Compared(NamedTuple):
    """Committed slates that came; how many users' last answer is equal, how many answers are, how many users Redis has
    at their last version; dead letters; and what is wrong in words.
    """

    slates: int
    learners: int
    answers: int
    last: int
    letters: int
    wrong: list[str]


class Seen(NamedTuple):
    """What was seen of a row that holds, beside how many events of how many users there were, and answers wanted."""

    events: int
    users: int
    wanted: int
    found: Compared
    restarts: int
    note: str = ""

    def since(self, before: "Seen") -> "Seen":
        """This less what was seen before; users and what Redis has are all there are."""
        found, earlier = self.found, before.found
        return self._replace(
            events=self.events - before.events,
            wanted=self.wanted - before.wanted,
            restarts=self.restarts - before.restarts,
            found=found._replace(
                slates=found.slates - earlier.slates,
                answers=found.answers - earlier.answers,
                letters=found.letters - earlier.letters,
            ),
        )


class Services(NamedTuple):
    """What rows share: the processes, the job's code as it is submitted, and a folder of the row's own."""

    cluster: services.FlinkCluster
    broker: services.KafkaBroker
    valkey: services.Valkey
    zipped: Path
    folder: Path


def parts(lines: Sequence[str], count: int) -> list[Sequence[str]]:
    """The lines in `count` portions one after another."""
    size = -(-len(lines) // count)
    return [lines[at : at + size] for at in range(0, len(lines), size)]


class Scene:
    """Topics of that name, a configuration, and what is driven through them."""

    def __init__(
        self,
        on: Services,
        name: str,
        *,
        delivery: str = "at-least-once",
        prefix: str = "",
        url: str = "",
        items: Sequence[str] = CATALOGUE,
    ) -> None:
        """`url` is where the job finds Redis, unless that is where it is; `items` are sent before the job comes."""
        self.on, self.name, self.items = on, name, [*items]
        self.prefix = prefix or f"{name}:"
        self.is_exact = delivery == "exactly-once"
        self.url = url or on.valkey.url
        lines = (
            f'delivery = "{delivery}"',
            f'transaction_prefix = "{name}"',
            f'[redis]\nprefix = "{self.prefix}"',
            SETTINGS,
        )
        self.settings = topics(on.broker, on.folder, name, *lines)
        send(on.broker, f"{name}-items", items, key="item_id")
        self.given: list[str | bytes | None] = []
        self.letters: list[Record] = []
        self.jobs: list[str] = []
        self.restarts_by_hand = 0
        self.is_sound = True  # until a row begins, and from when it holds
        self._streams = 0
        self.awaited: set[str] = set()  # ids of events of this row that are answered
        self._before = Seen(0, 0, 0, Compared(0, 0, 0, 0, 0, []), 0)

    def stream(self, count: int, users: int = USERS) -> list[str]:
        """The next part of the known stream, hours after the last."""
        self._streams += 1
        return stream(count, self._streams, users)

    def submit(self, *flags: object, parallelism: int = 1) -> str:
        """Submit the job, and wait until it runs; its id."""
        given = job_of(self.on.zipped, "--config", self.settings, "--redis", self.url)
        job = self.on.cluster.run("-p", parallelism, *flags, *given)
        self.jobs.append(job)
        self.on.cluster.wait_for(job)
        return job

    def resubmit(self, state: str, parallelism: int = 1) -> str:
        """Submit it anew in place of those before, from a savepoint or a checkpoint."""
        self.jobs.clear()
        self.restarts_by_hand += 1
        return self.submit("-s", state, parallelism=parallelism)

    def give(self, lines: Iterable[str | bytes | None]) -> None:
        """Send events; a line of bytes, or none, goes without a key."""
        given = [*lines]
        send(self.on.broker, f"{self.name}-events", given, key="user_id")
        self.given += given
        events = [json.loads(line) for line in given if isinstance(line, str)]
        self.awaited |= {event["event_id"] for event in events if event["type"] in ANSWERED}

    def came(self) -> int:
        """How many records the topic of slates holds, of transactions that are open too."""
        consumer = KafkaConsumer(bootstrap_servers=self.on.broker.bootstrap, enable_auto_commit=False)
        partitions = [TopicPartition(f"{self.name}-slates", number) for number in range(2)]
        count = sum(consumer.end_offsets(partitions).values())
        consumer.close()
        return count

    def wait_for_answers(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Wait until all that was given in this row, of types that are answered, has its slate on the topic."""

        def are_there() -> bool:
            if self.came() < len(self.awaited):
                return False
            slates = (json.loads(value) for _, value in received(self.on.broker, f"{self.name}-slates"))
            return self.awaited <= {slate["trigger"] for slate in slates}

        wait_until(are_there, timeout_seconds, every=0.5)

    def restarts(self) -> int:
        """How often Flink started the jobs anew, by failures: its metrics stand still while a TaskManager does."""
        paths = [f"/jobs/{job}/exceptions?maxExceptions={MOST_FAILURES}" for job in self.jobs]
        return sum(len(self.on.cluster.rest(path)["exceptionHistory"]["entries"]) for path in paths)

    def wait_for_restart(self, count: int) -> None:
        """Wait until the job was started anew that often, and runs."""
        wait_until(lambda: self.restarts() >= count)
        for job in self.jobs:
            self.on.cluster.wait_for(job)

    def checkpoints(self, job: str) -> tuple[int, int]:
        """How many checkpoints of the job there were: completed ones, failed ones."""
        counts = self.on.cluster.rest(f"/jobs/{job}/checkpoints")["counts"]
        return counts["completed"], counts["failed"]

    def wait_for_checkpoint(self, job: str) -> None:
        """Wait until one is complete that began after this."""
        completed, _ = self.checkpoints(job)
        wait_until(lambda: self.checkpoints(job)[0] >= completed + 2)

    def finish(self, timeout_seconds: float = TIMEOUT_SECONDS, *, note: str = "") -> Seen:
        """What was seen since the last call, once all since the beginning is as `replay` has it, beside dead letters
        that `letters` names: topic (events or items), reason and raw.

        Raises:
            AssertionError: it is not so within that time; the message holds the first differences.
        """
        wanted = expected(self.on.folder, [line for line in self.given if line is not None], self.items, SETTINGS)
        wanted = wanted._replace(letters=[*wanted.letters, *self.letters])
        amiss = unanswered((line for line in self.given if isinstance(line, str)), wanted)
        assert not amiss, f"{len(amiss)} differences between replay and what was given, of which {amiss[:SHOWN]}"
        deadline = time.monotonic() + timeout_seconds
        while (found := self.compare(wanted)).wrong and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not found.wrong, f"{len(found.wrong)} differences from replay, of which {found.wrong[:SHOWN]}"
        answered, restarts = sum(map(len, wanted.answers.values())), self.restarts() + self.restarts_by_hand
        now, before = Seen(len(self.given), len(wanted.answers), answered, found, restarts), self._before
        self._before, self.awaited, self.is_sound = now, set(), True
        return now.since(before)._replace(note=note)

    def compare(self, wanted: Expected) -> Compared:
        """What is in Redis and in the topics beside what is wanted. As long as Redis is behind, only that is told."""
        last = {user: history[-1][0] for user, history in wanted.answers.items()}
        held = cached(self.on.valkey, last, self.prefix)
        if behind := [
            f"Redis has {user} at {held[user]}, not {last[user]}" for user in last if held[user] != last[user]
        ]:
            return Compared(0, 0, 0, len(last) - len(behind), 0, behind)
        committed = received(self.on.broker, f"{self.name}-slates", isolation_level="read_committed")
        given = answers((json.loads(value) for _, value in committed), whole=True)
        letters = received(self.on.broker, f"{self.name}-dead-letters", isolation_level="read_committed")
        placed = _distinct([_placed(json.loads(value)) for _, value in letters], self.is_exact)
        distinct = {user: _distinct(history, self.is_exact) for user, history in given.items()}
        pairs = [(distinct.get(user, []), history) for user, history in wanted.answers.items()]
        wrong = [
            *differing(distinct, wanted.answers),
            *self._other_bytes(last, {value for _, value in committed}),
            *differing_letters(placed, wanted.letters),
        ]
        return Compared(
            len(committed),
            sum(there[-1:] == history[-1:] for there, history in pairs),
            sum(one == other for there, history in pairs for one, other in zip(there, history, strict=False)),
            len(last),
            len(placed),
            wrong,
        )

    def end(self) -> None:
        """Cancel the jobs, those that run still."""
        while self.jobs:
            job = self.jobs.pop()
            if self.on.cluster.status(job) not in ("CANCELED", "FAILED", "FINISHED"):
                self.on.cluster.cancel(job)

    def _other_bytes(self, users: Iterable[str], values: set[bytes]) -> list[str]:
        """The users whose slate in Redis is not one on the topic, byte for byte."""
        names = [*users]
        with redis.Redis.from_url(self.on.valkey.url) as client, client.pipeline(transaction=False) as pipeline:
            for user in names:
                pipeline.hget(f"{self.prefix}slate:{user}", "slate")
            held = zip(names, pipeline.execute(), strict=True)
        return [f"Redis has another slate of {user} than the topic" for user, slate in held if slate not in values]


def _distinct(things: list[Any], is_exact: bool) -> list[Any]:
    """Each where it came first; all as they came where nothing may come again."""
    return things if is_exact else [*dict.fromkeys(things)]


def _placed(letter: Record) -> tuple[Any, ...]:
    """A dead letter with the place of its record: one that comes again is of the same."""
    return letter["topic"], letter["partition"], letter["offset"], letter["reason"], letter["raw"]


def differing(given: Answers, wanted: Answers) -> list[str]:
    """Where answers, each where it came first, are not those wanted. None: versions grow by one, nothing is missing,
    and what came again was the same to the last digit.
    """
    wrong = [f"{user} has slates, and none are wanted" for user in given.keys() - wanted.keys()]
    for user, history in wanted.items():
        there = given.get(user, [])
        if there != history:
            at = next((at for at, pair in enumerate(zip(there, history, strict=False)) if pair[0] != pair[1]), -1)
            what = f"at {at} {_short(there[at])} for {_short(history[at])}" if at >= 0 else "as far as they go equal"
            wrong.append(f"{user} has {len(there)} answers of {len(history)}: {what}")
    return wrong


def unanswered(lines: Iterable[str], wanted: Expected) -> list[str]:
    """Where `wanted` itself is amiss, as replay is of the same code: each event of a type that is answered, and that is
    no dead letter, is to have one slate, however often it was given.
    """
    refused = {letter["raw"] for letter in wanted.letters}
    events = [json.loads(line) for line in lines if line not in refused]
    asked = {event["event_id"] for event in events if event["type"] in ANSWERED}
    had = Counter(trigger for history in wanted.answers.values() for _, trigger, *_ in history)
    return [f"{name} is answered {had[name]} times" for name in asked | had.keys() if had[name] != (name in asked)]


def differing_letters(placed: Iterable[tuple[Any, ...]], wanted: Iterable[Record]) -> list[str]:
    """Where dead letters are not those wanted, by stream, reason and raw."""
    there = Counter((topic.rpartition("-")[2], reason, raw) for topic, _, _, reason, raw in placed)
    named = Counter((letter["topic"], letter["reason"], letter["raw"]) for letter in wanted)
    if there == named:
        return []
    missing, others = [*(named - there).elements()], [*(there - named).elements()]
    return [f"dead letters: {len(missing)} missing, as {_short(missing)}, {len(others)} others, as {_short(others)}"]


def _short(what: Any) -> str:
    return repr(what)[:160]
