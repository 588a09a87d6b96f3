"""The live demo: a real broker, a real Redis, the job between them, and a simulated shop that uses them.

It starts them and the service's page, lets the customers in, shows what happens, sums up, and ends all that it started.
"""

import json
import logging
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from redis import RedisError
from rich.console import Console
from riverrank.jobs.config.schema import Config, load
from riverrank.jobs.dev.services import KafkaBroker, Valkey
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.evaluation.shop import Shop, ShopSettings
from riverrank.jobs.interruptions import ignore_interruptions, terminable
from riverrank.jobs.processes import OwnedProcess, ServiceError, free_port, tail
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.state.records.outgoing import to_json

from .metrics import Waits, lift
from .screen import ArmView, LiveScreen, Moment, PlainScreen, Screen, Summary, summary_of
from .traffic import ARMS, Traffic

FIRST_SLATE_TIMEOUT_SECONDS = 180.0
JOB_GRACE_SECONDS = 20.0
REFRESH_SECONDS = 0.5
THINK_SECONDS = 2.0
TAIL_LINES = 40
CONFIG_NAME = "demo.toml"
COMMAND = (sys.executable, "-m", "riverrank.jobs.cli")
RUN_COMMAND = (*COMMAND, "run")
FORGET_SECONDS = 60.0  # after the summary, what is measured is kept so long


def demo(
    seconds: float = 60.0,
    plain: bool = False,
    settings: ShopSettings | None = None,
    job_command: Sequence[str] = RUN_COMMAND,
) -> Summary:
    """Run the demo for `seconds` from the first slate on, and print the summary to standard output.

    An interruption (Ctrl-C, SIGTERM) ends it early: all is ended, the summary of what there is is printed, and
    KeyboardInterrupt raised. On a terminal the shop stays open after the summary, with the page of `riverrank serve`,
    until an interruption, which is its regular end then. `job_command` is what starts the job, given `--config FILE`.

    Raises:
        UsageError: `seconds` is no length of time.
        Failure: something did not start, or broke; where it was the job, the end of its log is on standard error.
    """
    if not 0 < seconds < 1e6:
        raise UsageError(f"--seconds: expected a number of seconds above 0, got {seconds:g}")
    # kafka-python warns of its own loop's pauses, which a busy machine makes and nobody can mend; faults are raised.
    logging.getLogger("kafka").setLevel(logging.ERROR)
    console = Console(stderr=True)
    live = console.is_terminal and not plain
    run = _Run(seconds, Shop(settings), job_command, console)
    try:
        with terminable():
            return run.all(LiveScreen(console) if live else PlainScreen(console))
    except (ServiceError, KafkaError, RedisError, OSError) as error:
        raise Failure(f"the demo broke: {error}") from error
    finally:
        if run.summary is not None and not run.stayed:
            print(summary_of(run.summary))


