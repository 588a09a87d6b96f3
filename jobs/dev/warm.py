"""Compiles the kernels that the job needs, into the cache where every process of the project finds them.

    python -m riverrank.jobs.dev.warm

`make setup` and the image run it once. Kernels that nobody used for MONTHS go, as each change leaves the older ones.
"""

import sys
import time
from pathlib import Path

import msgspec
from riverrank.operators.settings import Behaviour
from riverrank.operators.warm import warm
from riverrank.state.runtime.environment import cache_dir

MONTHS = 3
_EXPLORATION = ("epsilon", "softmax", "thompson")


def variants() -> list[Behaviour]:
    """The default settings, and those that take another way through the kernels."""
    plain = Behaviour()
    exploring = [
        msgspec.structs.replace(plain, exploration=msgspec.structs.replace(plain.exploration, kind=kind, rate=0.1))
        for kind in _EXPLORATION
    ]
    repeating = msgspec.structs.replace(plain, slate=msgspec.structs.replace(plain.slate, hide=()))
    return [plain, *exploring, repeating]


def prune(folder: Path, now: float) -> int:
    """Remove kernels that were neither written nor read for long; how many files that were."""
    old = [
        path
        for path in folder.rglob("*.nb[ic]")
        if max(path.stat().st_mtime, path.stat().st_atime) < now - MONTHS * 30 * 86_400
    ]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def main() -> int:
    """The command of the module docstring."""
    started = time.monotonic()
    for behaviour in variants():
        warm(behaviour)
    prune(cache_dir() / "kernels", time.time())
    print(f"kernels: compiled in {time.monotonic() - started:.1f} s, in {cache_dir() / 'kernels'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
