"""What must hold before anything starts: inputs that can be read, outputs that can be written, services that answer.

Every fault is a `UsageError` within seconds, rather than a stack trace from the middle of a job.
"""

import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from riverrank.jobs import standard
from riverrank.jobs.errors import UsageError
from riverrank.operators import tls
from riverrank.operators.arms import arms_of
from riverrank.operators.settings import Behaviour, LearnerSettings
from riverrank.state.outputs import OUTPUTS
from riverrank.state.prior import is_prior, read_file

from .consuming import consuming
from .edges import KafkaSettings, RedisSettings
from .fields import schema_of
from .schema import Config, topics_of

BROKER_TIMEOUT_MS = 3_000
INPUTS = ("events", "items")
SLOW_MS = 20.0  # an event, from which on a learner is said to be slow

log = logging.getLogger(__name__)


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


def check_readable(config: Config) -> None:
    """Files of input are there and readable."""
    for name in INPUTS:
        if (path := getattr(config.files, name)) not in ("", "-"):
            _check_readable(_flag(name), Path(path))


def check_logged(config: Config) -> None:
    """Files of input are there and readable, that of slates too: here it is one."""
    check_readable(config)
    if (path := config.files.slates) not in ("", "-"):
        _check_readable("--slates", Path(path))


def check_state(config: Config) -> None:
    """A run that goes on from what an earlier one kept (`job.state`) reads and writes topics, until interrupted."""
    files, kafka = config.files, config.kafka
    if not config.job.state:
        return
    if files.events:
        raise UsageError("job.state: a file is read from its beginning by each run; --state DIR is for topics")
    if kafka.bounded:
        raise UsageError(
            "job.state: with kafka.bounded a run ends where topics do, and Flink keeps nothing of a job that ended; "
            "leave out kafka.bounded, and end the run by Ctrl-C, or leave out --state DIR"
        )
    if written := [output.field for output in OUTPUTS.values() if getattr(files, output.field)]:
        raise UsageError(
            f"job.state: files.{written[0]} holds what one run wrote, and with --state DIR the next goes on from it; "
            f"give a topic (kafka.{written[0]}), or no --state"
        )


def check_files(config: Config) -> None:
    """Inputs are there and readable, outputs can be made, no file is two things at once, and `-` is not closed."""
    check_readable(config)
    owners = {_identity(key, path): key for key, path in _read_with(config)}
    owners.pop(None, None)
    paths: dict[str, str] = {name: path for name, path in msgspec.structs.asdict(config.files).items() if path}
    for name, path in paths.items():
        is_stream = path == "-"
        what = path if not is_stream else standard.INPUT if name in INPUTS else standard.OUTPUT
        if (identity := _identity(name, path)) in owners:
            raise UsageError(f"{_flag(name)}: {what} is taken by {owners[identity]}; give each one of its own")
        if identity is not None:
            owners[identity] = _flag(name)
        if is_stream:
            standard.require_open(what)
        elif name not in INPUTS:
            _check_writable(_flag(name), Path(path))


def _read_with(config: Config) -> Iterator[tuple[str, str]]:
    """The files that are read with the configuration, and what names them."""
    if config.path:
        yield "--config", config.path
    for setting in schema_of(type(config)).settings.values():
        if setting.name.endswith("file") and (path := setting.of(config)):
            yield setting.key, path


def _identity(name: str, path: str) -> object:
    """What two paths of one file have in common; None for a device, which may be many things at once."""
    try:
        found = os.stat((0 if name in INPUTS else 1) if path == "-" else path)
    except OSError:
        return os.path.realpath(path)
    if stat.S_ISREG(found.st_mode):
        return found.st_dev, found.st_ino
    return (path, name in INPUTS) if path == "-" else None


