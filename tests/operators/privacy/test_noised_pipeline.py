"""The whole path with noise: the same slates from the same events, and others hear of a user through noise alone."""

import msgspec
from noised_shop import HOUR, events, noised
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.settings import Behaviour
from riverrank.state.messages import AutoencoderUpdate, SignalUpdate, VectorUpdate, Weights
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Slate


def run(behaviour: Behaviour, stream: list[Event]) -> tuple[list[bytes], list[object]]:
    """All slates, and all that is told to everyone."""
    slates: list[bytes] = []
    pipeline = Pipeline(behaviour, {"slates": lambda key, value: slates.append(value or b"")})
    told: list[object] = []
    for number, event in enumerate(stream):
        for message in pipeline.messages(event, Arrival(0, number, event.ts, None)):
            pipeline.hear(message)
            told.append(message)
    for message in pipeline.last_messages():
        pipeline.hear(message)
        told.append(message)
    kinds = (SignalUpdate, VectorUpdate, AutoencoderUpdate, Weights)
    return slates, [message for message in told if isinstance(message, kinds)]


def shopping(n: int = 900) -> list[Event]:
    """Clicks with contexts and profiles, impressions, ratings and an erasure among them."""
    stream = []
    for k, event in enumerate(events(n, users=120, every_ms=20_000)):
        stream.append(msgspec.structs.replace(event, context={"device": "tv" if k % 2 else "phone"}))
        if k % 50 == 1:
            stream.append(Event(f"p{k}", "profile", event.user_id, event.ts, attributes={"band": "a"}))
            stream.append(Event(f"s{k}", "impression", event.user_id, event.ts, items=("i0", "i1", "i2")))
            stream.append(Event(f"r{k}", "rate", event.user_id, event.ts, "i3", 5.0))
    stream.append(Event("gone", "erase", "u1", stream[-1].ts))
    return stream


def test_the_same_events_and_secret_give_the_same_slates_and_another_secret_others():
    stream = shopping()
    (first, _), (again, _), (other, _) = (run(noised(secret=key), stream) for key in (b"a", b"a", b"b"))
    assert first == again != other
    assert len(first) > 900


def test_nothing_is_told_but_counts_and_weights():
    """No session, cohort, context, rating, vector or click: those carry no noise."""
    _, told = run(noised(), shopping())
    assert {type(each) for each in told} == {SignalUpdate, Weights}
    for each in told:
        if isinstance(each, SignalUpdate):
            assert not (each.keys or each.taken or each.gone or any(each.ratings))
            assert all(name.startswith("i") for name in each.ids)
        else:
            assert isinstance(each, Weights) and not each.clicks and not each.bias
    without = noised(0.0)
    _, told = run(without, shopping())
    assert any(isinstance(each, SignalUpdate) and each.keys and any(each.ratings) for each in told)


def test_what_one_user_took_reaches_no_one_elses_slate():
    """Two items that one user alone took: without noise who took one is shown the other, with it nobody is."""
    stream = events(600, users=100)
    alone = [Event(f"x{k}", "click", "one", stream[200].ts + k, item) for k, item in enumerate(("ra", "rb"))]
    asking = [Event("y", "click", "spy", stream[-1].ts, "ra")]
    found = {}
    for epsilon in (0.0, 8.0):
        slates, _ = run(noised(epsilon), stream[:200] + alone + stream[200:] + asking)
        slate = msgspec.json.decode(slates[-1], type=Slate)
        assert slate.user_id == "spy"
        found[epsilon] = [slot.item_id for slot in slate.items]
    assert "rb" in found[0.0] and "rb" not in found[8.0]


def test_when_is_told_depends_on_times_and_numbers_alone():
    """Whatever one user takes, updates come after the same events, of as many events each."""
    stream = shopping(500)
    others = [
        msgspec.structs.replace(each, item_id=f"z{k}") if each.user_id == "u3" and each.item_id else each
        for k, each in enumerate(stream)
    ]
    shapes = []
    for of in (stream, others):
        _, told = run(noised(window=HOUR), of)
        shapes.append([(type(each), getattr(each, "events", 0), getattr(each, "version", 0)) for each in told])
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) > 10
