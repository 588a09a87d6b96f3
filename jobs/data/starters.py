"""`riverrank starters`: a short, spread-out choice of items to ask a new user about, from files of events and items.

The events teach what is known of items as they do in the job; no user is answered, so it takes a fraction of a replay.
"""

import msgspec
import numpy as np
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.local.lessons import catalogue, taught
from riverrank.operators.catalogue.starters import choose, together
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour
from riverrank.state.item_tables import POSITIVES, RATINGS
from riverrank.state.records.printable import printable

NEVER = 1 << 62  # events
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
    items = [*catalogue(config)]
    lessons = taught(config, items_alone(config.behaviour), items)
    titles = {item.item_id: item.title for item in items}
    starters = choice(lessons.index, titles, number)
    if not starters:
        raise Failure("no item that may be served had a positive interaction; `riverrank check` says what there is")
    print(msgspec.json.encode(starters).decode() if as_json else text(starters))


def items_alone(behaviour: Behaviour) -> Behaviour:
    """The settings with which every feedback teaches what is known of items, and none the order of candidates."""
    replace = msgspec.structs.replace
    return replace(
        behaviour,
        embedding=replace(behaviour.embedding, warmup_events=NEVER),
        autoencoder=replace(behaviour.autoencoder, items=0),
        ranker=replace(behaviour.ranker, warmup_events=0, sample=0.0),
    )


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
    ids = [printable(starter.item_id) for starter in starters]
    width = max(map(len, ids))
    lines = [f"{'item':{width}}    known  covered  title"]
    for item_id, starter in zip(ids, starters, strict=True):
        title = printable(starter.title or "")
        lines.append(f"{item_id:{width}}  {starter.known:7d}  {starter.covered:7.1%}  {title}".rstrip())
    return "\n".join(lines)
