"""Small savepoints of each version, which every later one must restore. `PYTHONPATH=tests python FILE` makes those of
the present version; once it is released they are never made again.

A savepoint is of one job and its topics. Of `alone` nothing was broadcast; of `told` every operator holds what it
learned. Both hold slates that wait for a Redis that is away. Beside each stands what is needed to go on from it: how
its stream was made, and what was answered before it and to the events after it.
"""

import hashlib
import json
import lzma
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
from golden_files import GOLDEN
from riverrank.jobs.dev import bundle, services
from riverrank.state.event_types import ANSWERED
from shop_events import CATALOGUE, START_MS, expected, stream
from shop_pipeline import ALONE
from streams import Answers, Record, answers, job_of, lines, received, send, tables, topics, wait_until

Tables = dict[str, dict[str, Any]]

SAVEPOINTS = GOLDEN / "savepoints"
LASTS = ('state_ttl = "36500d"',)  # by the wall clock, which a later version's is far on
INLINE = {"execution.checkpointing.data-inline-threshold": "1 mb"}  # all of it in one file
# Narrow tables, and a net that keeps few choices, make a small savepoint.
TOLD: Tables = {
    "signals": {"neighbours": 8},
    "embedding": {"dimensions": 8},
    "autoencoder": {"items": 24},
    "ranker": {"warmup_events": 30, "sample": 0.0},
    "history": {"size": 20},
}
SHAPES = {"alone": ALONE, "told": TOLD}
STREAMS = (160, 1, 30), (24, 2, 30), (120, 3, 24)
# Whoever keeps a log of events makes it short then, and dumps what was learned.
ERASURE: Record = {"event_id": "gone", "type": "erase", "user_id": "u0", "ts": START_MS + 10_900_000}


class Kept(msgspec.Struct, frozen=True):
    """What stands beside a savepoint. `streams` are the arguments of `shop_events.stream`: those before it, those whose
    slates wait for Redis, and those after it. By user, `before` and `after` have of each slate its version, what it
    answers, the examples learned from, and the digest of its items; `replayed` is the digest of what replay answered
    to all.
    """

    streams: tuple[tuple[int, int, int], ...]
    events: str
    before: dict[str, list[tuple[int, str, int, str]]]
    after: dict[str, list[tuple[int, str, int, str]]]
    replayed: str

    def stretches(self, kind: str) -> list[list[Record]]:
        """The events of each of the streams. Raises ValueError where they are made otherwise by now."""
        made = stretches(kind, self.streams)
        if digest_of(made) != self.events:
            raise ValueError(
                "shop_events.stream makes other events now: it is to make what it made, with other arguments"
            )
        return made


def stretches(kind: str, streams: Sequence[tuple[int, int, int]]) -> list[list[Record]]:
    """The events of each of the streams."""
    first, *others = ([json.loads(line) for line in stream(*each)] for each in streams)
    return [[*first, ERASURE] if kind == "told" else first, *others]


def digest_of(thing: Any) -> str:
    """Of its JSON."""
    return hashlib.sha256(json.dumps(thing).encode()).hexdigest()


def digested(by_user: Answers) -> dict[str, list[tuple[int, str, int, str]]]:
    """`answers`, whole, with a digest of the items."""
    return {user: [(*of[:3], digest_of(of[3])[:16]) for of in by_user[user]] for user in sorted(by_user)}


def replayed(kind: str, events: list[Record], folder: Path) -> Answers:
    """What replay answers, which nothing interrupts, with the settings that the savepoint was made with."""
    return expected(folder, lines(events), settings=tables(SHAPES[kind])).answers


