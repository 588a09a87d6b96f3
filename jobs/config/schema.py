"""The configuration: one TOML file, the environment for secrets, and flags on top, as one typed `Config`.

The behaviour of the operators is described in `operators.settings`; here are the edges and the reading of it all.
What each key means is said once, in `jobs.config.schema.text`.
"""

import difflib
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta
from riverrank.jobs.errors import UsageError
from riverrank.operators.catalogue.tokens import token_of
from riverrank.operators.settings import Behaviour, Count, Milliseconds, RulesSettings, Section

REDIS_URL_VARIABLE = "RIVERRANK_REDIS_URL"
KAFKA_PASSWORD_VARIABLE = "RIVERRANK_KAFKA_PASSWORD"
MASK = "***"
MAX_DURATION = 36_500 * 86_400_000  # a hundred years

Interval = Annotated[int, Meta(ge=1, extra={"unit": "ms"})]  # a duration that is never none
UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

Name = Annotated[str, Meta(min_length=1)]
Topic = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
OptionalTopic = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{0,249}$")]


class FileSettings(Section):
    """Paths of JSON lines, gz by their ending; `-` is standard input or output, "" is none."""

    events: str = ""
    items: str = ""
    slates: str = ""
    predictions: str = ""
    dead_letters: str = ""
    receipts: str = ""


class KafkaSettings(Section):
    """The broker and its topics; no `bootstrap`, no Kafka. The password is read when asked for, and kept nowhere."""

    bootstrap: str = ""
    events: Topic = "events"
    items: OptionalTopic = "items"
    slates: OptionalTopic = "slates"
    dead_letters: OptionalTopic = "dead-letters"
    receipts: OptionalTopic = "receipts"
    predictions: OptionalTopic = ""
    group: Name = "riverrank"
    start: Literal["earliest", "latest", "committed"] = "earliest"
    delivery: Literal["at-least-once", "exactly-once"] = "at-least-once"
    bounded: bool = False
    transaction_prefix: Name = "riverrank"
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""

    def password(self) -> str:
        """The SASL password: from the environment, else from `password_file`, else empty."""
        return os.environ.get(KAFKA_PASSWORD_VARIABLE) or _secret_file("kafka.password_file", self.password_file)

    def java_properties(self) -> dict[str, str]:
        """The security settings as properties of Kafka's own client, which Flink's connector uses."""
        properties: dict[str, str] = {} if self.security == "PLAINTEXT" else {"security.protocol": self.security}
        if self.security.startswith("SASL"):
            module = "plain.PlainLoginModule" if self.mechanism == "PLAIN" else "scram.ScramLoginModule"
            username, password = (_jaas_quoted(word) for word in (self.username, self.password()))
            properties["sasl.mechanism"] = self.mechanism
            properties["sasl.jaas.config"] = (
                f"org.apache.kafka.common.security.{module} required username={username} password={password};"
            )
        if self.security.endswith("SSL") and self.ca_file:
            properties |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": self.ca_file}
        return properties

    def python_arguments(self) -> dict[str, str]:
        """The broker and the security settings as arguments of any class of kafka-python."""
        arguments: dict[str, str] = {"bootstrap_servers": self.bootstrap, "security_protocol": self.security}
        if self.security.startswith("SASL"):
            arguments |= {"sasl_mechanism": self.mechanism, "sasl_plain_username": self.username}
            arguments["sasl_plain_password"] = self.password()
        if self.security.endswith("SSL") and self.ca_file:
            arguments["ssl_cafile"] = self.ca_file
        return arguments


class RedisSettings(Section):
    """Where slates are cached; no `url`, no cache. The URL's password is never printed."""

    url: str = ""
    url_file: str = ""
    prefix: str = "rr:"
    timeout: Interval = 2_000

    def __repr__(self) -> str:
        return (
            f"RedisSettings(url={masked(self.url)!r}, url_file={self.url_file!r}, prefix={self.prefix!r}, "
            f"timeout={self.timeout})"
        )


class CacheSettings(Section):
    """How slates reach Redis."""

    ttl: Interval = 7 * 86_400_000
    popular_every: Interval = 10_000
    buckets: Annotated[int, Meta(ge=1, le=4096)] = 16
    flush_every: Interval = 20
    drain: Milliseconds = 120_000


class JobSettings(Section):
    """The Flink job."""

    name: Name = "riverrank"
    parallelism: Count = 1
    max_parallelism: Annotated[int, Meta(ge=1, le=32_768)] = 128
    checkpoint_every: Interval = 10_000
    state_ttl: Interval = 90 * 86_400_000


class Config(Section):
    """All that can be set. In the file, the keys and tables of `behaviour` stand at top level, beside the edges."""

    behaviour: Behaviour = Behaviour()
    files: FileSettings = FileSettings()
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    cache: CacheSettings = CacheSettings()
    job: JobSettings = JobSettings()


