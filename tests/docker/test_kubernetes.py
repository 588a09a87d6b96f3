"""The FlinkDeployment is one that the operator takes, by its own schema; its options are Flink's, and flink-conf's."""

import functools
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from riverrank.jobs.config.schema import load
from riverrank.jobs.dev.cluster import CHECKOUT_CONF, flattened
from riverrank.jobs.flink import embedded, jars
from ruamel.yaml import YAML
from watched import ROOT

MANIFEST = ROOT / "docker" / "kubernetes" / "riverrank.yaml"
CRD = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"
NEWER = ["v2_3"]  # of the operator's schema from 1.16 on; that in Maven is of 1.10, and else the same here
PRESERVE = "x-kubernetes-preserve-unknown-fields"
# Flink puts these together of names that are given, so no class of it holds them whole: its documents do.
COMPOSED = re.compile(r"metrics\.reporter\.prom\.(factory\.class|port)")
# What flink-conf/config.yaml says and the operator says itself, from other fields or of its own.
OF_THE_OPERATOR = {
    *("jobmanager.rpc.address", "jobmanager.rpc.port", "jobmanager.bind-host", "taskmanager.host"),
    *("taskmanager.bind-host", "rest.address", "rest.bind-address", "rest.port", "parallelism.default"),
    *("jobmanager.memory.process.size", "taskmanager.memory.process.size"),
}
# Where both say something, and not the same: a place that all pods see, and one port, as each pod has its own.
ELSE = {"execution.checkpointing.dir", "execution.checkpointing.savepoint-dir", "metrics.reporter.prom.port"}
OURS_ALONE = {
    *("high-availability.type", "high-availability.storageDir"),
    *("jobmanager.memory.off-heap.size", "taskmanager.memory.task.off-heap.size"),
}


def documents() -> dict[str, dict[str, Any]]:
    """The manifest's resources by kind."""
    return {each["kind"]: each for each in YAML(typ="safe").load_all(MANIFEST.read_text("utf-8"))}


def deployment() -> dict[str, Any]:
    return documents()["FlinkDeployment"]


@functools.cache
def schema() -> dict[str, Any]:
    """The operator's schema of a FlinkDeployment; it refuses fields that it does not have, as `kubectl apply` does."""
    (jar,) = jars.operator_api()
    with zipfile.ZipFile(jar) as archive:
        crd = YAML(typ="safe").load(archive.read(CRD))
    (version,) = [each for each in crd["spec"]["versions"] if each["name"] == "v1beta1"]
    found = version["schema"]["openAPIV3Schema"]
    known = found["properties"]["spec"]["properties"]["flinkVersion"]["enum"]
    assert not set(NEWER) & set(known), "the schema knows it by now: take it out of NEWER"
    known += NEWER
    found["properties"] |= {"apiVersion": {"const": "flink.apache.org/v1beta1"}, "kind": {"const": "FlinkDeployment"}}
    found["properties"] |= {"metadata": {"type": "object", PRESERVE: True}}
    return closed(found)


def closed(node: Any) -> Any:
    """The schema with no room for fields that it does not name, but where it says that it keeps them."""
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: closed(value) for key, value in node.items()}
    if isinstance(found.get("properties"), dict) and not found.get(PRESERVE):
        found["additionalProperties"] = False
    return found


def conf() -> dict[str, Any]:
    """The options of flink-conf by their whole keys."""
    return flattened(YAML(typ="safe").load(CHECKOUT_CONF / "config.yaml"))