def check_behaviour(config: Config) -> None:
    """`slate.hide` names interactions, `sources.off` sources, `learner.model` and `learner.optimizer` classes of River,
    and the model takes `learner.parameters`. Of sources and of the learner, what is not set holds: to look at it would
    be to import numba and River, in 1.5 s.
    """
    behaviour = config.behaviour
    check_prior(config)
    try:
        behaviour.slate.hidden()
    except ValueError as error:
        raise UsageError(str(error)) from error
    if behaviour.sources.off:
        from riverrank.operators.candidates import registry  # noqa: PLC0415  numba, which few runs need here

        try:
            registry.switched_on(behaviour.sources.off)
        except ValueError as error:
            raise UsageError(f"sources.off: {error}") from error
    if behaviour.learner != LearnerSettings():
        _try_learner(behaviour)


def check_prior(config: Config) -> None:
    """What `prior.file` holds is what a ranker of this version can start from, and `prior.out` can be written."""
    prior = config.behaviour.prior
    if prior.out:
        _check_prior_out(config)
    if prior.file:
        from riverrank.operators.models.prior import check  # noqa: PLC0415  numba, which few runs need here

        try:
            check(prior.learned)
        except ValueError as error:
            raise UsageError(
                f"prior.file: {prior.file} can't be started from: {error}; write it anew with `riverrank prior`, or "
                "leave it out"
            ) from error


def _check_prior_out(config: Config) -> None:
    """It is a file of its own: one that is not there yet, or another prior, which it replaces."""
    out = Path(config.behaviour.prior.out)
    if str(out) == "-" or (out.exists() and not out.is_file()):
        raise UsageError(f"prior.out: expected the path of a file, got {out}")
    files = [(_flag(name), path) for name, path in msgspec.structs.asdict(config.files).items() if path]
    for name, path in (*files, *_read_with(config)):
        if name != "prior.file" and _identity("prior.out", str(out)) == _identity(name, path):
            raise UsageError(f"prior.out: {out} is taken by {name}; give each one of its own")
    _check_writable("prior.out", out)
    if out.exists() and out.stat().st_size and not is_prior(read_file(str(out))):
        raise UsageError(f"prior.out: {out} is no prior, and would be replaced; name another file, or remove it")


def _try_learner(behaviour: Behaviour) -> None:
    """Learn a little by these settings: what River's classes can't do shows only then."""
    from riverrank.operators.models.learner import Learners  # noqa: PLC0415  River
    from riverrank.operators.warm import EVENTS, warm  # noqa: PLC0415  numba, as above

    learner = behaviour.learner
    try:
        try:
            for arm in arms_of(behaviour).values():
                Learners(arm.learner, measured=arm.exploration.kind == "thompson")
        except ValueError as error:
            raise UsageError(str(error)) from error
        warm(behaviour)
        started = time.perf_counter()
        warm(behaviour)
    except UsageError:
        raise
    except Exception as error:  # whatever River, or the class that was named, raises
        raise UsageError(
            f"learner: {learner.model} with {learner.optimizer} and its parameters can't learn here "
            f"({type(error).__name__}: {error}); mend learner.model, learner.optimizer or learner.parameters"
        ) from error
    milliseconds = 1000 * (time.perf_counter() - started) / EVENTS
    if milliseconds > SLOW_MS:
        log.warning(
            "learner: %s takes %.0f ms an event on this machine: %.0f events a second at most",
            learner.model, milliseconds, 1000 / milliseconds,
        )  # fmt: skip


def check_services(config: Config, *, outputs: bool = True) -> None:
    """Kafka and Redis answer, as far as they are configured, and Kafka has the topics: of the `outputs` too, or of what
    is read alone.
    """
    if config.kafka.bootstrap:
        topics = [topic for stream, topic in topics_of(config).items() if outputs or stream in INPUTS]
        with broker_errors(config.kafka):
            _check_topics(config.kafka, topics)
    if config.redis.url:
        _check_redis(config.redis)


