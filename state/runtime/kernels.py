"""Where numba keeps the project's compiled kernels: in one cache, by what they are compiled from.

Numba's own way is beside the module, by the module's file: a kernel whose callee changed in another module is taken
for fresh, a zip of `flink run -pyfs` lies elsewhere with each job, and an installation may be read-only. Here a kernel
is found by a digest of its source, and of all that it calls and names; what CPU it is for, numba's index says itself.
"""

import builtins
import dis
import hashlib
import inspect
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Self

import numpy as np
from numba.core.caching import _CacheLocator

from .environment import cache_dir

OURS = "riverrank."
# Raised where an earlier way to name what a kernel is compiled from was wrong, so that nobody finds what that compiled.
SCHEME = "3"

_known: dict[FunctionType, str] = {}  # the digest of each kernel, as it was defined


class Locator(_CacheLocator):
    """Tells numba where one function of ours is kept (`NUMBA_CACHE_LOCATOR_CLASSES`)."""

    def __init__(self, function: FunctionType) -> None:
        self._digest = _known[function] = _known.get(function) or digest(function)
        self._folder = _folder(function.__module__)
        for stored in _read_only(function.__module__, self._folder):
            for path in stored.glob(f"*-{self._digest}.*"):
                if not (self._folder / path.name).exists():
                    shutil.copy(path, self._folder)

    @classmethod
    def from_function(cls, py_func: FunctionType, py_file: str) -> Self | None:
        """Numba asks for each function; None leaves it to the next locator."""
        return cls(py_func) if py_func.__module__.startswith(OURS) else None

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._digest

    def get_disambiguator(self) -> str:
        return self._digest


def digest(function: FunctionType) -> str:
    """Of the source of a function, of all functions of ours that it calls, and of the constants that both name.

    Numba asks for it where a kernel is defined. Where one names what its module has yet to define, it is of all of that
    module. Of a kernel that is called it holds the digest: who calls one holds a copy of it, under the same name, and a
    kernel and its copies must never be of two versions.
    """
    parts: dict[str, str] = {}
    _collect(function, parts)
    text = "\0".join([SCHEME, *(f"{name}\0{parts[name]}" for name in sorted(parts))])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _collect(function: FunctionType, parts: dict[str, str]) -> None:
    name = f"{function.__module__}.{function.__qualname__}"
    if name in parts:
        return
    parts[name] = _source(function)
    named = _named(function)
    if _globals(function.__code__).difference(function.__globals__, vars(builtins)):
        parts[function.__module__] = _source(sys.modules[function.__module__])
        named = ((used, value) for used, value in list(function.__globals__.items()) if not used.startswith("__"))
    for used, value in named:
        kernel = getattr(value, "py_func", value)
        if isinstance(kernel, FunctionType):
            if kernel in _known:
                parts[f"{kernel.__module__}.{kernel.__qualname__}"] = _known[kernel]
            elif kernel.__module__.startswith(OURS):
                _collect(kernel, parts)
        else:
            parts[f"{name}:{used}"] = _constant(value)


@cache  # of a kernel it is asked for by each that calls it
def _source(of: FunctionType | ModuleType) -> str:
    return inspect.getsource(of)


def _named(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What the function's code names of its module, of the modules of ours there, and of the scopes around it."""
    names = list(_names(function.__code__))
    scope = function.__globals__
    for name in names:
        value = scope.get(name)
        if isinstance(value, ModuleType):
            if value.__name__.startswith(OURS):
                yield from ((f"{name}.{other}", getattr(value, other)) for other in names if hasattr(value, other))
        elif name in scope:
            yield name, value
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, cell.cell_contents


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@cache  # likewise
def _globals(code: CodeType) -> set[str]:
    """The names that the code looks for in its module."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _globals(constant)
    return found


def _constant(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, (bool, int, float, str, bytes, tuple, frozenset, np.generic, np.dtype)):
        return repr(value)
    return getattr(value, "__qualname__", type(value).__qualname__)


def _roots() -> list[Path]:
    own = os.environ.get("NUMBA_CACHE_DIR")
    shared = Path(tempfile.gettempdir()) / f"riverrank-kernels-{os.getuid()}"
    return [*([Path(own)] if own else []), cache_dir() / "kernels", shared]


def _folder(module: str) -> Path:
    """The first root's folder for a module that can be written, and that nobody else could have."""
    for root in _roots():
        folder = root / module
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
                return folder
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix="riverrank-kernels-"))


def _read_only(module: str, chosen: Path) -> list[Path]:
    """Folders of a module that hold kernels and can't be written, as an image has them."""
    return [root / module for root in _roots()[:-1] if root / module != chosen and (root / module).is_dir()]
