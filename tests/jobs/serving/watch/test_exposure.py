"""What is counted of who gets shown and who is served well: as `evaluate` has it, by minute, bounded."""

import json
from math import log2

import numpy as np
import pytest
from riverrank.jobs.config.schema import parse
from riverrank.jobs.errors import UsageError
from riverrank.jobs.evaluation.exposure import Exposure as EvaluatedExposure
from riverrank.jobs.evaluation.exposure import Known
from riverrank.jobs.serving.groups import ROOM, ItemGroups, groups_of
from riverrank.jobs.serving.http.catalogue import Catalogue
from riverrank.jobs.serving.page.exposure import MOST_ROWS, Row, exposure_of, table_of
from riverrank.jobs.serving.watch.exposure import MOST_WAITING, Exposure
from riverrank.jobs.serving.watch.minutes import MINUTE_MS, MINUTES, ArmCounts
from riverrank.jobs.serving.watch.seen import Seen
from riverrank.operators.settings import RewardSettings
from riverrank.operators.slate.fairness.groups import MOST_GROUPS, told_apart
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import Cause, ModelInfo, Slate, Slot, to_json

NOW = 1_764_000_000_000
BRANDS = {"a": "Fox", "b": "Fox", "c": "Owl", "d": None}


def item(item_id: str, brand: str | None, **more: object) -> Item:
    return Item(item_id, 1, attributes={} if brand is None else {"brand": brand}, **more)  # type: ignore[arg-type]


def catalogue(
    brands: dict[str, str | None], *, floors: dict[str, float] | None = None, whole: bool = True
) -> Catalogue:
    made = Catalogue(10_000, ItemGroups(["brand"], floors))
    for item_id, brand in brands.items():
        made.take(item(item_id, brand))
    made.caught_up = whole
    return made


def rows(exposure: Exposure) -> dict[str, Row]:
    return {row.value: row for row in table_of(exposure.groups, exposure.between(0, NOW + MINUTE_MS), "brand").rows}


def test_shares_are_those_that_evaluate_tells_of_the_same_slates() -> None:
    made = Exposure(catalogue(BRANDS), RewardSettings())
    evaluated = EvaluatedExposure(["brand"], 1, lambda item_id: item_id in BRANDS)
    for item_id, brand in BRANDS.items():
        evaluated.item(item(item_id, brand))
    ids, known = [*BRANDS, "unlisted"], Known(NOW, np.zeros(5), 0)
    evaluated.enter(ids, NOW)
    for slate in ("abc", "cad", "d"):
        made.show(tuple(slate), NOW)
        evaluated.show(np.array([[ids.index(each) for each in slate]]), known)
    for item_id in "aac":
        made.take(Event("e", "click", "u", NOW, item_id), NOW)
        evaluated.take(ids.index(item_id), known)
    found = rows(made)
    wanted = {group.value: group for group in evaluated.of("brand", ["ours"])}
    assert set(found) == set(wanted) == {"Fox", "Owl", "none"}
    for value, group in wanted.items():
        assert found[value].exposure == pytest.approx(group.policies["ours"].share, abs=1e-5)
        assert found[value].items == pytest.approx(group.catalogue, abs=1e-5)
        assert found[value].feedback == pytest.approx(group.feedback, abs=1e-5)


def test_only_what_is_positive_is_feedback_and_what_no_catalogue_holds_has_no_value() -> None:
    made = Exposure(catalogue(BRANDS), RewardSettings())
    made.show(("unheard", "a"), NOW)
    events = [("dislike", "c", None), ("rate", "c", 1.0), ("rate", "a", 5.0), ("view", "a", None), ("click", "?", None)]
    for number, (kind, item_id, value) in enumerate(events):
        made.take(Event(f"e-{number}", kind, "u", NOW, item_id, value), NOW)
    made.take(Event("i", "impression", "u", NOW, items=("c",)), NOW)
    found = rows(made)
    assert found["none"].exposure == pytest.approx(1 / (1 + 1 / log2(3)))
    assert [found[value].feedback for value in ("Fox", "Owl", "none")] == pytest.approx([2 / 3, 0, 1 / 3])


