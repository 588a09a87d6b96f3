"""The image, as far as it is known without Docker: what is sent to build it, Flink's home in it, its entry point."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from containers import ENTRY
from riverrank.jobs.dev import image
from riverrank.jobs.dev.cluster import CHECKOUT_CONF, flattened
from riverrank.jobs.flink import jars
from ruamel.yaml import YAML
from watched import ROOT

DOCKERFILE = ROOT / "docker" / "Dockerfile"
STARTED = {
    "jobmanager": "jobmanager.sh start-foreground",
    "standalone-job": "standalone-job.sh start-foreground",
    "taskmanager": "taskmanager.sh start-foreground",
    "history-server": "historyserver.sh start-foreground",
}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, each with what follows its name."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest) for line in text.splitlines() if line for name, _, rest in [line.partition(" ")]]


def environment() -> dict[str, str]:
    """What the image sets."""
    return dict(word.split("=", 1) for name, rest in instructions() if name == "ENV" for word in rest.split())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    image.lay_out(tmp_path / "flink")
    return tmp_path / "flink"


@pytest.fixture
def echoing(home: Path) -> Path:
    """A Flink's home whose scripts say their names and arguments, and start nothing."""
    for command in STARTED.values():
        (home / "bin" / command.split()[0]).write_text('#!/bin/sh\necho "$(basename "$0")" "$@"\n')
    return home


def entered(home: Path, *command: str, **variables: str) -> str:
    """What the entry point prints, given that command."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    given = {**os.environ, "PATH": path, "FLINK_HOME": str(home), **variables}
    done = subprocess.run([ENTRY, *command], env=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def options(home: Path) -> dict[str, str]:
    return flattened(YAML(typ="safe").load(home / "conf" / "config.yaml"))


def test_docker_is_sent_what_the_image_copies_and_nothing_else() -> None:
    copied = {source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]}
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] not in ("", "#")]
    assert lines[0] == "*" and lines[-1] == "**/__pycache__"
    assert {line.removeprefix("!") for line in lines[1:-1] if line.startswith("!")} == copied
    assert len(copied) == len(lines) - 2 > 5 and all((ROOT / path).exists() for path in copied)


def test_the_image_is_in_the_form_of_flinks_own() -> None:
    found, text = environment(), DOCKERFILE.read_text("utf-8")
    assert found["FLINK_HOME"] == "/opt/flink" and "riverrank.jobs.dev.image lay-out /opt/flink " in text
    assert found["PATH"].split(":")[:2] == ["/opt/riverrank/venv/bin", "/opt/flink/bin"]
    assert "--uid 9999" in text and "--gid 9999" in text
    last = dict(instructions())
    assert last["USER"] == "flink" and last["ENTRYPOINT"] == '["/docker-entrypoint.sh"]'
    assert os.access(ENTRY, os.X_OK)


def test_flinks_home_holds_what_its_scripts_and_the_operator_look_for(home: Path) -> None:
    for name in ("kubernetes-jobmanager.sh", "kubernetes-taskmanager.sh", "standalone-job.sh", "taskmanager.sh"):
        script = home / "bin" / name
        assert os.access(script, os.X_OK) and script.resolve() == script  # else it takes the wheel for its home
    (connector,), (plugin,) = jars.kafka_connector(), jars.s3_plugin()
    held = {path.name for path in (home / "lib").iterdir()}
    assert connector.name in held and len({name for name in held if name.startswith("flink-dist-")}) == 1
    assert not (home / "opt").is_symlink()  # Flink would find nothing in it
    assert [path.name for path in (home / "opt").glob("flink-python-*.jar")] == ["flink-python-2.3.0.jar"]
    assert [path.name for path in (home / "plugins" / image.S3_PLUGIN).iterdir()] == [plugin.name]
    with zipfile.ZipFile(plugin) as archive:
        factories = archive.read("META-INF/services/org.apache.flink.core.fs.FileSystemFactory").decode()
    assert "org.apache.flink.fs.s3hadoop.S3FileSystemFactory" in factories
    assert (home / "plugins" / "metrics-prometheus").is_dir()
    assert all(path.exists() for path in home.rglob("*"))  # no link leads nowhere


def test_flink_in_it_is_configured_as_flink_conf_says_but_for_where_it_listens(home: Path) -> None:
    written, said = options(home), flattened(YAML(typ="safe").load(CHECKOUT_CONF / "config.yaml"))
    other = {key for key in said if written.get(key) != str(said[key])}
    assert other == image.IN_CONTAINERS.keys() and written.keys() <= said.keys()


@pytest.mark.parametrize("part", STARTED)
def test_the_entry_point_starts_each_part_of_flink(echoing: Path, part: str) -> None:
    assert entered(echoing, part, "-D", "a=b c") == f"{STARTED[part]} -D a=b c"


def test_what_the_environment_says_goes_over_the_configuration(echoing: Path) -> None:
    before = options(echoing)
    said = "rest.port: 1234\n\nenv.java.opts.all: -Da=b -Dc=d\n  execution.checkpointing.interval :  3 s \ns3.endpoint: http://store:9000"
    variables = {"JOB_MANAGER_RPC_ADDRESS": "jm", "TASK_MANAGER_NUMBER_OF_TASK_SLOTS": "3", "FLINK_PROPERTIES": said}
    entered(echoing, "taskmanager", **variables)
    assert options(echoing) == before | {
        "jobmanager.rpc.address": "jm",
        "blob.server.port": "6124",
        "query.server.port": "6125",
        "taskmanager.numberOfTaskSlots": "3",
        "rest.port": "1234",
        "env.java.opts.all": "-Da=b -Dc=d",
        "execution.checkpointing.interval": "3 s",
        "s3.endpoint": "http://store:9000",
    }


def test_any_other_command_is_run_as_it_stands(echoing: Path) -> None:
    before = options(echoing)
    assert entered(echoing, "bash", "-c", 'echo "$0 $1"', "a b", "c") == "a b c"
    assert entered(echoing).startswith("usage: docker-entrypoint.sh (jobmanager|standalone-job|taskmanager|")
    assert options(echoing) == before
