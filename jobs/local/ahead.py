"""Messages made in a process of their own, ahead of the process that takes them: two cores in place of one.

A fork, so what makes them (a generator, with the catalogue it reads in) need not be sent anywhere.
"""

import signal
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, get_args

import msgspec
from riverrank.jobs.errors import Failure
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
    fork = get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    maker = fork.Process(target=_make, args=(messages, sender, receiver), name="riverrank-ahead", daemon=True)
    maker.start()
    sender.close()
    try:
        while batch := receiver.recv():
            if isinstance(batch, BaseException):
                raise batch
            for kind, encoded in batch:
                yield _DECODERS[kind](encoded)
    except EOFError:
        maker.join()
        code = maker.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise Failure(f"the process that reads the events and learns from them ended ({how})") from None
    finally:
        receiver.close()
        maker.terminate()
        maker.join()


def _make(messages: Iterator[Message], sender: Connection, receiver: Connection) -> None:
    """In the other process: send batches, then an empty one, or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; whoever takes the messages ends both
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    receiver.close()  # so that to send fails once nobody receives
    batch: list[tuple[int, bytes]] = []
    ending: list[None] | Exception = []
    with suppress(BrokenPipeError):
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