def test_what_comes_before_the_catalogue_is_whole_is_counted_then_and_no_more_than_may_wait() -> None:
    held = catalogue(BRANDS, whole=False)
    made = Exposure(held, RewardSettings())
    for _ in range(MOST_WAITING + 500):
        made.show(("a", "c"), NOW)
    assert made.between(0, NOW).slates == 0
    held.caught_up = True
    assert made.between(0, NOW).slates == MOST_WAITING
    assert rows(made)["Fox"].exposure == pytest.approx(1 / (1 + 1 / log2(3)))


def test_minutes_go_out_of_the_ring_and_what_is_too_old_is_not_counted() -> None:
    made = Exposure(catalogue(BRANDS), RewardSettings())
    for minute in range(MINUTES + 5):
        made.show(("a",), NOW + minute * MINUTE_MS)
    made.show(("a",), NOW)
    last = NOW + (MINUTES + 4) * MINUTE_MS
    assert made.between(0, last).slates == MINUTES
    assert made.between(last - MINUTE_MS, last).slates == 2


def test_items_that_may_be_shown_are_counted_whatever_becomes_of_them() -> None:
    held = Catalogue(3, ItemGroups(["brand"]))
    assert held.groups is not None
    steps: list[tuple[Item, dict[str, int]]] = [
        (item("a", "Fox"), {"Fox": 1}),
        (item("a", "Owl"), {"Fox": 0, "Owl": 1}),
        (Item("a", 0, attributes={"brand": "old"}), {"Owl": 1}),
        (item("b", "Owl", available=False), {"Owl": 1}),
        (item("b", "Owl"), {"Owl": 2}),
        (Item("a", 2, deleted=True), {"Owl": 1}),
        (item("c", "Fox"), {"Owl": 1, "Fox": 1}),
        (item("d", "Fox"), {"Owl": 0, "Fox": 2}),
    ]
    for told, wanted in steps:
        held.take(told)
        values = held.groups.values("brand")
        found = {value: held.groups.counts[code] for code, value in enumerate(values)}
        assert {value: found[value] for value in wanted} == wanted, told
    assert held.groups.items == 2


def test_the_largest_have_a_row_those_with_a_floor_too_and_the_rest_are_together() -> None:
    brands: dict[str, str | None] = {f"i-{n}": f"b-{n:02d}" for n in range(40)}
    floors = {"brand=b-39": 0.1, "brand=Unborn": 0.2, "category=b-01": 0.3}
    made = Exposure(catalogue(brands, floors=floors), RewardSettings())
    for n in range(40):
        made.show(tuple(f"i-{k}" for k in range(n + 1)), NOW)
    table = table_of(made.groups, made.between(0, NOW), "brand")
    assert [row.value for row in table.rows[:MOST_ROWS]] == [f"b-{n:02d}" for n in range(MOST_ROWS)]
    assert [(row.value, row.floor) for row in table.rows[MOST_ROWS:]] == [
        ("b-39", 0.1),
        ("Unborn", 0.2),
        ("others (27 more)", None),
    ]
    assert sum(row.exposure for row in table.rows) == pytest.approx(1)
    assert sum(row.items for row in table.rows) == pytest.approx(1)
    assert {row.feedback for row in table.rows} == {None}
    assert [table.rows[-1].bar, table.rows[-1].mark] == pytest.approx(
        [100 * table.rows[-1].exposure / 0.675, 99.2], abs=0.01
    )


