"""From an event in Kafka to its slate in Redis: how long it takes, at a steady rate, on real services of this machine.

    python -m riverrank.jobs.dev.latency [--rate 200] [--warm 30] [--seconds 40] [--empty] [--json]

The clock starts when the producer is handed the event, and stops when the server takes the write: Redis says so itself
(MONITOR, with its own time stamps), so that nothing that looks on is measured. The job checkpoints meanwhile. Before
what is measured comes half a minute at the same rate, whose 99th percentile is told by itself: Java reads its first
checkpoints' code, byte after byte of them, before it compiles it.
`--empty` measures the job without its logic as well (`benchmarks.flink.empty`), in turns: what is left is Flink, the
broker and Redis.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from riverrank.jobs.processes import OwnedProcess, ServiceError
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import to_json
from riverrank.state.runtime.durations import milliseconds

from .benchmarks.streams import shop_stream
from .services import KafkaBroker, Valkey

RATE, WARM, SECONDS, ROUNDS = 200, 30, 40, 1
START_SECONDS = 400.0
JOBS = {"job": ("riverrank.jobs.cli", "run"), "empty": ("riverrank.jobs.dev.benchmarks.flink.empty",)}
CONFIG = """
[job]
checkpoint_every = "{checkpoint_every}"
[kafka]
bootstrap = "{bootstrap}"
receipts = ""
[redis]
url = "{redis}"
"""
WRITE = re.compile(rb'\+(\d+\.\d+) \[[^\]]*\] "EVALSHA" "\w+" "1" "rr:slate:([^"]+)" "\d+" "(\d+)"')


@dataclass(frozen=True)
class Latency:
    """Milliseconds from Kafka to Redis of one run; `warming` is the 99th percentile before what was measured.
    `superseded` slates were never written: a newer one was, before.
    """

    job: str
    rate: float
    slates: int
    superseded: int
    warming: float
    p50: float
    p90: float
    p99: float
    highest: float


def measure(
    job: str, rate: int = RATE, seconds: int = SECONDS, checkpoint_every: str = "10s", warm: int = WARM
) -> Latency:
    """Start the services and the job (a name in `JOBS`), send `rate` events a second, and see the slates arrive; those
    of the first `warm` seconds are not measured.

    Raises:
        ServiceError: a service or the job failed, or slates are missing; the message holds the end of the log.
    """
    items, events = shop_stream(rate * (warm + seconds))
    with KafkaBroker() as broker, Valkey() as valkey, tempfile.TemporaryDirectory(prefix="riverrank-latency-") as name:
        for topic in ("events", "items", "slates", "dead-letters"):
            broker.create_topic(topic)
        folder = Path(name)
        settings = {"bootstrap": broker.bootstrap, "redis": valkey.url, "checkpoint_every": checkpoint_every}
        (folder / "config.toml").write_text(CONFIG.format(**settings), "utf-8")
        command = [sys.executable, "-m", *JOBS[job], "--config", "config.toml"]
        process = OwnedProcess(job, command, folder / "log")
        with Watch(valkey.port) as watch:
            try:
                _send_items(broker, items)
                process.start()
                return _measured(job, process, broker, watch, events, rate, warm)
            finally:
                process.stop()


class Watch:
    """Reads what is written to a Valkey, as it says itself: time by user and version."""

    def __init__(self, port: int) -> None:
        self.seen: list[tuple[float, str, int]] = []
        self.newest: dict[str, int] = {}
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._read, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._socket.sendall(b"MONITOR\r\n")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                if found := WRITE.match(line):
                    user, version = found[2].decode(), int(found[3])
                    self.seen.append((float(found[1]), user, version))
                    self.newest[user] = max(version, self.newest.get(user, 0))


def summarised(
    job: str, sent: Sequence[tuple[float, str, int]], seen: Sequence[tuple[float, str, int]], warm: int = 0
) -> Latency:
    """Latencies of what was sent, (time, user, version) each, from what was seen; the first `warm` are told of apart.
    Raises `ServiceError` on a loss.

    >>> summarised("job", [(1.0, "u", 1), (2.0, "u", 2)], [(2.5, "u", 2)]).superseded
    1
    """
    written: dict[str, list[tuple[int, float]]] = {}
    for at, user, version in seen:
        written.setdefault(user, []).append((version, at))
    waits, superseded = [], 0
    for number, (at, user, version) in enumerate(sent):
        found = next(((v, then) for v, then in written.get(user, ()) if v >= version), None)
        if found is None:
            raise ServiceError(f"slate {version} of {user} never came to Redis")
        superseded += number >= warm and found[0] > version
        waits.append(1000 * (found[1] - at))
    rate = (len(sent) - warm - 1) / max(sent[-1][0] - sent[warm][0], 1e-9)
    first, waits = waits[:warm], waits[warm:]
    warming = round(float(np.percentile(first, 99)), 1) if first else 0.0
    p50, p90, p99 = np.percentile(waits, [50, 90, 99]).round(1).tolist()
    return Latency(job, round(rate, 1), len(waits), superseded, warming, p50, p90, p99, round(max(waits), 1))


def _measured(
    job: str, process: OwnedProcess, broker: KafkaBroker, watch: Watch, events: list[Event], rate: int, warm: int
) -> Latency:
    from kafka import KafkaProducer  # noqa: PLC0415 (slow to import)

    versions: dict[str, int] = {}
    sent: list[tuple[float, str, int]] = []
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=0)) as producer:

        def send(event: Event) -> None:
            versions[event.user_id] = versions.get(event.user_id, 0) + 1
            sent.append((time.time(), event.user_id, versions[event.user_id]))
            producer.send("events", to_json(event), event.user_id.encode())

        send(events[0])
        process.wait_until(lambda: bool(watch.seen), START_SECONDS)
        began = time.perf_counter()
        for number, event in enumerate(events[1:]):
            ahead = began + number / rate - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            send(event)
        producer.flush()
    process.wait_until(lambda: watch.newest == versions, START_SECONDS)
    return summarised(job, sent, watch.seen, rate * warm)


def _send_items(broker: KafkaBroker, items: Sequence[Item]) -> None:
    from kafka import KafkaProducer  # noqa: PLC0415 (slow to import)

    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap)) as producer:
        for item in items:
            producer.send("items", to_json(item), item.item_id.encode())
        producer.flush()


def table(found: Sequence[Latency]) -> str:
    """What is printed."""
    head = f"{'':<8}{'events/s':>9}{'slates':>8}{'p50':>8}{'p90':>8}{'p99':>8}{'max':>8}{'warming':>9}{'replaced':>9}"
    lines = [
        f"{each.job:<8}{each.rate:>9.0f}{each.slates:>8}{each.p50:>8.1f}{each.p90:>8.1f}{each.p99:>8.1f}"
        f"{each.highest:>8.1f}{each.warming:>9.1f}{each.superseded:>9}"
        for each in found
    ]
    told = "milliseconds from an event in Kafka to its slate in Redis; warming: p99 before what is measured"
    return "\n".join([head, *lines, "", told])


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag that is a whole number of at least `least`."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return int(text)

    return number


def checkpoint_interval(text: str) -> str:
    """The type of a flag that is a duration of at least a millisecond."""
    try:
        if milliseconds(text) > 0:
            return text
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    raise argparse.ArgumentTypeError(f"expected a duration of at least 1ms, got {text!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m riverrank.jobs.dev.latency", description="From Kafka to Redis.")
    parser.add_argument("--rate", type=at_least(1), default=RATE, metavar="N", help=f"events a second; default {RATE}")
    parser.add_argument(
        "--warm", type=at_least(0), default=WARM, metavar="S", help=f"before what is measured; default {WARM}"
    )
    parser.add_argument(
        "--seconds", type=at_least(1), default=SECONDS, metavar="S", help=f"measured; default {SECONDS}"
    )
    parser.add_argument("--rounds", type=at_least(1), default=ROUNDS, metavar="R", help=f"default {ROUNDS}")
    parser.add_argument("--checkpoint-every", type=checkpoint_interval, default="10s", metavar="D", help="default 10s")
    parser.add_argument("--empty", action="store_true", help="the job without its logic as well, in turns")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of the table")
    given = parser.parse_args(arguments)
    jobs = ("job", "empty") if given.empty else ("job",)
    found: list[Latency] = []
    try:
        for _ in range(given.rounds):
            found += [measure(job, given.rate, given.seconds, given.checkpoint_every, given.warm) for job in jobs]
    except ServiceError as error:
        print(f"latency: {error}", file=sys.stderr)
        return 1
    print(json.dumps([asdict(each) for each in found]) if given.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
