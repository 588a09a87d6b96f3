"""What every process of the project does before numpy and numba are imported: one thread each, a place for kernels.
And which threads of a TaskManager keep to which core.

Imported by `state`, `operators` and `jobs` themselves, so before any module in them. Nothing here takes long.
"""

import ctypes
import gc
import os
import sys
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path

# Threads that numpy's BLAS or numba would start for themselves: with cores short they cost 5 to 10 times what they
# gain, and Flink runs as many tasks as there are cores anyway. What the environment says already, holds.
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
LOCATORS = (
    "riverrank.state.runtime.kernels.Locator",
    "UserProvidedCacheLocator",
    "InTreeCacheLocator",
    "UserWideCacheLocator",
    "ZipCacheLocator",
)
CORE = "RIVERRANK_CORE"  # the number, from 0, of the core that the threads of a process that run Python are to share
NICE = 10  # what threads step back by: against another that wants the same core they get a tenth of it
_TASKS = Path("/proc/self/task")  # a folder for each thread of this process; Linux has it
_SET_THREADS = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads")


def collect_rarely() -> None:
    """Have Python look for cycles of garbage less often, and not among what there is already, as modules and the
    catalogue, which stay. An event leaves hundreds of objects and hardly a cycle: to look after every 700 costs 3 %
    of a slate, and to look through all that there is 90 ms.
    """
    gc.freeze()
    gc.set_threshold(5_000, 20, 20)


def cache_dir() -> Path:
    """Where jars and compiled kernels are kept: `$RIVERRANK_CACHE`, else `riverrank` in `$XDG_CACHE_HOME` or
    `~/.cache`."""
    if own := os.environ.get("RIVERRANK_CACHE"):
        return Path(own).absolute()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).absolute() / "riverrank"
    return Path(os.path.expanduser("~")) / ".cache" / "riverrank"  # as it is where there is no home


def prepare() -> None:
    """Set the environment of this process and of those it starts; where it comes too late, mend what can be."""
    wanted = [name for name in THREADS if name not in os.environ]
    os.environ |= dict.fromkeys(wanted, "1")
    if "OPENBLAS_NUM_THREADS" in wanted and "numpy" in sys.modules:  # PyFlink imports it first on a TaskManager
        single_blas_thread()
    os.environ.setdefault("NUMBA_CACHE_LOCATOR_CLASSES", ",".join(LOCATORS))
    if (numba := sys.modules.get("numba")) is not None and hasattr(numba, "config"):
        numba.config.CACHE_LOCATOR_CLASSES = os.environ["NUMBA_CACHE_LOCATOR_CLASSES"]


def share_core() -> None:
    """Keep the calling thread on one core, where the environment names one: the first is 0, and numbers beyond the last
    begin again there.

    Threads that run Python take turns, for there is one interpreter lock. On several cores each turn begins with moving
    the interpreter's memory over: a slate takes twice the processor time then, and comes half as often.
    """
    if (number := os.environ.get(CORE)) and hasattr(os, "sched_setaffinity"):
        mine = cores()
        os.sched_setaffinity(0, {mine[int(number) % len(mine)]})


def clear_core() -> None:
    """Keep every other thread of this process off the core of the calling one, but for those that share it: where
    that thread sets the pace of all, whatever else runs there is time lost. What writes checkpoints was started from
    that thread and shares its core as well, stepping back (`step_back`).
    """
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    others = {*cores()} - mine
    if len(mine) != 1 or not others:
        return
    for thread in _threads():
        with suppress(OSError):  # it ended meanwhile, or the cores are others by now: it runs where it may
            if thread != threading.get_native_id() and os.sched_getaffinity(thread) != mine:
                os.sched_setaffinity(thread, others)


def step_back(prefix: str) -> None:
    """Have the threads of this process whose names begin with `prefix` give way to its others on the same core. Of a
    name Linux knows the first 15 letters.

    It hardly helps other processes, as Linux shares a core between sessions first; so the threads stay on the core they
    are on.
    """
    back = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICE, 19)  # Linux: of a thread, here the first, alone
    for thread in _threads():
        with suppress(OSError):  # it ended meanwhile
            name = (_TASKS / str(thread) / "comm").read_text()
            if name.startswith(prefix) and os.getpriority(os.PRIO_PROCESS, thread) < back:
                os.setpriority(os.PRIO_PROCESS, thread, back)


def _threads() -> set[int]:
    return set(map(int, os.listdir(_TASKS))) if _TASKS.is_dir() else set()


@cache
def cores() -> list[int]:
    """Those that this process may use, as it was when this was first asked for."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(os.getpid()))
    return list(range(os.cpu_count() or 1))


def single_blas_thread() -> int:
    """Make every OpenBLAS that is loaded compute in the thread that calls it; how many that were."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return 0  # not Linux
    found = 0
    for path in {line.split(maxsplit=5)[5] for line in maps.splitlines() if "openblas" in line}:
        library = ctypes.CDLL(path)
        for name in _SET_THREADS:
            if hasattr(library, name):
                getattr(library, name)(1)
                found += 1
                break
    return found
