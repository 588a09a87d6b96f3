"""The page on the service: what `riverrank serve` mounts. It adapts the service's own backend to what the page asks."""

import asyncio
import time
from types import TracebackType
from typing import Self

import msgspec
from riverrank.jobs.config.schema import Config
from riverrank.jobs.serving.http.backend import Backend, Busy, NoAnswer, NotConfigured, NotRead, Unreadable, Wanted
from riverrank.jobs.serving.http.guards import read_keys
from riverrank.jobs.serving.http.reads import RedisAway
from riverrank.jobs.serving.http.writes import KafkaAway, RecordTooLarge
from riverrank.jobs.serving.watch.exposure import Exposure
from riverrank.jobs.serving.watch.follower import WatchFollower
from riverrank.jobs.serving.watch.seen import Seen
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Slate, to_json
from starlette.routing import Route

from .pages import Pages
from .routes import PageRoutes
from .source import FoundItem, Previewer, ShownSlate, Trending, Unavailable

WHOLE = Wanted(n=1_000)
MOST_TRENDING = 10
SEARCH_SECONDS = 0.5
_FAULTS = (RedisAway, KafkaAway, NotConfigured, RecordTooLarge)


class Page:
    """What the page runs beside the service of `config`: followers, where there is a Kafka. A context manager."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seen = Seen(cohorts=config.serve.cohorts, least=config.behaviour.cohorts.users)
        self._follower = WatchFollower(config.kafka, self._seen) if config.kafka.bootstrap else None

    def __enter__(self) -> Self:
        if self._follower is not None:
            self._follower.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._follower is not None:
            self._follower.close()

    def routes(self, service: Backend) -> list[Route]:
        """Its routes, for `application` to mount; who may ask for them it sees to itself."""
        source = ServiceSource(service)
        if service.catalogue is not None and service.catalogue.groups is not None:
            self._seen.count_by(Exposure(service.catalogue, self._config.behaviour.reward))
        follower, keys = self._follower, read_keys(self._config.serve.keys_file)
        pages = Pages(source, self._seen, lambda: None if follower is None else follower.progress)
        return PageRoutes(source, pages, (lambda key: key.encode() in keys) if keys else None).routes()


class ServiceSource:
    """A `PageSource`, by the service."""

    def __init__(self, service: Backend) -> None:
        self._service = service

    @property
    def previewer(self) -> Previewer | None:
        """Itself, where the service answers previews."""
        return self if self._service.answers_previews else None

    async def preview(self, user: str, item: str) -> Slate:
        """By asking the job."""
        try:
            return self._left_of(await self._service.preview(user, item))
        except (*_FAULTS, NotRead, Busy, NoAnswer) as error:
            raise Unavailable(str(error)) from error

    async def slate(self, user: str) -> ShownSlate | None:
        """Without what is gone or out of stock."""
        try:
            found = await self._service.slate_of(user)
        except _FAULTS as error:
            raise Unavailable(str(error)) from error
        return found and ShownSlate(self._left_of(found.slate), found.is_popular, found.stale)

    async def answer(self, user: str, event_id: str) -> Slate | None:
        """Looked for until serve.wait is over, or Redis is away."""
        try:
            found = await self._service.slate_after(user, event_id)
        except _FAULTS as error:
            raise Unavailable(str(error)) from error
        if found is None or not found.answers(event_id):
            return None
        return self._left_of(found.slate)

    async def trending(self) -> Trending | None:
        """The list of that name, else the popular slate."""
        try:
            try:
                told = await self._service.list_of("trending")
            except Unreadable:
                told = None
            if told is not None:
                places = self._service.served(told.items, WHOLE)
                return Trending(tuple((each.item_id, each.score) for each in places[:MOST_TRENDING]), False)
            found = await self._service.popular()
        except _FAULTS as error:
            raise Unavailable(str(error)) from error
        if found is None:
            return None
        slots = self._left_of(found.slate).items[:MOST_TRENDING]
        return Trending(tuple((slot.item_id, slot.score) for slot in slots), True)

    async def send(self, event: Event) -> None:
        """By the service's own check and producer."""
        try:
            taken = await self._service.take("events", [to_json(event)])
        except _FAULTS as error:
            raise Unavailable(str(error)) from error
        if taken.refused:
            raise Unavailable(f"the event was refused: {taken.refused[0].detail}")

    def titles(self, item_ids: list[str]) -> dict[str, str]:
        """Of the catalogue that the service follows."""
        entries = self._service.entries(item_ids)
        return {item_id: entry.title for item_id, entry in entries.items() if entry.title}

    async def search(self, words: str, most: int) -> list[FoundItem]:
        """A walk through the catalogue, beside the event loop, for SEARCH_SECONDS at most."""
        return await asyncio.to_thread(self._search, words.lower().split(), most)

    def _search(self, words: list[str], most: int) -> list[FoundItem]:
        until, found = time.monotonic() + SEARCH_SECONDS, list[FoundItem]()
        for item_id, entry in self._service.catalogue.all() if self._service.catalogue is not None else ():
            title = entry.title or item_id
            if entry.available and all(word in title.lower() for word in words):
                found.append(FoundItem(item_id, title, ", ".join(entry.categories[:4])))
            if len(found) == most or time.monotonic() > until:
                break
        return found

    def _left_of(self, slate: Slate) -> Slate:
        return msgspec.structs.replace(slate, items=self._service.served(slate.items, WHOLE))