def test_values_and_room_are_bounded_whatever_comes() -> None:
    held = Catalogue(100, ItemGroups(["brand"]))
    made = Exposure(held, RewardSettings())
    held.caught_up = True
    before = made._exposed.nbytes + made._taken.nbytes
    for n in range(3 * MOST_GROUPS):
        held.take(item(f"i-{n}", f"\x1b<b>{n}"))
        made.show((f"i-{n}",) * 2_000, NOW + n * MINUTE_MS)
    assert held.groups is not None and len(held.groups.values("brand")) == len(held.groups.counts) == ROOM
    assert made._exposed.nbytes + made._taken.nbytes == before < 1_000_000
    given = made.between(0, NOW + 3 * MOST_GROUPS * MINUTE_MS)
    assert given.slates == MINUTES and given.exposed[1] == pytest.approx(given.exposure)


def test_groups_are_those_of_the_setting_else_those_of_floors() -> None:
    floors = {"floors": {"brand=Fox": 0.1, 'size="4"': 0.1, "brand=Owl": 0.2}}
    assert groups_of(parse({})) is None
    by_floors = groups_of(parse({"fairness": floors}))
    assert by_floors is not None and by_floors.names == ("brand", "size") and by_floors.floors["size=4"] == 0.1
    given = groups_of(parse({"fairness": floors, "serve": {"exposure": ["category"]}}))
    assert given is not None and given.names == ("category",)
    with pytest.raises(UsageError, match=r"serve\.exposure: expected a list of at most 8, each"):
        parse({"serve": {"exposure": [f"a{n}" for n in range(9)]}})


def test_cohorts_are_told_of_from_so_many_users_on_and_an_erasure_takes_its_user_out() -> None:
    seen = Seen(cohorts=["band"], least=2)
    for user, band in (("u1", "a"), ("u2", "a"), ("u3", "b"), ("u4", "c"), ("u5", "a"), ("idle", "a")):
        say(seen, user, "profile", attributes={"band": band})
        if user != "idle":
            say(seen, user, "impression", items=["x"], slate_id=f"{user}:1")
    say(seen, "u5", "profile", attributes={"band": "b"})
    say(seen, "u1", "click", item_id="x", slate_id="u1:1")
    for version, trigger in ((1, "none"), (2, "u3-click-None")):
        seen.slate(slate("u3", version, trigger), None, NOW)
    say(seen, "u3", "click", item_id="x")
    told = [(each.value, each.users, each.counts) for each in seen.cohorts()["band"]]
    assert told == [("b", 2, ArmCounts(shown=2, judged=1, hits=1)), ("other", 3, ArmCounts(shown=3, clicked=1))]
    say(seen, "u2", "erase")
    assert sum(each.users for each in seen.cohorts()["band"]) == 4


def say(seen: Seen, user: str, kind: str, **more: object) -> None:
    record = {"event_id": f"{user}-{kind}-{more.get('attributes')}", "type": kind, "user_id": user, "ts": NOW, **more}
    seen.event(json.dumps(record).encode(), NOW)


def slate(user: str, version: int, trigger: str) -> bytes:
    slots = (Slot("x", 1, 0.5, 1.0, ("new",), (Cause("new"),)),)
    return to_json(Slate(f"{user}:{version}", user, version, NOW, trigger, "warm", "a", ModelInfo(0, 0), slots))


def test_slates_and_events_that_come_again_are_counted_once() -> None:
    seen = Seen()
    assert exposure_of(seen, NOW, NOW).tables == ()
    seen.count_by(Exposure(catalogue(BRANDS), RewardSettings()))
    for _ in range(3):
        seen.slate(slate("u", 1, "none"), None, NOW)
        say(seen, "u", "click", item_id="a")
    (table,) = exposure_of(seen, NOW, NOW).tables
    assert (table.slates, table.interactions) == (1, 1)


def test_no_cohort_can_be_told_from_what_is_left() -> None:
    assert told_apart({"a": {1, 2, 3}, "b": {4, 5}}, 2) == (["a", "b"], [])
    assert told_apart({"a": {1, 2, 3}, "b": {4, 5}, "c": {6}}, 2) == (["a"], ["c", "b"])
    assert told_apart({"a": {1}, "b": {1}}, 2) == ([], [])
    assert told_apart({}, 2) == ([], [])
