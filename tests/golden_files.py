"""The golden files: each is written once, when its layout is new, and read ever after."""

from collections.abc import Callable
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def kept(name: str) -> bytes:
    return (GOLDEN / f"{name}.bin").read_bytes()


def write(name: str, make: Callable[[], bytes]) -> None:
    """Write the golden file of a new layout."""
    target = GOLDEN / f"{name}.bin"
    if target.exists():
        raise SystemExit(f"{target.name} is there: a layout that was released does not change, make a new one")
    target.write_bytes(make())
