"""Whatever a user brings about, an export of it is whole, and each of its records one that a topic takes."""

import json
from collections.abc import Callable, Iterator
from itertools import islice

import hostile
import pytest
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Event
from riverrank.state.records.pieces import MAX_PIECE_BYTES, Collector

ROWS = (
    (hostile.one_user, 250, 1),
    (hostile.late_events, 100, 1),
    (hostile.one_user_of_a_catalogue, 450, 1),
    (hostile.impressions_that_stay_open, 10, 3),
    (hostile.profiles, 20, 1),
    (hostile.ratings, 150, 1),
    (hostile.contexts, 100, 1),
)


@pytest.mark.parametrize(("stream", "records", "pieces"), ROWS, ids=lambda each: getattr(each, "__name__", ""))
def test_an_export_is_whole_in_pieces_that_a_topic_takes(
    stream: Callable[[], Iterator[bytes]], records: int, pieces: int
) -> None:
    told: list[bytes] = []
    pipeline = Pipeline(Behaviour(), {"exports": lambda key, value: told.append(value or b"")})
    user = ""
    for offset, raw in enumerate(islice(stream(), records)):
        arrival, record = Arrival(0, offset, 0, raw), json.loads(raw)
        if "user_id" in record:
            user = record["user_id"]
            pipeline.event(arrival)
        else:
            pipeline.item(arrival)
    asked = Event(hostile.long("x"), "export", user, hostile.START_MS + 10**8)
    pipeline.take(asked, Arrival(0, records, 0, None))
    assert len(told) > pieces and max(map(len, told)) <= MAX_PIECE_BYTES
    collector = Collector(asked)
    for piece in told:
        collector.take(piece)
    whole = collector.whole()
    assert whole is not None and any(whole.values())