@contextmanager
def broker_errors(kafka: KafkaSettings) -> Iterator[None]:
    """Makes one `UsageError` of what kafka-python raises, and keeps its own log lines out of the way: why it gives up,
    it says there alone.
    """
    from kafka.errors import KafkaError  # noqa: PLC0415  a client that most commands need not load

    from .tokens import TokenError  # noqa: PLC0415  likewise

    kafka_log, heard = logging.getLogger("kafka"), _Heard()
    level, propagates = kafka_log.level, kafka_log.propagate
    kafka_log.setLevel(logging.WARNING)
    kafka_log.propagate = False
    kafka_log.addHandler(heard)
    try:
        if tokens := kafka.tokens():
            tokens.token()  # what is wrong with that is told better before the broker is spoken to
        yield
    except TokenError as error:
        raise UsageError(str(error)) from error
    except (KafkaError, OSError) as error:
        raise UsageError(_broker_fault(kafka, f"{error} {' '.join(heard.lines)}", str(error))) from error
    finally:
        kafka_log.removeHandler(heard)
        kafka_log.setLevel(level)
        kafka_log.propagate = propagates


class _Heard(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(record.getMessage())


def _broker_fault(kafka: KafkaSettings, heard: str, error: str) -> str:
    """What is wrong with how the broker is spoken to, from what was `heard` while that was tried, and its mend."""
    ended = "socket disconnected" in heard
    refused = f"lets nobody in as {kafka.username} by {kafka.mechanism} with that password"
    mend = "kafka.username, kafka.mechanism, the password"
    if kafka.mechanism == "OAUTHBEARER":  # there is a token by then
        refused = f"does not take the token that {kafka.username} got"
        mend = "kafka.token_url, kafka.token_scope, the broker's own sasl.oauthbearer settings"
    if reason := tls.untrusted(heard):
        what = f"has a certificate that is not trusted: {reason}; mend kafka.ca_file, or the host name"
    elif tls.wants_certificate(heard):
        wants = "does not trust" if kafka.client_file else "wants"
        what = f"{wants} a certificate of this client; see kafka.client_file"
    elif tls.speaks_no_tls(heard):
        what = "does not speak TLS at that port; mend the port, or kafka.security"
    elif "SSL:" in heard:
        reason = heard.partition("SSL: ")[2].partition("]")[0]
        what = f"does not agree with us on TLS: {reason}; mend kafka.security, or the broker's own settings"
    elif "SaslAuthenticationFailed" in heard:
        what = f"{refused} ({error}); mend {mend}"
    elif "Invalid frame length" in heard or (ended and kafka.security == "PLAINTEXT"):
        what = f"wants TLS or SASL there, or has not started yet ({error}); mend the port, or kafka.security"
    elif ended and kafka.security.startswith("SASL"):
        what = f"{refused}, wants TLS there, or has not started yet ({error}); mend {mend}, or kafka.security"
    elif "Authorization" in heard:
        what = f"forbids {kafka.username or 'everyone'} to do that ({error}); give the user that right"
    else:
        return f"kafka.bootstrap: no broker answers at {kafka.bootstrap} ({error}); start it, or mend --kafka HOST:PORT"
    return f"kafka.bootstrap: the broker at {kafka.bootstrap} {what}"


def check_topic(kafka: KafkaSettings, topic: str) -> None:
    """The broker has that topic. Raises `UsageError` where it has not."""
    with broker_errors(kafka):
        _check_topics(kafka, [topic])


def _check_topics(kafka: KafkaSettings, wanted: Iterable[str]) -> None:
    """The broker has all of them: one that is written to for the first time after hours would end the job then."""
    with consuming(kafka, bootstrap_timeout_ms=BROKER_TIMEOUT_MS) as consumer:
        there = consumer.topics()
    missing = sorted({*wanted} - {*there})
    if missing:
        raise UsageError(
            f"kafka: the broker has no topic {', '.join(map(repr, missing))}; riverrank topics --create makes what is "
            "missing, or mend the name in the configuration"
        )


def _check_redis(settings: RedisSettings) -> None:
    """Redis answers, and lets the job do there what it does."""
    from riverrank.operators.cache import rights  # noqa: PLC0415  a client that most commands need not load
    from riverrank.operators.cache.connections import Connections  # noqa: PLC0415  likewise

    try:
        connections = Connections(settings.url, settings.timeout)
    except ValueError as error:
        raise UsageError(f"redis.url: {error}") from error
    try:
        refusal = rights.refusal(connections, settings.prefix)
    finally:
        connections.close()
    if refusal:
        raise UsageError(f"redis.url: {refusal}")


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
