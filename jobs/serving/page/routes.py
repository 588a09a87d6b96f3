"""The routes of the page: what is asked, who may ask, and which page answers. What a page says is made in `pages`."""

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib import resources
from urllib.parse import parse_qs, unquote

from riverrank.jobs.errors import UsageError
from riverrank.jobs.serving.http.answers import Problem
from riverrank.jobs.serving.http.guards import is_foreign
from riverrank.jobs.serving.http.routing import OPERATION, body_of
from riverrank.jobs.serving.slates import require_user
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.state.records.decoding import decode_event
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from .guard import COOKIE, HEADERS, SESSION_SECONDS, Sessions, is_of_the_page
from .pages import ACTIONS, MOST_FOUND, Acted, CustomerView, Pages, Told
from .source import PageSource, ShownSlate, Trending, Unavailable
from .text import link

MOST_ACTED = 256  # steps of customers that are kept to be looked at
MOST_FORM_BYTES = 8_192
FORM_SECONDS = 5.0  # within which a form is whole
MOST_AT_ONCE = 32  # pages that are made at once; whoever comes above them is told to come again
MOST_SIGNING_IN = 8  # forms of those who sign in, likewise
ASSETS = {
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
TYPES = ("request", *(name for name, _ in ACTIONS))

Handler = Callable[[Request, Told], Awaitable[Response]]


class _Wrong(Exception):
    """A request that can't be done: its status, and what the page says of it."""

    def __init__(self, status: int, title: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.title = title


class _AtOnce:
    """No more than `most` at once: whoever comes above them is told so, by _Wrong."""

    def __init__(self, most: int) -> None:
        self._most, self._now = most, 0

    def __enter__(self) -> None:
        if self._now >= self._most:
            raise _Wrong(503, "Not now", "Too many pages are asked for. Come again.")
        self._now += 1

    def __exit__(self, *_: object) -> None:
        self._now -= 1


class PageRoutes:
    """The pages over `source`. `is_key` says whether a text is a key of the service; None where none is asked for."""

    def __init__(self, source: PageSource, pages: Pages, is_key: Callable[[str], bool] | None = None) -> None:
        self._source = source
        self._pages = pages
        self._is_key = is_key
        self._sessions = Sessions()
        self._made, self._signing_in = _AtOnce(MOST_AT_ONCE), _AtOnce(MOST_SIGNING_IN)
        self._acted: OrderedDict[str, Acted] = OrderedDict()
        folder = resources.files("riverrank.jobs.serving.page") / "assets"
        self._assets = {name: folder.joinpath(name).read_bytes() for name in ASSETS}

    def routes(self) -> list[Route]:
        """For an application to hold beside its own."""
        read, write = ["GET"], ["POST"]
        return [
            Route("/", self._guarded(self._overview), methods=read),
            Route("/user", self._guarded(self._user), methods=read),
            Route("/customer", self._guarded(self._customer), methods=read),
            Route("/customer", self._guarded(self._act), methods=write),
            Route("/preview", self._guarded(self._preview), methods=read),
            Route("/sign-in", self._sign_in, methods=[*read, *write]),
            Route("/sign-out", self._sign_out, methods=write),
            *(Route(f"/page/{name}", self._asset, methods=read) for name in ASSETS),
        ]

    async def _overview(self, request: Request, told: Told) -> Response:
        trending: Trending | None = None
        try:
            trending = await self._source.trending()
        except Unavailable as error:
            told = Told(told.signed_in, (str(error),))
        return _page(self._pages.overview(told, trending))

    async def _user(self, request: Request, told: Told) -> Response:
        user = _user_of(request, "id")
        served, told = await self._served(user, told)
        return _page(self._pages.user(told, user, served))

    async def _customer(self, request: Request, told: Told) -> Response:
        user, words = _user_of(request, "id"), request.query_params.get("q", "")[:200].strip()
        served, told = await self._served(user, told)
        acted = self._acted.get(request.query_params.get("event", ""))
        if acted is not None and acted.user != user:
            acted = None
        if acted is not None and acted.after is None and served and served.slate.trigger == acted.event_id:
            acted = self._keep(replace(acted, after=served.slate))
        found = await self._source.search(words, MOST_FOUND) if words else []
        return _page(self._pages.customer(told, CustomerView(user, served, acted, words, found)))

    async def _act(self, request: Request, told: Told) -> Response:
        """What a customer of the page does: an event is written, and the slate that answers it is waited for."""
        form = await _form(request)
        user, query = _user_of(request, "id"), request.query_params
        event = Event(
            event_id=f"page-{secrets.token_hex(8)}",
            type=form.get("type", ""),
            user_id=user,
            ts=wall_ms(),
            item_id=query.get("item") or None,
            slate_id=query.get("slate") or None,
        )
        checked = decode_event(to_json(event)) if user else None
        if not isinstance(checked, Event) or event.type not in TYPES:
            detail = f"type: expected one of {', '.join(TYPES)}" if checked is None else getattr(checked, "detail", "")
            raise _Wrong(400, "That is no event", detail or f"type: expected one of {', '.join(TYPES)}")
        before = await self._source.slate(user)
        await self._source.send(event)
        after = await self._source.answer(user, event.event_id)
        self._keep(Acted(user, event.event_id, event.type, event.item_id, before, after))
        there = link("/customer", id=user, event=event.event_id, q=query.get("q"))
        return RedirectResponse(there, 303)

    async def _preview(self, request: Request, told: Told) -> Response:
        user, item = _user_of(request, "user"), request.query_params.get("item", "")
        previewer = self._source.previewer
        if previewer is None:
            raise _Wrong(404, "No previews", "The job that runs here answers none.")
        if not user or not item:
            raise _Wrong(400, "A preview of what?", "user and item: expected an id each")
        if is_foreign(request.headers):  # the job is asked for it
            raise _Wrong(403, "Not from this page", "This preview was asked for by another page. Open it here.")
        before = await self._source.slate(user)
        after = await previewer.preview(user, item)
        return _page(self._pages.preview(told, user, item, before, after))

    async def _sign_in(self, request: Request) -> Response:
        if self._is_key is None:
            return RedirectResponse("/", 303, HEADERS)
        if request.method == "GET":
            return _page(self._pages.sign_in(wrong=False))
        if not is_of_the_page(request.headers):
            return self._refused()
        try:
            with self._signing_in:
                key = (await _form(request)).get("key", "")
        except _Wrong as wrong:
            return _page(self._pages.problem(Told(), wrong.title, str(wrong)), wrong.status)
        if not self._is_key(key):
            return _page(self._pages.sign_in(wrong=True), 401)
        answer = RedirectResponse("/", 303, HEADERS)
        answer.set_cookie(
            COOKIE,
            self._sessions.begin(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.headers.get("origin", "").startswith("https:"),  # behind a proxy too
        )
        return answer

    async def _sign_out(self, request: Request) -> Response:
        if not is_of_the_page(request.headers):
            return self._refused()
        self._sessions.end(request.cookies.get(COOKIE))
        answer = RedirectResponse("/sign-in", 303, HEADERS)
        answer.delete_cookie(COOKIE)
        return answer

    async def _asset(self, request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        headers = {**HEADERS, "cache-control": "max-age=60"}
        return Response(self._assets[name], media_type=ASSETS[name], headers=headers)

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """`handler` for those who signed in where that is asked for, and for forms of this page alone."""

        async def endpoint(request: Request) -> Response:
            signed_in = self._is_key is not None and self._sessions.holds(request.cookies.get(COOKIE))
            if self._is_key is not None and not signed_in:
                return RedirectResponse("/sign-in", 303, HEADERS)
            if request.method == "POST" and not is_of_the_page(request.headers):
                return self._refused()
            told = Told(signed_in)
            request.scope[OPERATION] = "page"
            try:
                with self._made:
                    answer = await handler(request, told)
            except _Wrong as wrong:
                return _page(self._pages.problem(told, wrong.title, str(wrong)), wrong.status)
            except Unavailable as error:
                return _page(self._pages.problem(told, "Not now", str(error)), 503)
            answer.headers.update(HEADERS)
            return answer

        return endpoint

    def _refused(self) -> Response:
        message = "This form was sent from elsewhere, or by a browser that does not say from where. Open it here."
        return _page(self._pages.problem(Told(), "Not from this page", message), 403)

    async def _served(self, user: str, told: Told) -> tuple[ShownSlate | None, Told]:
        """The slate of a user, and what is wrong where it can't be had."""
        if not user:
            return None, told
        try:
            return await self._source.slate(user), told
        except Unavailable as error:
            return None, Told(told.signed_in, (str(error),))

    def _keep(self, acted: Acted) -> Acted:
        self._acted[acted.event_id] = acted
        if len(self._acted) > MOST_ACTED:
            self._acted.popitem(last=False)
        return acted


def _page(text: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(text, status, HEADERS)


def _user_of(request: Request, name: str) -> str:
    """The id of a user in the query, "" where there is none; of a form's field it is quoted, as browsers change line
    ends there. Raises _Wrong where it can't be one.
    """
    user = request.query_params.get(name) or unquote(request.query_params.get("quoted", ""))
    if not user:
        return ""
    try:
        require_user(user)
    except UsageError as error:
        raise _Wrong(400, "That is no user", f"id: {str(error).removeprefix('USER: ')}") from error
    return user


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, the first of each name. Raises _Wrong where it is too large, too slow or no form."""
    try:
        body = await body_of(request, MOST_FORM_BYTES, FORM_SECONDS)
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=16)
    except Problem as problem:
        raise _Wrong(problem.status, "That form did not come", str(problem)) from problem
    except ValueError as error:
        raise _Wrong(400, "That is no form", "Expected the fields of a form in UTF-8.") from error
    return {name: values[0] for name, values in fields.items()}
