"""The demo's customers at work: they read slates from Redis, act, and their events go to Kafka, in a closed loop.

It neither starts services nor draws; `demo.py` and `demo_screen.py` do.
"""

import heapq
import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import redis
from kafka import KafkaProducer
from riverrank.jobs.config.schema import Config
from riverrank.jobs.evaluation.shop import Shop
from riverrank.operators.cache.redis_cache import POPULAR, slate_key
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.state.event_types import ANSWERED
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json

from .metrics import ClickThrough, Pace, Waits

ANSWER_TIMEOUT_SECONDS = 5.0
WAITING_AT_ONCE = 8
ARMS = ("riverrank", "popular")


class _ShownItem(msgspec.Struct):
    item_id: str


class _Shown(msgspec.Struct):
    """As much of a slate as a page needs."""

    slate_id: str
    items: list[_ShownItem]


class _Answer(msgspec.Struct):
    """As much of a slate as tells which event it answers."""

    user_id: str
    trigger: str


_decode_shown = msgspec.json.Decoder(_Shown).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode


@dataclass
class _Waiting:
    """What a customer waits for: the slate that answers `trigger`, sent at `sent`."""

    trigger: str
    sent: float


class Observer(threading.Thread):
    """Sees each slate as soon as Redis holds it: told by keyspace notifications, then it reads the slate like a page.

    The time that it notes is taken when the slate has been read, so it is never earlier than the slate was there.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="slate-observer", daemon=True)
        self.answers: queue.SimpleQueue[tuple[str, str, float]] = queue.SimpleQueue()  # user, trigger, when
        self.fault: Exception | None = None
        self._ended = threading.Event()
        self._prefix = config.redis.prefix + slate_key("")
        self._redis = redis.Redis.from_url(config.redis.url, socket_timeout=10)
        self._redis.config_set("notify-keyspace-events", "Kh")
        self._published = self._redis.pubsub(ignore_subscribe_messages=True)
        self._published.psubscribe(f"__keyspace@*__:{self._prefix}*")

    def run(self) -> None:
        """Until `end`; a fault is kept for the traffic to raise."""
        try:
            while not self._ended.is_set():
                self._look()
        except Exception as fault:
            self.fault = fault

    def end(self) -> None:
        """Stop looking, and wait for that."""
        self._ended.set()
        if self.is_alive():
            self.join(5)
        self._published.close()
        self._redis.close()

    def _look(self) -> None:
        users: dict[str, None] = {}
        message = self._published.get_message(timeout=0.1)
        while message is not None:
            users[message["channel"].decode().partition(self._prefix)[2]] = None
            message = self._published.get_message(timeout=0.0)
        if not users:
            return
        slates = _slates(self._redis, [self._prefix + user for user in users])
        now = time.monotonic()
        for raw in slates:
            if raw is not None:
                answer = _decode_answer(raw)
                self.answers.put((answer.user_id, answer.trigger, now))


class Traffic:
    """All customers of `shop`, even ones served their own slate, odd ones `rr:popular`; all else is alike for both.

    A customer whose slate is not there yet is served `rr:popular`, in either arm, and counts for its arm all the same.
    After a visit a customer waits until Redis holds the slate that answers the last event of the visit (or for
    `ANSWER_TIMEOUT_SECONDS`), thinks, and comes again. While `WAITING_AT_ONCE` customers wait, the others stay at the
    door: so the job is never sent more than it keeps up with, and what is measured is its own time, not a queue's.
    """

    def __init__(self, shop: Shop, config: Config, think_seconds: float) -> None:
        self.shop = shop
        self.click_through = {arm: ClickThrough() for arm in ARMS}
        self.waits = Waits()
        self.events = Pace()
        self.late = 0
        self.started = 0.0
        self._think_seconds = think_seconds
        self._prefix = config.redis.prefix
        self._topic = config.kafka.events
        self._redis = redis.Redis.from_url(config.redis.url, socket_timeout=10)
        self._producer = KafkaProducer(**config.kafka.python_arguments(), acks=1, enable_idempotence=False)
        self._observer = Observer(config)
        self._faults: list[BaseException] = []
        self._customer = {user: number for number, user in enumerate(shop.users)}
        self._waiting: dict[int, _Waiting] = {}
        self._agenda: list[tuple[float, int]] = []  # a heap: when a customer who does not wait comes next
        self._observer.start()

    def knock(self) -> None:
        """Before the shop opens: one customer asks for a slate, whose arrival tells that the job runs."""
        user = self.shop.users[0]
        event = Event(event_id="knock", type="request", user_id=user, ts=wall_ms())
        self._producer.send(self._topic, value=to_json(event), key=user.encode()).get(timeout=30)
        self.events.add(1, time.monotonic())

    def answered(self) -> bool:
        """Whether any slate is in Redis."""
        self._check()
        return not self._observer.answers.empty()

    def open(self) -> None:
        """The shop opens now; customers come within their first think time."""
        self.started = now = time.monotonic()
        for customer in range(len(self.shop.users)):
            self._comes(customer, now + self.shop.think_seconds(customer, self._think_seconds))

    def run(self, until: float) -> None:
        """Serve whoever comes before `until` (monotonic seconds)."""
        while (now := time.monotonic()) < until:
            self._check()
            due: list[int] = []
            given_up = [who for who, waiting in self._waiting.items() if waiting.sent < now - ANSWER_TIMEOUT_SECONDS]
            for customer in given_up:  # the wait was at least this long
                self.late += 1
                self.waits.add(now - self._waiting.pop(customer).sent, now)
                self._comes(customer, now)
            while self._agenda and self._agenda[0][0] <= now and len(self._waiting) + len(due) < WAITING_AT_ONCE:
                due.append(heapq.heappop(self._agenda)[1])
            if due:
                self._serve(due)
            full = len(self._waiting) >= WAITING_AT_ONCE
            next_at = until if full or not self._agenda else min(until, self._agenda[0][0])
            self._take_answers(max(0.0, next_at - time.monotonic()))

    def finish(self, patience_seconds: float = ANSWER_TIMEOUT_SECONDS) -> int:
        """Nobody comes any more; wait for the answers on their way. Returns how many did not come."""
        deadline = time.monotonic() + patience_seconds
        while self._waiting and time.monotonic() < deadline:
            self._check()
            self._take_answers(0.05)
        return len(self._waiting)

    def slate(self, customer: int) -> bytes | None:
        """The slate (JSON) that Redis holds for `customer` now."""
        return _slates(self._redis, [self._key(customer)])[0]

    def progress(self) -> str:
        """How far the job is, as the customers see it."""
        return f"{self.waits.overall().count} visits answered, {len(self._waiting)} waited for, {self.late} late"

    def close(self) -> None:
        """Let go of Kafka and Redis."""
        self._observer.end()
        self._producer.close(timeout=2)
        self._redis.close()

    def _comes(self, customer: int, when: float) -> None:
        heapq.heappush(self._agenda, (when, customer))

    def _key(self, customer: int) -> str:
        return self._prefix + slate_key(self.shop.users[customer])

    def _serve(self, customers: list[int]) -> None:
        own = [self._key(customer) for customer in customers if customer % 2 == 0]
        popular, *slates = _slates(self._redis, [self._prefix + POPULAR, *own])
        served = iter(slates)
        for customer in customers:
            slate = next(served) if customer % 2 == 0 else None
            self._visit(customer, slate or popular)

    def _visit(self, customer: int, raw: bytes | None) -> None:
        page = None if raw is None else _decode_shown(raw)
        items = [] if page is None else [item.item_id for item in page.items]
        visit = self.shop.visit(customer, None if page is None else page.slate_id, items, wall_ms())
        for event in visit.events:
            sent = time.monotonic()
            self._send(event)
            if event.type in ANSWERED:
                self._waiting[customer] = _Waiting(event.event_id, sent)
        now = time.monotonic()
        self.events.add(len(visit.events), now)
        if visit.shown:
            self.click_through[ARMS[customer % 2]].add(customer, visit.shown, visit.clicked, now)

    def _send(self, event: Event) -> None:
        future = self._producer.send(self._topic, value=to_json(event), key=event.user_id.encode())
        future.add_errback(self._faults.append)

    def _take_answers(self, patience_seconds: float) -> None:
        """Take what Redis answered; wait for a first answer at most so long."""
        try:
            answer = self._observer.answers.get(timeout=min(patience_seconds, 0.1))
            while True:
                self._take(*answer)
                answer = self._observer.answers.get_nowait()
        except queue.Empty:
            return  # all taken

    def _take(self, user: str, trigger: str, when: float) -> None:
        customer = self._customer.get(user)
        waiting = None if customer is None else self._waiting.get(customer)
        if customer is None or waiting is None or waiting.trigger != trigger:
            return  # of whoever is a customer by the page, or the slate of an earlier event of the same visit
        del self._waiting[customer]
        self.waits.add(when - waiting.sent, when)
        self._comes(customer, time.monotonic() + self.shop.think_seconds(customer, self._think_seconds))

    def _check(self) -> None:
        if self._observer.fault is not None:
            raise self._observer.fault
        if self._faults:
            raise self._faults[0]


def _slates(client: redis.Redis, keys: Iterable[str]) -> list[bytes | None]:
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.hget(key, "slate")
    return list(pipeline.execute())
