"""What tests of compiled kernels share: which kernels there are, by reading the sources, so that it is the same whether
they are compiled or not; and for which types they are compiled when streams are answered.

    python tests/kernels.py EVENTS STREAM...     as JSON the types that each kernel was asked with from Python, and how
                                                 many were not in the cache: then also those asked by other kernels
"""

import ast
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import oracle
from riverrank.jobs.config.schema import parse
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.outputs import PREDICTIONS

OURS = "riverrank.operators."
OPERATORS = Path(__file__).resolve().parent.parent / "operators"


def kernels_of(folder: str) -> set[str]:
    """`module.function` of each function in the modules of operators/`folder` that numba compiles."""
    return {
        f"{path.stem}.{node.name}"
        for path in sorted((OPERATORS / folder).glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and any("njit" in ast.unparse(mark) for mark in node.decorator_list)
    }


def missing_twins(folder: str, twins: Mapping[str, Any], tests: Mapping[str, Any]) -> set[str]:
    """The kernels of operators/`folder` that `twins` names no test of `tests`, a module's globals, for, and what it
    names that is no kernel.
    """
    kernels = kernels_of(folder)
    assert kernels, f"operators/{folder} holds no kernel: has it moved?"
    return kernels ^ {name for name, test in twins.items() if tests.get(test.__name__) is test}


def dispatchers() -> dict[str, Any]:
    """The compiled functions of the modules that this process has loaded, as `folder.module.function`."""
    return {
        f"{name.removeprefix(OURS)}.{value.py_func.__name__}": value
        for name, module in sorted(sys.modules.items())
        for value in (vars(module).values() if name.startswith(OURS) else ())
        if hasattr(value, "py_func") and value.py_func.__module__ == name
    }


def answer_streams(names: Iterable[str], events: int) -> int:
    """Answer the first records of the oracle's streams; how many slates came of it."""
    slates = 0
    for name in names:
        pipeline = Pipeline(parse(tomllib.loads(oracle.STREAMS[name].config)).behaviour, {PREDICTIONS.name: _ignore})
        items, lines = oracle.made_lines(oracle.STREAMS[name])
        for offset, line in enumerate(items):
            pipeline.item(Arrival(0, offset, 0, line))
        for offset, line in enumerate(lines[:events]):
            pipeline.event(Arrival(0, offset, 0, line))
        slates += pipeline.slates
    return slates


def _ignore(key: str, value: bytes) -> None:
    pass


if __name__ == "__main__":
    slates = answer_streams(sys.argv[2:], int(sys.argv[1]))
    kernels = dispatchers()
    types = {name: [str(types) for types in kernel.signatures] for name, kernel in kernels.items()}
    misses = sum(sum(kernel.stats.cache_misses.values()) for kernel in kernels.values())
    print(json.dumps({"slates": slates, "signatures": types, "misses": misses}))
