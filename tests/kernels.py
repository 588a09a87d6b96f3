"""What tests of compiled kernels share: which kernels there are, by reading the sources, so that it is the same whether
they are compiled or not; and for which types they are compiled when streams are answered.

    python tests/kernels.py EVENTS STREAM...     as JSON the types that each kernel was asked with from Python, and how
                                                 many were not in the cache: then also those asked by other kernels
"""

import ast
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import oracle
from riverrank.jobs.config.schema import parse
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.outputs import PREDICTIONS

OURS = "riverrank.operators."
ROOT = Path(__file__).resolve().parent.parent
OPERATORS = ROOT / "operators"


def kernels_of(folder: str) -> set[str]:
    """`module.function` of each function in the modules of operators/`folder` that numba compiles."""
    return {
        f"{path.stem}.{node.name}"
        for path in sorted((OPERATORS / folder).glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and any("njit" in ast.unparse(mark) for mark in node.decorator_list)
    }


def twins_of(modules: Iterable[ModuleType]) -> dict[str, Any]:
    """By kernel, the test that the TWINS of one of the modules names for it."""
    return {name: test for module in modules for name, test in module.TWINS.items()}


def missing_twins(folder: str, twins: Mapping[str, Any], *tests: Mapping[str, Any]) -> set[str]:
    """The kernels of operators/`folder` that `twins` names no test of `tests`, the globals of modules, for, or one that
    does not ask them; and what it names that is no kernel.
    """
    kernels = kernels_of(folder)
    assert kernels, f"operators/{folder} holds no kernel: has it moved?"
    package = OURS + folder.replace("/", ".") + "."
    held = {
        name
        for name, test in twins.items()
        for module in tests
        if module.get(test.__name__) is test and package + name in asked_by(test.__name__, module)
    }
    return kernels ^ held


def asked_by(test: str, tests: Mapping[str, Any]) -> set[str]:
    """`package.module.function` of what a test of the module with the globals `tests` names: itself, or the functions
    and classes of its module that it names, or a class or a function in plain Python of ours that these name.
    """
    own = {node.name: node for node in _tree(tests).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    waiting, known, asked = [test], {test}, set[str]()
    while waiting:
        node = own[waiting.pop()]
        new = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} & own.keys() - known
        known |= new
        waiting += new
        for name, value in _named(node, tests):
            asked.add(name)
            if not _is_compiled(value):
                held = vars(sys.modules[value.__module__])
                (node_of_it,) = (each for each in _tree(held).body if getattr(each, "name", "") == value.__name__)
                asked |= {inner for inner, _ in _named(node_of_it, held)}
    return asked


def _tree(module: Mapping[str, Any]) -> ast.Module:
    return ast.parse(Path(module["__file__"]).read_text("utf-8"))


def _named(node: ast.AST, module: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What `node`, in a module with these globals, names of our functions and classes; each as `package.module.name`
    too.
    """
    for each in ast.walk(node):
        value = None
        if isinstance(each, ast.Name):
            value = module.get(each.id)
        elif isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
            owner = module.get(each.value.id)
            value = getattr(owner, each.attr, None) if isinstance(owner, ModuleType) else None
        value = getattr(value, "py_func", value) if hasattr(type(value), "signatures") else value  # what is compiled
        if isinstance(value, FunctionType | type) and value.__module__.startswith(OURS):
            yield f"{value.__module__}.{value.__qualname__}", value


def _is_compiled(value: Any) -> bool:
    folder, _, module = value.__module__.removeprefix(OURS).rpartition(".")
    return f"{module}.{value.__qualname__}" in kernels_of(folder.replace(".", "/"))


def python(*arguments: str, **environment: str) -> str:
    """What a Python process that compiles kernels writes."""
    compiling = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=compiling | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
