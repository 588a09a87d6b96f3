"""The job as a graph: which operator reads what, keyed by what, under which uid. What each one does is elsewhere."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pyflink.common import Types
from pyflink.datastream import DataStream, KeyedStream, OutputTag, StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.table import StreamTableEnvironment
from riverrank.jobs.config.schema import Config
from riverrank.jobs.local.reading import read_items, topic_of
from riverrank.operators.cache.redis_cache import Cache
from riverrank.operators.flink.cache import CacheFunction, SendReceipts
from riverrank.operators.flink.channels import (
    BYTES,
    KEYED,
    PAIRS,
    SAMPLE,
    Outputs,
    lines_of,
    map_state,
    records_of,
)
from riverrank.operators.flink.parse import ParseEvents, ParseItems
from riverrank.operators.flink.ranker import RankerFunction
from riverrank.operators.flink.recommend import CacheRoute, RecommendFunction
from riverrank.operators.flink.session import SessionFunction
from riverrank.operators.flink.signals import SignalsFunction
from riverrank.state import uids
from riverrank.state.outputs import OUTPUTS, Origin

from . import sinks, sources

ANSWERS = "answers"  # the slots of RECOMMEND and what follows it
# The longest that updates wait for a network buffer to fill. A feedback is sent as soon as `buffer-timeout` says; each
# buffer that is sent nearly empty wakes threads on both sides, and for updates that was a tenth of a core.
UPDATES_WAIT_MS = 50


class Operators(NamedTuple):
    """The adapters with logic of their own; for a measurement, others with the same hops."""

    session: type[SessionFunction] = SessionFunction
    signals: type[SignalsFunction] = SignalsFunction
    ranker: type[RankerFunction] = RankerFunction
    recommend: type[RecommendFunction] = RecommendFunction


def build(
    env: StreamExecutionEnvironment,
    config: Config,
    parts: Mapping[str, Path],
    operators: Operators = Operators(),  # noqa: B008 - immutable
    tallies: str = "",
) -> None:
    """Build the job of `config` on `env`; `parts` are the folders of the outputs that go to files, by name. What became
    of the records of the inputs is written to the folder `tallies`, if any.

    Broadcast to RANKER are the catalogue and the signals, to RECOMMEND also the ranker's weights.
    """
    behaviour, job, key = config.behaviour, config.job, config.privacy.key()
    env.set_parallelism(job.parallelism).set_max_parallelism(job.max_parallelism)
    tables = StreamTableEnvironment.create(env) if sources.uses_kafka(config) else None
    outputs = sinks.outputs(config, tallies)
    catalogue = functools.partial(read_items, config)
    events = _events(env, tables, config, outputs, key)
    updates = _items(env, tables, config, outputs)
    session = operators.session(behaviour, topic_of(config, "events"), outputs, job.state_ttl, key)
    feedback = _placed(_keyed(events, job.parallelism).process(session, KEYED), uids.SESSION, job.parallelism, key)
    shards = min(job.parallelism, behaviour.signals.shards)
    signals = _placed(
        _keyed(_side(feedback, PAIRS), job.parallelism).process(operators.signals(behaviour), BYTES),
        uids.SIGNALS,
        shards,
    ).set_buffer_timeout(UPDATES_WAIT_MS)
    known = signals.union(updates) if updates is not None and _follows(config) else signals
    weights = _placed(
        _keyed(_side(feedback, SAMPLE), job.parallelism)
        .connect(known.broadcast(map_state(uids.RANKER_VIEW)))
        .process(operators.ranker(behaviour, catalogue), BYTES),
        uids.RANKER,
        1,
    ).set_buffer_timeout(UPDATES_WAIT_MS)
    cache = _route(config)
    answers = _placed(
        _still_keyed(feedback)
        .connect(known.union(weights).broadcast(map_state(uids.RECOMMEND_VIEW)))
        .process(operators.recommend(behaviour, catalogue, outputs, job.state_ttl, cache), KEYED),
        uids.RECOMMEND,
        job.parallelism,
        key,
    )
    if job.separate:
        answers = answers.slot_sharing_group(ANSWERS)
    written, receipts = (None, answers) if cache is None else _cache(answers, config, outputs, key)
    rejecting, keeping = [events, feedback, updates], [feedback, answers, written]
    leaving = {Origin.ANSWER: [answers], Origin.RECEIPT: [receipts], Origin.REJECT: rejecting, Origin.EXPORT: keeping}
    _write(leaving, tables, config, parts)


def _write(
    leaving: Mapping[Origin, list[DataStream | None]],
    tables: StreamTableEnvironment | None,
    config: Config,
    parts: Mapping[str, Path],
) -> None:
    """Each wanted output from the operators that emit what it is made of, to its file or topic."""
    for output, directory in parts.items():
        sinks.to_parts(_united(leaving[OUTPUTS[output].origin], lines_of(output)), directory, output)
    for output, topic in sinks.topics(config).items():
        assert tables is not None, "topics need the tables"
        records = _united(leaving[OUTPUTS[output].origin], records_of(output))
        sinks.to_topic(tables, records, config, output, topic)


def _events(
    env: StreamExecutionEnvironment,
    tables: StreamTableEnvironment | None,
    config: Config,
    outputs: Outputs,
    key: bytes,
) -> DataStream:
    """Events with the pseudonym of their user; forward from the source, so that a user's events stay in order."""
    stream, read = sources.events(env, tables, config, uids.EVENTS_SOURCE)
    parse = ParseEvents(read, topic_of(config, "events"), outputs, key)
    return _placed(stream.process(parse, KEYED), uids.EVENTS_PARSE, _readers(config, config.files.events))


