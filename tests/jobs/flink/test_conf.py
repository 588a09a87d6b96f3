"""What stands in `flink-conf` for clusters and again in the code for embedded runs is the same."""

import functools
from pathlib import Path
from typing import Any

from riverrank.jobs.flink import embedded
from ruamel.yaml import YAML

CONF = Path(__file__).parents[3] / "flink-conf" / "config.yaml"


def on_a_cluster(key: str) -> Any:
    return functools.reduce(lambda tree, name: tree[name], key.split("."), YAML(typ="safe").load(CONF))


def test_a_clusters_taskmanagers_have_the_java_options_of_embedded_ones() -> None:
    assert on_a_cluster("env.java.opts.taskmanager").split() == list(embedded.CHEAP_EXCEPTIONS)


def test_a_clusters_buffers_are_as_short_as_embedded_ones() -> None:
    assert {key: str(on_a_cluster(key)) for key in embedded.SHORT_BUFFERS} == embedded.SHORT_BUFFERS
