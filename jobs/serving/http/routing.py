"""What an operation of the service is, and how a request becomes the call of one: its id, its query, its body.

Which operations there are stands in `operations`.
"""

import asyncio
import difflib
import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from msgspec import Meta
from riverrank.state.records.bounds import MAX_ID_BYTES, fits
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .answers import Problem
from .backend import Backend, Wanted

MOST_PARAMETERS = 1_100
MOST_PLACES = 200
MOST_EXCLUDED = 1_000
MOST_WHERE = 8
SHOWN = 100  # characters of what was given, in an error
OPERATION, USER = "riverrank.operation", "riverrank.user"  # what a scope says of itself, for logs and counts


class IdConvertor(PathConvertor):
    """The rest of a path, whatever it holds: Starlette's own ends at a line feed."""

    regex = "(?s:.*)"


register_url_convertor("id", IdConvertor())
Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES)]


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The parameters of a request: none, unless a subclass has some."""


class PageQuery(Query, frozen=True, kw_only=True):
    """Which places of a list are asked for."""

    n: (
        Annotated[int, Meta(ge=1, le=MOST_PLACES, description="how many places, at most; all, or those of a slate")]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    offset: Annotated[int, Meta(ge=0, le=10_000, description="how many to leave out before them")] = 0
    exclude: Annotated[
        tuple[Id, ...], Meta(max_length=MOST_EXCLUDED, description="an item to leave out; may be repeated")
    ] = ()
    where: Annotated[
        tuple[Annotated[str, Meta(pattern="^[^:]+:.", max_length=600)], ...],
        Meta(
            max_length=MOST_WHERE,
            description="`category:VALUE`, or the name of an attribute in its place: items of which the catalogue says "
            "so; may be repeated, then all have to hold",
        ),
    ] = ()

    def wanted(self, most: int = MOST_PLACES) -> Wanted:
        """What `Backend.served` goes by. `most` places are asked for where none are named."""
        where = [(name, value) for name, _, value in (each.partition(":") for each in self.where)]
        n = most if self.n is msgspec.UNSET else self.n
        return Wanted(n, self.offset, frozenset(self.exclude), where)


class SlateQuery(PageQuery, frozen=True, kw_only=True):
    """Which places of a slate are asked for, when, and whether that is told."""

    after: Annotated[
        str, Meta(max_length=MAX_ID_BYTES, description="an event: wait until the slate answers it, up to serve.wait")
    ] = ""
    log: Annotated[
        bool, Meta(description="write the impression of what is answered to the events topic; true, 1, false or 0")
    ] = False


class PreviewQuery(PageQuery, frozen=True, kw_only=True):
    """What a user would click, and which places of the answer are asked for."""

    item: Annotated[Id, Meta(description="the item that the user would click")]


AnyQuery = TypeVar("AnyQuery", bound=Query)


@dataclass(frozen=True)
class Call(Generic[AnyQuery]):
    """A request to an operation. `id` is what its path names, "" where that names nothing."""

    request: Request
    backend: Backend
    query: AnyQuery
    id: str

    async def body(self) -> bytes:
        """The whole body. Raises Problem where it is larger than serve.body, or comes too slowly."""
        serve = self.backend.config.serve
        return await body_of(self.request, serve.body, serve.timeout / 2000)


async def body_of(request: Request, most: int, seconds: float) -> bytes:
    """The whole body of a request. Raises Problem where it has more than `most` bytes, or takes longer than that."""
    too_large = Problem(413, "too_large", f"the body: expected at most {most} bytes; send less at once")
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and int(said[:20]) > most:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > most:
                    raise too_large
    except TimeoutError:
        raise Problem(408, "timed_out", f"the body: not whole after {seconds:g} s") from None
    except ClientDisconnect:
        raise Problem(400, "bad_request", "the body: it ended before it was whole") from None
    return b"".join(parts)


class Body(NamedTuple):
    """What a request's body holds: one of `record`, or an array of them."""

    record: type[msgspec.Struct]


