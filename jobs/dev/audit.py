"""Asks the package index what became of the packages that the locks name since: versions that were yanked, files that
are gone, and advisories. A finding is a line, and the exit code 1, unless `.ci/audit.toml` says why it may be.

    python -m riverrank.jobs.dev.audit [--skip-offline]

Where the index does not answer the exit code is 2, with --skip-offline 0, for CI. It is no part of `make test`, as
somebody else's advisory of tomorrow is no fault of today's change. Jars are not asked about: Maven's repository takes
nothing back, and tells no advisories.
"""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .packages import ASKED_AT_ONCE, CHECKOUT, DEV_LOCK, LOCK, Index, IndexAwayError, Pin, all_of, read

ACCEPTED = CHECKOUT / ".ci" / "audit.toml"
YANKED, GONE = "yanked", "gone"
Findings = Mapping[str, str]  # what is told of each, by `NAME==VERSION WHAT`, where WHAT is YANKED, GONE or an advisory


def main(arguments: list[str], index: Index | None = None, accepted: Path = ACCEPTED) -> int:
    """The command of the module docstring; its exit code."""
    if arguments not in ([], ["--skip-offline"]):
        print("usage: python -m riverrank.jobs.dev.audit [--skip-offline]", file=sys.stderr)
        return 2
    pins = [*read(LOCK), *read(DEV_LOCK)]
    reasons = tomllib.loads(accepted.read_text("utf-8"))
    try:
        asked = index or Index()
        found = {**lost(asked, pins), **advisories(asked, pins)}
    except IndexAwayError as error:
        print(f"audit: {error}; nothing was looked at", file=sys.stderr)
        return 0 if arguments else 2
    new = {what: told for what, told in found.items() if what not in reasons}
    for what, told in new.items():
        print(f"{what}: {told}")
    for what in reasons.keys() - found.keys():
        print(f"audit: {what} is no longer found: take it out of {accepted.name}", file=sys.stderr)
    print(f"audit: {len(pins)} packages, {len(new)} findings, {len(found) - len(new)} accepted", file=sys.stderr)
    return 1 if new else 0


def lost(index: Index, pins: Iterable[Pin]) -> Findings:
    """The versions of which a file was yanked, or one that the lock names is no longer there."""
    found = {}
    for pin, files in all_of(index, pins).items():
        if why := next((file.yanked for file in files if file.yanked), ""):
            found[f"{pin} {YANKED}"] = why
        if gone := {*pin.hashes} - {file.sha256 for file in files}:
            found[f"{pin} {GONE}"] = f"{len(gone)} of {len(pin.hashes)} files, such as sha256:{min(gone)}"
    return found


def advisories(index: Index, pins: Iterable[Pin]) -> Findings:
    """The advisories that hold for a version, as far as the index tells any."""
    pins = list(pins)
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        told = [*zip(pins, pool.map(index.vulnerabilities, pins), strict=True)]
    if all(of_pin is None for _, of_pin in told):
        print("audit: this index tells no advisories", file=sys.stderr)
    return dict(_named(told))


def _named(told: Iterable[tuple[Pin, Iterable[Mapping[str, Any]] | None]]) -> Iterator[tuple[str, str]]:
    for pin, of_pin in told:
        for each in of_pin or ():
            aliases, fixed = (", ".join(map(str, each.get(key) or ())) for key in ("aliases", "fixed_in"))
            yield f"{pin} {each['id']}", f"{aliases or 'no other name'}; fixed in {fixed or 'no version'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
