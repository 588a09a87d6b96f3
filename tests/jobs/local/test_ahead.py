"""Messages from a process of their own: the same, in order, and nothing left whatever happens."""

import os
import signal
import time
from collections.abc import Iterator

import pytest
from riverrank.jobs.errors import Failure
from riverrank.jobs.local.ahead import BATCH, ahead
from riverrank.jobs.local.pipeline import Message, Pipeline, Redelivery, Rejected
from riverrank.jobs.processes import uninterrupted
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.settings import Behaviour
from riverrank.state.messages import AutoencoderUpdate, Feedback, SignalUpdate, VectorUpdate, Weights
from riverrank.state.records.decoding import Reject, decode_event
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json


def messages(number: int) -> Iterator[Message]:
    """What becomes of so many clicks and of a record that is none."""
    pipeline = Pipeline(Behaviour())
    lines = [to_json(Event(f"e{k}", "click", f"u{k % 7}", 1000 + k, f"i{k % 20}")) for k in range(number)]
    for offset, line in enumerate([*lines, lines[-1], b"broken"]):
        yield from pipeline.messages(decode_event(line), Arrival(0, offset, 0, line, b"key"))


def children() -> list[int]:
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def test_they_are_the_same_in_the_same_order_and_the_process_is_gone():
    before = children()
    made, taken = list(messages(600)), list(ahead(messages(600)))
    assert made == taken and len(made) > 3 * BATCH and len(made) % BATCH
    assert {type(message) for message in made} == {
        Feedback, SignalUpdate, VectorUpdate, AutoencoderUpdate, Weights, Redelivery, Rejected,
    }  # fmt: skip
    assert children() == before


def test_it_runs_ahead_in_another_process():
    def whose() -> Iterator[Message]:
        yield Rejected(Arrival(0, os.getpid(), 0, None), Reject("bad_json", ""))

    (message,) = ahead(whose())
    assert message.arrival.offset != os.getpid()


def test_what_goes_wrong_is_said_after_the_messages_before_it():
    def fails() -> Iterator[Message]:
        yield from [Redelivery()] * 3
        raise Failure("events.jsonl.gz: damaged gzip data")

    taken = []
    with pytest.raises(Failure, match="damaged gzip data") as raised:
        for message in ahead(fails()):
            taken.append(message)
    assert taken == [Redelivery()] * 3
    assert "in fails" in raised.value.__notes__[0]


def test_a_process_that_is_killed_is_a_failure():
    def killed() -> Iterator[Message]:
        yield from [Redelivery()] * BATCH
        os.kill(os.getpid(), signal.SIGKILL)
        yield Redelivery()

    before = children()
    with pytest.raises(Failure, match=r"reads the events and learns from them ended \(SIGKILL\)"):
        list(ahead(killed()))
    assert children() == before


def test_closing_it_ends_the_process_though_it_waits_or_has_more_to_say():
    def waits() -> Iterator[Message]:
        yield from [Redelivery()] * BATCH
        time.sleep(600)

    def endless() -> Iterator[Message]:
        while True:
            yield Redelivery()

    before = children()
    for made in (waits(), endless()):
        taken = ahead(made)
        assert next(taken) == Redelivery()
        taken.close()
        assert children() == before


def test_an_interruption_waits_for_what_must_not_be_interrupted_once():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("in it")
        done.append("after it")
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("twice")
    with pytest.raises(KeyboardInterrupt), uninterrupted() as take:
        take()
        signal.raise_signal(signal.SIGINT)
        done.append("until it is taken")
        take()
        done.append("after it was taken")
    assert done == ["in it", "until it is taken"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with uninterrupted():
        pass