@dataclass(frozen=True)
class Operation(Generic[AnyQuery]):
    """One thing that the service does.

    Args:
        path: begins with what names it; `{user}` or `{item}` at its end is an id, of any bytes.
        answers: by status, the structure of a JSON body, or the media type of another; errors that every operation
            may end with are not among them.
        is_open: whether it asks for no key.
    """

    method: str
    path: str
    name: str
    summary: str
    handle: Callable[[Call[AnyQuery]], Awaitable[Response]]
    query: type[AnyQuery]
    answers: Mapping[int, type[msgspec.Struct] | str]
    body: Body | None = None
    is_open: bool = False

    @functools.cached_property
    def id_name(self) -> str:
        """What its path names: user, item, or nothing."""
        return self.path.partition("{")[2].rstrip("}")

    @functools.cached_property
    def fixed(self) -> str:
        """Its path, up to what it names."""
        return self.path.partition("{")[0]

    def route(self, backend: Backend) -> Route:
        """It as Starlette has it."""
        path = f"{self.fixed}{{{self.id_name}:id}}" if self.id_name else self.path
        return Route(path, _Endpoint(self, backend), methods=[self.method], name=self.name)


@dataclass(frozen=True)
class _Endpoint(Generic[AnyQuery]):
    """An operation as an ASGI application: Starlette wraps a function in two more, which cost as much as itself."""

    operation: Operation[AnyQuery]
    backend: Backend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        operation, request = self.operation, Request(scope, receive, send)
        scope[OPERATION] = operation.name
        named = _id_of(request, operation.fixed, operation.id_name) if operation.id_name else ""
        if operation.id_name == "user":
            scope[USER] = named
        query = query_of(scope["query_string"], operation.query)
        response = await operation.handle(Call(request, self.backend, query, named))
        await response(scope, receive, send)


def query_of(given: bytes, kind: type[AnyQuery]) -> AnyQuery:
    """The parameters of a query string.

    >>> query_of(b"n=3&exclude=a&exclude=b", PageQuery).exclude
    ('a', 'b')
    >>> query_of(b"ofset=3", PageQuery)
    Traceback (most recent call last):
    ...
    riverrank.jobs.serving.http.answers.Problem: ofset: no such parameter; the nearest is offset

    Raises:
        Problem: one is unknown, missing, given twice, or out of bounds.
    """
    try:
        pairs = parse_qsl(given.decode("ascii"), True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except ValueError as error:
        raise Problem(400, "bad_request", f"the query: not percent-encoded UTF-8 ({str(error)[:SHOWN]})") from None
    repeated = _parameters(kind)
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name not in repeated:
            raise _unknown(name, list(repeated))
        if repeated[name]:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise Problem(400, "bad_request", f"{name}: expected once, given more often", name)
        else:
            values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        what, is_there, where = str(error).replace("`", "").rpartition(" - at $.")
        if not is_there:
            name = where.rpartition(" ")[2]  # Object missing required field NAME
            raise Problem(400, "bad_request", f"{name}: expected once, not given", name) from None
        name = where.partition("[")[0]
        raise Problem(400, "bad_request", f"{name}: {what[:1].lower()}{what[1:]}", name) from None


@functools.cache
def _parameters(kind: type[Query]) -> Mapping[str, bool]:
    """The parameters of that kind of query, and whether each may be repeated."""
    return {field.name: field.default == () for field in msgspec.structs.fields(kind)}


def _unknown(name: str, known: list[str]) -> Problem:
    nearest = difflib.get_close_matches(name[:SHOWN].lower(), known, 1, 0.0)
    mend = f"the nearest is {nearest[0]}" if nearest else "there are none here"
    shown = name[:SHOWN]
    return Problem(400, "bad_request", f"{shown}: no such parameter; {mend}", shown)


def _id_of(request: Request, fixed: str, name: str) -> str:
    """The id that ends the path, as its bytes were sent: a server's own decoding would make one id of several."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    held = unquote_to_bytes(raw.partition(fixed.encode())[2])
    try:
        named = held.decode()
    except UnicodeDecodeError:
        raise Problem(400, "bad_request", f"{name}: expected percent-encoded UTF-8", name) from None
    if not named or not fits(named, MAX_ID_BYTES):
        raise Problem(
            400, "bad_request", f"{name}: expected an id of 1 to {MAX_ID_BYTES} bytes, got {len(held)} bytes", name
        )
    return named
