"""What the tests of the page share: a backend over a real Valkey, followers' data made by hand, and a server."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import redis
import uvicorn
from riverrank.jobs.serving.groups import ItemGroups
from riverrank.jobs.serving.http.catalogue import Catalogue
from riverrank.jobs.serving.page.pages import Pages
from riverrank.jobs.serving.page.routes import PageRoutes
from riverrank.jobs.serving.page.source import FoundItem, Previewer, ShownSlate, Trending, Unavailable
from riverrank.jobs.serving.watch.exposure import Exposure
from riverrank.jobs.serving.watch.follower import Progress
from riverrank.jobs.serving.watch.minutes import MINUTE_MS
from riverrank.jobs.serving.watch.seen import Seen
from riverrank.operators.cache.redis_cache import POPULAR, Cache, slate_key
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.operators.settings import RewardSettings
from riverrank.state.messages import CacheWrite
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import Cause, DeadLetter, ModelInfo, Slate, Slot, to_json
from starlette.applications import Starlette

WORDS = ("Isbre old tents", "Fjordan dry stoves", "Isbre green jackets", "Borealis green boots", "Tarn warm boots")
MORE = ("Hylde bright boots", "Estrela quiet boots", "Corrie high boots", "Vidda soft lamps", "Lynx small maps")
TITLES = {f"i-{number:03d}": title for number, title in enumerate((*WORDS, *MORE, "Skua swift bikes", "Ural dry maps"))}
HOSTILE = '<script>document.title="owned"</script>"\'&\u202e\x1b[31m'
_decode = msgspec.json.Decoder(Slate).decode


def slate_of(user: str, version: int, items: list[str], trigger: str = "e-0", arm: str = "control") -> Slate:
    """A slate of those items, each with a reason of its own, one of them negative."""
    slots = tuple(
        Slot(
            item,
            rank,
            round(1 - rank / 20, 3),
            0.98,
            ("covisit", "embedding"),
            (
                Cause("because_you_clicked", item_id=items[-1], weight=3.54 / rank + version / 10),
                Cause("category", value="boots", weight=1.1),
                Cause("novelty", weight=-0.7),
            ),
        )
        for rank, item in enumerate(items, 1)
    )
    return Slate(f"{user}:{version}", user, version, wall_ms() - 800, trigger, "warm", arm, ModelInfo(3, 900), slots)


@dataclass
class World:
    """A backend as the page wants one: slates in a real Redis; an event that is sent is answered by another slate."""

    url: str
    titled: dict[str, str] = field(default_factory=lambda: dict(TITLES))
    sent: list[Event] = field(default_factory=list)
    previewer: Previewer | None = None
    is_away: bool = False
    answers: bool = True

    def __post_init__(self) -> None:
        self.redis = redis.Redis.from_url(self.url)

    def put(self, key: str, slate: Slate) -> Slate:
        """Cache a slate as the job does."""
        assert Cache(self.url).write([CacheWrite(key, 0, slate.version, to_json(slate))]) == {key}
        return slate

    async def slate(self, user: str) -> ShownSlate | None:
        """By a look into Redis, as the service has it."""
        if self.is_away:
            raise Unavailable("Redis at 127.0.0.1 can't be read: it refuses")
        own, popular = (self.redis.hget(f"rr:{key}", "slate") for key in (slate_key(user), POPULAR))
        raw = own or popular
        return None if raw is None else ShownSlate(_decode(raw), is_popular=own is None)

    async def answer(self, user: str, event_id: str) -> Slate | None:
        """At once, or never."""
        served = await self.slate(user)
        return served.slate if served and served.slate.trigger == event_id else None

    async def trending(self) -> Trending | None:
        """The popular slate's items."""
        served = await self.slate("nobody")
        return served and Trending(tuple((slot.item_id, slot.score) for slot in served.slate.items), is_popular=True)

    async def send(self, event: Event) -> None:
        """Keep it; what the job would do is to turn the slate around."""
        if self.is_away:
            raise Unavailable("Kafka at 127.0.0.1 takes no records")
        self.sent.append(event)
        if not self.answers:
            return
        served = await self.slate(event.user_id)
        assert served is not None
        version = 1 if served.is_popular else served.slate.version + 1
        items = [slot.item_id for slot in served.slate.items]
        kept = [item for item in items[1:] if item != event.item_id]
        new = [item for item in self.titled if item not in items][:1]
        made = slate_of(event.user_id, version, [*new, *kept], event.event_id)
        self.put(slate_key(event.user_id), made)

    def titles(self, item_ids: list[str]) -> dict[str, str]:
        """Of those that have one."""
        return {item: self.titled[item] for item in item_ids if item in self.titled}

    async def search(self, words: str, most: int) -> list[FoundItem]:
        """By any part of a title."""
        found = [
            FoundItem(item, title, "boots") for item, title in self.titled.items() if words.lower() in title.lower()
        ]
        return found[:most]


