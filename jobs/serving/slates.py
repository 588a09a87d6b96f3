"""What is asked of a running system from outside: the cached slate of a user, why it is so, and erasure.

Nothing here computes a slate; the cache and the topics say all there is.
"""

import sys
import uuid
from collections.abc import Collection, Sequence
from typing import NamedTuple, TextIO

import msgspec
import redis
from kafka import KafkaProducer
from kafka.errors import KafkaError
from rich.console import Console
from rich.table import Table
from rich.text import Text
from riverrank.jobs.config.edges import RedisSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure, UsageError
from riverrank.operators.cache.connections import Command, Connections, NodeAway, Reply
from riverrank.operators.cache.faults import fault_of, line_of
from riverrank.operators.cache.redis_cache import GONE, POPULAR, slate_key
from riverrank.operators.cache.rights import rights_of_reader
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.state.records.decoding import decode_event
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Cause, Slate, to_json
from riverrank.state.records.printable import printable

from .titles import named_on, titles_of

BROKER_TIMEOUT_MS = 10_000

_decode_slate = msgspec.json.Decoder(Slate).decode


def get(config: Config, user: str, warnings: TextIO | None = None) -> bytes | None:
    """The slate (JSON) that Redis holds for `user`, without items that are gone (`rr:gone`); for whoever has none, the
    popular one, which `warnings` is told.

    One round trip. None where Redis holds neither. `warnings` is standard error unless given.

    Raises:
        UsageError: `user` is no id, no Redis is configured, or it can't be reached.
        Failure: Redis answers, but not with a slate.
    """
    found = _found(config, user, warnings)
    return None if found is None else found.raw


class _Found(NamedTuple):
    """A cached slate (JSON) without what is gone, and whether it is that of whoever has none."""

    raw: bytes
    is_popular: bool


def _found(config: Config, user: str, warnings: TextIO | None) -> _Found | None:
    require_user(user)
    (own, popular), gone = cached(config.redis, (slate_key(user), POPULAR))
    if own is not None:
        return _Found(_without(own, gone, user), False)
    holder = printable(f"{config.redis.prefix}{slate_key(user)}")
    told = sys.stderr if warnings is None else warnings
    if popular is None:
        print(f"Redis holds no {holder}, and no {config.redis.prefix}{POPULAR} either", file=told)
        return None
    print(f"Redis holds no {holder}: this is {config.redis.prefix}{POPULAR}", file=told)
    return _Found(_without(popular, gone, POPULAR), True)


