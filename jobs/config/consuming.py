"""A consumer of the Kafka that is configured, which leaves nothing behind wherever it ends."""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .edges import KafkaSettings

if TYPE_CHECKING:
    from kafka import KafkaConsumer
    from kafka.net.compat import KafkaNetClient

CLOSE_MS = 1_000  # that the end of a consumer waits for its broker at most


@contextmanager
def connecting() -> Iterator["Callable[..., KafkaNetClient]"]:
    """What a consumer, a producer or an admin is to make its client with, by the setting `kafka_client`, until it is
    made: where that fails, nothing is left of it.

    Of one that does not reach its broker kafka-python 3.0 leaves a thread that tries on for ever, and sockets that the
    collector alone finds, once no frame holds them.
    """
    from kafka.net.compat import KafkaNetClient  # noqa: PLC0415 - slow to import, and most commands need none of it

    clients: list[KafkaNetClient] = []

    def client(**given: Any) -> KafkaNetClient:
        clients.append(KafkaNetClient(**given))
        return clients[-1]

    try:
        yield client
    except BaseException as error:
        for each in clients:
            each.close()
        traceback.clear_frames(error.__traceback__)
        gc.collect(1)  # 0.5 ms
        raise


@contextmanager
def consuming(kafka: KafkaSettings, *topics: str, **settings: Any) -> Iterator["KafkaConsumer"]:
    """A consumer of `topics` until the end of the context, which commits nothing by itself; `settings` are
    kafka-python's. Raises what kafka-python raises.
    """
    from kafka import KafkaConsumer  # noqa: PLC0415 - likewise

    with connecting() as client:
        own = {"enable_auto_commit": False, "kafka_client": client, **settings}
        consumer = KafkaConsumer(*topics, **own, **kafka.python_arguments())
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False, timeout_ms=CLOSE_MS)