class Previews:
    """Answers a preview with the user's slate turned around."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def preview(self, user: str, item: str) -> Slate:
        """Of the same items, the last first."""
        served = await self.world.slate(user)
        assert served is not None
        return slate_of(user, served.slate.version + 1, [slot.item_id for slot in reversed(served.slate.items)], item)


def catalogue_of_a_shop() -> Catalogue:
    """The items that have titles, two a brand, one of them hostile, and three that nobody is shown."""
    made = Catalogue(1_000, ItemGroups(["brand", "category"], {"brand=Brand 1": 0.2, "brand=Small": 0.05}))
    for number, item_id in enumerate([*TITLES, "more-1", "more-2", "more-3"]):
        brand = HOSTILE if number // 2 == 2 else f"Brand {number // 2}"
        made.take(Item(item_id, 1, categories=("boots",) if number % 2 else (), attributes={"brand": brand}))
    made.caught_up = True
    return made


def seen_of_a_shop(minutes: int = 25) -> Seen:
    """What followers would have seen: two arms over some minutes, a user with a history, dead letters, profiles."""
    seen, now = Seen(cohorts=["age_band"], least=5), wall_ms()
    seen.count_by(Exposure(catalogue_of_a_shop(), RewardSettings()))
    for turn in range(20):
        band = (HOSTILE, "25-34", "35-44")[turn % 3]
        profile = {"event_id": f"p-{turn}", "type": "profile", "user_id": f"u-{turn:02d}", "ts": now}
        event(seen, now, **profile, attributes={"age_band": band} if turn < 17 else {})
    for minute in range(minutes):
        at = now - (minutes - minute) * MINUTE_MS + 30_000
        for turn in range(20):
            user = f"u-{turn:02d}"
            own = turn % 2 == 0
            slate_id = f"{user}:{minute + 1}" if own else f"popular:{minute}"
            arm = "control" if own else "treatment"
            raw = to_json(slate_of(user, minute + 1, list(TITLES)[:8], f"{user}-{minute}-c", arm))
            seen.slate(raw, None, at, wall_ms() + 10 * turn + minute if own else None)
            base = {"user_id": user, "ts": at, "slate_id": slate_id}
            event(seen, at, **base, event_id=f"{user}-{minute}-i", type="impression", items=list(TITLES)[:8])
            if turn % 3 == 0 or (own and (turn + minute) % 5 < 2):
                item = list(TITLES)[(turn + minute) % len(TITLES)]
                event(seen, at + 5, **base, event_id=f"{user}-{minute}-c", type="click", item_id=item)
    for offset, reason in enumerate(("bad_json", "late", "bad_field", "late")):
        letter = DeadLetter("events", 0, offset, reason, f"ts: expected a number, got {HOSTILE}", "{}", now)  # type: ignore[arg-type]
        seen.dead_letter(to_json(letter))
    return seen


def event(seen: Seen, at_ms: int, **named: object) -> None:
    """Let an event be seen."""
    seen.event(json.dumps(named).encode(), at_ms)


def progress_of(trouble: str = "") -> Progress:
    """Of followers that are well."""
    return Progress(since_ms=wall_ms() - 25 * MINUTE_MS, read=12_345, left_out=0, trouble=trouble, job_behind=42)


@contextmanager
def served(world: World, seen: Seen, progress: Progress | None, keys: set[str] | None = None) -> Iterator[str]:
    """The page on a free port of 127.0.0.1; its address."""
    routes = PageRoutes(world, Pages(world, seen, lambda: progress), None if keys is None else keys.__contains__)
    with running(Starlette(routes=routes.routes())) as url:
        yield url


@contextmanager
def running(application: Starlette) -> Iterator[str]:
    """An application on a free port of 127.0.0.1; its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        try:
            deadline = time.monotonic() + 10
            while not server.started and time.monotonic() < deadline:
                time.sleep(0.02)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