def load(path: str | Path | None = None, flags: Mapping[str, Any] | None = None) -> Config:
    """The configuration of `path` (none: the defaults), with `flags`, by dotted key, over it; a flag of None is unset.

    Precedence: flags, then the environment, then the file. Raises `UsageError` for whatever does not fit.
    """
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    table = {} if path is None else _read(Path(path))
    try:
        return parse(table, given)
    except UsageError as error:
        raise UsageError(f"{path}: {error}" if _is_faulty(table) else str(error)) from error


def parse(table: Mapping[str, Any], flags: Mapping[str, Any] | None = None) -> Config:
    """The configuration that a parsed TOML document holds.

    >>> parse({"allowed_lateness": "2h"}).behaviour.allowed_lateness
    7200000
    """
    document = {key: dict(value) if isinstance(value, Mapping) else value for key, value in table.items()}
    over = {**_environment(), **(flags or {})}
    if over.get("redis.url"):
        over["redis.url_file"] = ""
    for dotted, value in over.items():
        section, _, key = dotted.rpartition(".")
        target = document.setdefault(section, {}) if section else document
        if isinstance(target, dict):  # else: no table where one belongs, which is said below
            target[key] = value
    return _consistent(_convert(_prepared(document, SCHEMA, "")))


def milliseconds(value: object) -> int:
    """A duration as milliseconds: a whole number of them, or a number with one of the units ms, s, m, h, d.

    >>> milliseconds("1.5h"), milliseconds("200ms"), milliseconds(5)
    (5400000, 200, 5)
    """
    result: float | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        result = value
    elif isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", value)):
        result = round(float(match[1]) * UNITS[match[2]], 6)
    if result is None or result != int(result):
        raise ValueError(f'expected a duration such as "1h", "200ms" or a whole number of milliseconds, got {value!r}')
    if not 0 <= result <= MAX_DURATION:
        raise ValueError(f'expected a duration from "0ms" to "36500d", got {value!r}')
    return int(result)


def masked(url: str) -> str:
    """A URL without its password.

    >>> masked("redis://app:geheim@cache:6379/0?password=geheim")
    'redis://app:***@cache:6379/0?password=***'
    """
    url = re.sub(r"^([^:/?#]+://[^:@/]*):.*@", rf"\1:{MASK}@", url)
    return re.sub(r"([?&]password=)[^&]*", rf"\1{MASK}", url)


Schema = dict[str, Any]  # key or table to its type, or for a table to its own Schema


def schema_of(section: type[Section]) -> Schema:
    """The keys of a section with their types, tables nested; those of the behaviour stand beside the others."""
    schema: Schema = {}
    for key, hint in get_type_hints(section, include_extras=True).items():
        if hint is Behaviour:
            schema |= schema_of(hint)
        elif isinstance(hint, type) and issubclass(hint, Section):
            schema[key] = schema_of(hint)
        else:
            schema[key] = hint
    return schema


