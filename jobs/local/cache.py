"""CACHE without Flink: the job's own outbox and sender, in memory."""

from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure
from riverrank.operators.cache.outbox import Outbox, Sender
from riverrank.operators.cache.redis_cache import Cache
from riverrank.state.journal import DictEntries
from riverrank.state.messages import CacheWrite, encode
from riverrank.state.outputs import Origin, Records

from .pipeline import Write

WRITES_BETWEEN_ATTEMPTS = 500


class LocalCache:
    """Takes writes, and hands them to Redis many at a time; what Redis does not take now is tried again later."""

    def __init__(self, config: Config, outputs: dict[str, Write]) -> None:
        """`outputs` as those of `Pipeline`: the receipt of an erasure goes there once Redis has carried it out."""
        redis = config.redis
        self._cache = Cache(redis.url, redis.prefix, config.cache.ttl, redis.timeout)
        self._outbox = Outbox(DictEntries())
        self._sender = Sender(self._cache, config.cache.drain)
        self._outputs, self._receipts = outputs, Records(Origin.RECEIPT, outputs)
        self._since_attempt = 0

    def put(self, write: CacheWrite) -> None:
        """Take one write."""
        self._outbox.add(encode(write))
        self._since_attempt += 1
        if self._since_attempt >= WRITES_BETWEEN_ATTEMPTS:
            self._since_attempt = 0
            for settled in self._sender.flush(self._outbox):
                self._settle(settled)

    def finish(self) -> None:
        """Write all that is left, and close the connection. Raises Failure where Redis does not take it."""
        try:
            for settled in self._sender.drain(self._outbox):
                self._settle(settled)
        except RuntimeError as error:
            raise Failure(str(error)) from error
        finally:
            self._cache.close()

    def _settle(self, write: CacheWrite) -> None:
        if write.receipt is not None:
            for name, key, value in self._receipts.of(write.key.partition(":")[2], write.receipt):
                self._outputs[name](key, value)
