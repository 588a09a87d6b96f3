"""Standard streams that whoever started this process closed (`>&-`): told of where one is to be read or written.

Python has None in place of such a stream, and gives its number to the next file that is opened.
"""

import io
import os
import sys
from typing import NoReturn

from riverrank.jobs.errors import UsageError

INPUT, OUTPUT = "standard input", "standard output"
_MENDS = {
    INPUT: "give it something to read, as < FILE, or name a file in place of -",
    OUTPUT: "let it go somewhere, as > FILE, or > /dev/null",
}


def stand_in() -> None:
    """Put what says so in place of standard input and output where they are closed. What is written to a closed
    standard error is dropped, as there is nowhere to say that it is. The number of each leads to /dev/null from now on,
    for what this process starts as well.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            null = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            if null == number:
                os.set_inheritable(null, True)
            else:  # somebody has it
                os.close(null)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(_Closed(INPUT))
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(_Closed(OUTPUT), write_through=True)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - to the end of the process


def require_open(what: str) -> None:
    """Raises UsageError where `what`, INPUT or OUTPUT, is closed: before the work, not after it."""
    stream = sys.stdin if what == INPUT else sys.stdout
    if isinstance(getattr(stream, "buffer", None), _Closed):
        _raise_closed(what)


class _Closed(io.BufferedIOBase):
    """The bytes of a stream that is closed: to read or to write them raises UsageError."""

    def __init__(self, what: str) -> None:
        self._what = what

    def readable(self) -> bool:
        return self._what == INPUT

    def writable(self) -> bool:
        return self._what == OUTPUT

    def read(self, size: int | None = -1, /) -> NoReturn:
        _raise_closed(self._what)

    def write(self, what: object, /) -> NoReturn:
        _raise_closed(self._what)


def _raise_closed(what: str) -> NoReturn:
    raise UsageError(f"{what} is closed; {_MENDS[what]}")
