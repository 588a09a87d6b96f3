"""How functions get into a TaskManager: with the code they were made with, where it may hold that of another job."""

import hashlib
import importlib
import logging
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from riverrank.state.codec import StateRefused
from riverrank.state.runtime.environment import share_core, step_back

TOLD = "riverrank: "
REFUSED = "refused: "  # begins what is told of a state that an operator can't go on from
PACKAGES = ("riverrank.state", "riverrank.operators")
CHECKPOINTS = "AsyncOperations"  # begins the names of the threads of Flink's that write checkpoints
LOOK_EVERY = 1024  # records, after which such threads are looked for: Flink starts and ends them as it likes
# Jobs hand functions of the first to operators; the others are what it imports of `jobs`.
HANDED_OVER = (
    "riverrank.jobs.local.reading",
    "riverrank.jobs.config.schema",
    "riverrank.jobs.config.consuming",
    "riverrank.jobs.config.edges",
    "riverrank.jobs.config.fields",
    "riverrank.jobs.config.files",
    "riverrank.jobs.config.tokens",
    "riverrank.jobs.errors",
)

log = logging.getLogger(__name__)


class Shipped:
    """What is pickled to run in a TaskManager: it runs there with the code that it was made with, or not at all, and in
    the thread that unpickles it, which may have to share a core (`share_core`): at once, or where `shares_core_later`
    once it says so, as what Java's network starts from that thread until the first record would share it as well.

    numpy warns of nothing in that thread: to warn it asks for the interpreter's lock, and a thread of Java's waits for
    itself then (see `native`).
    """

    shares_core_later = False
    taken = 0  # records

    def __getstate__(self) -> tuple[str, dict[str, Any]]:
        return code_digest(), self.__dict__

    def __setstate__(self, state: tuple[str, dict[str, Any]]) -> None:
        made_with, fields = state
        if made_with != code_digest():
            raise RuntimeError(
                "this job was submitted with other code of riverrank than this TaskManager imported for a job before "
                "it, and Python does not import a module twice: start the TaskManagers anew, then submit the job"
            )
        self.__dict__.update(fields)
        if "pemja" in sys.modules:  # in a Flink process
            tell_on_standard_error()
        np.seterr(all="ignore")
        if not self.shares_core_later:
            share_core()

    def took_record(self) -> None:
        """To be called for each record by the busiest function of a process: checkpoints are written where records
        leave time. That another calls it as well does no harm.
        """
        self.taken += 1
        if self.taken % LOOK_EVERY == 0:
            step_back(CHECKPOINTS)


@contextmanager
def refusals_told() -> Iterator[None]:
    """`tell_refusal` of what is done with a state."""
    try:
        yield
    except StateRefused as fault:
        tell_refusal(fault)
        raise


def tell_refusal(fault: StateRefused) -> None:
    """Log what an operator refuses its state with, before it is raised: of a fault that goes through the Python of
    another operator, as in a chain, Flink tells but that there was one.
    """
    log.error("%s%s", REFUSED, fault)


@cache
def tell_on_standard_error() -> None:
    """Have what this process logs in lines of their own on standard error, which begin with TOLD, or are JSON
    (`state.runtime.logs`): else nobody would know them there from Flink's.
    """
    from riverrank.state.runtime.logs import formatter  # noqa: PLC0415 (where `native` has not yet let go of old code)

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(f"{TOLD}%(message)s"))
    logger = logging.getLogger("riverrank")
    logger.addHandler(handler)
    logger.propagate = False


@cache
def code_digest() -> str:
    """Of the source of every module that operators may use, as it was when this process first asked for it."""
    digest = hashlib.sha256()
    for name in (*modules(), *HANDED_OVER):
        spec = find_spec(name)
        assert spec is not None, "the name was found in the package"
        digest.update(f"{name}\0".encode() + spec.loader.get_data(spec.origin) + b"\0")  # type: ignore[union-attr]
    return digest.hexdigest()


def modules() -> list[str]:
    """The names of all modules of PACKAGES; for it the packages in them are imported, with what those import."""
    found = list(PACKAGES)
    for package in PACKAGES:
        path = importlib.import_module(package).__path__
        found += (module.name for module in pkgutil.walk_packages(path, f"{package}."))
    return found
