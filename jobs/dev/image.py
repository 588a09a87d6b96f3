"""Lays out Flink's home as its own images have it: bin, conf, lib, opt, plugins, log in one folder.

    python -m riverrank.jobs.dev.image FOLDER [CONF]

CONF is `flink-conf` unless given. What is in the installed wheel of apache-flink is linked, not copied. For the image
(`docker/Dockerfile`), and for the tests that start the same parts without one.
"""

import shutil
import sys
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
    for name in ("bin", "opt"):
        (home / name).symlink_to(flink / name)
    for name in ("lib", "log", "plugins"):
        (home / name).mkdir()
    link_lib(home / "lib")
    for plugin in (flink / "plugins").iterdir():
        if plugin.is_dir():
            (home / "plugins" / plugin.name).symlink_to(plugin)
    (home / "plugins" / S3_PLUGIN).mkdir()
    for jar in jars.s3_plugin():
        (home / "plugins" / S3_PLUGIN / jar.name).symlink_to(jar)
    shutil.copytree(conf, home / "conf")
    write_conf(home / "conf" / "config.yaml", IN_CONTAINERS)


def main(arguments: list[str]) -> int:
    """The command of the module docstring."""
    if len(arguments) not in (1, 2):
        print("usage: python -m riverrank.jobs.dev.image FOLDER [CONF]", file=sys.stderr)
        return 2
    lay_out(*map(Path, arguments))
    print(f"{arguments[0]}: Flink's home")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
