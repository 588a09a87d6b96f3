"""Previews by the local pipeline and `replay`: the slate that a click would get, and no trace of it anywhere."""

import json
import random
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from riverrank.jobs.config import schema as config
from riverrank.jobs.local import replay
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.session.session import Session
from riverrank.operators.settings import (
    Behaviour,
    ExplorationSettings,
    HistorySettings,
    LearnerSettings,
    SignalSettings,
)
from riverrank.operators.slate.recommend import Recommend
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.messages import CacheWrite
from riverrank.state.records.decoding import Reject, decode_event
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import Slate
from riverrank.state.sessions import decode_session
from shop_pipeline import PLAIN

EVENTS, USERS, ITEMS = 120, 4, 40
T0 = 1_764_000_000_000
HOUR = 3_600_000
SHORT = HistorySettings(size=20)
EXPLORING = msgspec.structs.replace(PLAIN, exploration=ExplorationSettings(rate=0.3), history=SHORT)
PICKLED = msgspec.structs.replace(EXPLORING, learner=LearnerSettings(model="linear_model.PAClassifier"))
ALONE = msgspec.structs.replace(EXPLORING, signals=SignalSettings(flush_events=10**9))
UNSURE = msgspec.structs.replace(EXPLORING, exploration=ExplorationSettings("thompson", rate=0.3))
KINDS = ("click", "click", "like", "dislike", "purchase", "rate", "view", "request", "impression", "profile")


class Life:
    """Users of a pipeline, whose events are drawn from a seed and from what their slates showed."""

    def __init__(self, behaviour: Behaviour = EXPLORING, seed: int = 1) -> None:
        self.written: dict[str, list[bytes | None]] = {name: [] for name in ("slates", "predictions", "previews")}
        self.cached: list[CacheWrite] = []
        outputs = {name: lambda key, value, to=records: to.append(value) for name, records in self.written.items()}
        self.pipeline = Pipeline(behaviour, outputs, self, popular_every=10**12)
        for k in range(ITEMS):
            self.pipeline.lessons.item(Item(f"i{k}", T0, categories=(f"c{k % 6}",), attributes={"brand": f"b{k % 4}"}))
        self.rng, self.sent, self.shown = random.Random(seed), 0, dict[str, Slate]()

    def put(self, write: CacheWrite) -> None:
        self.cached.append(write)

    def step(self) -> None:
        """The next event of the stream."""
        rng, k = self.rng, self.sent
        user, kind = f"u{rng.randrange(USERS)}", rng.choice(KINDS) if k % 47 else "erase"
        event = Event(f"e{k}", kind, user, T0 + 240_000 * k + rng.randrange(600_000))
        shown, item = self.shown.get(user), f"i{rng.randrange(ITEMS + 2)}"
        fields: dict[str, Any] = {"value": float(rng.randrange(1, 6)), "attributes": {"likes": [f"c{k % 6}"]}}
        if shown is not None and shown.items and rng.random() < 0.7:
            fields["slate_id"], item = shown.slate_id, rng.choice(shown.items).item_id
        if EVENT_TYPES[kind].interaction:
            fields["item_id"] = item
        elif kind == "impression":
            fields["items"] = tuple(slot.item_id for slot in shown.items[:6]) if shown else ("i1", "i2")
        slate = self.take(msgspec.structs.replace(event, **fields))
        if slate is not None:
            self.shown[user] = msgspec.json.decode(slate, type=Slate)
        self.sent += 1

    def take(self, event: Event) -> bytes | None:
        answer = self.pipeline.take(event, Arrival(0, self.sent, 0, None))
        return None if answer is None else answer.slate

    def preview(self, name: str, rng: random.Random) -> bytes | None:
        """What a user would get; None where it is none."""
        before = len(self.written["previews"])
        assert self.take(imagined(name, "preview", self, rng)) is None
        return self.written["previews"][before] if len(self.written["previews"]) > before else None

    def start_again(self) -> None:
        """Go on from states alone."""
        behaviour, pipeline = self.pipeline.behaviour, self.pipeline
        pipeline.intake.session = Session(behaviour)
        pipeline.recommend = Recommend(behaviour, pipeline.index, popular_every=10**12)
        pipeline.recommend.popular(T0)

    def left(self) -> tuple[object, ...]:
        """All that is to be as it is without previews."""
        return self.written["slates"], self.written["predictions"], self.cached, self.pipeline.users


