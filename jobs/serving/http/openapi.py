"""The operations as documents: OpenAPI 3.1 for programs, and a page for people, which loads nothing from anywhere.

Both are made of the operations and of the structures that bodies are decoded and encoded by.
"""

import base64
import hashlib
import html
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.records.bounds import MAX_ID_BYTES

from .answers import JSON, ErrorAnswer
from .routing import Operation

REF = "#/components/schemas/{name}"
STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}code{font-size:.95em}"
    "table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0}"
    "section{border-top:1px solid #999;margin-top:1.5rem}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
PAGE_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"
ERRORS = {
    400: "the request is wrong",
    401: "no key that is known",
    403: "a page of another origin asks by a browser; name it in serve.cors",
    404: "there is no such thing",
    405: "not by that method",
    408: "the body came too slowly",
    413: "more than is taken at once",
    431: "address and headers are too long",
    500: "a fault of the service",
    501: "not configured",
    502: "what Redis holds is not what it should be",
    503: "come again later",
}
OF_BODIES = (408, 413)
MEANINGS = {
    200: "the answer",
    202: "all are taken",
    207: "some are taken",
    422: "none is taken",
    504: "the job did not answer",
}


def document(operations: Sequence[Operation[Any]], *, batch: int, has_keys: bool) -> dict[str, Any]:
    """The OpenAPI document of `operations`, for requests of `batch` records at most."""
    bodies = [operation.body.record for operation in operations if operation.body]
    structures = {kind for each in operations for kind in each.answers.values() if not isinstance(kind, str)}
    kinds: list[type] = sorted({*structures, *bodies, ErrorAnswer}, key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(kinds, ref_template=REF)
    components["Event"]["properties"]["type"]["enum"] = [*EVENT_TYPES]
    for component in components.values():
        component["description"] = " ".join(component.get("description", "").split())
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _described(each, batch, has_keys)
    key_kinds = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "riverrank", "version": version("riverrank"), "summary": "Slates, lists and records by HTTP"},
        "paths": paths,
        "components": {"schemas": components, **({"securitySchemes": key_kinds} if has_keys else {})},
    }


def page(operations: Sequence[Operation[Any]]) -> str:
    """A page of HTML that lists `operations`."""
    sections = []
    for each in operations:
        rows = "".join(
            f"<tr><td><code>{html.escape(given['name'])}</code></td><td>{html.escape(given['description'])}</td></tr>"
            for given in _parameters(each)
        )
        body = f"<p>Body: one {each.body.record.__name__.lower()}, or an array.</p>" if each.body else ""
        sections.append(
            f"<section><h2><code>{each.method} {html.escape(each.path)}</code></h2><p>{html.escape(each.summary)}.</p>"
            f"{body}<table>{rows}</table></section>"
        )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>riverrank</title><style>{STYLE}</style>'
        '</head><body><h1>riverrank</h1><p>All of it for programs: <a href="openapi.json">openapi.json</a>.</p>'
        f"{''.join(sections)}</body></html>"
    )


def _described(operation: Operation[Any], batch: int, has_keys: bool) -> dict[str, Any]:
    """An operation as OpenAPI has it."""
    answers = {status: _content(kind) for status, kind in operation.answers.items()}
    for status in ERRORS:
        is_possible = operation.body or status not in OF_BODIES
        if is_possible and status not in answers:
            answers[status] = _content(ErrorAnswer)
        elif status in answers and operation.answers[status] is not ErrorAnswer:
            answers[status] = _either(answers[status])
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": {
            str(status): {"description": MEANINGS.get(status) or ERRORS[status], "content": content}
            for status, content in sorted(answers.items())
        },
    }
    if operation.body:
        one = {"$ref": REF.format(name=operation.body.record.__name__)}
        many = {"type": "array", "items": one, "minItems": 1, "maxItems": batch}
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": {"anyOf": [one, many]}}}}
    if has_keys and not operation.is_open:
        described["security"] = [{"bearer": []}, {"header": []}]
    return described


def _parameters(operation: Operation[Any]) -> list[dict[str, Any]]:
    """Of its path and of its query."""
    _, components = msgspec.json.schema_components([operation.query])
    found = []
    if operation.id_name:
        schema = {"type": "string", "minLength": 1, "maxLength": MAX_ID_BYTES}
        what = f"id of the {operation.id_name}, percent-encoded"
        found.append({"name": operation.id_name, "in": "path", "required": True, "description": what, "schema": schema})
    for name, schema in components[operation.query.__name__]["properties"].items():
        meaning = schema.pop("description")
        found.append({"name": name, "in": "query", "description": meaning, "schema": schema})
    return found


def _content(kind: type[msgspec.Struct] | str) -> dict[str, Any]:
    if isinstance(kind, str):
        return {kind.partition(";")[0]: {"schema": {"type": "string"}}}
    return {JSON: {"schema": {"$ref": REF.format(name=kind.__name__)}}}


def _either(content: dict[str, Any]) -> dict[str, Any]:
    """What it is, or an error."""
    own = content[JSON]["schema"]
    return {JSON: {"schema": {"anyOf": [own, {"$ref": REF.format(name=ErrorAnswer.__name__)}]}}}
