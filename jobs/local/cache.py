"""CACHE without Flink: the job's own outbox and sender, in memory."""

from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure
from riverrank.operators.cache.outbox import Outbox
from riverrank.operators.cache.redis_cache import Cache, user_of
from riverrank.operators.cache.sender import Sender, UndeliveredError
from riverrank.operators.export.cache import cache_pieces
from riverrank.state.journal import DictEntries
from riverrank.state.messages import CacheWrite, encode
from riverrank.state.outputs import Origin, Records

from .pipeline import Write


class LocalCache:
    """Takes writes, and hands them to Redis many at a time; what Redis does not take now is tried again later."""

    def __init__(self, config: Config, outputs: dict[str, Write]) -> None:
        """`outputs` as those of `Pipeline`: the receipt of an erasure goes there once Redis has carried it out."""
        redis, cache = config.redis, config.cache
        connection = Cache(redis.url, redis.prefix, cache.ttl, redis.timeout)
        self._sender = Sender(connection, cache.flush_every, cache.drain, config.privacy.key())
        self._outbox = Outbox(DictEntries(), self._sender)
        self._outputs = outputs
        self._receipts, self._exports = Records(Origin.RECEIPT, outputs), Records(Origin.EXPORT, outputs)

    def start(self) -> None:
        """Begin to write, by a thread: not before whatever forks."""
        self._sender.start()

    def put(self, write: CacheWrite) -> None:
        """Take one write."""
        self._sender.check()
        self._outbox.add(encode(write))
        if write.asked is not None:
            pieces = cache_pieces(write.asked, self._outbox.waiting(write.key))
            self._write(self._exports, write.asked.user_id, pieces)
        self._settle()

    def finish(self) -> None:
        """Write all that is left, and close the connection. Raises Failure where Redis does not take it."""
        try:
            self._sender.drain(self._outbox)
        except UndeliveredError as error:
            raise Failure(str(error)) from error
        finally:
            self._sender.close()
            self._settle()

    def _settle(self) -> None:
        for write in self._outbox.settled():
            if write.receipt is not None:
                self._write(self._receipts, user_of(write.key), write.receipt)

    def _write(self, records: Records, user_id: str, thing: object) -> None:
        for name, key, value in records.of(user_id, thing):
            self._outputs[name](key, value)
