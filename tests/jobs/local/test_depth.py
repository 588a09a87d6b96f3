"""Slates that are cached deeper than they are told: their beginning, what is below it, and that nothing else knows."""

import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import pytest
from oracle_records import made_lines
from oracle_streams import STREAMS
from riverrank.jobs.config.schema import parse
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.arms import arms_of
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.messages import CacheWrite
from riverrank.state.outputs import PREDICTIONS, SLATES
from riverrank.state.records.outgoing import Slate

DEPTH = 45
ARMS = {"experiment": {"arms": {"short": {"share": 0.5, "slate.size": 7}}}}
FLOORS = {"fairness": {"floors": {"sale=true": 0.4}}}


class Ran(NamedTuple):
    """What came of a stream: slates and predictions as they were told, what the cache was given, and the learners."""

    slates: list[tuple[str, bytes | None]]
    predictions: list[tuple[str, bytes | None]]
    writes: list[CacheWrite]
    learners: str
    counts: Mapping[str, Any]

    def put(self, write: CacheWrite) -> None:
        self.writes.append(write)

    def users_writes(self) -> list[CacheWrite]:
        """What is written of users, in its order."""
        return [write for write in self.writes if write.key.startswith("slate:")]

    def cached(self) -> list[bytes]:
        """Slates of users, in their order."""
        return [write.slate for write in self.users_writes() if write.slate is not None]


def ran(name: str, depth: int, settings: Mapping[str, Any] = {}) -> Ran:
    stream = STREAMS[name]
    came = Ran([], [], [], "", {})
    outputs = {
        SLATES.name: lambda key, value: came.slates.append((key, value)),
        PREDICTIONS.name: lambda key, value: came.predictions.append((key, value)),
    }
    behaviour = parse({**tomllib.loads(stream.config), **settings}).behaviour
    pipeline = Pipeline(behaviour, outputs, came, depth=depth)
    items, events = made_lines(stream)
    for number, line in enumerate(items):
        pipeline.item(Arrival(0, number, 0, line))
    pipeline.open()
    for number, line in enumerate(events):
        pipeline.event(Arrival(0, number, 0, line))
    for message in pipeline.last_messages():
        pipeline.hear(message)
    pipeline.refresh_popular(last=True)
    recommend = pipeline.recommend
    recommend.measure()
    return came._replace(learners=pipeline.learners_digest(), counts=dict(vars(recommend.counts)))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in STREAMS if name != "fewer-sources"),
        ("all-kinds", ARMS),
        ("rules", FLOORS),
        ("thompson", FLOORS),
    ],
)
def test_all_but_the_cache_is_as_without_it_and_the_cache_goes_on_from_there(
    name: str, settings: Mapping[str, Any]
) -> None:
    plain, deep = ran(name, 0, settings), ran(name, DEPTH, settings)
    assert (deep.slates, deep.predictions) == (plain.slates, plain.predictions)
    assert name == "tree" or deep.learners == plain.learners  # pickles of a tree differ from run to run
    assert deep.counts == plain.counts
    assert [msgspec.structs.replace(write, slate=b"") for write in deep.users_writes()] == [
        msgspec.structs.replace(write, slate=b"") for write in plain.users_writes()
    ]
    behaviour = parse({**tomllib.loads(STREAMS[name].config), **settings}).behaviour
    sizes = {arm: each.slate.size for arm, each in arms_of(behaviour).items()}
    below = 0
    for told, cached in zip(plain.cached(), deep.cached(), strict=True):
        assert cached == told or cached.startswith(told[: -len(b"]}")] + b",")
        slate, n = msgspec.json.decode(cached, type=Slate), len(msgspec.json.decode(told, type=Slate).items)
        assert [slot.rank for slot in slate.items] == [*range(1, len(slate.items) + 1)]
        assert len({slot.item_id for slot in slate.items}) == len(slate.items) <= DEPTH
        assert n == sizes[slate.arm] or len(slate.items) == n
        assert all(slot.propensity == 1.0 and slot.sources and slot.reasons for slot in slate.items[n:])
        assert all(cause.code != "exploration" for slot in slate.items[n:] for cause in slot.reasons)
        below += len(slate.items) - n
    assert below > 100


def test_the_popular_slate_is_as_deep() -> None:
    plain, deep = (
        [msgspec.json.decode(write.slate or b"", type=Slate).items for write in came.writes if write.key == "popular"]
        for came in (ran("all-kinds", 0), ran("all-kinds", DEPTH))
    )
    assert len(plain[-1]) == 20 and len(deep[-1]) == DEPTH
    assert [slots[:20] for slots in deep][-1] == plain[-1]


def test_a_depth_goes_on_from_one_that_is_less() -> None:
    (less, more) = (ran("softmax", depth).cached() for depth in (30, 50))
    assert all(b == a or b.startswith(a[: -len(b"]}")] + b",") for a, b in zip(less, more, strict=True))
    assert less != more
