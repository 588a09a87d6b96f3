"""Ctrl-C, however often it comes: the exit code is 130, nothing is said, and what is ended is ended in order."""

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from console_script import click, replaying

# The console script with other work to do, and with a signal on the way out.
WORK = """
import atexit, signal, sys, time
from riverrank.jobs.cli import __main__, main
from riverrank.jobs.interruptions import terminable, uninterrupted

def interrupt():
    for _ in range(3):
        signal.raise_signal({number})

def ended(what):
    interrupt()
    print(what, flush=True)

def work():
    with terminable():
        try:
            with uninterrupted():
                interrupt()
                print("begun", flush=True)
            print("not reached")
        finally:
            ended("in order")
            time.sleep({after})
            interrupt()
            print("to its end")

main.main = work
atexit.register(interrupt)
sys.exit(__main__.main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("after", "printed"), [(0, "begun\nin order\nto its end\n"), (0.6, "begun\nin order\n")])
def test_signals_that_come_at_once_are_one_interruption_and_a_later_one_is_another(
    number: signal.Signals, after: float, printed: str
) -> None:
    command = [sys.executable, "-c", WORK.format(number=int(number), after=after)]
    if number == signal.SIGTERM:  # after the work it ends a process as ever
        command[-1] = command[-1].replace("atexit.register(interrupt)", "signal.signal(signal.SIGINT, signal.SIG_IGN)")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, printed, "")


def test_a_command_that_is_interrupted_thrice_at_once_has_no_word_of_its_own(items: Path, tmp_path: Path) -> None:
    for attempt in range(4):
        slates = tmp_path / f"slates-{attempt}.jsonl.gz"
        with replaying(items, slates, *(click(f"e{n}", n) for n in range(200))) as process:
            time.sleep(0.4 * attempt)  # while kernels are loaded, processes made, events answered
            for _ in range(3):
                os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (130, b"", b"")
        gzip.decompress(slates.read_bytes())
