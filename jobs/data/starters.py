"""`riverrank starters`: a short, spread-out choice of items to ask a new user about, from files of events and items.

The events teach what is known of items as they do in the job; no user is answered, so it takes a fraction of a replay.
"""

import msgspec
import numpy as np
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.local.reading import read_lines
from riverrank.operators.catalogue.starters import choose, together
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.embedding import Embedding
from riverrank.operators.signals.signals import Signals
from riverrank.state.item_tables import POSITIVES, RATINGS, VectorTable
from riverrank.state.messages import CatalogueUpdate, decode_update
from riverrank.state.records import Event, Item, decode_event, decode_item

CONSIDERED = 2000  # items, those that most people know


class Starter(msgspec.Struct, frozen=True):
    """An item to ask about: how many users' interactions (ratings, where there are any) it had, and the share of all
    that is to be told of items that it and those before it tell.
    """

    item_id: str
    title: str | None
    known: int
    covered: float


def run(config: Config, number: int, *, as_json: bool) -> None:
    """Choose, and print the choice on standard output.

    Raises:
        UsageError: there are no events to read.
        Failure: they tell of no item that could be asked about.
    """
    if not config.files.events:
        raise UsageError("no events to read: give --events FILE (- is standard input)")
    titles = {}
    lesson = _Lesson(config.behaviour)
    if config.files.items:
        for arrival in read_lines(config.files.items):
            item = decode_item(arrival.value)
            if isinstance(item, Item):
                titles[item.item_id] = item.title
                lesson.index.apply(CatalogueUpdate(item))
    for arrival in read_lines(config.files.events):
        event = decode_event(arrival.value)
        if isinstance(event, Event):
            lesson.learn(event)
    lesson.finish()
    starters = choice(lesson.index, titles, number)
    if not starters:
        raise Failure("no item that may be served had a positive interaction; `riverrank check` says what there is")
    print(msgspec.json.encode(starters).decode() if as_json else text(starters))


def choice(index: ItemIndex, titles: dict[str, str | None], number: int) -> list[Starter]:
    """The starters that what `index` knows makes for, best first."""
    rows = np.flatnonzero(index.servable[: len(index.table)])
    stats = index.table.stats[rows]
    known = np.maximum(stats[:, POSITIVES], stats[:, RATINGS]).astype(np.float64)
    order = np.argsort(-known, kind="stable")[:CONSIDERED]
    order = order[known[order] > 0]
    rows, known = rows[order], known[order]
    places, covered = choose(known, together(index.content[rows], index.table.context[rows]), number)
    ids = [index.table.ids[row] for row in rows[places].tolist()]
    return [
        Starter(item_id, titles.get(item_id), int(known[place]), round(share, 4))
        for item_id, place, share in zip(ids, places, covered.tolist(), strict=True)
    ]


def text(starters: list[Starter]) -> str:
    """The choice for a reader."""
    width = max(len(starter.item_id) for starter in starters)
    lines = [f"{'item':{width}}    known  covered  title"]
    for starter in starters:
        title = starter.title or ""
        lines.append(f"{starter.item_id:{width}}  {starter.known:7d}  {starter.covered:7.1%}  {title}".rstrip())
    return "\n".join(lines)


class _Lesson:
    """SESSION, SIGNALS and the vectors of RANKER in a row, and a index of what they learned."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.index = ItemIndex(behaviour)
        self._session = Session(behaviour)
        self._sessions: dict[str, bytes | None] = {}
        self._signals = [Signals(behaviour, shard) for shard in range(behaviour.signals.shards)]
        self._embedding = Embedding(behaviour, VectorTable(behaviour.embedding.dimensions))

    def learn(self, event: Event) -> None:
        """Learn what an event tells of items."""
        accepted = self._session.accept(event, self._sessions.get(event.user_id))
        self._sessions[event.user_id] = accepted.state
        feedback = accepted.feedback
        if feedback is None:
            return
        for shard in self._session.routes(feedback):
            self._signals[shard].learn(feedback)
            if self._signals[shard].due():
                self._tell(self._signals[shard].flush())
        self._embedding.take(feedback)

    def finish(self) -> None:
        """Learn what is left, and tell the index of it all."""
        self._embedding.settle()
        for signals in self._signals:
            self._tell(signals.flush())
        while (moved := self._embedding.moved(0)) is not None:
            self.index.apply(moved)

    def _tell(self, updates: list[bytes]) -> None:
        for update in updates:
            self.index.apply(decode_update(update))