def imagined(name: str, kind: str, life: Life, rng: random.Random) -> Event:
    """A preview or a click: of one who came before or a stranger, now or a while off, at times from a slate."""
    user = f"u{rng.randrange(USERS + 1)}"
    shown = life.shown.get(user)
    slate_id = shown.slate_id if shown is not None and rng.random() < 0.5 else None
    ts = T0 + 240_000 * life.sent + rng.choice((0, 300_000, 10 * HOUR))
    return Event(name, kind, user, ts, f"i{rng.randrange(ITEMS + 2)}", slate_id=slate_id)


def lived(behaviour: Behaviour, seed: int, previews: Iterable[int], restarts: Iterable[int]) -> Life:
    """A life with so many previews before events of these numbers, that begins again before others."""
    life, rng, wanted, again = Life(behaviour, seed), random.Random(seed), [*previews], {*restarts}
    for k in range(EVENTS):
        if k in again:
            life.start_again()
        for number in range(wanted.count(k)):
            life.preview(f"p{k}-{number}", rng)
        life.step()
    return life


def assert_traceless(behaviour: Behaviour, seed: int, previews: Collection[int], restarts: Collection[int]) -> None:
    with_them, without = lived(behaviour, seed, previews, restarts), lived(behaviour, seed, (), restarts)
    assert with_them.left() == without.left()
    assert with_them.pipeline.learners_digest() == without.pipeline.learners_digest()
    assert len(without.written["slates"]) > 50 and len(without.cached) > 50
    told, nothing = len(with_them.written["previews"]), with_them.pipeline.tally.redelivered
    assert len(previews) == told + nothing - without.pipeline.tally.redelivered  # from before an erasure
    for user, state in without.pipeline.intake.states.items():
        assert but_ids(with_them.pipeline.intake.states[user]) == but_ids(state)


def test_all_is_byte_for_byte_what_it_is_without_previews_where_learners_are_pickled() -> None:
    assert_traceless(PICKLED, 1, [*range(0, EVENTS, 4)], (40, 80))


PLACES = st.lists(st.integers(0, EVENTS - 1), min_size=1, max_size=40)


