"""Lays out Flink's home as its own images have it, and configures it by the environment, as their entry point does.

    python -m riverrank.jobs.dev.image lay-out HOME [CONF]     bin, conf, lib, opt, plugins and log in the folder HOME
    python -m riverrank.jobs.dev.image configure HOME          its configuration, for this container

CONF is `flink-conf` unless given. Jars are links to those of the installed wheel of apache-flink. For the image
(`docker/Dockerfile`), and for the tests that start the same parts without one.
"""

import os
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from riverrank.jobs.flink import jars

from .cluster import CHECKOUT_CONF, link_lib, write_conf

S3_PLUGIN = "s3-fs-hadoop"  # its folder below plugins/, as Flink's documents name it
# A container's parts are reached from others, by names that its start, not its image, knows.
IN_CONTAINERS: dict[str, object] = {
    "jobmanager.bind-host": "0.0.0.0",
    "taskmanager.bind-host": "0.0.0.0",
    "taskmanager.host": None,
    "rest.bind-address": "0.0.0.0",
    "rest.address": None,  # Flink takes the JobManager's
}


def lay_out(home: Path, conf: Path = CHECKOUT_CONF) -> None:
    """Fill the folder `home`, which is made where it is not there, with the configuration of `conf`.

    Raises:
        Failure: apache-flink is not installed.
        FileExistsError: a Flink is laid out there already.
    """
    flink = jars.flink_home()
    home.mkdir(parents=True, exist_ok=True)
    shutil.copytree(flink / "bin", home / "bin")  # the scripts look for all else beside where they really are
    for name in ("lib", "log", "opt", "plugins"):
        (home / name).mkdir()
    link_lib(home / "lib")
    for jar in (flink / "opt").glob("*.jar"):
        (home / "opt" / jar.name).symlink_to(jar)
    for plugin in (flink / "plugins").iterdir():
        if plugin.is_dir():
            (home / "plugins" / plugin.name).symlink_to(plugin)
    (home / "plugins" / S3_PLUGIN).mkdir()
    for jar in jars.s3_plugin():
        (home / "plugins" / S3_PLUGIN / jar.name).symlink_to(jar)
    shutil.copytree(conf, home / "conf")
    write_conf(home / "conf" / "config.yaml", IN_CONTAINERS)


def configure(home: Path, environment: Mapping[str, str]) -> None:
    """Put over the configuration of the Flink in `home`: the address of the JobManager (JOB_MANAGER_RPC_ADDRESS, else
    this host), fixed ports, TASK_MANAGER_NUMBER_OF_TASK_SLOTS, and each line `key: value` of FLINK_PROPERTIES. One that
    can't be written, as Flink's operator mounts it, says all by itself and stays as it is.
    """
    path = home / "conf" / "config.yaml"
    if not os.access(path, os.W_OK):
        return
    options: dict[str, object] = {
        "jobmanager.rpc.address": environment.get("JOB_MANAGER_RPC_ADDRESS") or socket.getfqdn(),
        "blob.server.port": 6124,
        "query.server.port": 6125,
    }
    if slots := environment.get("TASK_MANAGER_NUMBER_OF_TASK_SLOTS"):
        options["taskmanager.numberOfTaskSlots"] = slots
    for line in environment.get("FLINK_PROPERTIES", "").splitlines():
        key, _, value = line.partition(":")
        if key.strip():
            options[key.strip()] = value.strip()
    write_conf(path, options)


def main(arguments: list[str]) -> int:
    """The commands of the module docstring."""
    match arguments:
        case ["lay-out", home]:
            lay_out(Path(home))
        case ["lay-out", home, conf]:
            lay_out(Path(home), Path(conf))
        case ["configure", home]:
            configure(Path(home), os.environ)
        case _:
            print("usage: python -m riverrank.jobs.dev.image lay-out HOME [CONF] | configure HOME", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
