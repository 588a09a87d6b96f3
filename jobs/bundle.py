"""The zip that takes the packages to a cluster: `flink run -pyfs riverrank.zip`.

python -m riverrank.jobs.bundle riverrank.zip
"""

from __future__ import annotations

import sys
import zipfile
from importlib import import_module
from pathlib import Path

PACKAGES = ("jobs", "operators", "state")
NOT_BUNDLED = (".pyc", ".pyo")


def bundle(target: Path) -> list[str]:
    """Write the zip, the same bytes for the same files; the names in it.

    `riverrank` has no `__init__.py`, and Python sees such a package in a zip only by an entry for the folder itself.
    """
    names = ["riverrank/"]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("riverrank/"), "")
        for package in PACKAGES:
            archive.writestr(zipfile.ZipInfo(f"riverrank/{package}/"), "")
            names.append(f"riverrank/{package}/")
            for path in _files(package):
                name = f"riverrank/{package}/{path.name}"
                archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
                names.append(name)
    return names


def _files(package: str) -> list[Path]:
    module = import_module(f"riverrank.{package}")
    if module.__file__ is None:
        raise RuntimeError(f"riverrank.{package} has no __init__.py: the installation is broken, run `make setup`")
    files = [path for path in Path(module.__file__).parent.iterdir() if path.is_file()]
    return sorted(path for path in files if path.suffix not in NOT_BUNDLED and not path.name.startswith("."))


def main(arguments: list[str]) -> int:
    """The command of the module docstring."""
    if len(arguments) != 1:
        print("usage: python -m riverrank.jobs.bundle FILE.zip", file=sys.stderr)
        return 2
    names = bundle(Path(arguments[0]))
    print(f"{arguments[0]}: {len(names)} entries")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
