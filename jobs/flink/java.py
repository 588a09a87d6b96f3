"""Flink's Java: what it is found by and started with, and what its failures mean."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from find_libpython import find_libpython
from riverrank.jobs.errors import Failure
from riverrank.state import uids

from . import classes, jars
from .keeping import Keeping

QUICK_COMPILER = "-XX:TieredStopAtLevel=1"
# Of every record, each operator in Python ends with an exception to Java (pemja's PyIterator), which is no fault: not
# to be noted among the JVM's last events, and with the first frames of its stack alone. Else: 7 % fewer slates.
CHEAP_EXCEPTIONS = ("-XX:+UnlockDiagnosticVMOptions", "-XX:-LogEvents", "-XX:MaxJavaStackTraceDepth=8")
# Where a Flink of the user's own is. Ours is the wheel of apache-flink, whose jars and settings fit each other.
OF_ANOTHER = ("FLINK_HOME", "FLINK_CONF_DIR", "FLINK_LIB_DIR", "FLINK_OPT_DIR", "FLINK_PLUGINS_DIR")
WRAPPERS = ("Recovery is suppressed", "Job execution failed", "java.lang.reflect.InvocationTargetException")
# What pemja puts before what an operator refused, which says all there is to say.
OF_OPERATORS = "pemja.core.PythonException: <class 'riverrank.state.codec.StateRefused'>: "
MADE_BY = {uids.CACHE: "redis.url"}  # operators with state that are there by a setting alone


def flink_path(path: str | Path) -> str:
    """A file or folder of this machine. They are no URLs: a blank is a blank, and %20 is three letters.

    >>> flink_path("/data/two words.jsonl")
    'file:/data/two words.jsonl'
    """
    return f"file:{Path(path).absolute()}"


def prepare_environment(options: Sequence[str] = ()) -> None:
    """Set what Flink's Java and the interpreter embedded in it are found by, and further `options` of that Java. What
    says where another Flink is (OF_ANOTHER) is unset. Raises `Failure` where something lacks.
    """
    if find_libpython() is None:
        raise Failure(
            "this Python has no shared libpython, which Flink embeds: use one that has, such as your system's, or "
            "build it with --enable-shared (pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.11)"
        )
    from pyflink import pyflink_gateway_server  # noqa: PLC0415 (only an embedded run needs it)

    # A signal to the whole group of this process is for this process to act on: a Java that ended by it could drain no
    # job. It ends when its standard input does.
    pyflink_gateway_server.Popen = partial(subprocess.Popen, start_new_session=True)
    for name in OF_ANOTHER:
        os.environ.pop(name, None)
    os.environ["JAVA_HOME"] = str(jars.java_home())
    os.environ["FLINK_ENV_JAVA_OPTS"] = " ".join([*java_options(), *options])
    binaries = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([binaries, os.environ.get("PATH", os.defpath)])


def root_cause(error: BaseException) -> str:
    """The innermost cause of what Flink raised, as one line."""
    cause = getattr(error, "java_exception", None)
    if cause is None:
        return _one_line(str(error) or type(error).__name__)
    message = str(cause.toString())
    while cause is not None:
        text = str(cause.toString())
        if not any(wrapper in text for wrapper in WRAPPERS):
            message = text
        cause = cause.getCause()
    return _one_line(message.removeprefix(OF_OPERATORS))


def java_options() -> list[str]:
    """Those without which Flink does not start, those of FLINK_ENV_JAVA_OPTS, the archive of its classes, that
    exceptions are cheap, and that the quick compiler is enough: what the thorough one gains, in a job whose work is
    Python, is less than the half core that it takes for the first minutes.
    """
    from pyflink.pyflink_gateway_server import get_jvm_opts  # noqa: PLC0415 (only an embedded run needs it)

    given = os.environ.get("FLINK_ENV_JAVA_OPTS", "").strip('"').split()
    needed = get_jvm_opts({"FLINK_CONF_DIR": str(jars.flink_home() / "conf")})
    options = [*(option for option in needed if option not in given), *given]
    ours = [QUICK_COMPILER, *CHEAP_EXCEPTIONS, *classes.options()]
    names = {option.partition("=")[0] for option in options}
    return [*options, *(option for option in ours if option.partition("=")[0] not in names)]


@contextmanager
def java_failures(mend: Callable[[str], str]) -> Iterator[None]:
    """Tells a failure of Java's by its root cause, and what `mend` says to that; and that Java itself ended."""
    from py4j.protocol import Py4JError, Py4JJavaError  # noqa: PLC0415

    try:
        yield
    except Py4JJavaError as error:
        cause = root_cause(error)
        raise Failure(f"the job failed: {cause}{mend(cause)}") from error
    except Py4JError as error:
        if _answers():
            raise
        raise Failure("the Java of Flink's JobManager ended: see whether the machine was out of memory") from error


def _answers() -> bool:
    """Whether Java does. Where it does not, none of its objects that are still held is said to be given back."""
    from py4j.protocol import Py4JError  # noqa: PLC0415
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415

    gateway = get_gateway()
    try:
        gateway.jvm.java.lang.System.nanoTime()
    except Py4JError:
        gateway._gateway_client.is_connected = False
        return False
    return True


def mend_of_state(cause: str, keeping: Keeping | None) -> str:
    """What is to be done where the `cause` of a failure is the state; nothing is said where it is not."""
    if keeping is None:
        return ""
    if "tolerable failure threshold" in cause:
        return f"; a checkpoint could not be written: see whether the disk of {keeping.folder} is full, or gone"
    if keeping.last is None:
        return ""
    if cause.startswith("java.io."):
        return f"; if {keeping.last}, which it goes on from, is damaged, remove it, or give another --state DIR"
    return mend_of_settings(cause, "give another --state DIR")


def mend_of_settings(cause: str, instead: str) -> str:
    """What is to be done where a state is of other settings, or else to be done `instead`."""
    if "max parallelism" in cause.lower():
        return f"; job.max_parallelism stays what it was when the state began: set that, or {instead}"
    if "cannot map" not in cause.lower():
        return ""
    lacking = [setting for uid, setting in MADE_BY.items() if _operator_id(uid) in cause]
    if lacking:
        return f"; the state is of a run with {lacking[0]}: set that as it was, or {instead}"
    return (
        "; the state was begun with another secret (privacy.key_file, RIVERRANK_PRIVACY_KEY), or by a riverrank that "
        f"knew none, or with a topic that this run neither reads nor writes: set that as it was, or {instead}"
    )


def _operator_id(uid: str) -> str:
    """What Flink knows an operator by, in hex; the hash is that of its StreamGraphHasherV2."""
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415 (it starts Java)

    jvm = get_gateway().jvm
    hashing = jvm.org.apache.flink.shaded.guava33.com.google.common.hash.Hashing.murmur3_128(0)
    return str(hashing.hashString(uid, jvm.java.nio.charset.StandardCharsets.UTF_8).toString())


def _one_line(text: str) -> str:
    return " ".join(text.split())
