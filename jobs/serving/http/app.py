"""The service as an ASGI application, for a server to run and for others to add pages to.

Whoever adds a page gives `application` a function that is handed the `Backend` and gives Starlette's routes; what it
raises and how long it may take are then as for every operation. Who may ask for a page, and how many, it says itself:
a browser sends no header with a key.
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from riverrank.jobs.config.schema import Config
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from . import openapi
from .answers import JSON
from .backend import Backend
from .guards import HANDLERS, Guard, read_keys
from .operations import HTML, OPERATIONS
from .routing import Call, Operation, Query

Pages = Callable[[Backend], Sequence[BaseRoute]]


def application(
    config: Config, operations: Sequence[Operation[Any]] = OPERATIONS, pages: Pages | None = None
) -> Starlette:
    """The service that `config` describes, with what `pages` adds; its `state.backend` is its `Backend`.

    Its lifespan begins and ends what it runs; what it speaks to need not be there.

    Raises:
        UsageError: a URL or a file that `config` names is none.
    """
    backend, keys = Backend(config), read_keys(config.serve.keys_file)
    documented = [*operations, *_documents(operations, config.serve.batch, has_keys=bool(keys))]
    added = pages(backend) if pages else ()
    open_paths = frozenset(operation.path for operation in documented if operation.is_open)
    open_paths |= {route.path for route in added if isinstance(route, Route)}
    guards = [Middleware(Guard, backend=backend, keys=keys, open_paths=open_paths)]
    if config.serve.cors:
        allowed: dict[str, Any] = {
            "allow_origins": config.serve.cors,
            "allow_methods": ("GET", "POST"),
            "allow_headers": ("authorization", "x-api-key", "content-type"),
        }
        guards.insert(0, Middleware(CORSMiddleware, **allowed, max_age=600))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        backend.start()
        try:
            yield
        finally:
            backend.close()

    routes = [*(operation.route(backend) for operation in documented), *added]
    app = Starlette(routes=routes, middleware=guards, exception_handlers=HANDLERS, lifespan=lifespan)
    app.router.redirect_slashes = False
    app.state.backend = backend
    return app


def _documents(operations: Sequence[Operation[Any]], batch: int, *, has_keys: bool) -> list[Operation[Any]]:
    """What describes `operations`, and itself."""

    async def document(call: Call[Query]) -> Response:
        return Response(described, media_type=JSON)

    async def page(call: Call[Query]) -> Response:
        return Response(shown, media_type=HTML, headers={"content-security-policy": openapi.PAGE_POLICY})

    documents = [
        Operation("GET", "/openapi.json", "openapi", "This service, for programs", document, Query, {200: JSON}),
        Operation("GET", "/docs", "docs", "This service, for people", page, Query, {200: HTML}),
    ]
    described = json.dumps(openapi.document([*operations, *documents], batch=batch, has_keys=has_keys)).encode()
    shown = openapi.page([*operations, *documents])
    return documents