def dotted_keys(schema: Schema, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each key with its full dotted name and its type."""
    for key, hint in schema.items():
        if isinstance(hint, dict):
            yield from dotted_keys(hint, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", hint


SCHEMA = schema_of(Config)


def is_duration(hint: object) -> bool:
    """Whether a key of this type is a duration: `Milliseconds`, or a type whose unit is said to be ms."""
    return hint is Milliseconds or any(
        (getattr(meta, "extra", None) or {}).get("unit") == "ms" for meta in get_args(hint)
    )


def _prepared(table: Mapping[str, Any], schema: Schema, prefix: str) -> dict[str, Any]:
    """`table` with its durations as milliseconds, once its keys are known and its numbers finite."""
    prepared: dict[str, Any] = {}
    for key, value in table.items():
        dotted, hint = f"{prefix}{key}", schema.get(key)
        if hint is None:
            raise UsageError(f"{dotted}: no such key; the nearest is {_nearest(dotted)}")
        if isinstance(hint, dict):
            if not isinstance(value, Mapping):
                raise UsageError(f"{dotted}: expected a table, [{dotted}], got {value!r}")
            prepared[key] = _prepared(value, hint, f"{dotted}.")
        elif is_duration(hint):
            try:
                prepared[key] = milliseconds(value)
            except ValueError as error:
                raise UsageError(f"{dotted}: {error}") from error
        elif isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{dotted}: expected a finite number, got {value!r}")
        else:
            prepared[key] = value
    return prepared


def _nearest(dotted: str) -> str:
    """The known key or table most like `dotted`; the same name in another table is nearer than another name in this."""
    names = [name for name, _ in dotted_keys(SCHEMA)]
    section, _, leaf = dotted.rpartition(".")
    if not section:
        names += [name for name, hint in SCHEMA.items() if isinstance(hint, dict)]

    def likeness(name: str) -> float:
        whole = difflib.SequenceMatcher(None, dotted.lower(), name).ratio()
        return whole + difflib.SequenceMatcher(None, leaf.lower(), name.rpartition(".")[2]).ratio()

    return max(names, key=likeness)


def _convert(document: dict[str, Any]) -> Config:
    behaviour = {key: value for key, value in document.items() if key not in Config.__struct_fields__}
    edges = {key: value for key, value in document.items() if key in Config.__struct_fields__}
    try:
        return msgspec.structs.replace(msgspec.convert(edges, Config), behaviour=msgspec.convert(behaviour, Behaviour))
    except msgspec.ValidationError as error:
        raise UsageError(_explained(str(error), document)) from error


def _explained(message: str, document: Mapping[str, Any]) -> str:
    """msgspec's ``Expected `int` >= 1 - at `$.job.parallelism``` with the key first and what was got."""
    what, _, where = message.replace("`", "").partition(" - at $.")
    value: Any = document
    hint: Any = SCHEMA
    for key in where.partition("[")[0].split("."):  # of what is in a list or a table of its own, the whole
        value = value[key]
        hint = hint[key]
    if is_duration(hint):
        what = "Expected a duration of at least 1 ms"
    elif get_origin(hint) is Literal:
        what = f"Expected one of {', '.join(get_args(hint))}"
    expected = what.partition(", got")[0].replace("str matching regex", "a name that matches")
    return f"{where}: {expected[:1].lower()}{expected[1:]}, got {masked(value) if isinstance(value, str) else value!r}"


def _consistent(config: Config) -> Config:
    """What no single key can say. Reads the secret files, so that an absent one is known before anything starts."""
    redis, kafka, job = config.redis, config.kafka, config.job
    if redis.url and redis.url_file:
        raise UsageError("redis.url_file: redis.url is given too; give one of them")
    if redis.url_file:
        redis = msgspec.structs.replace(redis, url=_secret_file("redis.url_file", redis.url_file))
        config = msgspec.structs.replace(config, redis=redis)
    if redis.url:
        _check_redis_url(redis.url)
    for broker in kafka.bootstrap.split(",") if kafka.bootstrap else ():
        host, _, port = broker.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise UsageError(f"kafka.bootstrap: expected HOST:PORT, or several with commas between, got {broker!r}")
    topics = [kafka.events, kafka.items, kafka.slates, kafka.dead_letters, kafka.receipts, kafka.predictions]
    for topic in filter(None, topics):
        if topics.count(topic) > 1:
            raise UsageError(f"kafka: two streams are on the topic {topic!r}; give each a topic of its own")
    if kafka.security.startswith("SASL") and not (kafka.username and kafka.password()):
        raise UsageError(
            f"kafka.username: {kafka.security} needs a user name, and a password in the environment variable "
            f"{KAFKA_PASSWORD_VARIABLE} or in kafka.password_file"
        )
    _check_rules(config.behaviour.rules)
    if job.parallelism > job.max_parallelism:
        raise UsageError(
            f"job.parallelism: expected at most job.max_parallelism ({job.max_parallelism}), got {job.parallelism}"
        )
    if job.state_ttl < config.behaviour.allowed_lateness:
        raise UsageError("job.state_ttl: expected at least allowed_lateness: event ids are remembered that long")
    return config


def _check_rules(rules: RulesSettings) -> None:
    for name in rules.__struct_fields__:
        for rule in getattr(rules, name):
            try:
                token_of(rule)
            except ValueError as error:
                raise UsageError(f"rules.{name}: {error}") from None


def _check_redis_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port_is_whole = parts.port is None or parts.port > 0
    except ValueError:
        port_is_whole, parts = False, urlsplit("")
    known = parts.path if parts.scheme == "unix" else parts.scheme in ("redis", "rediss") and parts.hostname
    if not (known and port_is_whole):
        raise UsageError(f"redis.url: expected a URL such as redis://HOST:PORT/0, got {masked(url)!r}")
    if MASK in (parts.password, *parse_qs(parts.query).get("password", ())):
        raise UsageError(
            f"redis.url: its password is masked; give the URL in the environment variable {REDIS_URL_VARIABLE} "
            "or in a file that redis.url_file names"
        )


def _is_faulty(table: Mapping[str, Any]) -> bool:
    """Whether the file is at fault, not a flag."""
    try:
        parse(table)
    except UsageError:
        return bool(table)
    return False


def _environment() -> dict[str, str]:
    url = os.environ.get(REDIS_URL_VARIABLE)
    return {"redis.url": url} if url else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot read it ({error.strerror}); --config takes the path of a TOML file"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error


def _secret_file(dotted: str, path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{dotted}: cannot read {path!r} ({error})") from error


def _jaas_quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
