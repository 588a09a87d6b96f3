"""What tests of compiled kernels share: which kernels there are, by reading the sources, so that it is the same whether
they are compiled or not.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
