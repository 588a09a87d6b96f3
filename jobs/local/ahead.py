"""Messages made in a process of their own, ahead of the process that takes them: two cores in place of one.

A fork, so what makes them (a generator, with the catalogue it reads in) need not be sent anywhere.
"""

import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn, get_args

import msgspec
from riverrank.jobs.errors import Failure
from riverrank.jobs.processes import end_with_parent, uninterrupted
from riverrank.state.messages import Feedback, Update, decode_feedback, decode_update, encode

from .pipeline import Message, Redelivery, Rejected

BATCH = 64  # messages that are sent at once
_decode_rest = msgspec.msgpack.Decoder(Rejected | Redelivery).decode
_DECODE: dict[type, Callable[[bytes], Any]] = {
    Feedback: decode_feedback,
    **dict.fromkeys(get_args(Update), decode_update),
    **dict.fromkeys((Rejected, Redelivery), _decode_rest),
}
_KINDS = {made_of: kind for kind, made_of in enumerate(_DECODE)}
_DECODERS = (*_DECODE.values(),)  # by kind


def ahead(messages: Iterator[Message]) -> Generator[Message, None, None]:
    """The same messages, in the same order. What making them raises is raised here; closing this ends the process.

    What it changes while it makes them, it changes in the other process alone.

    Raises:
        Failure: the other process was ended.

    >>> [*ahead(iter([Redelivery(), Redelivery()]))]
    [Redelivery(), Redelivery()]
    """
    receiver, sender = Pipe(duplex=False)
    with uninterrupted():
        parent = os.getpid()
        maker = os.fork()
        if not maker:
            _make(messages, sender, receiver, parent)
    sender.close()
    try:
        while batch := receiver.recv():
            if isinstance(batch, BaseException):
                raise batch
            for kind, encoded in batch:
                yield _DECODERS[kind](encoded)
    except EOFError:
        status, maker = os.waitstatus_to_exitcode(os.waitpid(maker, 0)[1]), 0
        how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        lost = f"the process that reads the events and learns from them ended ({how})"
        raise Failure(f"{lost}: see whether the machine was out of memory, and run it again") from None
    finally:
        receiver.close()
        if maker:
            os.kill(maker, signal.SIGKILL)
            os.waitpid(maker, 0)


def _make(messages: Iterator[Message], sender: Connection, receiver: Connection, parent: int) -> NoReturn:
    """All that the other process does: send batches, then an empty one, or what went wrong. Nothing of this process is
    closed or flushed there.
    """
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; whoever takes them ends both
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with_parent(parent)
        receiver.close()  # so that to send fails once nobody receives
        _send(messages, sender)
        status = 0
    except BrokenPipeError:
        pass  # nobody receives any more
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _send(messages: Iterator[Message], sender: Connection) -> None:
    batch: list[tuple[int, bytes]] = []
    ending: list[None] | Exception = []
    try:
        for message in messages:
            batch.append((_KINDS[type(message)], encode(message)))
            if len(batch) == BATCH:
                sender.send(batch)
                batch.clear()
    except Exception as error:  # whatever it is, the other process says it
        error.add_note(traceback.format_exc())
        ending = error
    if batch:
        sender.send(batch)
    sender.send(ending)
