"""The pages as text: from what the source and the followers give to HTML. Nothing here knows a request."""

from collections.abc import Callable
from dataclasses import dataclass, field

from riverrank.jobs.serving.watch.follower import FROM_MINUTES, RECORDS_A_SECOND, Progress
from riverrank.jobs.serving.watch.minutes import MINUTE_MS
from riverrank.jobs.serving.watch.seen import Seen, SeenUser
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.state.records.outgoing import Slate

from .exposure import exposure_of
from .quality import SHOWN_MINUTES, quality_of
from .slots import Comparison, compare, rows_of
from .source import FoundItem, PageSource, ShownSlate, Trending
from .text import shown, templates

MOST_USERS = 24  # that are offered as links
MOST_FOUND = 12  # items of a search
ACTIONS = (("click", "Click"), ("cart", "Add to cart"), ("purchase", "Buy"))


@dataclass(frozen=True)
class Acted:
    """What a customer of the page did, with the slate before and the one that answers it, where it is there."""

    user: str
    event_id: str
    what: str
    item_id: str | None
    before: ShownSlate | None
    after: Slate | None


@dataclass(frozen=True)
class Told:
    """What goes on all pages: whether one can sign out, and the lines of what is wrong."""

    signed_in: bool = False
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True)
class CustomerView:
    """What the page of a customer shows."""

    user: str
    served: ShownSlate | None = None
    acted: Acted | None = None
    words: str = ""
    found: list[FoundItem] = field(default_factory=list)


class Pages:
    """Makes each page. `progress` says how far the followers are, None where there are none to follow with."""

    def __init__(self, source: PageSource, seen: Seen, progress: Callable[[], Progress | None]) -> None:
        self._source = source
        self._seen = seen
        self._progress = progress
        self._templates = templates()

    def overview(self, told: Told, trending: Trending | None) -> str:
        """What happens now, by minute."""
        now = wall_ms()
        progress = self._progress()
        since = None if progress is None else progress.since_ms
        first = max(now - (SHOWN_MINUTES - 1) * MINUTE_MS, since or 0)
        reasons, letters = self._seen.dead_letters()
        ids = [item_id for item_id, _ in trending.items] if trending else []
        return self._render(
            "overview.html",
            told,
            quality=quality_of(self._seen.minutes(first, now)) if since is not None else None,
            exposure=exposure_of(self._seen, now, since),
            reasons=reasons.most_common(),
            letters=letters,
            users=self._seen.user_ids(MOST_USERS),
            trending=trending,
            title=self._title(ids),
        )

    def user(self, told: Told, user: str, served: ShownSlate | None) -> str:
        """A user's slate and history; without an id, the way to one."""
        seen = self._seen.user(user) if user else None
        return self._render("user.html", told, user=user, **self._slate(served), **self._history(seen))

    def customer(self, told: Told, view: CustomerView) -> str:
        """A customer of whoever looks at the page: what is served, and what each step changes."""
        served = view.served
        if view.acted is not None and view.acted.after is not None:
            served = ShownSlate(view.acted.after)
        seen = self._seen.user(view.user) if view.user else None
        return self._render(
            "customer.html",
            told,
            user=view.user,
            acted=view.acted,
            acted_title=self._title([view.acted.item_id or ""])(view.acted.item_id or "") if view.acted else "",
            comparison=self._compared(view.acted),
            words=view.words,
            found=view.found,
            actions=ACTIONS,
            users=self._seen.user_ids(MOST_USERS),
            **self._slate(served),
            **self._history(seen),
        )

    def preview(self, told: Told, user: str, item: str, before: ShownSlate | None, after: Slate) -> str:
        """What a click would change."""
        acted = Acted(user, "", "click", item, before, after)
        title = self._title([item])(item)
        return self._render(
            "preview.html",
            told,
            user=user,
            item_title=title,
            comparison=self._compared(acted),
            **self._slate(ShownSlate(after)),
        )

    def sign_in(self, wrong: bool) -> str:
        """The form for a key."""
        return self._render("sign_in.html", Told(), wrong=wrong)

    def problem(self, told: Told, title: str, message: str) -> str:
        """A page that says what is wrong, and the mend."""
        return self._render("problem.html", told, heading=title, message=message)

    def _render(self, name: str, told: Told, **named: object) -> str:
        progress = self._progress()
        return self._templates.get_template(name).render(
            told=told,
            progress=progress,
            previews=self._source.previewer is not None,
            now=wall_ms(),
            minutes_before=FROM_MINUTES,
            records_a_second=RECORDS_A_SECOND,
            **named,
        )

    def _slate(self, served: ShownSlate | None) -> dict[str, object]:
        rows = () if served is None else rows_of(served.slate, self._title(_named(served.slate)))
        return {"served": served, "rows": rows}

    def _history(self, seen: SeenUser | None) -> dict[str, object]:
        events = [] if seen is None else list(reversed(seen.events))
        return {"history": events, "title": self._title([event.item_id for event in events if event.item_id])}

    def _compared(self, acted: Acted | None) -> Comparison | None:
        if acted is None or acted.before is None or acted.after is None:
            return None
        before = acted.before.slate
        return compare(before, acted.after, self._title([*_named(before), *_named(acted.after)]))

    def _title(self, item_ids: list[str]) -> Callable[[str], str]:
        """The title of an item, as it may be shown; its id where it has none."""
        titles = self._source.titles(list(dict.fromkeys(item_ids)))
        return lambda item_id: shown(titles.get(item_id) or item_id)


def _named(slate: Slate) -> list[str]:
    """All items that a slate names, in its reasons too."""
    named = [slot.item_id for slot in slate.items]
    return [*named, *(cause.item_id for slot in slate.items for cause in slot.reasons if cause.item_id)]
