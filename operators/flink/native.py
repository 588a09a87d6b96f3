"""What a TaskManager's interpreter has to hold before operators run in it: all of the code, and its kernels compiled.

Imported and compiled in a thread that Python made itself. In thread mode Flink's Java threads run Python, and one that
runs several operators of a chain holds a Python thread state for each. An extension that asks for the interpreter's
lock while it is imported (all of pybind11's do, and scipy has some, which River imports) then waits for itself for
ever: PyGILState_Ensure knows the first state only. `operators.flink` imports this first in a Flink process.

The same holds for every call of a kernel with an array: numba asks for the lock when it lets go of the array. So a
chain may hold one operator that calls kernels, the last of the chain: Flink opens that one first. `make_ready` refuses
any other.

All of the code, because a TaskManager outlives the folder that Flink unpacked it in: when a job's last task there ends,
the folder goes, while packages that were imported from it stay and point to it. A module that no task had asked for by
then would be missing in every later job of this TaskManager, a restart of the same one included.
"""

import ctypes
import importlib
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from riverrank.state.runtime.environment import collect_rarely

from .shipped import HANDED_OVER, code_digest, modules

if TYPE_CHECKING:  # it may be gone: see `forget_gone`
    from riverrank.operators.settings import Behaviour

_ready: set[bytes] = set()
_one_at_a_time = threading.Lock()


def apart(work: Callable[[], object]) -> None:
    """Run `work` in a thread of its own, and wait; raises what it raised."""
    faults: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as fault:  # raised again below: a thread has nobody to raise it to
            faults.append(fault)

    thread = threading.Thread(target=run, name="native")
    thread.start()
    thread.join()
    if faults:
        raise faults[0]


def forget_gone() -> None:
    """Let go of the modules of ours whose files are gone: another job, that asked for a few of them, brought them."""
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if name.startswith("riverrank.") and spec is not None and spec.has_location:
            try:
                spec.loader.get_data(spec.origin)
            except OSError:
                del sys.modules[name]
    importlib.invalidate_caches()


def import_all() -> None:
    """Import every module that a task can ask for, and with them numba, River and scipy."""
    forget_gone()
    code_digest()  # while the files are there
    names = modules()
    adapters = [name for name in names if name.startswith(__package__)]
    logic = [name for name in names if name not in adapters]
    apart(lambda: [importlib.import_module(name) for name in logic])
    for name in (*adapters, *HANDED_OVER):  # in this thread, which has begun to import some of them: another would wait
        importlib.import_module(name)


def make_ready(behaviour: "Behaviour") -> None:
    """Load all that an operator with these settings calls, compiled kernels too, once a process; for `open()`.

    Else the first event waits for it: some tenths of a second from numba's cache, many seconds without.
    """
    from riverrank.operators.warm import warm  # noqa: PLC0415 (the logic, which is imported apart)
    from riverrank.state.messages import encode  # noqa: PLC0415

    if "pemja" in sys.modules and not ctypes.pythonapi.PyGILState_Check():
        raise RuntimeError(
            "this operator calls kernels, and another of its chain was opened before it: numba would wait for ever for "
            "a lock that this thread has; start a new chain after it (jobs.flink.topology)"
        )
    key = encode(behaviour)
    with _one_at_a_time:
        if key not in _ready:
            apart(lambda: warm(behaviour))
            collect_rarely()
            _ready.add(key)
