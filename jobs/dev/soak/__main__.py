"""`make soak`: drives the job on a standalone Flink, between a real Kafka and a real Redis, with users and items that
come and go at a constant rate, and says whether anything grows.
"""

import argparse
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from riverrank.jobs.config.schema import parse
from riverrank.jobs.dev import bundle, services
from riverrank.jobs.dev.benchmarks.figures import machine
from riverrank.jobs.dev.cluster import TEST_CONF
from riverrank.jobs.flink.java import CHEAP_EXCEPTIONS
from riverrank.jobs.interruptions import terminable
from riverrank.jobs.markdown import table
from riverrank.jobs.processes import ServiceError
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.state.event_types import ANSWERED as ANSWERED_TYPES
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import to_json

from .alone import soak_alone
from .population import Population
from .trend import CONFIDENCE, LIMIT, WARM_UP, Trend
from .watching import EVERY_SECONDS, Watch

RATE = 100  # events a second, a quarter of what this job answers on two cores
FILL = 30_000  # events that are sent at once, at first: what is bounded by a number of them is full then
SETTLED_SECONDS = 60.0
ANSWERED = 0.9  # share of the events after which the job is taken to keep up: else nothing was measured
TOPICS = ("events", "items", "slates", "dead-letters", "receipts")
# So little room that all of it is in use within the warm-up, and what expires does so.
SETTINGS = """
allowed_lateness = "30s"
[job]
checkpoint_every = "5s"
state_ttl = "90s"
[cache]
ttl = "60s"
[impression]
window = "20s"
[signals]
items = 800
sessions = 512
[embedding]
items = 800
[autoencoder]
items = 256
[catalogue]
items = 1000
[kafka]
bootstrap = "{kafka}"
[redis]
url = "{redis}"
"""
# Java's heaps are touched whole at the start: what grows then is not what they had not used yet.
JAVA = "-XX:+AlwaysPreTouch -XX:NativeMemoryTracking=summary"
CONF = {
    "env.java.opts.taskmanager": " ".join((JAVA, *CHEAP_EXCEPTIONS)),
    "env.java.opts.jobmanager": f"{JAVA} {TEST_CONF['env.java.opts.jobmanager']}",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code, 1 where something grows."""
    parser = argparse.ArgumentParser(prog="python -m riverrank.jobs.dev.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="how long, all in all; default 10")
    parser.add_argument("--rate", type=float, default=RATE, metavar="N", help=f"events a second; default {RATE}")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write the page of what was seen there")
    parser.add_argument("--series", type=Path, metavar="FILE", help="write all measures there, as JSON")
    parser.add_argument(
        "--alone", action="store_true", help="without Flink: the operators in one process, in event time"
    )
    given = parser.parse_args(arguments)
    return _alone(given.minutes, given.rate) if given.alone else _with_flink(given)


def _alone(minutes: float, rate: float) -> int:
    config = parse(tomllib.loads(SETTINGS.format(kafka="", redis="")))
    trends, slates = soak_alone(config, minutes * 60, rate, FILL)
    print(report(trends, minutes, slates, slates))
    return 0 if all(trend.is_flat for trend in trends.values()) else 1


def _with_flink(given: argparse.Namespace) -> int:
    try:
        with terminable(), tempfile.TemporaryDirectory(prefix="riverrank-soak-") as folder:
            watch, sent, slates = soak(given.minutes * 60, given.rate, Path(folder))
        if given.series is not None:
            given.series.write_bytes(to_json(watch.series()))
        if slates < ANSWERED * sent:
            raise ServiceError(f"{slates} slates to {sent} events: the job does not keep up, give a lower --rate")
        trends = watch.trends()
    except (ServiceError, ValueError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    text = report(trends, given.minutes, sent, slates)
    print(text)
    if given.write is not None:
        given.write.write_text(page(text), "utf-8")
    return 0 if all(trend.is_flat for trend in trends.values()) else 1


def soak(seconds: float, rate: float, folder: Path, fill: int = FILL) -> tuple[Watch, int, int]:
    """What was seen of a job that ran so long, first through `fill` events at once and then at that rate; and how many
    events were sent and slates came.
    """
    bundle.bundle(folder / "riverrank.zip")
    with (
        services.KafkaBroker() as broker,
        services.Valkey() as valkey,
        services.FlinkCluster(taskmanagers=1, conf=CONF) as cluster,
    ):
        settings = folder / "soak.toml"
        settings.write_text(SETTINGS.format(kafka=broker.bootstrap, redis=valkey.url), "utf-8")
        for topic in TOPICS:
            broker.create_topic(topic)
        shop = Population()
        with KafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            for item in shop.catalogue(wall_ms()):
                _send(producer, item)
            producer.flush()
            job = cluster.run("-p", 1, "-py", bundle.JOB_FILE, "-pyfs", folder / "riverrank.zip", "--config", settings)
            cluster.wait_for(job)
            watch = Watch(cluster, job, valkey)
            ends = time.monotonic() + seconds
            filled = _fill(shop, producer, fill)
            if (slates := _settled(broker, filled, seconds / 2)) < filled:
                raise ServiceError(
                    f"{slates} slates to the first {filled} events in {seconds / 2:.0f} s: soak for longer"
                )
            sent = filled + _drive(shop, producer, rate, ends, watch)
            slates = _settled(broker, sent, SETTLED_SECONDS)
            if cluster.status(job) != "RUNNING" or cluster.root_cause(job):
                raise ServiceError(f"the job failed meanwhile: {cluster.root_cause(job)}")
            cluster.cancel(job)
    return watch, sent, slates


def _fill(shop: Population, producer: KafkaProducer, events: int) -> int:
    """Send so many events at once; how many there were that are answered."""
    sent = sum(_send(producer, record) for _ in range(events) for record in shop.records(wall_ms()))
    producer.flush()
    return sent


def _drive(shop: Population, producer: KafkaProducer, rate: float, ends: float, watch: Watch) -> int:
    """Send events at that rate until then, by the monotonic clock, and look every so often; how many there were that
    are answered.
    """
    began = time.monotonic()
    look_at, due, sent = began, 0, 0
    while (now := time.monotonic()) < ends:
        while due < (now - began) * rate:
            due += 1
            sent += sum(_send(producer, record) for record in shop.records(wall_ms()))
        if now >= look_at:
            watch.look()
            look_at = time.monotonic() + EVERY_SECONDS
        time.sleep(0.05)
    producer.flush()
    return sent


def _settled(broker: services.KafkaBroker, wanted: int, timeout_seconds: float) -> int:
    """How many slates there are, once as many came as are wanted, or after that time."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, enable_auto_commit=False)
    slates, deadline = TopicPartition("slates", 0), time.monotonic() + timeout_seconds
    while (count := int(consumer.end_offsets([slates])[slates])) < wanted and time.monotonic() < deadline:
        time.sleep(0.5)
    consumer.close()
    return count


def _send(producer: KafkaProducer, record: Event | Item) -> bool:
    """Send it; whether it is an event that is answered."""
    is_event = isinstance(record, Event)
    key = record.user_id if isinstance(record, Event) else record.item_id
    producer.send("events" if is_event else "items", to_json(record), key.encode())
    return isinstance(record, Event) and record.type in ANSWERED_TYPES


def report(trends: Mapping[str, Trend], minutes: float, sent: int, slates: int) -> str:
    """The table, and the verdict."""
    rows = [
        [
            name,
            f"{trend.size:,.1f}",
            f"{trend.slope:+.1%}",
            f"{trend.low:+.1%} to {trend.high:+.1%}",
            "flat" if trend.is_flat else "GROWS",
        ]
        for name, trend in trends.items()
    ]
    growing = [name for name, trend in trends.items() if not trend.is_flat]
    verdict = f"GROWS: {', '.join(growing)}" if growing else "Nothing grows"
    on = machine()
    sizes = table(["what", "MB", "slope an hour", f"{CONFIDENCE:.0%} interval", ""], rows)
    return (
        f"{sizes}\n{verdict}: {minutes:g} minutes, of which the first {WARM_UP:.0%} are warm-up, {sent:,} events that "
        f"are answered and {slates:,} slates, on {on['cores']} cores of {on['processor']}."
    )


def page(text: str) -> str:
    """docs/soak.md."""
    return f"""# Soak

Whether a job that runs on and on takes more and more. `make soak` (`MINUTES=10`) drives it on a standalone Flink with
one TaskManager, between a real Kafka and a real Redis, at {RATE} events a second, after {FILL:,} at once: 400 users and
300 items at any time, of whom some go and others come with each second, so that within the warm-up each bound is
reached and each expiry takes place (`jobs/dev/soak`). Python runs within the TaskManager's process. Java's heaps are
touched whole at the start.

The slope is the median of those between all pairs of points (Theil and Sen), one point for 15 s, as a share of the
size, with its interval. It fails where the lower end is above {LIMIT:.0%} an hour: what surely grows.

{text}
"""


if __name__ == "__main__":
    sys.exit(main())