def faults(resource: dict[str, Any]) -> list[str]:
    errors = jsonschema.Draft202012Validator(schema()).iter_errors(resource)
    return [f"{error.json_path}: {error.message}" for error in errors]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The deployment with another value there."""
    resource = deployment()
    *parents, last = path.split("/")
    node: Any = resource
    for name in parents:
        node = node[int(name) if name.isdigit() else name]
    node[last] = value
    return resource


def option_classes() -> Iterator[bytes]:
    """Every class of Flink that may hold options."""
    for jar in jars.flink():
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if name.startswith("org/apache/flink/") and "Option" in name:
                    yield archive.read(name)


def unknown(keys: Iterable[str]) -> set[str]:
    """Those of the keys that no class of Flink holds as a text."""
    left = {key: b"\x01" + len(key).to_bytes(2, "big") + key.encode() for key in keys}
    for held in option_classes():
        left = {key: text for key, text in left.items() if text not in held}
    return {*left}


def megabytes(size: str) -> int:
    return int(re.fullmatch(r"(\d+)m", size)[1])  # type: ignore[index]


def test_the_operators_schema_takes_the_deployment() -> None:
    assert faults(deployment()) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("spec/flinkConfig", {}, r"\$\.spec: .*'flinkConfig' was unexpected"),
        ("spec/job/upgradeMode", "save", r"\$\.spec\.job\.upgradeMode: 'save' is not one of"),
        ("spec/job/parallelism", "4", r"\$\.spec\.job\.parallelism: '4' is not of type 'integer'"),
        ("spec/flinkVersion", "v2_9", r"\$\.spec\.flinkVersion: 'v2_9' is not one of"),
        ("spec/flinkConfiguration/taskmanager.numberOfTaskSlots", 1, r"is not of type 'string'"),
        ("spec/podTemplate/spec/containers/0/envfrom", [], r"containers\[0\]: .*'envfrom' was unexpected"),
        ("spec/podTemplate/spec/containers/0/ports/0/containerPort", "x", r"'x' is not of type 'integer'"),
        ("kind", "FlinkDeploy", r"\$\.kind"),
    ],
)
def test_it_refuses_a_wrong_field(path: str, value: Any, said: str) -> None:
    (fault,) = faults(changed(path, value))
    assert re.search(said, fault)


def test_every_option_is_one_that_flink_has() -> None:
    options = {*deployment()["spec"]["flinkConfiguration"], *conf(), *embedded.SHORT_BUFFERS, *embedded.SIZES}
    keys = {key for key in options if not COMPOSED.fullmatch(key)}
    assert len(keys) > 40
    assert unknown({*keys, "taskmanager.numberOfTaskSlot"}) == {"taskmanager.numberOfTaskSlot"}


def test_options_are_those_of_flink_conf_but_where_kubernetes_has_its_own() -> None:
    theirs, ours = conf(), deployment()["spec"]["flinkConfiguration"]
    assert theirs.keys() - ours.keys() == OF_THE_OPERATOR
    assert ours.keys() - theirs.keys() == OURS_ALONE
    both = ours.keys() & theirs.keys()
    assert {key for key in both if ours[key] != str(theirs[key])} == ELSE and len(both) > 25


def test_memory_is_that_of_flink_conf_and_pythons_beside_it() -> None:
    spec = deployment()["spec"]
    of_python = megabytes(spec["flinkConfiguration"]["taskmanager.memory.task.off-heap.size"])
    java = megabytes(conf()["taskmanager.memory.process.size"])
    assert of_python >= 1024 and megabytes(spec["taskManager"]["resource"]["memory"]) == java + of_python
    assert spec["taskManager"]["resource"]["cpu"] == int(spec["flinkConfiguration"]["taskmanager.numberOfTaskSlots"])


def test_flink_logs_as_flink_conf_says() -> None:
    said = deployment()["spec"]["logConfiguration"]
    (name,) = said
    assert said[name].split() == (CHECKOUT_CONF / name).read_text("utf-8").split()


def test_what_the_deployment_names_is_there(tmp_path: Path) -> None:
    found = documents()
    spec = found["FlinkDeployment"]["spec"]
    flink, _, jar = spec["job"]["jarURI"].removeprefix("local:///opt/").partition("/")
    assert flink == "flink" and (jars.flink_home() / jar).is_file()
    (container,) = spec["podTemplate"]["spec"]["containers"]
    assert container["name"] == "flink-main-container"
    assert container["envFrom"] == [{"secretRef": {"name": "riverrank"}}]
    (mount,), (volume,) = container["volumeMounts"], spec["podTemplate"]["spec"]["volumes"]
    settings = found["ConfigMap"]
    assert mount["name"] == volume["name"] and volume["configMap"]["name"] == settings["metadata"]["name"]
    ((file, text),) = settings["data"].items()
    assert spec["job"]["args"][-2:] == ["--config", f"{mount['mountPath']}/{file}"]
    (tmp_path / file).write_text(text, "utf-8")
    assert load(tmp_path / file).kafka.bootstrap and load(tmp_path / file).redis.url
    (port,) = container["ports"]
    assert str(port["containerPort"]) == spec["flinkConfiguration"]["metrics.reporter.prom.port"]
    (version,) = re.findall(r'version="(.+)"', (ROOT / "setup.py").read_text("utf-8"))
    assert spec["image"] == f"riverrank:{version}"
