"""The zip that takes the packages to a cluster: `flink run -pyfs riverrank.zip`.

python -m riverrank.jobs.dev.bundle riverrank.zip
"""

import sys
import zipfile
from importlib import import_module
from pathlib import Path

JOB_FILE = Path(__file__).parents[1] / "recommend.py"  # what `flink run -py` takes beside the zip
PACKAGES = ("jobs", "operators", "state")
NOT_BUNDLED = (".pyc", ".pyo", ".nbi", ".nbc")


def bundle(target: Path) -> list[str]:
    """Write the zip, the same bytes for the same files; the names in it.

    `riverrank` has no `__init__.py`, and Python sees such a package in a zip only by an entry for the folder itself.
    """
    names = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in [("riverrank/", None), *(entry for package in PACKAGES for entry in _entries(package))]:
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes() if path else "", zipfile.ZIP_DEFLATED)
            names.append(name)
    return names


def _entries(package: str) -> list[tuple[str, Path | None]]:
    """Names in the zip, and the files they hold (None for a folder), of a package and all below it."""
    module = import_module(f"riverrank.{package}")
    if module.__file__ is None:
        raise RuntimeError(f"riverrank.{package} has no __init__.py: the installation is broken, run `make setup`")
    top = Path(module.__file__).parent
    entries: list[tuple[str, Path | None]] = [(f"riverrank/{package}/", None)]
    for path in sorted(top.rglob("*")):
        parts = path.relative_to(top).parts
        if any(part.startswith(".") or part == "__pycache__" for part in parts) or path.suffix in NOT_BUNDLED:
            continue
        name = "/".join(("riverrank", package, *parts))
        entries.append((f"{name}/", None) if path.is_dir() else (name, path))
    return entries


def main(arguments: list[str]) -> int:
    """The command of the module docstring."""
    if len(arguments) != 1:
        print("usage: python -m riverrank.jobs.dev.bundle FILE.zip", file=sys.stderr)
        return 2
    names = bundle(Path(arguments[0]))
    print(f"{arguments[0]}: {len(names)} entries")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
