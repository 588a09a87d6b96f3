"""The configuration as text: the effective one as TOML, with what each key means, said once and here."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from .schema import SCHEMA, Config, Schema, dotted_keys, is_duration, masked

DURATION_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))

MEANINGS: Mapping[str, str] = {
    "allowed_lateness": "an event older than its user's newest by more than this is late",
    "seed": "of everything that is drawn",
    "reward.view": "reward of a view; above 0 is positive",
    "reward.click": "reward of a click",
    "reward.like": "reward of a like",
    "reward.dislike": "reward of a dislike",
    "reward.cart": "reward of an item put in the cart",
    "reward.purchase": "reward of a purchase",
    "reward.rate_from": "a rating from this value on is worth 1, below it -1",
    "history.size": "interactions kept of a user",
    "history.event_ids": "event ids remembered of a user, at most",
    "impression.window": "how long an impression waits for what follows it",
    "impression.open": "impressions of a user that may wait at once",
    "signals.shards": "parallel learners of the items' signals",
    "signals.neighbours": "neighbours kept of an item",
    "signals.window": "items of a history that a new interaction is paired with",
    "signals.forgetting": "factor on a neighbour list each time that it is updated",
    "signals.half_life_events": "half-life of popularity, in events",
    "signals.trend_half_life_events": "half-life of what is trending, in events",
    "signals.items": "items with a neighbour list, a shard; the least popular go first",
    "signals.sessions": "users whose last items are kept for session neighbours; who took nothing longest goes first",
    "signals.flush_events": "feedbacks between two updates of the signals",
    "signals.flush_every": "and no later than this, by the wall clock",
    "ranker.rate": "learning rate; lower and higher ones compete with it",
    "ranker.warmup_events": "feedbacks that the ranker learns from, all of them",
    "ranker.sample": "share that it learns from later, of what the vectors are learned from",
    "ranker.flush_events": "feedbacks between two updates of the weights, less in the beginning",
    "ranker.flush_every": "and no later than this, by the wall clock",
    "learner.model": "River class of the per-user learner, below the package river",
    "learner.optimizer": "River class of its optimiser, below the package river",
    "learner.rate": "learning rate",
    "learner.parameters": "further parameters of the class, by name",
    "learner.negatives": "sampled negatives for each positive feedback",
    "learner.tokens": "content weights kept of a user",
    "learner.drift": "significance at which a change of taste is told from chance: the higher the sooner, 0 never",
    "embedding.dimensions": "length of an item's vectors",
    "embedding.rate": "learning rate of the vectors",
    "embedding.negatives": "items that a block of feedbacks is held against",
    "embedding.items": "items with vectors; those that moved least go first",
    "embedding.warmup_events": "feedbacks that the vectors are learned from, all of them",
    "embedding.sample": "share that they are learned from later",
    "sources.covisit": "whether what was taken before and after is a source",
    "sources.cosine": "whether items of the same users are a source",
    "sources.embedding": "whether the items' learned vectors are a source",
    "sources.sessions": "whether what those took who took the same of late is a source",
    "sources.content": "whether categories, attributes and given embeddings are a source",
    "sources.text": "whether the words of title and text are a source",
    "sources.interest": "whether mean and spread of a user's content are a source",
    "sources.cohort": "whether what users of the same attributes take is a source",
    "sources.popular": "whether decayed popularity is a source",
    "sources.trending": "whether popularity of late is a source",
    "sources.new": "whether the newest items are a source",
    "sources.repeat": "whether the user's own items are a source, where slate.repeat is on",
    "slate.size": "items on a slate, at most",
    "slate.repeat": "whether seen items may be on it",
    "slate.candidates": "candidates that are scored",
    "slate.seen": "seen items remembered of a user, at most",
    "diversity.strength": "of maximal marginal relevance for the widest taste: 0 is none, 1 nothing but diversity",
    "diversity.novelty": "what the least popular items gain, in logits",
    "diversity.category_cap": "items of one category on a slate, at most; 0 is no cap",
    "exploration.kind": "epsilon (slots drawn evenly), softmax (by score), thompson (by how sure the learner is)",
    "exploration.rate": "0 is none, 1 the most; for epsilon the share of slots that are drawn evenly",
    "exploration.sure_after": "feedbacks of a user after which half the rate is left; a fifth stays",
    "rules.pin": "attributes whose best items stand at the top, one slot each",
    "rules.boost": "logits added by attribute",
    "rules.bury": "logits taken away by attribute",
    "rules.exclude": "attributes whose items are left out",
    "catalogue.strict": "whether only items of the catalogue are recommended",
    "catalogue.items": "items kept, at most",
    "catalogue.new_items": "the newest items that are proposed as new",
    "files.events": "path to read events from in place of the topic; - is standard input",
    "files.items": "path to read items from in place of the topic; - is standard input",
    "files.slates": "path to write slates to; - is standard output",
    "files.predictions": "path to write predictions to; - is standard output",
    "files.dead_letters": "path to write dead letters to; - is standard output",
    "files.receipts": "path to write receipts of erasures to; - is standard output",
    "kafka.bootstrap": "HOST:PORT of a broker, or several with commas between; none is no Kafka",
    "kafka.events": "topic of the events",
    "kafka.items": "topic of the items; none is no topic",
    "kafka.slates": "topic of the slates; none is no topic",
    "kafka.dead_letters": "topic of the dead letters; none is no topic",
    "kafka.receipts": "topic of the receipts; none is no topic",
    "kafka.predictions": "topic of the predictions; none is no topic",
    "kafka.group": "consumer group of the events",
    "kafka.start": "where reading begins without a savepoint: earliest, latest, committed",
    "kafka.delivery": "of what is written: at-least-once, exactly-once (Kafka transactions)",
    "kafka.bounded": "whether to read to the topics' present end and stop",
    "kafka.transaction_prefix": "of the transactions' ids; one for each job on a broker",
    "kafka.security": "PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL",
    "kafka.mechanism": "of SASL: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512",
    "kafka.username": "of SASL",
    "kafka.password_file": "file that holds the SASL password; RIVERRANK_KAFKA_PASSWORD goes first",
    "kafka.ca_file": "PEM file of the authorities that sign the broker's certificate",
    "redis.url": "redis://HOST:PORT/0; none is no cache; RIVERRANK_REDIS_URL goes first",
    "redis.url_file": "file that holds the URL, in place of redis.url",
    "redis.prefix": "of every key",
    "redis.timeout": "of connecting and of a reply",
    "cache.ttl": "a cached slate expires after this",
    "cache.popular_every": "the slate of those who have none is refreshed at least this often",
    "cache.buckets": "groups of users that are written together",
    "cache.flush_every": "a slate waits for others to be written with no longer than this",
    "cache.drain": "how long a bounded job waits, at its end, for a Redis that is away",
    "job.name": "in Flink's own displays",
    "job.parallelism": "parallel instances of the per-user operators",
    "job.max_parallelism": "can never change after the first savepoint",
    "job.checkpoint_every": "time between two checkpoints",
    "job.state_ttl": "the state of a user who was not seen for this long is dropped",
}

HEAD = '# Durations are written as "200ms", "10s", "5m", "1h", "7d", or as a whole number of milliseconds.\n'


def render(config: Config) -> str:
    """The effective configuration as TOML that `config.parse` reads back; secrets are masked."""
    return HEAD + "\n" + "\n".join(_tables(SCHEMA, _document(config), _document(Config())))


def duration(milliseconds: int) -> str:
    """Milliseconds in the largest unit that leaves no rest.

    >>> duration(5_400_000), duration(0)
    ('90m', '0ms')
    """
    unit, length = next((u, n) for u, n in DURATION_UNITS if milliseconds % n == 0 and (milliseconds or n == 1))
    return f"{milliseconds // length}{unit}"


def undocumented() -> list[str]:
    """Keys without a meaning, and meanings without a key: none, or this module is out of date."""
    return sorted({name for name, _ in dotted_keys(SCHEMA)} ^ MEANINGS.keys())


def as_document(config: Config) -> dict[str, Any]:
    """The effective configuration as a JSON document, shaped as the file is; durations in ms, secrets masked."""
    return _document(config)


def _document(config: Config) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(config)
    document |= document.pop("behaviour")
    redis = document["redis"]
    redis["url"] = "" if redis["url_file"] else masked(redis["url"])
    return document


def _tables(schema: Schema, document: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """The keys at top level first, as TOML must have it, then each table."""
    lines = [
        _line(key, key, hint, document[key], defaults[key])
        for key, hint in schema.items()
        if not isinstance(hint, dict)
    ]
    for table, keys in schema.items():
        if isinstance(keys, dict):
            lines += ["", f"[{table}]"]
            lines += [
                _line(f"{table}.{key}", key, hint, document[table][key], defaults[table][key])
                for key, hint in keys.items()
            ]
    return [*lines, ""]


def _line(dotted: str, key: str, hint: object, value: Any, default: Any) -> str:
    if is_duration(hint):
        value, default = duration(value), duration(default)
    meaning = MEANINGS.get(dotted)
    return f"{key} = {_toml(value)}  # {f'{meaning}; ' if meaning else ''}default {_toml(default)}"


def _toml(value: Any) -> str:
    """A value of a parsed TOML document as TOML: a JSON string is a TOML string, once DEL is escaped."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return str(value)  # a date or a time, which TOML writes as Python does