@settings(max_examples=20, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(
    st.sampled_from([EXPLORING, UNSURE]),
    st.integers(0, 99),
    PLACES,
    st.lists(st.integers(1, EVENTS), max_size=4),
)
def test_all_is_byte_for_byte_what_it_is_without_previews(
    behaviour: Behaviour, seed: int, previews: list[int], restarts: list[int]
) -> None:
    assert_traceless(behaviour, seed, previews, restarts)


def but_ids(state: bytes) -> dict[str, Any]:
    """What SESSION keeps of a user, but the ids that came."""
    kept = msgspec.structs.asdict(decode_session(state))
    return {name: value for name, value in kept.items() if name not in ("hashes", "times")}


@settings(max_examples=30, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.sampled_from([EXPLORING, UNSURE]), st.integers(0, 99), st.integers(0, EVENTS), st.booleans())
def test_a_preview_is_byte_for_byte_the_slate_of_a_click_of_that_id_then(
    behaviour: Behaviour, seed: int, place: int, began_again: bool
) -> None:
    slates = []
    for kind in ("preview", "click"):
        life = Life(behaviour, seed)
        for _ in range(place):
            life.step()
        if began_again:
            life.start_again()
        rng = random.Random(seed)
        if kind == "preview":
            slates.append(life.preview("p", rng))
            assert life.written["slates"][-1:] != slates
        else:
            slates.append(life.take(imagined("p", "click", life, rng)))
    assert slates[0] == slates[1]
    assert slates[0] is None or json.loads(slates[0])["trigger"] == "p"


def events(*, with_previews: bool) -> Iterator[dict[str, Any]]:
    """Users who click, see lists and are erased, and what they would get for other clicks, asked for twice each."""
    for k in range(200):
        user, ts = f"u{k % 20}", T0 + 1_000 * k
        yield {"event_id": f"e{k}", "type": "click", "user_id": user, "ts": ts, "item_id": f"i{k % 7 * 4 + k % 4}"}
        if k % 5 == 0:
            shown = {"event_id": f"s{k}", "type": "impression", "user_id": user, "ts": ts + 1}
            yield shown | {"items": ["i1", "i6", "i2"]}
        if k % 41 == 0:
            yield {"event_id": f"g{k}", "type": "erase", "user_id": user, "ts": ts + 3}
        if with_previews and k % 7 == 0:
            # Half an hour ahead of all others: who went by its time would close lists, and find what follows late.
            asked = {"event_id": f"p{k}", "type": "preview", "user_id": user, "ts": ts + 1_800_000, "item_id": "i9"}
            yield asked
            yield asked


def replayed(folder: Path, *, with_previews: bool) -> tuple[bytes, bytes, list[dict[str, Any]]]:
    """The slates, the predictions, and the previews."""
    folder.mkdir()
    paths = {name: folder / f"{name}.jsonl" for name in ("events", "items", "slates", "predictions", "previews")}
    paths["items"].write_text(
        "".join(json.dumps({"item_id": f"i{k}", "ts": T0, "categories": [f"c{k % 4}"]}) + "\n" for k in range(40))
    )
    paths["events"].write_text("".join(json.dumps(each) + "\n" for each in events(with_previews=with_previews)))
    replay.run(config.load(None, {f"files.{name}": str(path) for name, path in paths.items()}))
    previews = [json.loads(line) for line in paths["previews"].read_text().splitlines()]
    return paths["slates"].read_bytes(), paths["predictions"].read_bytes(), previews


def test_previews_of_a_replay_are_the_same_on_any_number_of_cores_and_all_else_is_as_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "cores", lambda: [0])
    slates, predictions, none = replayed(tmp_path / "without", with_previews=False)
    assert none == [] and len(slates) > 100_000 and len(predictions) > 10_000
    made = {}
    for cores in (1, 3):
        monkeypatch.setattr(replay, "cores", lambda cores=cores: list(range(cores)))
        *same, made[cores] = replayed(tmp_path / str(cores), with_previews=True)
        assert same == [slates, predictions]
    assert made[1] == made[3]
    assert [slate["trigger"] for slate in made[1]] == [f"p{k}" for k in range(0, 200, 7)]
    assert all(slate["items"] and slate["strategy"] == "warm" for slate in made[1])
    versions = {line["trigger"]: line["version"] for line in map(json.loads, slates.splitlines())}
    assert [slate["version"] for slate in made[1] if slate["trigger"] != "p0"] == [
        1 + versions[f"e{k}"] for k in range(7, 200, 7) if k % 41
    ]
    assert made[1][0]["version"] == 1  # just erased


def test_of_a_stranger_or_one_who_was_erased_it_is_the_slate_of_a_first_click() -> None:
    slates = []
    for erased in (False, True):
        life = Life(ALONE)
        if erased:
            life.take(Event("e", "like", "u", T0, "i3"))
            life.take(Event("g", "erase", "u", T0 + 1))
        kept = dict(life.pipeline.users), dict(life.pipeline.intake.states)
        life.take(Event("p", "preview", "u", T0 + 2, "i7"))
        slates += life.written["previews"]
        assert life.pipeline.users == kept[0] == {}
        life.take(Event("p", "preview", "u", T0 + 2, "i7"))
        assert len(life.written["previews"]) == 1 and life.pipeline.tally.redelivered == 1
    first = Life(ALONE).take(Event("p", "click", "u", T0 + 2, "i7"))
    assert slates == [first, first]


def test_one_that_is_late_is_a_dead_letter() -> None:
    life = Life()
    for k in range(2):
        life.take(Event(f"e{k}", "click", "u", T0 + 9 * HOUR + k, "i3"))
    life.take(Event("p", "preview", "u", T0, "i7"))
    assert life.written["previews"] == [] and life.pipeline.tally.dead == {"late": 1}


def test_where_previews_go_nowhere_none_is_made() -> None:
    pipeline = Pipeline(PLAIN, {})
    answer = pipeline.take(Event("p", "preview", "u", 1, "i"), Arrival(0, 0, 0, None))
    assert answer is not None and (answer.preview, answer.slate, answer.state) == (None, None, None)


def test_a_preview_needs_an_item() -> None:
    refused = decode_event(b'{"event_id":"p","type":"preview","user_id":"u","ts":1}')
    assert refused == Reject("bad_field", "item_id: a preview needs one, none is there")