class KeptRun:
    """The job of a kind and version on a cluster: its topics, and its settings as the savepoint was `made`, and so that
    it is `quiet`, with nothing broadcast: what is answered then does not depend on which of two threads is first.
    """

    def __init__(
        self, version: str, kind: str, cluster: services.FlinkCluster, broker: services.KafkaBroker, folder: Path
    ) -> None:
        self.name, self.kind = f"kept-{version}-{kind}", kind
        self.cluster, self.broker, self.folder = cluster, broker, folder
        bundle.bundle(folder / "riverrank.zip")
        self.made = topics(broker, folder, self.name, tables(SHAPES[kind]), job=LASTS)
        self.quiet = folder / "quiet.toml"
        shape = {table: {**SHAPES[kind].get(table, {}), **ALONE.get(table, {})} for table in {**SHAPES[kind], **ALONE}}
        self.quiet.write_text(self.made.read_text().replace(tables(SHAPES[kind]), tables(shape)))
        send(broker, f"{self.name}-items", CATALOGUE)

    def send(self, events: list[Record]) -> None:
        send(self.broker, f"{self.name}-events", lines(events), key="user_id")

    def submit(self, settings: Path, redis: str, *flags: object) -> str:
        """Submit the job with these settings; its id, once it runs."""
        job = job_of(self.folder / "riverrank.zip", "--config", settings, "--redis", redis)
        job_id = self.cluster.run(*flags, *job)
        self.cluster.wait_for(job_id)
        return job_id

    def answers(self) -> Answers:
        """All that there are, whole."""
        committed = received(self.broker, f"{self.name}-slates", isolation_level="read_committed")
        return answers([json.loads(value) for _, value in committed if value], whole=True)  # but for tombstones

    def answered(self, number: int) -> Answers:
        """All answers, once there are so many."""
        wait_until(lambda: sum(map(len, self.answers().values())) >= number)
        return self.answers()


def answers_to(events: list[Record], by_user: Answers) -> Answers:
    """Those that answer these events, of users who have some."""
    triggers = {event["event_id"] for event in events}
    found = {user: [answer for answer in history if answer[1] in triggers] for user, history in by_user.items()}
    return {user: history for user, history in found.items() if history}


def answered_of(events: list[Record]) -> int:
    """How many of distinct events, all in time, are answered."""
    return sum(event["type"] in ANSWERED for event in events)


def unpacked(version: str, kind: str, folder: Path) -> Path:
    """The savepoint, in that folder."""
    with tarfile.open(SAVEPOINTS / version / f"{kind}.tar.xz", "r:xz") as archive:
        archive.extractall(folder / "savepoint", filter="data")
    return folder / "savepoint"


def kept_of(version: str, kind: str) -> Kept:
    return msgspec.json.decode(lzma.decompress((SAVEPOINTS / version / f"{kind}.json.xz").read_bytes()), type=Kept)


def pack(folder: Path, target: Path) -> None:
    """The files of the folder, whoever they are of, and whenever they were written."""
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for path in sorted(folder.iterdir()):
            of_file = tarfile.TarInfo(path.name)
            of_file.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(of_file, file)


def make(version: str, kind: str, cluster: services.FlinkCluster, broker: services.KafkaBroker, folder: Path) -> None:
    """Make the savepoint of that kind, and what stands beside it."""
    first, waiting, second = made = stretches(kind, STREAMS)
    run = KeptRun(version, kind, cluster, broker, folder)
    with services.Valkey() as valkey:
        run.send(first)
        job = run.submit(run.made, valkey.url, "-p", 1)
        run.answered(answered_of(first))
        valkey.stop()
        run.send(waiting)
        before = run.answered(answered_of([*first, *waiting]))
        location = Path(cluster.stop_with_savepoint(job, folder / "savepoints").removeprefix("file:"))
        valkey.start()
        run.send(second)
        job = run.submit(run.quiet, valkey.url, "-p", 1, "-s", location)
        run.answered(answered_of([*first, *waiting, *second]))
        after = answers_to(second, run.answers())
        cluster.cancel(job)
    events = [*first, *waiting, *second]
    whole = digest_of(digested(replayed(kind, events, folder)))
    kept = Kept(STREAMS, digest_of(made), digested(before), digested(after), whole)
    target = SAVEPOINTS / version
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{kind}.json.xz").write_bytes(lzma.compress(msgspec.json.encode(kept)))
    pack(location, target / f"{kind}.tar.xz")
    print(f"{kind}: {sum(path.stat().st_size for path in target.glob(f'{kind}.*'))} bytes")


def main() -> None:
    """Make all savepoints of the present version that are not there."""
    version = metadata.version("riverrank")
    with services.FlinkCluster(taskmanagers=2, conf=INLINE) as cluster, services.KafkaBroker() as broker:
        for kind in sys.argv[1:] or SHAPES:
            if (SAVEPOINTS / version / f"{kind}.tar.xz").exists():
                raise SystemExit(f"{version}, {kind} is there: what was released is not made again")
            with tempfile.TemporaryDirectory() as folder:
                make(version, kind, cluster, broker, Path(folder))


if __name__ == "__main__":
    main()
