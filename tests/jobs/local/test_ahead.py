"""Messages from a process of their own: the same, in order, and nothing left whatever happens."""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from itertools import chain

import msgspec
import pytest
from riverrank.jobs.errors import Failure
from riverrank.jobs.interruptions import terminable, uninterrupted
from riverrank.jobs.local.ahead import BATCH, PIPE_BYTES, ahead
from riverrank.jobs.local.pipeline import Answered, Message, Pipeline, Redelivery, Rejected
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.recent import share_of
from riverrank.operators.settings import Behaviour
from riverrank.operators.slate.recommend import Answer
from riverrank.state.messages import AutoencoderUpdate, Feedback, SignalUpdate, Update, VectorUpdate, Weights
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


def marked(message: Feedback | Update) -> Answered | None:
    """An answer that says in which process it was made, after how many updates."""
    if not isinstance(message, Feedback):
        HEARD.append(message)
        return None
    return Answered(message.event, 7, Answer(None, str(os.getpid()).encode(), len(HEARD)))


HEARD: list[Update] = []


@pytest.mark.parametrize("others", [1, 3])
def test_others_answer_their_users_and_each_answer_stands_where_its_feedback_did(others):
    before = children()
    made, taken = list(messages(600)), list(ahead(messages(600), marked, others))
    updates, by_user = 0, {}
    for one, other in zip(made, taken, strict=True):
        updates += isinstance(one, Update)
        if not isinstance(other, Answered):
            assert one == other
            continue
        assert (one.event, 7, updates) == (other.event, other.epoch, other.answer.version)
        by_user.setdefault(one.event.user_id, set()).add(other.answer.slate)
    shares = {f"u{k}": share_of(f"u{k}") % (1 + others) for k in range(7)}
    assert by_user.keys() == {user for user, share in shares.items() if share}
    assert all(len(where) == 1 for where in by_user.values())
    processes: dict[int, set[bytes]] = {}
    for user, where in by_user.items():
        processes.setdefault(shares[user], set()).update(where)
    assert all(len(where) == 1 for where in processes.values()) and len(set.union(*processes.values())) == len(
        processes
    )
    assert str(os.getpid()).encode() not in set.union(*processes.values())
    assert children() == before and not HEARD


@pytest.mark.parametrize("number", [40, 600])
@pytest.mark.parametrize("where", ["feedback", "update", "last"])
def test_what_goes_wrong_where_others_answer_is_raised_here(number, where):
    """Whether one of its answers is waited for, or none any more, or more is to be sent to it."""
    made = [*messages(number)]
    last = msgspec.structs.replace(next(m for m in made if isinstance(m, SignalUpdate)), events=10**9)

    def fails(message: Feedback | Update) -> Answered | None:
        if where == "last":
            is_wrong = message == last
        else:
            is_wrong = isinstance(message, Feedback if where == "feedback" else SignalUpdate)
        if is_wrong:
            raise Failure("the index is damaged")
        return marked(message)

    before = children()
    with pytest.raises(Failure, match="the index is damaged") as raised:
        list(ahead(iter([*made, last]), fails, 1))
    assert "in fails" in raised.value.__notes__[0]
    assert children() == before


@pytest.mark.parametrize("patience", [0, 0.3])
def test_another_process_that_is_killed_is_a_failure(patience):
    """Also where what makes the messages came to its end before."""

    def dies(message: Feedback | Update) -> Answered | None:
        time.sleep(patience)
        os.kill(os.getpid(), signal.SIGKILL)

    before = children()
    with pytest.raises(Failure, match=r"answers a share of the users ended \(SIGKILL\)"):
        list(ahead(messages(40 if patience else 600), dies, 2))
    assert children() == before


@pytest.mark.parametrize("how", ["is killed", "raises"])
def test_a_process_that_answers_and_fails_is_told_of_in_two_seconds_though_no_input_comes(how):
    update = next(message for message in messages(600) if isinstance(message, SignalUpdate))

    def waits() -> Iterator[Message]:
        yield from [update] * BATCH
        time.sleep(600)

    def raises(message: Feedback | Update) -> Answered | None:
        if how == "raises":
            raise Failure("the index is damaged")

    before = children()
    taken = ahead(waits(), raises, 2)
    assert [next(taken) for _ in range(BATCH)] == [update] * BATCH
    kill = threading.Timer(0.5, lambda: how == "raises" or os.kill(children()[-1], signal.SIGKILL))
    kill.start()
    started = time.monotonic()
    why = r"answers a share of the users ended \(SIGKILL\)" if how == "is killed" else "the index is damaged"
    with pytest.raises(Failure, match=why):
        next(taken)
    assert time.monotonic() - started < 2.5
    kill.join()
    assert children() == before


class Unsendable(Exception):
    """Can be pickled, and not be taken out again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one}, {two}")


def test_an_error_that_cannot_be_sent_is_told_of():
    def fails(message: Feedback | Update) -> Answered | None:
        raise Unsendable("the index", "is damaged")

    def made() -> Iterator[Message]:
        yield from messages(40)
        raise Unsendable("the file", "is damaged")

    for generator in (ahead(messages(600), fails, 1), ahead(made())):
        with pytest.raises(Failure, match=r"Unsendable: the (index|file), is damaged"):
            list(generator)


def tells_by() -> int:
    """The pipe by which this process tells its answers: that which is written to, as large as `ahead` makes it."""
    (found,) = (
        number
        for number in map(int, os.listdir("/proc/self/fd"))
        if is_pipe(number) and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    )
    return found


def is_pipe(number: int) -> bool:
    try:
        return fcntl.fcntl(number, fcntl.F_GETPIPE_SZ) == PIPE_BYTES
    except OSError:
        return False


@pytest.mark.parametrize(("how", "told"), [(signal.SIGKILL, "SIGKILL"), (0, "exit code 3")])
def test_a_process_that_ends_within_a_word_or_after_the_others_is_named(how, told):
    def ends(message: Feedback | Update) -> Answered | None:
        time.sleep(0.3)  # what makes the messages has ended
        if not how:
            os._exit(3)
        os.write(tells_by(), (1000).to_bytes(4, "big") + b"the beginning of a word")
        os.kill(os.getpid(), how)

    before = children()
    with pytest.raises(Failure, match=rf"answers a share of the users ended \({told}\)"):
        list(ahead(messages(40), ends, 1))
    assert children() == before


def test_closing_it_ends_those_that_answer_as_well():
    def waits(message: Feedback | Update) -> Answered | None:
        time.sleep(600)

    before = children()
    taken = ahead(chain([Redelivery()], messages(600)), waits, 2)
    assert next(taken) == Redelivery()
    taken.close()
    assert children() == before


def test_a_signal_that_is_ignored_stays_ignored():
    """As nohup has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
