"""The Python packages that the locks name, and what the package index that pip goes to tells of them.

`requirements.lock` is of what the job needs, `requirements-dev.lock` of what tests, measurements and the demo need
besides. Each names exact versions that were tested together, and the SHA-256 of all files there are of each: pip, with
--require-hashes, installs no other. To renew them: a new environment, pip install '.[demo,dev]' async-timeout without
them (the latter is for Python before 3.11.3), the tests, and

    python -m riverrank.jobs.dev.packages     write both, of what is installed in this environment
"""

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version
from riverrank.jobs.errors import Failure

OURS = "riverrank"
CHECKOUT = Path(__file__).resolve().parents[2]
LOCK, DEV_LOCK = CHECKOUT / "requirements.lock", CHECKOUT / "requirements-dev.lock"
INSTALLERS = ("pip", "setuptools", "wheel")  # what installs, and builds, all others
ASKED_AT_ONCE = 8
TIMEOUT_SECONDS = 60
FILES_FORM = "application/vnd.pypi.simple.v1+json"  # PEP 691
HEADS = {
    LOCK: "# What the job needs, by exact version and the SHA-256 of all files of it. Made by\n"
    "# `python -m riverrank.jobs.dev.packages`, which says when.\n",
    DEV_LOCK: "# What tests, measurements and the demo need besides requirements.lock, which is made by the same.\n",
}


class Pin(NamedTuple):
    """A version of a package, and the SHA-256 of each of its files, in hex."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


class File(NamedTuple):
    """What the index tells of one file; `yanked` is why it was taken back, the empty string where it was not."""

    version: str
    sha256: str
    yanked: str


class IndexAwayError(Failure):
    """The package index does not answer."""


def read(lock: Path) -> list[Pin]:
    """The pins of a lock.

    >>> [str(pin) for pin in read(LOCK) if pin.name in INSTALLERS and pin.hashes]
    ['pip==25.3', 'setuptools==80.9.0', 'wheel==0.45.1']
    """
    entries = re.findall(r"^(\S+)==(\S+)((?: \\\n +--hash=sha256:[0-9a-f]{64})*)$", lock.read_text("utf-8"), re.M)
    return [Pin(name, version, tuple(re.findall("[0-9a-f]{64}", hashes))) for name, version, hashes in entries]


def written(pins: Iterable[Pin]) -> str:
    """The lines of a lock."""
    return "".join(f"{pin}" + "".join(f" \\\n    --hash=sha256:{each}" for each in pin.hashes) + "\n" for pin in pins)


class Index:
    """The package index that pip is configured for, or another."""

    def __init__(self, url: str = "") -> None:
        """`url` is of its simple interface."""
        self._simple = (url or _configured()).rstrip("/")

    def files(self, name: str) -> list[File]:
        """The files there are of all versions of a package; none where the index has no such package.

        Raises:
            IndexAwayError: it does not answer, or not in JSON.
        """
        found = []
        for each in _asked(f"{self._simple}/{canonicalize_name(name)}/", FILES_FORM).get("files", ()):
            if version := _version_of(each["filename"]):
                yanked = each.get("yanked", False)
                why = yanked if isinstance(yanked, str) else "no reason given" if yanked else ""
                found.append(File(version, each["hashes"].get("sha256", ""), why))
        return found

    def vulnerabilities(self, pin: Pin) -> list[Mapping[str, Any]] | None:
        """The advisories that hold for this version, by `id`, `aliases` and `fixed_in`; None where it tells none."""
        base = self._simple.removesuffix("/simple")
        told = _asked(f"{base}/pypi/{canonicalize_name(pin.name)}/{pin.version}/json", "application/json").get(
            "vulnerabilities"
        )
        return None if told is None else [each for each in told if not each.get("withdrawn")]


def all_of(index: Index, pins: Iterable[Pin]) -> dict[Pin, list[File]]:
    """The files that `index` has of each pin, of its version alone."""
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        asked = {pin: pool.submit(index.files, pin.name) for pin in pins}
    return {
        pin: [file for file in files.result() if Version(file.version) == Version(pin.version)]
        for pin, files in asked.items()
    }


def installed() -> dict[str, Pin]:
    """What is installed in this environment but for riverrank, without hashes, by its canonical name."""
    found: dict[str, Pin] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        found.setdefault(canonicalize_name(name), Pin(name, distribution.version, ()))
    found.pop(OURS, None)
    return found


def needed() -> set[str]:
    """The canonical names of what the job needs on any Python 3.11, with what that needs, and of what installs it."""
    environments = [{"extra": "", "python_full_version": version} for version in (platform.python_version(), "3.11.0")]
    names, pending = set[str](), [Requirement(name) for name in (OURS, *INSTALLERS)]
    while pending:
        if (name := canonicalize_name(pending.pop().name)) in names:
            continue
        names.add(name)
        told = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
        pending += [each for each in told if each.marker is None or any(map(each.marker.evaluate, environments))]
    return names - {OURS}


def _asked(url: str, form: str) -> dict[str, Any]:
    """The JSON at `url`, empty where there is nothing."""
    request = urllib.request.Request(url, headers={"Accept": form})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            return {}
        raise IndexAwayError(f"the package index answers with {error.code}") from error
    except (OSError, ValueError) as error:
        raise IndexAwayError(f"the package index does not answer, or not in JSON: {error}") from error


def _configured() -> str:
    """The simple interface of the index that pip goes to here."""
    from pip._internal.models.index import PyPI  # noqa: PLC0415 - where pip goes by itself is told nowhere else

    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found = re.search(r"^(?:install|global)\.index-url='(.*)'$", listed.stdout, re.M)
    return found[1] if found else PyPI.simple_url


def _version_of(filename: str) -> str:
    """The version that a file is of; the empty string where it is of a form that pip no longer takes."""
    try:
        parse = parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename
        return str(parse(filename)[1])
    except (InvalidWheelFilename, InvalidSdistFilename):
        return ""


def main() -> None:
    """Write both locks."""
    here, job = installed(), needed()
    pins = [here[name] for name in sorted(here)]
    of_each = all_of(Index(), pins)
    if lost := [str(pin) for pin in pins if not of_each[pin]]:
        raise SystemExit(f"riverrank: the package index has no files of {', '.join(lost)}")
    hashed = [pin._replace(hashes=tuple(sorted(file.sha256 for file in of_each[pin]))) for pin in pins]
    for lock, is_of_job in ((LOCK, True), (DEV_LOCK, False)):
        chosen = [pin for pin in hashed if (canonicalize_name(pin.name) in job) is is_of_job]
        lock.write_text(HEADS[lock] + written(chosen), "utf-8")
        print(f"{lock.name}: {len(chosen)} packages, {sum(len(pin.hashes) for pin in chosen)} files")


if __name__ == "__main__":
    main()
