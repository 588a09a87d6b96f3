"""A consumer of the Kafka that is configured, which leaves nothing behind wherever it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .edges import KafkaSettings

if TYPE_CHECKING:
    from kafka import KafkaConsumer

CLOSE_MS = 1_000  # that the end of a consumer waits for its broker at most


@contextmanager
def consuming(kafka: KafkaSettings, *topics: str, **settings: Any) -> Iterator["KafkaConsumer"]:
    """A consumer of `topics` until the end of the context, which commits nothing by itself; `settings` are
    kafka-python's.

    Of one that does not reach its broker kafka-python 3.0 leaves a thread that tries on for ever; here it ends. Raises
    what kafka-python raises.
    """
    from kafka import KafkaConsumer  # noqa: PLC0415 - slow to import, and most commands need none of it
    from kafka.net.compat import KafkaNetClient  # noqa: PLC0415 - likewise

    clients: list[KafkaNetClient] = []

    def client(**given: Any) -> KafkaNetClient:
        clients.append(KafkaNetClient(**given))
        return clients[-1]

    own = {"enable_auto_commit": False, "kafka_client": client, **settings}
    try:
        consumer = KafkaConsumer(*topics, **own, **kafka.python_arguments())
    except BaseException:
        for each in clients:
            each.close()
        raise
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False, timeout_ms=CLOSE_MS)