def _without(raw: bytes, gone: Collection[str], user: str) -> bytes:
    """A slate without what is gone, as it is where it holds nothing of that. Raises Failure where it is no slate."""
    try:
        slate = _decode_slate(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(f"what Redis holds for {printable(user)} is no slate: {error}") from error
    left = tuple(slot for slot in slate.items if slot.item_id not in gone)
    return raw if len(left) == len(slate.items) else to_json(msgspec.structs.replace(slate, items=left))


def explain(
    config: Config, user: str, as_json: bool = False, output: TextIO | None = None, warnings: TextIO | None = None
) -> None:
    """Write why each item is on the cached slate of `user`: its sources, and its reasons with their weights; items by
    their titles, where an items file or topic is configured. Who has no slate is shown the popular one, which says so.

    A table on a terminal, tab-separated lines elsewhere, the slate's own JSON with `as_json`.
    `output` is standard output unless given, and `warnings` standard error: a topic without an answer costs no more
    than the titles.

    Raises:
        UsageError: no Redis is configured, it can't be reached, or there is no such file of items.
        Failure: there is nothing to explain.
    """
    out = sys.stdout if output is None else output
    found = _found(config, user, warnings)
    if found is None:
        raise Failure(
            f"no slate to explain for {printable(user)}: the job has written none yet (riverrank run --redis URL)"
        )
    if as_json:
        print(found.raw.decode(), file=out)
        return
    slate = _decode_slate(found.raw)
    titles = _titles(config, slate, sys.stderr if warnings is None else warnings)
    says = f"{printable(user)} has no slate; popular with everyone, {headline(slate)}" if found.is_popular else None
    if out.isatty():
        Console(file=out, highlight=False).print(table_of(slate, titles, says=says))
    else:
        _plain(slate, titles, says or headline(slate), out)


def _titles(config: Config, slate: Slate, warnings: TextIO) -> dict[str, str]:
    """The titles of what a slate names; none, which `warnings` is told, where the topic can't be read."""
    try:
        return titles_of(config, named_on(slate))
    except (UsageError, Failure) as error:
        if config.files.items:
            raise
        print(f"titles are left out: {printable(str(error))}", file=warnings)
        return {}


def erase(config: Config, user: str, output: TextIO | None = None) -> str:
    """Ask for the erasure of `user`: an erase event, now, on the events topic, keyed by user. Returns its event id.

    With no Kafka configured the event is written to `output` (standard output unless given), for a file of events.

    Raises:
        UsageError: `user` is no id, or the broker can't be reached.
    """
    require_user(user)
    event = Event(event_id=f"erase-{uuid.uuid4()}", type="erase", user_id=user, ts=wall_ms())
    if not config.kafka.bootstrap:
        print(to_json(event).decode(), file=sys.stdout if output is None else output)
        return event.event_id
    send(config, event)
    return event.event_id


def send(config: Config, event: Event) -> None:
    """Send an event to the events topic, keyed by user. Raises UsageError where the broker does not take it."""
    producer: KafkaProducer | None = None
    try:
        producer = KafkaProducer(
            **config.kafka.python_arguments(), max_block_ms=BROKER_TIMEOUT_MS, bootstrap_timeout_ms=BROKER_TIMEOUT_MS
        )
        sent = producer.send(config.kafka.events, value=to_json(event), key=event.user_id.encode())
        sent.get(timeout=BROKER_TIMEOUT_MS / 1000)
    except (KafkaError, OSError) as error:
        raise UsageError(
            f"kafka.bootstrap: {config.kafka.bootstrap} takes no event ({error}); start the broker, or mend the address"
        ) from error
    finally:
        if producer is not None:
            producer.close(timeout=1)


def require_user(user: str) -> None:
    """Raises UsageError where `user` is no id."""
    try:
        checked = decode_event(to_json(Event("e", "request", user, 0)))
    except UnicodeEncodeError as error:
        raise UsageError("USER: expected UTF-8") from error
    if not isinstance(checked, Event):
        raise UsageError(f"USER: {checked.detail.removeprefix('user_id: ')}")


def table_of(
    slate: Slate, titles: dict[str, str] | None = None, rows: int | None = None, says: str | None = None
) -> Table:
    """A slate as a table for a terminal: a row a slot. `titles` are shown in place of item ids; `rows` at most. What it
    `says` above is its headline, unless given.
    """
    named = titles or {}
    table = Table(title=Text(says or headline(slate)), title_justify="left", expand=False)
    table.add_column("rank", justify="right")
    table.add_column("item", overflow="ellipsis", no_wrap=True)
    table.add_column("score", justify="right")
    table.add_column("sources")
    table.add_column("reasons")
    for slot in slate.items[:rows]:
        cells = (
            str(slot.rank),
            printable(named.get(slot.item_id, slot.item_id)),
            f"{slot.score:.3f}",
            ", ".join(slot.sources),
            reasons_of(slot.reasons, named),
        )
        table.add_row(*map(Text, cells))  # a string would be read as markup
    return table


def headline(slate: Slate) -> str:
    """What a slate was made from, in one line."""
    return printable(
        f"{slate.slate_id}: {slate.strategy}, arm {slate.arm}, answers {slate.trigger}, learner of "
        f"{slate.model.examples} examples, ranker {slate.model.global_version}"
    )


def reasons_of(reasons: Sequence[Cause], titles: dict[str, str] | None = None) -> str:
    """Reasons as words, each with what it names and its weight in units of the score, as they come.

    >>> reasons_of([Cause("because_you_clicked", item_id="i-3", weight=0.42), Cause("popular")])
    'because you clicked i-3 (+0.42), popular'
    """
    words = []
    for reason in reasons:
        named = reason.value if reason.item_id is None else (titles or {}).get(reason.item_id, reason.item_id)
        weight = "" if reason.weight is None else f" ({reason.weight:+.2f})"
        words.append(reason.code.replace("_", " ") + (f" {printable(named)}" if named else "") + weight)
    return ", ".join(words)


def _plain(slate: Slate, titles: dict[str, str], says: str, out: TextIO) -> None:
    """A line a slot; a column more where anything has a title."""
    print(f"# {says}", file=out)
    print("\t".join(["rank", "item", *(["title"] if titles else []), "score\tpropensity\tsources\treasons"]), file=out)
    for slot in slate.items:
        cells = (
            slot.rank,
            printable(slot.item_id),
            *([printable(titles.get(slot.item_id, ""))] if titles else []),
            f"{slot.score:.4f}",
            f"{slot.propensity:.4f}",
            ",".join(slot.sources),
            reasons_of(slot.reasons, titles),
        )
        print("\t".join(map(str, cells)), file=out)


def cached(settings: RedisSettings, keys: Sequence[str]) -> tuple[list[bytes | None], set[str]]:
    """The field `slate` of each of `keys`, and the ids of items that are gone, in one round trip."""
    if not settings.url:
        raise UsageError("redis.url: no Redis is configured; give --redis redis://HOST:PORT/0")
    try:
        connections = Connections(settings.url, settings.timeout)
    except ValueError as error:
        raise UsageError(f"redis.url: {error}") from error
    named = [(f"{settings.prefix}{key}", ("HGET", f"{settings.prefix}{key}", "slate")) for key in keys]
    gone_key = f"{settings.prefix}{GONE}"
    commands = [Command(*each) for each in (*named, (gone_key, ("SMEMBERS", gone_key)))]
    try:
        replies = connections.run(commands, connections.deadline())
    finally:
        connections.close()
    for reply in replies:
        _check(reply, connections, settings.prefix)
    *slates, gone = replies
    return slates, {item_id.decode("utf-8", "surrogateescape") for item_id in gone}


def _check(reply: Reply, connections: Connections, prefix: str) -> None:
    """Raises UsageError where there is no reply, and Failure where it is a refusal."""
    where, rights = connections.where, rights_of_reader(prefix)
    if isinstance(reply, NodeAway):
        fault = fault_of(reply, connections.url, rights)
        raise UsageError(f"redis.url: {where} can't be reached: it {fault}") from reply
    if isinstance(reply, redis.ResponseError):
        line = line_of(reply, connections.url, rights)
        raise Failure(f"Redis at {where} does not answer as it should: {line}") from reply
