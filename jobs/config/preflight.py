"""What must hold before anything starts: inputs that can be read, outputs that can be written, services that answer.

Every fault is a `UsageError` within seconds, rather than a stack trace from the middle of a job.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from riverrank.jobs.errors import UsageError
from riverrank.operators.cache.urls import masked
from riverrank.operators.settings import LearnerSettings

from .schema import Config, KafkaSettings, RedisSettings

BROKER_TIMEOUT_MS = 3_000
INPUTS = ("events", "items")


def preflight(config: Config) -> None:
    """Check all of it. Raises `UsageError` with the first fault and its mend."""
    check_inputs(config)
    check_files(config)
    check_behaviour(config)
    check_services(config)


def check_inputs(config: Config) -> None:
    """There must be events to read."""
    if not (config.files.events or config.kafka.bootstrap):
        raise UsageError(
            "no events to read: give --events FILE (- is standard input) or --kafka HOST:PORT, "
            "or set files.events or kafka.bootstrap in the configuration"
        )


def check_files(config: Config) -> None:
    """Inputs are there and readable, outputs can be made, and no file is two things at once."""
    paths: dict[str, str] = {name: path for name, path in msgspec.structs.asdict(config.files).items() if path}
    owners: dict[tuple[object, bool], str] = {}
    for name, path in paths.items():
        is_stream = path == "-"
        identity = (path, name in INPUTS) if is_stream else (os.path.realpath(path), False)
        is_device = not is_stream and Path(path).exists() and not Path(path).is_file()
        if identity in owners and not is_device:
            what = "standard input" if is_stream and name in INPUTS else "standard output" if is_stream else path
            raise UsageError(f"{_flag(name)}: {what} is taken by {_flag(owners[identity])}; give each one of its own")
        owners[identity] = name
        if not is_stream:
            (_check_readable if name in INPUTS else _check_writable)(_flag(name), Path(path))


def check_behaviour(config: Config) -> None:
    """`learner.model` and `learner.optimizer` name classes of River, the model takes `learner.parameters`, and
    `sources.off` names sources. What is not set holds: to look at it would be to import numba and River, in 1.5 s.
    """
    behaviour = config.behaviour
    if behaviour.learner == LearnerSettings() and not behaviour.sources.off:
        return
    from riverrank.operators.candidates import registry  # noqa: PLC0415  numba, which few runs need here
    from riverrank.operators.models.learner import Learners  # noqa: PLC0415  River, likewise

    try:
        Learners(behaviour.learner, measured=behaviour.exploration.kind == "thompson")
    except ValueError as error:
        raise UsageError(f"learner: {error}") from error
    try:
        registry.switched_on(behaviour.sources.off)
    except ValueError as error:
        raise UsageError(f"sources.off: {error}") from error


def check_services(config: Config) -> None:
    """Kafka and Redis answer, as far as they are configured."""
    if config.kafka.bootstrap:
        with broker_errors(config.kafka):
            _check_broker(config.kafka)
    if config.redis.url:
        _check_redis(config.redis)


@contextmanager
def broker_errors(kafka: KafkaSettings) -> Iterator[None]:
    """Makes one `UsageError` of what kafka-python raises, and keeps its own log lines out of the way."""
    from kafka.errors import KafkaError  # noqa: PLC0415  a client that most commands need not load

    log = logging.getLogger("kafka")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    except (KafkaError, OSError) as error:
        raise UsageError(
            f"kafka.bootstrap: no broker answers at {kafka.bootstrap} ({error}); start it, or mend --kafka HOST:PORT"
        ) from error
    finally:
        log.setLevel(level)


def _check_broker(kafka: KafkaSettings) -> None:
    from kafka import KafkaConsumer  # noqa: PLC0415  as above

    KafkaConsumer(**kafka.python_arguments(), bootstrap_timeout_ms=BROKER_TIMEOUT_MS).close(autocommit=False)


def check_topic(kafka: KafkaSettings, topic: str) -> None:
    """The broker has that topic. Raises `UsageError` where it has not."""
    from kafka import KafkaConsumer  # noqa: PLC0415  as above

    with broker_errors(kafka):
        consumer = KafkaConsumer(**kafka.python_arguments(), bootstrap_timeout_ms=BROKER_TIMEOUT_MS)
        try:
            topics = consumer.topics()
        finally:
            consumer.close(autocommit=False)
    if topic not in topics:
        raise UsageError(f"kafka: the broker has no topic {topic!r}; make it, or mend its name in the configuration")


def _check_redis(settings: RedisSettings) -> None:
    import redis  # noqa: PLC0415  a client that most commands need not load

    seconds = settings.timeout / 1_000
    try:
        client = redis.Redis.from_url(settings.url, socket_timeout=seconds, socket_connect_timeout=seconds)
        try:
            client.ping()
        finally:
            client.close()
    except (redis.RedisError, OSError, ValueError) as error:
        raise UsageError(
            f"redis.url: {masked(settings.url)} does not answer ({error}); start it, or mend --redis URL"
        ) from error


def _check_readable(flag: str, path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{flag}: {path} is a folder; give a file")
    if not path.exists():
        raise UsageError(f"{flag}: {path} is not there; give a .jsonl or .jsonl.gz file, or - for standard input")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{flag}: no permission to read {path}")


def _check_writable(flag: str, path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{flag}: {path} is a folder; give a file")
    if not path.parent.is_dir():
        raise UsageError(f"{flag}: the folder {path.parent} is not there; make it, or mend the path")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{flag}: no permission to write {path}")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
