"""The configuration: one TOML file, the environment for secrets, and flags on top, as one typed `Config`.

Settings of the operators stand in `operators.settings`; here are those of the edges, and the reading of it all. A
field says all there is to say of a setting: `fields` reads it from there.
"""

import hashlib
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta
from riverrank.jobs.errors import UsageError
from riverrank.operators.cache.urls import DEFAULT_PREFIX, DEFAULT_TIMEOUT_MS, DEFAULT_TTL_MS, MASK, masked
from riverrank.operators.catalogue.tokens import token_of
from riverrank.operators.settings import Behaviour, Count, Milliseconds, RewardSettings, RulesSettings, Section
from riverrank.state.outputs import OUTPUTS, Output
from riverrank.state.runtime.durations import duration

from .fields import schema_of
from .files import secret, with_prior

REDIS_URL_VARIABLE = "RIVERRANK_REDIS_URL"
# Flink's connector holds Kafka's own classes under another name, and knows no others.
CONNECTORS_LOGIN = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security"
KAFKA_PASSWORD_VARIABLE = "RIVERRANK_KAFKA_PASSWORD"
PRIVACY_KEY_VARIABLE = "RIVERRANK_PRIVACY_KEY"

Interval = Annotated[int, Meta(ge=1, extra={"unit": "ms"})]  # a duration that is never none
Name = Annotated[str, Meta(min_length=1)]
Topic = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
OptionalTopic = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{0,249}$")]


def _with_outputs(base: type[Section], kind: Any, meaning: str, default: Callable[[Output], str]) -> Any:
    """`base` with a setting of each output besides, by the output's field."""
    fields = [
        (output.field, Annotated[kind, Meta(description=meaning.format(output.meaning))], default(output))
        for output in OUTPUTS.values()
    ]
    return msgspec.defstruct(f"{base.__name__}AndOutputs", fields, bases=(base,), module=__name__)


class _ByOutput(Section):
    """A table with a setting of each output."""

    if TYPE_CHECKING:

        def __getattr__(self, field: str) -> str:
            """What is set of an output, by its field."""

    def of(self, output: Output) -> str:
        """What is set of an output, "" for nothing."""
        return str(getattr(self, output.field))


class _Inputs(_ByOutput):
    events: Annotated[str, Meta(description="path of the events, in place of the topic; - is standard input")] = ""
    items: Annotated[str, Meta(description="path of the items, in place of the topic; - is standard input")] = ""


class _Topics(_ByOutput):
    bootstrap: Annotated[
        str, Meta(description="HOST:PORT of a broker, or several with commas between; none is no Kafka")
    ] = ""
    events: Annotated[Topic, Meta(description="topic of the events")] = "events"
    items: Annotated[OptionalTopic, Meta(description="topic of the items; none is no topic")] = "items"


if TYPE_CHECKING:  # a type checker knows no class that is made at run time
    _Paths = _Inputs
    _AllTopics = _Topics
else:
    _Paths = _with_outputs(_Inputs, str, "path for {}; - is standard output", lambda output: "")
    _AllTopics = _with_outputs(_Topics, OptionalTopic, "topic of the {}; none is no topic", lambda output: output.topic)


class FileSettings(_Paths):
    """Paths of JSON lines, gz by their ending; `-` is standard input or output, "" is none."""


