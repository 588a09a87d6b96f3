"""Messages made in a process of their own, ahead of the process that takes them, and answered in several.

All are forks, so what makes messages (a generator, with the catalogue it reads in) and what answers them need not be
sent anywhere. One process makes the messages and sends each to whoever is to have it; the process that called takes
them in order, with an answer in place of each message that another process was to answer.
"""

import fcntl
import os
import pickle
import select
import signal
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn, get_args

import msgspec
from riverrank.jobs.errors import Failure
from riverrank.jobs.interruptions import uninterrupted
from riverrank.jobs.processes import end_with_parent
from riverrank.operators.recent import share_of
from riverrank.state.messages import Feedback, Update, decode_feedback, decode_update, encode

from .pipeline import Answered, Exported, Message, Redelivery, Rejected

BATCH = 64  # messages that are sent at once
PIPE_BYTES = 1 << 20  # what a process may have said before it is heard: as much as Linux gives to anyone
LOOK_MS = 500  # how often a wait for messages looks whether all that answer are still there
_decode_rest = msgspec.msgpack.Decoder(Rejected | Redelivery | Answered | Exported).decode
_DECODE: dict[type, Callable[[bytes], Any]] = {
    Feedback: decode_feedback,
    **dict.fromkeys(get_args(Update), decode_update),
    **dict.fromkeys((Rejected, Redelivery, Answered, Exported), _decode_rest),
}
_KINDS = {made_of: kind for kind, made_of in enumerate(_DECODE)}
_DECODERS = (*_DECODE.values(),)  # by kind
_ELSEWHERE = len(_DECODERS)  # kinds from here on: the next answer of another process, by its number
Hear = Callable[[Feedback | Update], Answered | Exported | None]  # makes an answer to a feedback, and none to an update
MAKES, ANSWERS = "reads the events and learns from them", "answers a share of the users"


