"""A slate as it is drawn: a row a slot, its reasons as bars, and what became of it between two slates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from riverrank.state.records.outgoing import Cause, Slate, Slot

Title = Callable[[str], str]


@dataclass(frozen=True)
class Bar:
    """A reason: its words, its weight in logits, and where its bar begins and how long it is, in hundredths."""

    words: str
    weight: float | None
    start: float = 0.0
    length: float = 0.0


@dataclass(frozen=True)
class Row:
    """A slot. `change` is what became of it, "" where nothing is compared; `why` is the strongest cause of that."""

    item_id: str
    title: str
    rank: int
    score: float
    propensity: float
    sources: tuple[str, ...]
    bars: tuple[Bar, ...]
    change: str = ""
    moved: str = ""  # new, up, down, same, left
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two slates side by side, and what lies between them in one line."""

    before: tuple[Row, ...]
    after: tuple[Row, ...]
    summary: str


def rows_of(slate: Slate, title: Title) -> tuple[Row, ...]:
    """The slots of a slate, their bars all to the same scale.

    >>> slot = Slot("i-1", 1, 0.9, 1.0, ("new",), (Cause("new", weight=3.0), Cause("novelty", weight=-1.0)))
    >>> [(bar.start, bar.length) for bar in _row(slot, str, _scale([slot])).bars]
    [(25.0, 75.0), (0.0, 25.0)]
    """
    scale = _scale(slate.items)
    return tuple(_row(slot, title, scale) for slot in slate.items)


def words_of(cause: Cause, title: Title) -> str:
    """A reason in words, without its weight.

    >>> words_of(Cause("because_you_clicked", item_id="i-3"), {"i-3": "Alien"}.__getitem__)
    'because you clicked Alien'
    """
    named = cause.value if cause.item_id is None else title(cause.item_id)
    return cause.code.replace("_", " ") + (f" {named}" if named else "")


def compare(before: Slate, after: Slate, title: Title) -> Comparison:
    """What came in, moved and left from one slate to the other, each with the reason that changed it most.

    >>> made = dict(user_id="u", ts=1, trigger="e", strategy="warm", arm="a", model=None)
    >>> slots = [Slot(name, rank, 0.5, 1.0, ("new",), (Cause("new"),)) for name in "ab" for rank in (1, 2)]
    >>> one = Slate(slate_id="u:1", version=1, items=(slots[0], slots[3]), **made)
    >>> two = Slate(slate_id="u:2", version=2, items=(slots[2],), **made)
    >>> compare(one, two, str).summary
    '0 came in, 1 moved up, 0 moved down, 1 left, 0 stayed'
    """
    old = {slot.item_id: slot for slot in before.items}
    new = {slot.item_id: slot for slot in after.items}
    scale = _scale((*before.items, *after.items))
    came = tuple(_row(slot, title, scale, *_change(old.get(slot.item_id), slot, title)) for slot in after.items)
    gone = tuple(
        _row(slot, title, scale) if slot.item_id in new else _row(slot, title, scale, "left", "left", "")
        for slot in before.items
    )
    kinds = [row.moved for row in came]
    left = sum(row.moved == "left" for row in gone)
    summary = (
        f"{kinds.count('new')} came in, {kinds.count('up')} moved up, {kinds.count('down')} moved down, "
        f"{left} left, {kinds.count('same')} stayed"
    )
    return Comparison(gone, came, summary)


def _change(old: Slot | None, new: Slot, title: Title) -> tuple[str, str, str]:
    """In words and as a kind what became of a slot, and why."""
    if old is None:
        return "new", "new", _strongest_gain({}, new, title, 1)
    if old.rank == new.rank:
        return "stayed", "same", ""
    if old.rank > new.rank:
        return f"up from {old.rank}", "up", _strongest_gain(_weights(old), new, title, 1)
    return f"down from {old.rank}", "down", _strongest_gain(_weights(old), new, title, -1)


def _weights(slot: Slot) -> dict[tuple[str, str | None, str | None], float]:
    return {(each.code, each.item_id, each.value): each.weight or 0.0 for each in slot.reasons}


def _strongest_gain(old: Mapping[tuple[str, str | None, str | None], float], new: Slot, title: Title, sign: int) -> str:
    """The reason whose weight grew most (fell most, by a `sign` of -1); "" where none did."""
    gains = [
        (sign * ((each.weight or 0.0) - old.get((each.code, each.item_id, each.value), 0.0)), number)
        for number, each in enumerate(new.reasons)
    ]
    unweighted = next((each for each in new.reasons if each.weight is None), None)
    if unweighted is not None and not old:
        return words_of(unweighted, title)
    gain, number = max(gains, default=(0.0, 0), key=lambda each: (each[0], -each[1]))
    if gain <= 0.005:
        return "others gained more" if sign < 0 else ""
    return f"{words_of(new.reasons[number], title)} {sign * gain:+.2f}"


def _scale(slots: tuple[Slot, ...] | list[Slot]) -> tuple[float, float]:
    """The lowest and the highest end of all bars, none of them on the other's side of 0."""
    weights = [each.weight or 0.0 for slot in slots for each in slot.reasons]
    return min(0.0, *weights, 0.0), max(0.0, *weights, 0.0)


def _row(slot: Slot, title: Title, scale: tuple[float, float], change: str = "", moved: str = "", why: str = "") -> Row:
    low, high = scale
    width = (high - low) or 1.0
    bars = []
    for cause in slot.reasons:
        weight = cause.weight or 0.0
        start, length = 100 * (min(0.0, weight) - low) / width, 100 * abs(weight) / width
        bars.append(Bar(words_of(cause, title), cause.weight, round(start, 2), round(length, 2)))
    return Row(
        item_id=slot.item_id,
        title=title(slot.item_id),
        rank=slot.rank,
        score=slot.score,
        propensity=slot.propensity,
        sources=slot.sources,
        bars=tuple(bars),
        change=change,
        moved=moved,
        why=why,
    )
