"""The job with one configuration as a policy of `riverrank evaluate`, by the clock."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from riverrank.jobs.local.pipeline import Message, Pipeline, Write
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.privacy.budget import Spent
from riverrank.operators.privacy.signals import NoisedSignals
from riverrank.operators.settings import Behaviour
from riverrank.operators.slate.recommend import Answer
from riverrank.state.messages import Feedback
from riverrank.state.records.decoding import Reject
from riverrank.state.records.incoming import Event

from .costs import Clock, Cost, array_bytes, mean_bytes, now
from .listed import listed


class Job:
    """One event at a time: `accept` it, and then `answer` it.

    >>> job = Job(Behaviour())
    >>> event = Event("e", "click", "u", 1, "i-1")
    >>> first = job.accept(event, Arrival(0, 0, 0, b""))
    >>> first.reward, job.answer().version, job.slate
    (1.0, 1, [])
    """

    def __init__(self, behaviour: Behaviour, outputs: Mapping[str, Write] = MappingProxyType({})) -> None:
        self.pipeline = Pipeline(behaviour, outputs)
        self.clock = Clock()
        self.slate: list[str] = []  # that answered the last event, best first
        self._messages: Iterator[Message] = iter(())
        self._first: Message | None = None
        self._accepting = 0  # nanoseconds that it took to accept the event

    def accept(self, event: Event | Reject, arrival: Arrival) -> Message:
        """What SESSION makes of an event, before anyone learns from it."""
        began = now()
        self._messages = self.pipeline.messages(event, arrival)
        self._first = next(self._messages)
        self._accepting = now() - began
        return self._first

    def answer(self) -> Answer | None:
        """Learn from the event that was accepted, and answer it; None where there is no answer to it."""
        answer, message, answering, resumed = None, self._first, 0, now()
        self.slate = []
        while message is not None:
            began = now()
            answer = self.pipeline.hear(message) or answer
            if isinstance(message, Feedback):
                ended = now()
                answering += ended - began
                if answer is not None and answer.slate is not None:
                    self.clock.answered(began, ended)
            message = next(self._messages, None)
        self.clock.learned(resumed - self._accepting, now(), without=answering)
        if answer is not None and answer.slate is not None:
            self.slate = listed(answer.slate).ids()
        return answer

    def spent(self) -> Spent | None:
        """What its noise promises by now; None where it has none, or nothing was learned."""
        (signals, *_) = self.pipeline.lessons.signals
        return signals.spent() if isinstance(signals, NoisedSignals) and signals.kept.windows else None

    def cost(self) -> Cost:
        """What it cost: the bytes of a user are of SESSION and of RECOMMEND, those of arrays of the index."""
        kept = mean_bytes(self.pipeline.intake.states.values(), self.pipeline.users.values())
        return self.clock.cost(kept, array_bytes(self.pipeline.index))
