"""SESSION as Flink sees it: feedbacks on the main output, by user; beside it what SIGNALS and RANKER learn from."""

from collections.abc import Iterator
from typing import Any

from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour
from riverrank.state import uids
from riverrank.state.messages import encode
from riverrank.state.outputs import Origin
from riverrank.state.records import Reject, decode_event

from .arrivals import decode_arrival, letter_of
from .channels import ONE_SHARD, PAIRS, SAMPLE, Emitter, Outputs, keep, value_state
from .shipped import Shipped


class SessionFunction(Shipped, KeyedProcessFunction):
    """SESSION, keyed by user: decodes the event, and keeps a value of bytes a user.

    Its logic calls no kernel: in a job of one subtask SIGNALS, which does, is in its chain (`native`).
    """

    Logic = Session

    def __init__(self, behaviour: Behaviour, topic: str, outputs: Outputs, ttl_ms: int) -> None:
        self.behaviour, self.topic, self.outputs, self.ttl_ms = behaviour, topic, outputs, ttl_ms

    def open(self, runtime_context: RuntimeContext) -> None:
        self.session = self.Logic(self.behaviour)
        self.state = runtime_context.get_state(value_state(uids.SESSION_VALUE, self.ttl_ms))
        self.letters = Emitter(self.outputs, Origin.REJECT)

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        arrival = decode_arrival(value)
        event = decode_event(arrival.value)
        if isinstance(event, Reject):
            yield from self.letters.emit("", letter_of(arrival, event, self.topic))
            return
        held = self.state.value()
        accepted = self.session.accept(event, held)
        keep(self.state, held, accepted.state)
        if accepted.reject is not None:
            yield from self.letters.emit(event.user_id, letter_of(arrival, accepted.reject, self.topic))
        feedback = accepted.feedback
        if feedback is None:
            return
        encoded = encode(feedback)
        yield Row(event.user_id, encoded)
        for shard in self.session.routes(feedback):
            yield PAIRS, Row(str(shard), encoded)
        if self.session.draw_sample(feedback):
            yield SAMPLE, Row(ONE_SHARD, encoded)
