"""Ctrl-C, SIGTERM and the end of a terminal: when they break into what is done, and when they wait or come to nothing.

Python raises KeyboardInterrupt wherever it is, in the ending of things and in its own exit as well.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130  # the exit code after Ctrl-C, as a shell has it
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_SECONDS = 0.5  # what comes so soon after an interruption is no other: a shell and a service manager may both send


class _Raising:
    """A handler of signals that raises KeyboardInterrupt: once for those that come at once, and while it is `active`,
    which is within `interruptible`.
    """

    def __init__(self) -> None:
        self.active = False
        self._last = 0.0

    def __call__(self, number: int, frame: object) -> None:
        if self.is_another():
            raise KeyboardInterrupt

    def is_another(self) -> bool:
        """Whether a signal that comes now is an interruption of its own."""
        now = time.monotonic()
        if not self.active or now < self._last + SAME_SECONDS:
            return False
        self._last = now
        return True


_raising = _Raising()


def interruptible(work: Callable[[], int]) -> int:
    """The exit code of `work`, INTERRUPTED where it is interrupted, however often. For all that a process does: from
    then on Ctrl-C does nothing.
    """
    if threading.current_thread() is not threading.main_thread():  # where no signal is raised
        return work()
    mine = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored, or somebody else's
    _raising.active = True
    if mine:
        signal.signal(signal.SIGINT, _raising)
    try:
        code = work()
        _raising.active = False
    except KeyboardInterrupt:
        _raising.active = False  # Python looks for signals at calls and at jumps back alone: none comes before this
        code = INTERRUPTED
    if mine:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


@contextmanager
def terminable() -> Iterator[None]:
    """In it SIGTERM, as service managers send it, and the end of the terminal are interruptions like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in INTERRUPTIONS}
    raising = _raising if _raising.active else signal.default_int_handler
    for number in INTERRUPTIONS[1:]:
        if before[number] is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, raising)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interruptions() -> None:
    """From now on, to the end of the `terminable` around it, nothing breaks into the ending of what was started."""
    if threading.current_thread() is threading.main_thread():
        for number in INTERRUPTIONS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def uninterrupted() -> Iterator[Callable[[], None]]:
    """In it Ctrl-C, and what `terminable` makes of other signals, waits for its end, unless it comes twice. For what
    calls back from C, as the loading of kernels does, forks, imports modules or asks Java: an exception that is raised
    there is dropped, or told of by somebody else. It gives what is to be called where an interruption may be taken
    before the end, and raises KeyboardInterrupt if there was one.
    """
    is_main = threading.current_thread() is threading.main_thread()
    raising = (_raising, signal.default_int_handler)
    before: dict[int, Any] = {n: handler for n in INTERRUPTIONS if (handler := signal.getsignal(n)) in raising}
    if not is_main or not before:  # ignored, or somebody else's
        yield lambda: None
        return
    waiting = False

    def take() -> None:
        if waiting:
            raise KeyboardInterrupt

    def interrupt(number: int, frame: object) -> None:
        nonlocal waiting
        if before[number] is _raising and not _raising.is_another():
            return
        if waiting:
            raise KeyboardInterrupt
        waiting = True

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield take
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    take()
