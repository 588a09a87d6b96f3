"""The console script `riverrank`: its commands, and how an error is reported.

A command is a function in a module beside this one. It turns its flags into a `Config` and calls the module that does
the work, which it imports only then: the help must not wait for what it does not need.
"""

import errno
import logging
import os
import sys
from enum import Enum
from importlib.metadata import version
from typing import Annotated

import typer
from riverrank.jobs import standard
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.interruptions import INTERRUPTED
from riverrank.state.records.printable import printable
from riverrank.state.runtime import logs

from .check import check, topics
from .compare import compare
from .convert import convert
from .demo import demo
from .drift import drift
from .estimate import estimate
from .evaluate import evaluate
from .prior import prior
from .run import replay, run
from .serve import serve
from .starters import starters
from .state import state
from .user import erase, explain, export, get

DEBUG_VARIABLE = "RIVERRANK_DEBUG"

app = typer.Typer(
    name="riverrank",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class LogFormat(Enum):
    """How lines of the log look."""

    TEXT = logs.TEXT
    JSON = logs.JSON


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"riverrank {version('riverrank')}")
        raise typer.Exit


def _choose_log_format(chosen: LogFormat | None) -> None:
    """For this process, and for what it starts."""
    if chosen is not None:
        os.environ[logs.LOG_VARIABLE] = chosen.value
        _set_up_logging()


@app.callback()
def riverrank(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            "--log-format",
            callback=_choose_log_format,
            is_eager=True,
            show_default=False,
            help="How lines of the log look; json is one object a line, with time, level, logger and message. Default: "
            f"what {logs.LOG_VARIABLE} in the environment says, else text.",
        ),
    ] = None,
) -> None:
    """Recommendations that learn from the last click. What is printed is on standard output, all else on standard
    error. Exit codes: 0 success, 1 failure, 2 a usage or configuration error.
    """


for command in (run, replay, evaluate, compare, estimate, get, explain, erase, export, serve):
    app.command()(command)
for command in (check, topics, convert, demo, starters, drift, prior):
    app.command()(command)
app.add_typer(state, name="state")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    return carry_out(app, "riverrank", arguments)


def carry_out(commands: typer.Typer, name: str, arguments: list[str] | None = None) -> int:
    """Run what the arguments say, and report an error in one line on standard error; the exit code."""
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    standard.stand_in()
    _set_up_logging()
    try:
        _check_log_format()
        code = typer.main.get_command(commands).main(args=arguments, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
        return code or 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of standard output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        code, line = _reported(error, name)
        line = printable(line)
        if logs.wants_json():
            logging.getLogger("riverrank").error("%s", line)
        else:
            print(f"riverrank: {line}", file=sys.stderr)
        return code


def _set_up_logging() -> None:
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:  # ours: whoever calls this in a process of his own may have others
            handler.setFormatter(logs.formatter())
    # What fails is raised, and told once.
    if not debug:  # py4j logs some of it as nobody's, and PyFlink sets the level of the rest
        logging.getLogger().addFilter(_is_not_of_py4j)
        logging.getLogger("py4j.java_gateway").disabled = True
    logging.getLogger("kafka").setLevel(logging.WARNING if debug else logging.CRITICAL)
    logging.getLogger("riverrank").setLevel(logging.DEBUG if debug else logging.INFO)


def _is_not_of_py4j(record: logging.LogRecord) -> bool:
    return record.module != "java_gateway"


def _check_log_format() -> None:
    given = os.environ.get(logs.LOG_VARIABLE, "")
    if given not in ("", logs.TEXT, logs.JSON):
        raise UsageError(f"{logs.LOG_VARIABLE}: expected {logs.TEXT} or {logs.JSON}, got {given!r}")


def _reported(error: Exception, name: str) -> tuple[int, str]:
    """The exit code and the one line that an exception is worth."""
    if isinstance(error, UsageError):
        return 2, " ".join(str(error).split())
    if isinstance(error, Failure):
        return 1, " ".join(str(error).split())
    if callable(formatted := getattr(error, "format_message", None)):  # typer's own, whose base class is not public
        context = getattr(error, "ctx", None)
        command = context.command_path if context else name
        return 2, f"{' '.join(formatted().split())} ({command} --help says what there is)"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return 1, f"cannot write {error.filename or 'standard output'}: {error.strerror}; make room, and run it again"
    first = next(iter(str(error).strip().splitlines()), "")
    return 1, f"{type(error).__name__}: {first} ({DEBUG_VARIABLE}=1 shows where)"