def _items(
    env: StreamExecutionEnvironment, tables: StreamTableEnvironment | None, config: Config, outputs: Outputs
) -> DataStream | None:
    """Parsed items as catalogue updates."""
    source = sources.items(env, tables, config, uids.ITEMS_SOURCE)
    if source is None:
        return None
    stream, read = source
    parse = ParseItems(config.behaviour, read, topic_of(config, "items"), outputs, updates=_follows(config))
    return _placed(stream.process(parse, BYTES), uids.ITEMS_PARSE, _readers(config, config.files.items))


def _route(config: Config) -> CacheRoute | None:
    """How RECOMMEND reaches CACHE, if there is one."""
    cache = config.cache
    route = CacheRoute(cache.buckets, cache.popular_every, cache.ttl, cache.lists, cache.depth)
    return route if config.redis.url else None


def _cache(answers: DataStream, config: Config, outputs: Outputs, key: bytes) -> tuple[DataStream, DataStream]:
    """CACHE, and what hands its receipts on."""
    redis, settings = config.redis, config.cache
    connect = functools.partial(Cache, redis.url, redis.prefix, settings.ttl, redis.timeout)
    cache = CacheFunction(connect, settings.flush_every, settings.drain, key, settings.ttl, outputs)
    written = _placed(
        _keyed(answers, config.job.parallelism).process(cache, KEYED),
        uids.CACHE,
        config.job.parallelism,
    ).start_new_chain()  # a thread of its own: it waits for Redis
    return written, _placed(written.process(SendReceipts(outputs), BYTES), uids.RECEIPTS, config.job.parallelism)


def _follows(config: Config) -> bool:
    """Whether the catalogue changes while the job runs. A file is read whole before the first slate; only its dead
    letters are left to find."""
    return not config.files.items


def _readers(config: Config, path: str) -> int:
    return 1 if path else config.job.parallelism


def _placed(stream: DataStream, uid: str, parallelism: int, key: bytes | None = None) -> DataStream:
    """`key`: what makes the pseudonyms of users, where state is kept by them."""
    return stream.name(uid).uid(uid if key is None else uids.of_users(uid, key)).set_parallelism(parallelism)


def _keyed(stream: DataStream, parallelism: int) -> KeyedStream:
    """`stream` of `KEYED` rows by their key. `DataStream.key_by` would call Python once more for each record.

    In a job of `parallelism` 1 every key is in its place, and there is no need of a shuffle, nor of a thread of its
    own for who comes after: a hop costs 40 us an event.
    """
    if parallelism == 1:
        return _still_keyed(stream)
    selector, key_type = _by_first_field()
    return KeyedStream(stream._j_data_stream.keyBy(selector, key_type), BYTES, stream)


def _still_keyed(stream: DataStream) -> KeyedStream:
    """`stream` of `KEYED` rows, keyed as what made it was, in as many subtasks: each record stays in its own."""
    jvm = get_gateway().jvm
    selector, key_type = _by_first_field()
    as_keyed = jvm.org.apache.flink.streaming.api.datastream.DataStreamUtils.reinterpretAsKeyedStream
    return KeyedStream(as_keyed(stream._j_data_stream, selector, key_type), BYTES, stream)


def _by_first_field() -> tuple[object, object]:
    """Java's key selector of `KEYED` rows, and the type of the key."""
    return get_gateway().jvm.KeyByKeySelector(), Types.ROW([Types.STRING()]).get_java_type_info()


def _side(stream: DataStream, tag: OutputTag) -> DataStream:
    """A side output as it is. `DataStream.get_side_output` puts a Python function behind each, which returns what it is
    given: 20 us a record, and one more operator in a thread that may have but one with kernels (`flink.native`).
    """
    return DataStream(stream._j_data_stream.getSideOutput(tag.get_java_output_tag()))


def _united(streams: list[DataStream | None], tag: OutputTag) -> DataStream:
    """A side output of all streams that there are."""
    first, *others = [_side(stream, tag) for stream in streams if stream is not None]
    return first.union(*others) if others else first
