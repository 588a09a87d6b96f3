"""Runs every operator's logic over a tiny stream, so that what is loaded or compiled at its first call is there."""

import msgspec
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.privacy.ranker import ranker_of
from riverrank.operators.privacy.signals import NoisedSignals, signals_of
from riverrank.operators.published.lists import ItemLists
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour
from riverrank.operators.slate.recommend import Recommend
from riverrank.state.messages import CatalogueUpdate, decode_feedback, decode_update, encode
from riverrank.state.records.incoming import Event, Item
from riverrank.state.table import FEW, RowsById

ITEMS, USERS, EVENTS = 24, 3, 48
_TYPES = ("view", "click", "like", "rate", "purchase", "request", "impression", "dislike")


def warm(behaviour: Behaviour) -> int:
    """Answer a few events of the types in _TYPES with these settings, and forget them; how many slates came of it.

    Messages and states pass through their bytes, as between Flink's operators: they have types of their own.
    """
    _find_rows()
    index = ItemIndex(behaviour)
    for number in range(ITEMS):
        text = f"warm item number {number}"
        item = Item(f"w{number}", number, text, text, (f"c{number % 3}",), {"brand": f"b{number % 4}", "price": number})
        index.apply(CatalogueUpdate(item))
    session, recommend = Session(behaviour), Recommend(behaviour, index)
    often = _often(behaviour)
    lists = ItemLists(index, 2.0, ttl_ms=0, every=0, clock=lambda: 0)
    signals, ranker = signals_of(often)(often, 0), ranker_of(often)(often, index)
    sessions: dict[str, bytes | None] = {}
    users: dict[str, bytes | None] = {}
    slates = 0
    for event in _events():
        accepted = session.accept(event, sessions.get(event.user_id))
        sessions[event.user_id] = accepted.state
        if accepted.feedback is None:
            continue
        feedback = decode_feedback(encode(accepted.feedback))
        answer = recommend.answer(feedback, users.get(event.user_id))
        users[event.user_id] = answer.state
        slates += answer.slate is not None
        ranker.learn(feedback)
        signals.learn(feedback)
        for update in (*signals.flush(), *ranker.flush()):
            index.apply(decode_update(update))
        recommend.popular(event.ts)
        lists.after_answer()
    if isinstance(signals, NoisedSignals):
        signals.spent()
    return slates


def _often(behaviour: Behaviour) -> Behaviour:
    """The settings with noise, where there is to be any, on the few events that there are here."""
    noise, replace = behaviour.noise, msgspec.structs.replace
    return replace(behaviour, noise=replace(noise, release=4, batch=4)) if noise.epsilon else behaviour


def _find_rows() -> None:
    """Find rows as where there are more items than here."""
    rows = RowsById((f"w{number}", number) for number in range(FEW))
    for _ in range(2):  # those that were there, and one that is put later
        rows.find(["w0"])
        rows["w0"] = 0


def _events() -> list[Event]:
    made = []
    for number in range(EVENTS):
        kind = _TYPES[number % len(_TYPES)]
        ts, item = 1_000_000 + 400_000 * number, f"w{number * 7 % ITEMS}"
        shown = tuple(f"w{(number + k) % ITEMS}" for k in range(4)) if kind == "impression" else None
        of_item = None if kind in ("impression", "request") else item
        value = 1.0 + number % 5 if kind == "rate" else None
        context = {"device": "warm", "domain": f"b{number % 4}"} if number % 3 else None  # others are answered without
        made.append(Event(f"warm-{number}", kind, f"u{number % USERS}", ts, of_item, value, shown, context=context))
    return made