class _Run:
    """One run of the demo, and what is open while it lasts."""

    def __init__(self, seconds: float, shop: Shop, job_command: Sequence[str], console: Console) -> None:
        self.summary: Summary | None = None
        self.stayed = False  # open after the summary, which has been printed then
        self._seconds = seconds
        self._shop = shop
        self._job_command = job_command
        self._console = console
        self._launched = time.monotonic()
        self._steps: dict[str, float] = {}
        self._courses: dict[str, list[float]] = {arm: [] for arm in ARMS}
        self._titles = {item.item_id: item.title or item.item_id for item in shop.catalogue(0)}
        self._watched = 2 * int(shop.activity[::2].argmax())  # the busiest of the riverrank arm

    def all(self, screen: Screen) -> Summary:
        """Set up, run, sum up; what was started is ended in the order job, broker, Valkey, whatever happens."""
        with ExitStack() as stack:
            try:
                return self._all(stack, screen)
            finally:
                ignore_interruptions()

    def _all(self, stack: ExitStack, screen: Screen) -> Summary:
        valkey = stack.enter_context(Valkey())  # what is entered first is ended last
        self._done("Valkey")
        broker = stack.enter_context(KafkaBroker())
        self._done("Kafka")
        folder = Path(tempfile.gettempdir()) / f"riverrank-demo-{uuid.uuid4().hex}"
        stack.callback(shutil.rmtree, folder, ignore_errors=True)  # first: an interruption may come between the two
        folder.mkdir(0o700)
        config = self._configured(folder, broker, valkey)
        self._fill(config, broker)
        self._done("catalogue")
        command = [*self._job_command, "--config", str(folder / CONFIG_NAME)]
        job = OwnedProcess("the job", command, folder / "job.log", grace_seconds=JOB_GRACE_SECONDS)
        port = free_port()
        serving = [*COMMAND, "serve", "--config", str(folder / CONFIG_NAME), "--host", "127.0.0.1", "--port", str(port)]
        page = OwnedProcess("the page", serving, folder / "page.log")
        traffic = Traffic(self._shop, config, THINK_SECONDS)
        stack.callback(traffic.close)
        stack.callback(page.stop)
        stack.callback(job.stop)
        job.start()
        page.start()
        processes = (job, page)
        self._wait_for_first_slate(processes, traffic)
        self._done("job")
        self._console.print(f"page: http://127.0.0.1:{port}", highlight=False, soft_wrap=True)
        try:
            self._serve(processes, traffic, screen)
        except KeyboardInterrupt:
            ignore_interruptions()
            self.summary = self._summed_up(config, traffic, unanswered=0)
            raise
        self.summary = self._summed_up(config, traffic, traffic.finish())
        if self._console.is_terminal:
            self._stay(processes, traffic, f"http://127.0.0.1:{port}", self.summary)
        return self.summary

    def _stay(self, processes: Sequence[OwnedProcess], traffic: Traffic, address: str, summary: Summary) -> None:
        """Keep the shop open until an interruption; nothing is measured any more."""
        self.stayed = True
        print(summary_of(summary), flush=True)
        self._console.print(f"The shop stays open: {address} (Ctrl-C ends it)", highlight=False, soft_wrap=True)
        try:
            while True:
                traffic.waits = Waits()
                end = time.monotonic() + FORGET_SECONDS
                while (now := time.monotonic()) < end:
                    self._check(processes)
                    traffic.run(now + REFRESH_SECONDS)
        except KeyboardInterrupt:
            ignore_interruptions()

    def _configured(self, folder: Path, broker: KafkaBroker, valkey: Valkey) -> Config:
        """Write the job's configuration, and read it as the job will."""
        path = folder / CONFIG_NAME
        path.write_text(
            f"""[kafka]
bootstrap = {json.dumps(broker.bootstrap)}
previews = "previews"
[redis]
url = {json.dumps(valkey.url)}
[cache]
popular_every = "1s"
""",
            "utf-8",
        )
        return load(path)

    def _fill(self, config: Config, broker: KafkaBroker) -> None:
        """Make the topics, and write the catalogue to its own."""
        topics = config.kafka
        for name in (topics.events, topics.slates, topics.dead_letters, topics.receipts, topics.previews):
            broker.create_topic(name)
        broker.create_topic(topics.items, config={"cleanup.policy": "compact"})
        producer = KafkaProducer(**topics.python_arguments(), linger_ms=20)
        try:
            for item in self._shop.catalogue(wall_ms()):
                producer.send(topics.items, value=to_json(item), key=item.item_id.encode())
            producer.flush(timeout=60)
        finally:
            producer.close(timeout=2)

    def _wait_for_first_slate(self, processes: Sequence[OwnedProcess], traffic: Traffic) -> None:
        traffic.knock()
        deadline = time.monotonic() + FIRST_SLATE_TIMEOUT_SECONDS
        while not traffic.answered():
            self._check(processes)
            if time.monotonic() > deadline:
                raise self._failure(processes[0], f"wrote no slate in {FIRST_SLATE_TIMEOUT_SECONDS:.0f} s")
            time.sleep(0.05)

    def _serve(self, processes: Sequence[OwnedProcess], traffic: Traffic, screen: Screen) -> None:
        traffic.open()
        with screen:
            end = traffic.started + self._seconds
            turn = 0
            while (now := time.monotonic()) < end:
                self._check(processes)
                if turn % round(1 / REFRESH_SECONDS) == 0:
                    for arm in ARMS:
                        self._courses[arm].append(traffic.click_through[arm].recent(now))
                screen.show(self._moment(processes[0], traffic, now))
                turn += 1
                traffic.run(min(end, traffic.started + turn * REFRESH_SECONDS))

    def _moment(self, job: OwnedProcess, traffic: Traffic, now: float) -> Moment:
        arms = [
            ArmView(arm, through.rate(), through.recent(now), through.shown, through.clicked, self._courses[arm])
            for arm, through in traffic.click_through.items()
        ]
        return Moment(
            elapsed=now - traffic.started,
            seconds=self._seconds,
            events_per_second=traffic.events.per_second(now, traffic.started),
            events=traffic.events.total,
            recent_wait=traffic.waits.recent(now),
            overall_wait=traffic.waits.overall(),
            arms=arms,
            customer=self._shop.users[self._watched],
            likes=self._shop.favourites(self._watched),
            slate=traffic.slate(self._watched),
            titles=self._titles,
            job_line=f"{traffic.progress()}; its log: {tail(job.log, 1).strip()}",
        )

    def _summed_up(self, config: Config, traffic: Traffic, unanswered: int) -> Summary:
        treated, control = (traffic.click_through[arm] for arm in ARMS)
        return Summary(
            elapsed=time.monotonic() - traffic.started,
            arms={
                arm: (through.estimate(), through.clicked, through.shown)
                for arm, through in traffic.click_through.items()
            },
            lift=lift(treated, control),
            events=traffic.events.total,
            slates=_records(config, config.kafka.slates),
            dead_letters=_records(config, config.kafka.dead_letters),
            wait=traffic.waits.overall(),
            late=traffic.late,
            unanswered=unanswered,
            setup_seconds=sum(self._steps.values()),
            steps=self._steps,
        )

    def _check(self, processes: Sequence[OwnedProcess]) -> None:
        for process in processes:
            if process.ending is not None:
                raise self._failure(process, f"ended ({process.ending})")

    def _failure(self, process: OwnedProcess, what: str) -> Failure:
        lines = tail(process.log, TAIL_LINES)
        said = f"The end of {process.name}'s log:\n{lines}"
        self._console.print(said, markup=False, highlight=False, soft_wrap=True)
        return Failure(f"{process.name} {what}: {lines.splitlines()[-1] if lines.strip() else 'it said nothing'}")

    def _done(self, step: str) -> None:
        now = time.monotonic()
        self._steps[step] = now - self._launched
        self._launched = now
        self._console.print(f"{step}: {self._steps[step]:.1f} s", highlight=False)


def _records(config: Config, topic: str) -> int:
    """How many records a topic holds."""
    consumer = KafkaConsumer(**config.kafka.python_arguments())
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        return sum(consumer.end_offsets(partitions).values())
    finally:
        consumer.close()
