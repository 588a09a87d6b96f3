"""The configuration: one TOML file, the environment for secrets, and flags on top, as one typed `Config`.

Settings of the operators stand in `operators.settings`, those of the edges in `edges`; here they are one, read and held
against each other.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta, inspect
from riverrank.jobs.errors import UsageError
from riverrank.operators.arms import arms_of, changes_of
from riverrank.operators.cache.urls import MASK, masked, parsed
from riverrank.operators.catalogue.tokens import token_of
from riverrank.operators.settings import Behaviour, FairnessSettings, RewardSettings, RulesSettings, Section
from riverrank.state.outputs import OUTPUTS
from riverrank.state.runtime.durations import duration

from .edges import (
    KAFKA_PASSWORD_VARIABLE,
    OWN_GROUPS,
    OWN_PROPERTIES,
    CacheSettings,
    FileSettings,
    JobSettings,
    KafkaSettings,
    PrivacySettings,
    RedisSettings,
    ServeSettings,
)
from .fields import schema_of, shown
from .files import secret, with_noise, with_prior

REDIS_URL_VARIABLE = "RIVERRANK_REDIS_URL"
MOST_FLOORS = 16  # each is looked for in every slate


class Config(Section):
    """All that can be set. In the file, the keys and tables of `behaviour` stand at top level, beside the edges."""

    behaviour: Behaviour = Behaviour()
    files: FileSettings = FileSettings()
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    cache: CacheSettings = CacheSettings()
    privacy: PrivacySettings = PrivacySettings()
    job: JobSettings = JobSettings()
    serve: ServeSettings = ServeSettings()
    path: Annotated[str, Meta(extra={"is_setting": False})] = ""  # of the file that it was read from


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
        return msgspec.structs.replace(parse(table, given), path=str(path or ""))
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
        for_table = isinstance(setting.type, inspect.DictType) and not isinstance(got, Mapping)
        what = type(got).__name__ if for_table else shown(got)  # what belongs in a table may be a secret
        raise UsageError(f"{setting.key}: expected {setting.expected()}, got {what}") from error


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
        _check_prefix(redis)
    _check_kafka(kafka)
    behaviour = with_noise(with_prior(config.behaviour), config.privacy.key())
    config = msgspec.structs.replace(config, behaviour=behaviour)
    _check_rules(config.behaviour.rules)
    _check_floors(config.behaviour.fairness)
    _check_scale(config.behaviour.reward)
    _check_arms(config.behaviour)
    if job.parallelism > job.max_parallelism:
        raise UsageError(
            f"job.parallelism: expected at most job.max_parallelism ({job.max_parallelism}), got {job.parallelism}"
        )
    if job.state_ttl < config.behaviour.allowed_lateness:
        raise UsageError("job.state_ttl: expected at least allowed_lateness: event ids are remembered that long")
    if config.behaviour.noise.epsilon and job.state_ttl < config.behaviour.noise.window:
        raise UsageError(
            "job.state_ttl: expected at least noise.window: what a user contributed is read off the history"
        )
    if 0 < config.cache.depth < config.behaviour.slate.size:
        raise UsageError(
            f"cache.depth: expected at least slate.size ({config.behaviour.slate.size}), or 0 for as many, got "
            f"{config.cache.depth}"
        )
    if redis.url and job.state_ttl <= config.cache.ttl:
        raise UsageError(
            f"job.state_ttl: expected more than cache.ttl ({duration(config.cache.ttl)}), got {duration(job.state_ttl)}"
            ": what is kept of an erasure has to outlast every slate that may be in the cache"
        )
    return config


def _check_kafka(kafka: KafkaSettings) -> None:
    for broker in kafka.bootstrap.split(",") if kafka.bootstrap else ():
        host, _, port = broker.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise UsageError(
                f"kafka.bootstrap: expected HOST:PORT, or several with commas between, got {shown(broker)}"
            )
    topics = [kafka.events, kafka.items, *map(kafka.of, OUTPUTS.values())]
    for topic in filter(None, topics):
        if topics.count(topic) > 1:
            raise UsageError(f"kafka: two streams are on the topic {topic!r}; give each a topic of its own")
    if kafka.security.startswith("SASL") and not (kafka.username and kafka.password()):
        raise UsageError(
            f"kafka.username: {kafka.security} needs a user name, and a password in the environment variable "
            f"{KAFKA_PASSWORD_VARIABLE} or in kafka.password_file"
        )
    if kafka.security.startswith("SASL") and kafka.mechanism == "OAUTHBEARER" and not _is_token_url(kafka.token_url):
        raise UsageError(
            f"kafka.token_url: expected https://HOST/PATH, or http, without a user, a blank or a comma, got "
            f"{masked(kafka.token_url)!r}"
        )
    for name in kafka.properties:
        if name in OWN_PROPERTIES or name.startswith(OWN_GROUPS):
            raise UsageError(
                f"kafka.properties: {name} is set by the job itself, from the other settings of [kafka]; leave it out"
            )


def _is_token_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return bool(is_whole) and "@" not in parts.netloc and not re.search(r"[\s,]", url)


def _check_arms(behaviour: Behaviour) -> None:
    """Each arm of an experiment changes what it can, to what fits."""
    for name, arm in behaviour.experiment.arms.items():
        try:
            changes: dict[str, dict[str, Any]] = {}
            for section, setting, value in changes_of(name, arm):
                changes.setdefault(section, {})[setting] = value
            parse(changes)
        except UsageError as error:
            raise UsageError(f"experiment.arms.{name}: {error}") from error
        except ValueError as error:
            raise UsageError(str(error)) from error
    try:
        arms_of(behaviour)
    except ValueError as error:
        raise UsageError(str(error)) from error


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


def each_rule(rules: RulesSettings) -> Iterator[tuple[str, str]]:
    """What rules name, each with its setting."""
    return ((name, rule) for name in rules.__struct_fields__ for rule in getattr(rules, name))


def _check_rules(rules: RulesSettings) -> None:
    for name, rule in each_rule(rules):
        try:
            token_of(rule)
        except ValueError as error:
            raise UsageError(f"rules.{name}: {error}") from None


def _check_floors(fairness: FairnessSettings) -> None:
    """What floors name could be, and they leave each other room."""
    tokens: dict[str, str] = {}
    for floor in fairness.floors:
        try:
            token = token_of(floor)
        except ValueError as error:
            raise UsageError(f"fairness.floors: {error}") from None
        if token in tokens:
            raise UsageError(f"fairness.floors: {shown(floor)} and {shown(tokens[token])} are the same; leave out one")
        tokens[token] = floor
    if len(tokens) > MOST_FLOORS:
        raise UsageError(f"fairness.floors: expected at most {MOST_FLOORS}, got {len(tokens)}")
    if (total := sum(fairness.floors.values())) > 1.0 + 1e-9:
        raise UsageError(f"fairness.floors: expected shares that are 1 together at most, got {total:g}")


def _check_redis_url(url: str) -> None:
    try:
        said = parsed(url)
    except ValueError as error:
        raise UsageError(f"redis.url: {error}") from error
    parts = urlsplit(said.single)
    given = (parts.username, parts.password, *parse_qs(parts.query).get("password", ()), *dict(said.sentinels).values())
    if MASK in given:
        raise UsageError(
            f"redis.url: its password is masked; give the URL in the environment variable {REDIS_URL_VARIABLE} "
            "or in a file that redis.url_file names"
        )


def _check_prefix(redis: RedisSettings) -> None:
    """In a cluster, what is written together has to lie together, which braces in a key decide."""
    if parsed(redis.url).kind == "cluster" and not re.fullmatch(r"[^{}]*|[^{]*\{[^}]+\}.*", redis.prefix, re.DOTALL):
        raise UsageError(
            f"redis.prefix: expected no braces, or something between them, as in {{shop}}:, for a cluster; got "
            f"{redis.prefix!r}"
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
