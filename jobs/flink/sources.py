"""Where records come from: files, or Kafka through Flink's Table API, as DataStreams.

What a record means is decided in `operators.flink.parse`; here only where it lies and in what order it is read.
"""

from pyflink.common import WatermarkStrategy
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSource, StreamFormat
from pyflink.table import StreamTableEnvironment
from riverrank.jobs.config.schema import Config
from riverrank.operators.flink.arrivals import Lines, kafka_record
from riverrank.operators.flink.parse import Read

from .java import flink_path

STARTUP = {"earliest": "earliest-offset", "latest": "latest-offset", "committed": "group-offsets"}


def events(
    env: StreamExecutionEnvironment, tables: StreamTableEnvironment | None, config: Config, uid: str
) -> tuple[DataStream, Read]:
    """The events as they lie, and how one is read. A user's order is that of the file, or of the partition."""
    if config.files.events:
        return _lines(env, config.files.events, uid), Lines()
    assert tables is not None, "Kafka needs the tables"
    return _topic(tables, config, config.kafka.events, STARTUP[config.kafka.start], uid), kafka_record


def items(
    env: StreamExecutionEnvironment, tables: StreamTableEnvironment | None, config: Config, uid: str
) -> tuple[DataStream, Read] | None:
    """The items likewise, a topic always from its beginning; None where there are none."""
    if config.files.items:
        return _lines(env, config.files.items, uid), Lines()
    if tables is None or not config.kafka.items:
        return None
    return _topic(tables, config, config.kafka.items, "earliest-offset", uid), kafka_record


def uses_kafka(config: Config) -> bool:
    """Whether anything is read from Kafka or written to it."""
    return bool(config.kafka.bootstrap)


def table_options(config: Config) -> dict[str, str]:
    """The options that sources and sinks share: where Kafka is and how it is spoken to."""
    properties = {f"properties.{name}": value for name, value in config.kafka.java_properties().items()}
    return {"connector": "kafka", "properties.bootstrap.servers": config.kafka.bootstrap, **properties}


def with_clause(options: dict[str, str]) -> str:
    """Options as SQL has them.

    >>> with_clause({"topic": "it's"})
    "WITH ('topic' = 'it''s')"
    """
    quoted = (f"'{key}' = '{value}'" for key, value in ((k, v.replace("'", "''")) for k, v in options.items()))
    return f"WITH ({', '.join(quoted)})"


def name_sources(stream: DataStream, uid: str) -> None:
    """Give a uid to what the Table API put before `stream`, which gives none: a source keeps its offsets by it."""
    pending, number = [stream._j_data_stream.getTransformation()], 0
    while pending:
        transformation = pending.pop(0)
        if transformation.getUid() is None and "Partition" not in transformation.getClass().getSimpleName():
            transformation.setUid(f"{uid}-{number}" if number else uid)
        number += 1
        pending.extend(transformation.getInputs())


def _lines(env: StreamExecutionEnvironment, path: str, uid: str) -> DataStream:
    """One reader, so that line numbers are right. ISO-8859-1 keeps every byte: UTF-8 would replace broken ones."""
    lines = StreamFormat.text_line_format("ISO-8859-1")
    source = FileSource.for_record_stream_format(lines, flink_path(path)).build()
    return env.from_source(source, WatermarkStrategy.no_watermarks(), uid).uid(uid).set_parallelism(1)


def _topic(tables: StreamTableEnvironment, config: Config, topic: str, startup: str, uid: str) -> DataStream:
    options = table_options(config) | {
        "topic": topic,
        "properties.group.id": config.kafka.group,
        "properties.auto.offset.reset": "earliest",
        "properties.isolation.level": "read_committed",
        "scan.startup.mode": startup,
        "key.format": "raw",
        "key.fields": "message_key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
    }
    if config.kafka.bounded:
        options["scan.bounded.mode"] = "latest-offset"
    table = uid.replace("-", "_")
    tables.execute_sql(f"""
        CREATE TEMPORARY TABLE {table} (
            message_key BYTES,
            message_value BYTES,
            message_partition INT METADATA FROM 'partition' VIRTUAL,
            message_offset BIGINT METADATA FROM 'offset' VIRTUAL,
            message_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
        ) {with_clause(options)}
    """)
    rows = tables.sql_query(f"""
        SELECT message_key, message_value, message_partition, message_offset,
            EXTRACT(EPOCH FROM message_time) * 1000 + EXTRACT(MILLISECOND FROM message_time)
        FROM {table}
    """)
    stream = tables.to_data_stream(rows)
    name_sources(stream, uid)
    return stream
