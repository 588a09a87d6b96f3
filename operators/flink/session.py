"""SESSION as Flink sees it: feedbacks on the main output, by user; beside it what SIGNALS and RANKER learn from."""

from collections.abc import Iterator
from typing import Any

from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from riverrank.operators.export.sessions import session_pieces
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour
from riverrank.state import uids
from riverrank.state.codec import StateRefused
from riverrank.state.event_types import ASKING, EXPORT
from riverrank.state.hashing import pseudonym
from riverrank.state.messages import encode
from riverrank.state.outputs import Origin
from riverrank.state.records.decoding import Reject

from .arrivals import decode_arrival, event_of, wall_ms
from .channels import END_OF_INPUT, ONE_SHARD, PAIRS, SAMPLE, Emitter, Letters, Outputs, keep, value_state
from .shipped import Shipped, refusals_told, tell_refusal

TIMERS_EVERY_MS = 10_000  # those of a user fall together as far


class SessionFunction(Shipped, KeyedProcessFunction):
    """SESSION, keyed by the user's pseudonym: decodes the event, and keeps a value of bytes a user.

    Its logic calls no kernel: in a job of one subtask SIGNALS, which does, is in its chain (`native`).
    """

    Logic = Session

    def __init__(self, behaviour: Behaviour, topic: str, outputs: Outputs, ttl_ms: int, key: bytes) -> None:
        """`key` makes the pseudonyms."""
        self.behaviour, self.topic, self.outputs, self.ttl_ms = behaviour, topic, outputs, ttl_ms
        self.key = key

    def open(self, runtime_context: RuntimeContext) -> None:
        self.session = self.Logic(self.behaviour)
        self.state = runtime_context.get_state(value_state(uids.SESSION_VALUE, self.ttl_ms))
        self.letters = Letters(self.outputs, uids.SESSION, runtime_context)
        self.exports = Emitter(self.outputs, Origin.EXPORT)

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        self.took_record()
        arrival = decode_arrival(value)
        event = event_of(arrival, self.behaviour)
        if isinstance(event, Reject):
            yield from self.letters.refuse(arrival, event, self.topic)
            return
        held, now = self.state.value(), wall_ms()
        try:
            accepted = self.session.accept(event, held, now)
        except StateRefused as fault:
            tell_refusal(fault)
            raise
        keep(self.state, held, accepted.state)
        if accepted.waiting and event.type == "impression":
            timers = ctx.timer_service()
            over = now + self.behaviour.impression.window
            timers.register_processing_time_timer(over - over % -TIMERS_EVERY_MS)
            timers.register_event_time_timer(END_OF_INPUT)
        elif accepted.feedback is not None and accepted.feedback.outcomes and not accepted.waiting:
            ctx.timer_service().delete_event_time_timer(END_OF_INPUT)
        feedback = accepted.feedback
        if accepted.reject is not None:
            yield from self.letters.refuse(arrival, accepted.reject, self.topic)
        elif feedback is None:
            self.letters.tally.redelivered += 1
            self.letters.counts.add("redelivered")
        if feedback is None:
            self.letters.tell()
            return
        self.letters.tally.accepted += 1
        self.letters.counts.add("events", event.type)
        self.letters.tell()
        encoded = encode(feedback)
        yield Row(pseudonym(event.user_id, self.key), encoded)
        if event.type in ASKING:
            if event.type == EXPORT and self.exports:
                yield from self.exports.emit(event.user_id, session_pieces(event, held))
            return
        for shard in self.session.routes(feedback):
            yield PAIRS, Row(str(shard), encoded)
        if self.session.draw_sample(feedback):
            yield SAMPLE, Row(ONE_SHARD, encoded)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        """Close the impressions of a user who did not come back. Their learner hears of it; a timer reaches no side
        output in thread mode, so SIGNALS and RANKER do not.
        """
        held = self.state.value()
        ended = timestamp == END_OF_INPUT
        with refusals_told():
            accepted = self.session.close(held, None if ended else timestamp)
        keep(self.state, held, accepted.state)
        if not (ended or accepted.waiting):
            ctx.timer_service().delete_event_time_timer(END_OF_INPUT)
        if accepted.feedback is not None:
            yield Row(ctx.get_current_key(), encode(accepted.feedback))
