"""What the service does: one entry an operation, from which its routes, its OpenAPI document and its page are made.

To add one, append it to OPERATIONS, or hand it to `app.application`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from riverrank.state.records.incoming import Event, Item
from starlette.responses import Response

from . import metrics
from .answers import Accepted, ErrorAnswer, ErrorCode, Health, List, Problem, Readiness, Refused, SlateAnswer, answer
from .backend import Busy, Found, ListName, NoAnswer, NotConfigured, NotRead, Stream, Unreadable
from .reads import RedisAway
from .routing import Body, Call, Operation, PageQuery, PreviewQuery, Query, SlateQuery
from .writes import KafkaAway, RecordTooLarge

HTML = "text/html; charset=utf-8"

_array = msgspec.json.Decoder(list[msgspec.Raw])
Handler = Callable[..., Awaitable[Response]]


# Of what says itself what is wrong, the status and the code.
SAID: dict[type[Exception], tuple[int, ErrorCode]] = {
    NotConfigured: (501, "not_configured"),
    NotRead: (503, "not_ready"),
    Busy: (503, "busy"),
    NoAnswer: (504, "no_answer"),
}


def problem_of(error: Exception) -> Problem:
    """What a caller hears of it: no address of ours, which the log has."""
    match error:
        case RedisAway():
            return Problem(503, "redis_away", "Redis can't be read now; come again later")
        case KafkaAway():
            return Problem(
                503, "kafka_away", "Kafka did not take all of it; send all of it again, with the same ids, later"
            )
        case RecordTooLarge():
            return Problem(413, "too_large", "a record is larger than Kafka takes; send it smaller, all others again")
        case NotConfigured() | NotRead() | Busy() | NoAnswer():
            status, code = SAID[type(error)]
            return Problem(status, code, str(error), error.field if isinstance(error, NotRead) else None)
        case Unreadable():
            return Problem(502, "bad_record", "what Redis holds there is no list; see redis.prefix")
    raise TypeError(f"no problem is known of {type(error).__name__}")


KNOWN = (RedisAway, KafkaAway, RecordTooLarge, Unreadable, *SAID)


async def slate(call: Call[SlateQuery]) -> Response:
    """The slate of a user."""
    query = call.query
    backend = call.backend
    found = await (backend.slate_after(call.id, query.after) if query.after else backend.slate_of(call.id))
    said = _slate_answer(call, found)
    if query.after:
        said = msgspec.structs.replace(said, answered=found is not None and found.answers(query.after))
    if query.log and call.request.method == "GET":  # a HEAD shows nothing
        items = [slot.item_id for slot in said.items]
        said = msgspec.structs.replace(said, impression=await backend.log_impression(call.id, said.slate_id, items))
    return answer(said)


async def popular(call: Call[PageQuery]) -> Response:
    """The slate of who has none."""
    return answer(_slate_answer(call, await call.backend.popular()))


async def preview(call: Call[PreviewQuery]) -> Response:
    """The slate of a user who clicked an item."""
    return answer(_slate_answer(call, Found(await call.backend.preview(call.id, call.query.item), False, False)))


def listing(name: ListName) -> Callable[[Call[PageQuery]], Awaitable[Response]]:
    """What answers with the list of that name."""

    async def handle(call: Call[PageQuery]) -> Response:
        found = await call.backend.list_of(name, call.id)
        if found is None:
            raise Problem(404, "not_found", "the job has told no such list")
        return answer(msgspec.structs.replace(found, items=call.backend.served(found.items, call.query.wanted())))

    return handle


def taking(stream: Stream) -> Callable[[Call[Query]], Awaitable[Response]]:
    """What takes records of that stream."""

    async def handle(call: Call[Query]) -> Response:
        taken = await call.backend.take(stream, records_of(await call.body(), call.backend.config.serve.batch))
        if not taken.accepted:
            first = taken.refused[0]
            message = f"none of {len(taken.refused)} {stream} can be used; the first: {first.detail}"
            raise Problem(422, "none_accepted", message, first.field, taken.refused)
        return answer(taken, 207 if taken.refused else 202)

    return handle


async def health(call: Call[Query]) -> Response:
    """That the process answers."""
    return answer(Health())


async def readiness(call: Call[Query]) -> Response:
    """Whether it can do its work."""
    parts = call.backend.readiness()
    ready = all(parts.values())
    return answer(Readiness(ready, **parts), 200 if ready else 503)


async def counts(call: Call[Query]) -> Response:
    """Its metrics."""
    return Response(call.backend.metrics.text(), media_type=metrics.CONTENT_TYPE)


def records_of(body: bytes, most: int) -> Sequence[bytes]:
    """The records of a body, as they came: one object, or those of an array.

    >>> records_of(b'[{"a":1}, {"a":2}]', most=2), records_of(b'{"a":1}', most=2)
    ([b'{"a":1}', b'{"a":2}'], [b'{"a":1}'])

    Raises:
        Problem: it is no JSON, or holds none, or more than `most`.
    """
    if body.lstrip()[:1] != b"[":
        if not body.strip():
            raise Problem(400, "bad_request", "the body: expected a JSON object or an array of them, got nothing")
        return [body]
    try:
        records = [bytes(raw) for raw in _array.decode(body)]
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, "bad_request", f"the body: not JSON: {error}") from None
    if not records:
        raise Problem(400, "bad_request", "the body: expected at least one record, got an empty array")
    if len(records) > most:
        raise Problem(413, "too_large", f"the body: expected at most {most} records at once, got {len(records)}")
    return records


def _slate_answer(call: Call[Any], found: Found | None) -> SlateAnswer:
    if found is None:
        raise Problem(404, "not_found", "there is no slate of that user, and no popular one: the job has written none")
    slots = call.backend.served(found.slate.items, call.query.wanted(call.backend.places_of(found.slate)))
    own = msgspec.structs.asdict(msgspec.structs.replace(found.slate, items=slots))
    return SlateAnswer(**own, fallback="popular" if found.is_popular else None, stale=found.stale)


_SLATES: dict[int, type[msgspec.Struct] | str] = {200: SlateAnswer}
_LISTS: dict[int, type[msgspec.Struct] | str] = {200: List}
_TAKEN: dict[int, type[msgspec.Struct] | str] = {202: Accepted, 207: Accepted, 422: Refused}

OPERATIONS: tuple[Operation[Any], ...] = (
    Operation("GET", "/v1/slates/{user}", "slate", "The slate of a user, else the popular one", slate, SlateQuery,
              _SLATES),
    Operation("GET", "/v1/previews/{user}", "preview", "The slate that a click of a user on an item would get", preview,
              PreviewQuery, {200: SlateAnswer, 504: ErrorAnswer}),
    Operation("GET", "/v1/popular", "popular", "The slate of whoever has none", popular, PageQuery, _SLATES),
    Operation("GET", "/v1/trending", "trending", "What trends now", listing("trending"), PageQuery, _LISTS),
    Operation("GET", "/v1/similar/{item}", "similar", "What is like an item", listing("similar"), PageQuery, _LISTS),
    Operation("GET", "/v1/together/{item}", "together", "What is taken together with an item", listing("together"),
              PageQuery, _LISTS),
    Operation("POST", "/v1/events", "events", "Take one event, or an array of them", taking("events"), Query, _TAKEN,
              Body(Event)),
    Operation("POST", "/v1/items", "items", "Take one item, or an array of them", taking("items"), Query, _TAKEN,
              Body(Item)),
    Operation("GET", "/healthz", "healthz", "That the process answers", health, Query, {200: Health}, is_open=True),
    Operation("GET", "/readyz", "readyz", "Whether Redis, Kafka and the catalogue are there", readiness, Query,
              {200: Readiness, 503: Readiness}, is_open=True),
    Operation("GET", "/metrics", "metrics", "Counts, for Prometheus", counts, Query, {200: metrics.CONTENT_TYPE}),
)  # fmt: skip
