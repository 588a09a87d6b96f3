"""Imports River, and the C extensions that come with it, where that can't hang: in a thread that Python made itself.

In thread mode Flink's Java threads run Python, and one that runs several operators of a chain holds a Python thread
state for each. An extension that asks for the interpreter's lock while it is imported (all of pybind11's do, and
scipy has some, which River imports) then waits for itself for ever: PyGILState_Ensure knows the first state only.
To be imported before any module that imports River.
"""

import importlib
import threading


def import_apart(*names: str) -> None:
    """Import modules in a thread of their own; raises what the import raised."""
    faults: list[BaseException] = []

    def import_all() -> None:
        try:
            for name in names:
                importlib.import_module(name)
        except BaseException as fault:  # raised again below: a thread has nobody to raise it to
            faults.append(fault)

    thread = threading.Thread(target=import_all, name="imports")
    thread.start()
    thread.join()
    if faults:
        raise faults[0]


import_apart("river.compose", "river.linear_model", "river.optim", "river.preprocessing")
