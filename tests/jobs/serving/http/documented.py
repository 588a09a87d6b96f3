"""Asks a service whatever its OpenAPI document allows, and what it forbids, and holds the answers against it."""

from typing import Any

import hypothesis
import schemathesis
from hypothesis.errors import Unsatisfiable
from riverrank.jobs.serving.http.routing import Operation, Query
from schemathesis.checks import CHECKS as ALL_CHECKS
from schemathesis.checks import load_all_checks

load_all_checks()
CHECKS = [
    ALL_CHECKS.get_one(name)
    for name in (
        *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
        *("response_headers_conformance", "response_schema_conformance"),
    )
]


def statuses_of(
    document: schemathesis.BaseSchema,
    operation: Operation[Any],
    mode: schemathesis.GenerationMode,
    examples: int,
    *,
    has_job: bool = False,
) -> set[int]:
    """How the operation answers to so many examples; none where nothing can be wrong with a request. Previews are the
    job's to answer: where it has none, that is a fault which the document tells of.

    Raises:
        AssertionError: an answer is a fault, or not as the document says.
    """
    cases = document[operation.path][operation.method].as_strategy(generation_mode=mode)
    statuses = set()
    checks = CHECKS if has_job or operation.name != "preview" else CHECKS[1:]

    @hypothesis.settings(max_examples=examples, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=cases)
    def ask(case: schemathesis.Case) -> None:
        statuses.add(case.call_and_validate(checks=checks, timeout=60).status_code)

    try:
        ask()
    except Unsatisfiable:  # it takes nothing that could be wrong
        assert mode is schemathesis.GenerationMode.NEGATIVE and operation.query is Query and not operation.body
    else:
        assert statuses
    return statuses