class KafkaSettings(_AllTopics):
    """The broker and its topics; no `bootstrap`, no Kafka. The password is read when asked for, and kept nowhere."""

    group: Annotated[Name, Meta(description="consumer group of the events")] = "riverrank"
    start: Annotated[
        Literal["earliest", "latest", "committed"], Meta(description="where reading begins without a savepoint")
    ] = "earliest"
    delivery: Annotated[
        Literal["at-least-once", "exactly-once"],
        Meta(description="guarantee of what is written; exactly-once takes Kafka transactions"),
    ] = "at-least-once"
    bounded: Annotated[bool, Meta(description="whether to read to the topics' present end and stop")] = False
    transaction_prefix: Annotated[
        Name, Meta(description="prefix of the transactions' ids, one for each job on a broker")
    ] = "riverrank"
    security: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Meta(description="how the broker is spoken to")
    ] = "PLAINTEXT"
    mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Meta(description="mechanism of SASL")] = (
        "PLAIN"
    )
    username: Annotated[str, Meta(description="user name for SASL")] = ""
    password_file: Annotated[
        str, Meta(description="file that holds the SASL password; RIVERRANK_KAFKA_PASSWORD goes first")
    ] = ""
    ca_file: Annotated[str, Meta(description="PEM file of the authorities that sign the broker's certificate")] = ""

    def password(self) -> str:
        """The SASL password: from the environment, else from `password_file`, else empty."""
        return os.environ.get(KAFKA_PASSWORD_VARIABLE) or secret("kafka.password_file", self.password_file)

    def java_properties(self) -> dict[str, str]:
        """The security settings as properties of Kafka's own client, which Flink's connector uses."""
        properties: dict[str, str] = {} if self.security == "PLAINTEXT" else {"security.protocol": self.security}
        if self.security.startswith("SASL"):
            module = "plain.PlainLoginModule" if self.mechanism == "PLAIN" else "scram.ScramLoginModule"
            username, password = (_jaas_quoted(word) for word in (self.username, self.password()))
            properties["sasl.mechanism"] = self.mechanism
            properties["sasl.jaas.config"] = (
                f"{CONNECTORS_LOGIN}.{module} required username={username} password={password};"
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

    url: Annotated[
        str, Meta(description="URL of the cache, redis://HOST:PORT/0; none is no cache; RIVERRANK_REDIS_URL goes first")
    ] = ""
    url_file: Annotated[str, Meta(description="file that holds the URL, in place of redis.url")] = ""
    prefix: Annotated[str, Meta(description="prefix of every key")] = DEFAULT_PREFIX
    timeout: Annotated[
        Interval, Meta(description="longest time for a write; half of it for connecting, or for a reply")
    ] = DEFAULT_TIMEOUT_MS

    def __repr__(self) -> str:
        return (
            f"RedisSettings(url={masked(self.url)!r}, url_file={self.url_file!r}, prefix={self.prefix!r}, "
            f"timeout={self.timeout})"
        )


class CacheSettings(Section):
    """How slates reach Redis."""

    ttl: Annotated[Interval, Meta(description="a cached slate expires after this; less than job.state_ttl")] = (
        DEFAULT_TTL_MS
    )
    popular_every: Annotated[
        Interval, Meta(description="the slate of users who have none is refreshed at least this often")
    ] = 10_000
    buckets: Annotated[int, Meta(ge=1, le=4096, description="groups of users that are written together")] = 16
    flush_every: Annotated[
        Interval, Meta(description="longest time that a slate waits for others to go to a quick Redis with")
    ] = 20
    drain: Annotated[
        Milliseconds, Meta(description="how long a bounded job waits, at its end, for a Redis that is away")
    ] = 120_000


class JobSettings(Section):
    """The Flink job."""

    name: Annotated[Name, Meta(description="name in Flink's own displays")] = "riverrank"
    parallelism: Annotated[Count, Meta(description="parallel instances of the per-user operators")] = 1
    max_parallelism: Annotated[
        int, Meta(ge=1, le=32_768, description="upper limit of it, which can never change after the first savepoint")
    ] = 128
    separate: Annotated[
        bool,
        Meta(
            description="answer in other slots, so in other interpreters, than what learns from all users: twice as "
            "many slots as the parallelism. An embedded run does wherever there are two cores"
        ),
    ] = False
    state: Annotated[
        str,
        Meta(
            description="folder that an embedded run keeps its state in, and goes on from; none: nothing outlives it. "
            "A cluster's is set in Flink's own configuration"
        ),
    ] = ""
    checkpoint_every: Annotated[Interval, Meta(description="time between two checkpoints")] = 10_000
    state_ttl: Annotated[
        Interval,
        Meta(
            description="the state of a user who was not seen for this long is dropped; at least allowed_lateness, and "
            "longer than cache.ttl where there is a cache"
        ),
    ] = 90 * 86_400_000


class PrivacySettings(Section):
    """What the job knows its users by."""

    key_file: Annotated[
        str,
        Meta(
            description="file that holds the secret with which ids of users are hashed to keys of the job's state; "
            "RIVERRANK_PRIVACY_KEY goes first. None: who guesses an id can see whether it is there. With another "
            "secret no state is found again"
        ),
    ] = ""

    def key(self) -> bytes:
        """What pseudonyms are made with: of the secret from the environment, else from `key_file`; empty for none."""
        given = os.environ.get(PRIVACY_KEY_VARIABLE) or secret("privacy.key_file", self.key_file)
        return hashlib.blake2b(given.encode()).digest() if given else b""


class Config(Section):
    """All that can be set. In the file, the keys and tables of `behaviour` stand at top level, beside the edges."""

    behaviour: Behaviour = Behaviour()
    files: FileSettings = FileSettings()
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    cache: CacheSettings = CacheSettings()
    privacy: PrivacySettings = PrivacySettings()
    job: JobSettings = JobSettings()


# The flags of whatever runs the job, each with the key that it sets.
FLAGS: Mapping[str, str] = {
    "--events": "files.events",
    "--items": "files.items",
    **{output.flag: f"files.{output.field}" for output in OUTPUTS.values()},
    "--kafka": "kafka.bootstrap",
    "--redis": "redis.url",
}


def topics_of(config: Config) -> dict[str, str]:
    """The topics that a run of `config` reads and writes, by stream: of those that no file stands in for."""
    kafka, files = config.kafka, config.files
    if not kafka.bootstrap:
        return {}
    streams = {"events": "" if files.events else kafka.events, "items": "" if files.items else kafka.items}
    streams |= {name: "" if files.of(output) else kafka.of(output) for name, output in OUTPUTS.items()}
    return {stream: topic for stream, topic in streams.items() if topic}


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


def parse(table: Mapping[str, Any], flags: Mapping[str, Any] | None = None, kind: type[Config] = Config) -> Config:
    """The configuration, of type `kind`, that a parsed TOML document holds.

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
        if isinstance(target, dict):  # else it is no table where one belongs, which the schema says
            target[key] = value
    schema = schema_of(kind)
    try:
        shaped = schema.prepared(document)
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        return _consistent(msgspec.convert(shaped, kind))
    except msgspec.ValidationError as error:
        setting = schema.at(str(error).rpartition(" - at `")[2].rstrip("`"))
        got: Any = shaped
        for name in setting.path:
            got = got[name]
        got = masked(got) if isinstance(got, str) else got
        raise UsageError(f"{setting.key}: expected {setting.expected()}, got {got!r}") from error


def _consistent(config: Config) -> Config:
    """What no single key can say. Reads the files that are read with it (`files`)."""
    redis, kafka, job = config.redis, config.kafka, config.job
    if redis.url and redis.url_file:
        raise UsageError("redis.url_file: redis.url is given too; give one of them")
    if redis.url_file:
        redis = msgspec.structs.replace(redis, url=secret("redis.url_file", redis.url_file))
        config = msgspec.structs.replace(config, redis=redis)
    if redis.url:
        _check_redis_url(redis.url)
    for broker in kafka.bootstrap.split(",") if kafka.bootstrap else ():
        host, _, port = broker.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise UsageError(f"kafka.bootstrap: expected HOST:PORT, or several with commas between, got {broker!r}")
    topics = [kafka.events, kafka.items, *map(kafka.of, OUTPUTS.values())]
    for topic in filter(None, topics):
        if topics.count(topic) > 1:
            raise UsageError(f"kafka: two streams are on the topic {topic!r}; give each a topic of its own")
    if kafka.security.startswith("SASL") and not (kafka.username and kafka.password()):
        raise UsageError(
            f"kafka.username: {kafka.security} needs a user name, and a password in the environment variable "
            f"{KAFKA_PASSWORD_VARIABLE} or in kafka.password_file"
        )
    config = msgspec.structs.replace(config, behaviour=with_prior(config.behaviour))
    _check_rules(config.behaviour.rules)
    _check_scale(config.behaviour.reward)
    if job.parallelism > job.max_parallelism:
        raise UsageError(
            f"job.parallelism: expected at most job.max_parallelism ({job.max_parallelism}), got {job.parallelism}"
        )
    if job.state_ttl < config.behaviour.allowed_lateness:
        raise UsageError("job.state_ttl: expected at least allowed_lateness: event ids are remembered that long")
    if redis.url and job.state_ttl <= config.cache.ttl:
        raise UsageError(
            f"job.state_ttl: expected more than cache.ttl ({duration(config.cache.ttl)}), got {duration(job.state_ttl)}"
            ": what is kept of an erasure has to outlast every slate that may be in the cache"
        )
    return config


def _check_scale(reward: RewardSettings) -> None:
    """The scale of ratings is one, and what is positive lies on it."""
    if not reward.rate_least < reward.rate_most:
        raise UsageError(
            f"reward.rate_most: expected more than reward.rate_least ({reward.rate_least:g}), got {reward.rate_most:g}"
        )
    if not reward.rate_least < reward.rate_from <= reward.rate_most:
        raise UsageError(
            f"reward.rate_from: expected a rating of the scale, above reward.rate_least ({reward.rate_least:g}) and at "
            f"most reward.rate_most ({reward.rate_most:g}), got {reward.rate_from:g}; set the scale to that of your "
            "ratings"
        )


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
    is_numbered = not parts.path.strip("/") or parts.path[1:].isdecimal()
    is_net = parts.scheme in ("redis", "rediss") and parts.hostname and is_numbered
    known = parts.path if parts.scheme == "unix" else is_net
    if not (known and port_is_whole):
        raise UsageError(f"redis.url: expected a URL such as redis://HOST:PORT/0, got {masked(url)!r}")
    if MASK in (parts.username, parts.password, *parse_qs(parts.query).get("password", ())):
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
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot read it ({error.strerror}); give the path of a TOML file that is there"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error


def _jaas_quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
