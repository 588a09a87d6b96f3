"""What a user's learner becomes does not depend on when the job was started again: all it goes by is in state."""

import tomllib
from collections.abc import Collection

import pytest
from riverrank.jobs.config.schema import parse
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.session.session import Session
from riverrank.operators.slate.recommend import Recommend
from riverrank.state.messages import CatalogueUpdate, decode_feedback, encode
from riverrank.state.records.decoding import decode_event, decode_item
from riverrank.state.records.incoming import Event, Item
from shop_events import CATALOGUE, stream
from streams import alone

STREAMS, EVENTS, USERS = 4, 300, 4  # so many events of a user that the history is full, and a taste changes


def answered(window: str, started_again: Collection[int]) -> list[bytes | None]:
    """The slates and states of a made stream, where before events of these numbers nothing is held but states."""
    behaviour = parse(tomllib.loads(f'{alone()}\n[history]\nsize = 40\n[impression]\nwindow = "{window}"')).behaviour
    index = ItemIndex(behaviour)
    for line in CATALOGUE:
        item = decode_item(line.encode())
        assert isinstance(item, Item)
        index.apply(CatalogueUpdate(item))
    sessions: dict[str, bytes | None] = {}
    learners: dict[str, bytes | None] = {}
    slates = []
    session, recommend = Session(behaviour), Recommend(behaviour, index)
    for number, line in enumerate(line for seed in range(STREAMS) for line in stream(EVENTS, seed, USERS)):
        if number in started_again:
            session, recommend = Session(behaviour), Recommend(behaviour, index)
        event = decode_event(line.encode())
        assert isinstance(event, Event)
        accepted = session.accept(event, sessions.get(event.user_id))
        sessions[event.user_id] = accepted.state
        assert accepted.feedback is not None
        answer = recommend.answer(decode_feedback(encode(accepted.feedback)), learners.get(event.user_id))
        learners[event.user_id] = answer.state
        slates += [answer.slate, answer.state]
    return slates


@pytest.mark.parametrize("window", ["10m", "12h"])
def test_a_start_in_the_middle_changes_nothing_of_any_answer_or_state(window: str) -> None:
    assert answered(window, range(50, STREAMS * EVENTS, 70)) == answered(window, ())
