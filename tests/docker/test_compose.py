"""compose.yaml is one that compose takes; what it brings up is one job, for this machine alone, and lasts."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from compose_spec import PyCompose
from console_script import riverrank
from ruamel.yaml import YAML
from watched import ROOT

COMPOSE = ROOT / "docker" / "compose.yaml"
LAST = {"kafka": "/var/lib/kafka/data", "valkey": "/data", "prometheus": "/prometheus"}
OURS = "riverrank"  # the image of this checkout


def composed(text: str) -> dict[str, Any]:
    """What the text says, as compose puts it together: its variables at their defaults, and what is merged in."""
    tree = YAML(typ="safe").load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))
    return json.loads(json.dumps(tree))  # type: ignore[no-any-return]  # without what YAML shares


def services() -> dict[str, Any]:
    found: dict[str, Any] = composed(COMPOSE.read_text("utf-8"))["services"]
    return found


def words(service: dict[str, Any]) -> str:
    command = service.get("command", "")
    return command if isinstance(command, str) else " ".join(command)


def volumes(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is mounted into a service, and where."""
    for each in service.get("volumes", ()):
        what, where, *_ = each.split(":")
        yield what, where


def test_compose_takes_it_and_each_field_is_one_of_its_own() -> None:
    tree = composed(COMPOSE.read_text("utf-8"))
    assert set(PyCompose.from_json(json.dumps(tree)).service_names()) == set(tree["services"])
    tree["services"]["valkey"]["volume"] = []
    with pytest.raises(ValueError, match="`volume`"):
        PyCompose.from_json(json.dumps(tree))


def test_one_job_is_brought_up_however_often() -> None:
    """In application mode a JobManager runs one job, its own; nothing submits another."""
    found = services()
    assert [name for name, service in found.items() if "standalone-job" in words(service)] == ["jobmanager"]
    assert not any(re.search(r"flink run|-m jobmanager| jobmanager ", words(service)) for service in found.values())
    assert "--job-id" not in words(found["jobmanager"]), "each start is a job of its own: see test_application_mode"
    assert found["jobmanager"].get("deploy", {}).get("replicas", 1) == 1


def test_containers_are_reached_from_this_machine_alone_and_are_given_files_that_there_are() -> None:
    published = [port for service in services().values() for port in service.get("ports", ())]
    assert len(published) == 6 and all(port.startswith("127.0.0.1:") for port in published)
    assert not any("network_mode" in service for service in services().values())
    given = [what for service in services().values() for what, _ in volumes(service)]
    paths = [path for path in given if path.startswith("./")]
    assert len(paths) == 4 and all((COMPOSE.parent / path).exists() for path in paths)


def test_commands_of_ours_are_such_that_the_program_takes_them() -> None:
    ours = {name: service["command"] for name, service in services().items() if words(service).startswith("riverrank ")}
    assert ours.keys() == {"topics", "serve"}
    for command in ours.values():
        done = riverrank(*command[1:], "--help")
        assert done.returncode == 0 and done.stdout.startswith("Usage: riverrank "), done.stderr
    assert riverrank(*ours["serve"][1:], "--redys", "--help").returncode == 2, "what is no option is found so"


def test_what_is_kept_lies_in_volumes_that_outlive_containers() -> None:
    found, named = services(), composed(COMPOSE.read_text("utf-8"))["volumes"]
    for name, folder in LAST.items():
        assert dict(volumes(found[name])).items() & {(volume, folder) for volume in named}, name
    assert found["kafka"]["environment"]["KAFKA_LOG_DIRS"] == LAST["kafka"]
    assert "--appendonly yes" in words(found["valkey"])
    of_flink = [found[name] for name in ("jobmanager", "taskmanager")]
    assert all(("state", "/state") in volumes(service) for service in of_flink)
    options = {line for service in of_flink for line in service["environment"]["FLINK_PROPERTIES"].splitlines()}
    folders = {line.partition(": ")[2] for line in options if "-dir: " in line or ".dir: " in line}
    assert folders == {"file:///state/checkpoints", "file:///state/savepoints"}
    assert "riverrank state last /state" in words(found["jobmanager"])


def test_what_runs_for_long_comes_back_and_says_whether_it_is_well() -> None:
    found = services()
    passing = {name for name, service in found.items() if "restart" not in service}
    assert passing == {"topics"}
    assert all(found[name]["restart"] == "unless-stopped" for name in found.keys() - passing)
    assert {name for name, service in found.items() if "healthcheck" not in service} == {"topics", "taskmanager"}
    waited = {
        (name, other)
        for service in found.values()
        for other, how in service.get("depends_on", {}).items()
        for name in [how["condition"]]
    }
    assert all("healthcheck" in found[other] for how, other in waited if how == "service_healthy") and waited


def test_taskmanagers_are_as_many_as_the_job_has_slots_for() -> None:
    text = COMPOSE.read_text("utf-8")
    for parallelism in ("2", "4"):
        found = composed(text.replace("RIVERRANK_PARALLELISM:-2", f"RIVERRANK_PARALLELISM:-{parallelism}"))["services"]
        assert found["taskmanager"]["deploy"]["replicas"] == int(parallelism)
        assert f"parallelism.default: {parallelism}\n" in found["jobmanager"]["environment"]["FLINK_PROPERTIES"]


def test_the_image_is_built_here_and_no_other_is_the_newest_of_its_name() -> None:
    built = {service["image"] for service in services().values() if "build" in service}
    images = {service["image"] for service in services().values()}
    assert built == {OURS} and len(images) == 5
    assert all(re.fullmatch(r"[\w/-]+:v?\d[\w.]*", image) for image in images - built)