def ahead(messages: Iterator[Message], hear: Hear | None = None, others: int = 0) -> Generator[Message, None, None]:
    """The same messages, in the same order. What making them raises is raised here; closing this ends the processes.

    So many `others` answer as well: each has shares of all users (see `recent.share_of`), is to `hear` their feedbacks,
    in whose places its answers stand, and all updates in between. What any of them changes it changes in its own
    process alone.

    Raises:
        Failure: another process was ended.

    >>> [*ahead(iter([Redelivery(), Redelivery()]))]
    [Redelivery(), Redelivery()]
    """
    made, asked, told = _pipe(), [_pipe() for _ in range(others)], [_pipe() for _ in range(others)]
    ends = {*chain(made, *asked, *told)}
    senders, heard = [sender for _, sender in asked], [made[0], *(receiver for receiver, _ in told)]
    children: dict[int, str] = {}  # what they do, by process id
    try:
        with uninterrupted():
            children[_fork(ends, (made[1], *senders), _send, messages, made[1], senders)] = MAKES
            for (mine, _), (_, theirs) in zip(asked, told, strict=True):
                children[_fork(ends, (mine, theirs), _answer_all, hear, mine, theirs)] = ANSWERS
        for end in ends.difference(heard):
            end.close()
        yield from _taken(_awaited(made[0], children), *heard[1:])
    except EOFError:
        _raise_what_was_said(heard[1:])
        raise Failure(_why_one_ended(children)) from None
    finally:
        for end in ends:
            end.close()
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _pipe() -> tuple[Connection, Connection]:
    receiver, sender = Pipe(duplex=False)
    with suppress(OSError):  # where that is not given, others wait a little more for each other
        fcntl.fcntl(sender.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return receiver, sender


def _awaited(made: Connection, children: Iterable[int]) -> Iterator[list[tuple[int, bytes]]]:
    """The batches that are `made`, until None is. Raises EOFError where one of the `children` failed while there was
    none to take: what sends to it would notice only with the next input.
    """
    ready = select.poll()
    ready.register(made, select.POLLIN)
    while True:
        while not ready.poll(LOOK_MS):
            if any(map(_has_failed, children)):
                raise EOFError
        if (batch := _receive(made)) is None:
            return
        yield batch


def _has_failed(child: int) -> bool:
    """Whether it ended otherwise than with exit code 0; how, `_why_one_ended` will ask."""
    ending = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    return ending is not None and (ending.si_code, ending.si_status) != (os.CLD_EXITED, 0)


def _taken(batches: Iterator[list[tuple[int, bytes]]], *told: Connection) -> Iterator[Message]:
    """The messages of the `batches`, and in their places the answers that others `told`."""
    for batch in batches:
        answers: dict[int, Iterator[bytes]] = {}
        for kind, encoded in batch:
            if kind < _ELSEWHERE:
                yield _DECODERS[kind](encoded)
                continue
            if kind not in answers:
                answers[kind] = iter(_receive(told[kind - _ELSEWHERE]))
            yield _decode_rest(next(answers[kind]))
    for connection in told:
        _receive(connection)  # its end, or what went wrong after its last answer


def _receive(connection: Connection) -> Any:
    """What another process said; raises what it said that it raised, and EOFError where it ended, if within a word."""
    try:
        said = connection.recv()
    except OSError:
        raise EOFError from None
    if isinstance(said, BaseException):
        raise said
    return said


def _raise_what_was_said(connections: Sequence[Connection]) -> None:
    """Raise what another process said that it raised, if one did: that is why it ended, and then who sent to it."""
    for connection in connections:
        with suppress(EOFError):
            while connection.poll():
                _receive(connection)


def _why_one_ended(children: dict[int, str]) -> str:
    """Say which of the `children` failed, one by a signal before one that followed it, and how. It is gone then."""
    endings: list[tuple[int, str]] = []
    while children and not any(status for status, _ in endings):  # what it sent by is closed, so it is about to
        time.sleep(0.001)
        for child in list(children):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                endings.append((os.waitstatus_to_exitcode(status), children.pop(child)))
    status, what = min(endings, key=lambda ending: (ending[0] >= 0, -ending[0]))  # by a signal, then by a failure
    how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
    return f"the process that {what} ended ({how}): see whether the machine was out of memory, and run it again"


def _fork(ends: set[Connection], kept: Sequence[Connection], work: Callable[..., int], *arguments: Any) -> int:
    """The id of a new process that does `work`, which gives its exit code, with these of the `ends` of pipes alone."""
    parent = os.getpid()
    return os.fork() or _do(parent, ends.difference(kept), work, arguments)


def _do(parent: int, ends: set[Connection], work: Callable[..., int], arguments: tuple[Any, ...]) -> NoReturn:
    """All that another process does. Nothing of this process is closed or flushed there, but the `ends` of pipes: so
    that to send fails once nobody receives.
    """
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; whoever takes them ends all
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        end_with_parent(parent)
        for end in ends:
            end.close()
        status = work(*arguments)
    except (BrokenPipeError, EOFError):
        pass  # nobody receives any more, or nobody sends
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _send(messages: Iterator[Message], taker: Connection, others: Sequence[Connection]) -> int:
    """Send batches, then None, or what went wrong, to the `taker`; and to each of the `others` what it is to hear.

    The taker comes first, and waits for an answer only to what it has: so it always comes to be sent to again.
    """
    shares, ending = 1 + len(others), None
    batches: list[list[tuple[int, bytes]]] = [[] for _ in range(shares)]

    def flush() -> None:
        for receiver, batch in zip((taker, *others), batches, strict=True):
            if batch:
                receiver.send(batch)
                batch.clear()

    try:
        for message in messages:
            one = _KINDS[type(message)], encode(message)
            if isinstance(message, Feedback) and (share := share_of(message.event.user_id) % shares):
                batches[share].append(one)
                batches[0].append((_ELSEWHERE + share - 1, b""))
            else:
                batches[0].append(one)
                if isinstance(message, Update):
                    for batch in batches[1:]:
                        batch.append(one)
            if len(batches[0]) == BATCH:
                flush()
    except Exception as error:  # whatever it is, the other process says it
        ending = _sendable(error)
    flush()
    for receiver in others:
        receiver.send(None)
    taker.send(ending)
    return 0


def _answer_all(hear: Hear, asked: Connection, told: Connection) -> int:
    """Send the answers to each batch that has any, then None, or what went wrong: the exit code is 1 then."""
    try:
        while (batch := _receive(asked)) is not None:
            answers = [encode(made) for kind, encoded in batch if (made := hear(_DECODERS[kind](encoded)))]
            if answers:
                told.send(answers)
        told.send(None)
        return 0
    except (BrokenPipeError, EOFError):
        raise
    except Exception as error:
        told.send(_sendable(error))
        return 1


def _sendable(error: Exception) -> Exception:
    """The error with where it was raised, or one that says the same, if that is none that can be sent."""
    error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class makes of it
        failure = Failure(f"{type(error).__name__}: {error}")
        failure.add_note(traceback.format_exc())
        return failure
    return error
