"""What the service answers with: the bodies of its answers, and a `Problem` for whatever it does not do.

Knows nothing of where the content comes from.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from riverrank.state.records.outgoing import Reason, Slate, to_json
from starlette.responses import Response

JSON = "application/json"
RETRY_SECONDS = 1  # what whoever is told to come later is told

ErrorCode = Literal[
    "bad_request", "unauthorized", "forbidden", "not_found", "method_not_allowed", "timed_out", "too_large",
    "none_accepted", "headers_too_large", "internal", "bad_record", "not_configured", "busy", "not_ready",
    "redis_away", "kafka_away", "no_answer",
]  # fmt: skip


class Error(msgspec.Struct, frozen=True):
    """What is wrong."""

    code: Annotated[ErrorCode, Meta(description="for a program")]
    message: Annotated[str, Meta(description="for a reader: what is wrong, what was expected, the mend")]
    field: Annotated[str | None, Meta(description="the parameter, header or field of the body that it is about")] = None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """An answer that is none."""

    error: Error


class Refusal(msgspec.Struct, frozen=True):
    """A record of a request that was not taken."""

    index: Annotated[int, Meta(description="its place in the request, from 0")]
    reason: Annotated[Reason, Meta(description="why, as dead letters have it")]
    field: Annotated[str | None, Meta(description="the field that is wrong, where it is one")]
    detail: Annotated[str, Meta(description="the field, what was expected, and what was there")]


class Refused(msgspec.Struct, frozen=True):
    """None of the records was taken."""

    error: Error
    refused: tuple[Refusal, ...]


class Accepted(msgspec.Struct, frozen=True):
    """What became of the records of a request: those that were taken are in Kafka."""

    accepted: Annotated[int, Meta(description="how many were taken")]
    refused: Annotated[tuple[Refusal, ...], Meta(description="those that were not")] = ()


class SlateAnswer(Slate, frozen=True, omit_defaults=True):
    """A slate as it is cached, without what was left out of it."""

    fallback: Annotated[
        Literal["popular"] | None, Meta(description="popular: the user has none, or none that can be read now")
    ] = None
    stale: Annotated[bool, Meta(description="whether Redis is away, or lost it, and this is what it held last")] = False
    answered: Annotated[
        bool | None, Meta(description="of a request with `after`: whether this slate answers that event")
    ] = None
    impression: Annotated[
        str | None, Meta(description="of a request with `log`: the id of the impression that was written")
    ] = None


class Listed(msgspec.Struct, frozen=True):
    """One place of a list."""

    item_id: Annotated[str, Meta(description="what to show")]
    rank: Annotated[int, Meta(description="its place, from 1")]
    score: Annotated[float, Meta(description="how strongly it belongs there; to be compared within a list")]


class List(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is like an item or taken together with it, or what trends."""

    key: Annotated[str, Meta(description="what it is a list of: similar, together or trending")]
    version: Annotated[int, Meta(description="grows with each that is written")]
    ts: Annotated[int, Meta(description="event time of it: milliseconds since 1970, UTC")]
    items: Annotated[tuple[Listed, ...], Meta(description="the places, best first")]
    item_id: Annotated[str | None, Meta(description="the item that it is about")] = None


class Health(msgspec.Struct, frozen=True):
    """That the process answers."""

    status: Literal["ok"] = "ok"


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests can be answered; of what is not configured, true."""

    ready: Annotated[bool, Meta(description="whether all of the others are")]
    redis: Annotated[bool, Meta(description="whether Redis answers")]
    kafka: Annotated[bool, Meta(description="whether Kafka takes records")]
    catalogue: Annotated[bool, Meta(description="whether the items topic was read to where it ended at the start")]


class Problem(Exception):
    """Ends a request with an error: its `status`, what `to_json` makes of `body`, and `headers`."""

    def __init__(
        self, status: int, code: ErrorCode, message: str, field: str | None = None, refused: tuple[Refusal, ...] = ()
    ) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.error = Error(code, message, field)
        self.body: ErrorAnswer | Refused = Refused(self.error, refused) if refused else ErrorAnswer(self.error)
        self.headers = {"retry-after": str(RETRY_SECONDS)} if status == 503 else {}

    def response(self) -> Response:
        """It as an answer."""
        return answer(self.body, self.status, self.headers)


def answer(body: msgspec.Struct, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of JSON."""
    return Response(to_json(body), status, headers, JSON)
