"""What the service answers is what its OpenAPI document says, whatever it is asked."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema
import pytest
import schemathesis
from documented import statuses_of
from riverrank.jobs.dev.services import KafkaBroker
from riverrank.jobs.serving.http import openapi
from riverrank.jobs.serving.http.operations import OPERATIONS
from riverrank.jobs.serving.http.routing import Operation
from riverrank.state.event_types import EVENT_TYPES
from served import list_of, put, serving, slate_of
from streams import wait_until
from valkey_server import Server

EXAMPLES = 25  # an operation
CONFIG = "[serve]\ntimeout = '30s'\nwait = '0ms'\nbatch = 3\n[kafka]\nevents = 'told-events'\nitems = 'told-items'\n"


@pytest.fixture(scope="module")
def described(broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """The document of a service on a real Valkey and a real Kafka."""
    server = Server()
    try:
        for key in ("slate:0", "popular"):
            put(server, key, slate_of(key))
        for key in ("similar:0", "together:0", "trending"):
            put(server, key, list_of(key.partition(":")[0], "0"))
        for topic in ("told-events", "told-items"):
            broker.create_topic(topic)
        flags = ("--redis", server.url, "--kafka", broker.bootstrap)
        with serving(tmp_path_factory.mktemp("described"), *flags, config=CONFIG) as service:
            wait_until(lambda: httpx2.get(f"{service.url}/readyz").status_code == 200)
            yield schemathesis.openapi.from_url(f"{service.url}/openapi.json")
            logged = service.logged()
            assert "Traceback" not in logged and "takes no records" not in logged, logged
    finally:
        server.stop()


@pytest.mark.parametrize("mode", schemathesis.GenerationMode, ids=lambda mode: str(mode.value))
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: str(operation.name))
def test_no_answer_is_a_fault_or_against_the_document(
    described: schemathesis.BaseSchema, operation: Operation[Any], mode: schemathesis.GenerationMode
) -> None:
    statuses_of(described, operation, mode, EXAMPLES)


def test_the_document_names_every_operation_with_all_that_it_takes() -> None:
    made = json.loads(json.dumps(openapi.document(OPERATIONS, batch=7, has_keys=True)))
    assert made["openapi"] == "3.1.0"
    assert set(made["paths"]) == {operation.path for operation in OPERATIONS}
    slate = made["paths"]["/v1/slates/{user}"]["get"]
    named = [parameter["name"] for parameter in slate["parameters"]]
    assert named == ["user", "n", "offset", "exclude", "where", "after", "log"]
    assert slate["security"] and "security" not in made["paths"]["/healthz"]["get"]
    body = made["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert body[1]["maxItems"] == 7
    event = made["components"]["schemas"]["Event"]
    assert event["properties"]["type"]["enum"] == [*EVENT_TYPES]
    for component in made["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(component)
    assert len(made["components"]["schemas"]) > 10
