"""Lists of items for Redis: what is on them, which are made, how often, and with which versions."""

from typing import Any

import msgspec
import pytest
from riverrank.operators.catalogue.tokens import COHORT
from riverrank.operators.index.event_time_buffer import EventTimeBuffer
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.published import lists as lists_module
from riverrank.operators.published.lists import SIMILAR, TOGETHER, ItemLists, list_key
from riverrank.operators.settings import Behaviour, CatalogueSettings, CohortSettings, SlateSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import TRENDING, CacheWrite, CatalogueUpdate, Feedback, Seen
from riverrank.state.records.incoming import Event, Item

DAY = 86_400_000
NOW = 1_764_000_000_000
BEHAVIOUR = Behaviour(slate=SlateSettings(size=3), cohorts=CohortSettings(users=2))


class Shop:
    """An index over a journal, that hears of each click at once, and its lists: one for each answer unless said."""

    def __init__(self, per_answer: float = 1.0, behaviour: Behaviour = BEHAVIOUR, **more: Any) -> None:
        self.behaviour, self.per_answer, self.more = behaviour, per_answer, more
        self.signals, self.entries, self.now, self.clicks = Signals(behaviour, 0), DictEntries(), NOW, 0
        self.histories: dict[str, list[Seen]] = {}
        self.start()

    def start(self) -> None:
        """As a job does, with what its state holds."""
        self.buffer = EventTimeBuffer(self.behaviour, Journal(self.entries))
        self.index = self.buffer.index
        self.lists = ItemLists(self.index, self.per_answer, 2 * DAY, 10_000, lambda: self.now, **self.more)

    def item(self, item_id: str, ts: int = 1, **fields: Any) -> None:
        self.buffer.take(CatalogueUpdate(Item(item_id, ts, **fields)))

    def basket(self, user: str, *items: str, **fields: Any) -> None:
        """One user clicks on the items, one after another."""
        history = self.histories.setdefault(user, [])
        for item_id in items:
            self.clicks += 1
            event = Event(f"e{self.clicks}", "click", user, self.clicks, item_id, context=fields.get("context"))
            self.signals.learn(Feedback(event, 1.0, tuple(history), attributes=fields.get("attributes", {})))
            history.append(Seen(item_id, self.clicks, 1.0))
            for update in self.signals.updates():
                self.buffer.take(update)
        self.buffer.release(self.clicks + 1)

    def writes(self, answers: int = 100) -> list[CacheWrite]:
        return [write for _ in range(answers) for write in self.lists.after_answer()]

    def made(self, answers: int = 100) -> dict[str, list[str]]:
        """By key, the items of what is written."""
        return {write.key: ids(write) for write in self.writes(answers)}


def ids(write: CacheWrite) -> list[str]:
    return [slot["item_id"] for slot in json_of(write)["items"]]


def json_of(write: CacheWrite) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(write.slate or b"")
    return decoded


@pytest.fixture
def shop() -> Shop:
    return Shop()


def camp(shop: Shop) -> Shop:
    """Two tents and two stoves, of which two users each took a tent and a stove, and a lamp that one took twice."""
    for name, category in (("tent-1", "tents"), ("tent-2", "tents"), ("stove-1", "stoves"), ("stove-2", "stoves")):
        shop.item(name, categories=(category,))
    shop.item("lamp", categories=("lamps",))
    for user in ("u", "v"):
        shop.basket(user, "tent-1", "stove-1")
    shop.basket("w", "tent-2", "lamp", "tent-1", "lamp")
    return shop


def test_similar_is_what_is_like_it_and_together_what_is_taken_with_it(shop: Shop) -> None:
    camp(shop)
    made = {write.key: write for write in shop.writes()}
    assert ids(made["similar:tent-1"]) == ["tent-2"] and ids(made["similar:stove-2"]) == ["stove-1"]
    assert ids(made["together:tent-1"]) == ["stove-1"] and ids(made["together:stove-1"]) == ["tent-1"]
    assert all(write.made == NOW and write.epoch == 0 for write in made.values())
    assert json_of(made["together:tent-1"]) == {
        "key": "together", "item_id": "tent-1", "version": 9, "ts": 8,
        "items": [{"item_id": "stove-1", "rank": 1, "score": json_of(made["together:tent-1"])["items"][0]["score"]}],
    }  # fmt: skip
    assert 0.2 < json_of(made["together:tent-1"])["items"][0]["score"] < 0.8
    assert made["together:tent-1"].version == 9 == shop.index.events + 1


def test_what_one_user_alone_took_together_is_on_no_list(shop: Shop) -> None:
    for _ in range(4):
        shop.basket("w", "diary", "pills")
    shop.basket("x", "diary", "soap")
    assert not [key for key in shop.made() if key.startswith(TOGETHER)], "pills and soap were taken by one user each"
    for user in ("a", "b"):
        shop.basket(user, "diary", "soap")
    assert shop.made()["together:diary"] == ["soap"]


def test_no_list_is_of_a_cohort_or_names_one(shop: Shop) -> None:
    for user in "abcde":
        fields = {"attributes": {"age": "25-34"}, "context": {"device": "tv"}}
        shop.basket(user, "tent", "stove", **fields)
    assert any(name.startswith(COHORT) for name in shop.index.table.ids)
    made = shop.made()
    assert made["together:tent"] == ["stove"]
    assert not [name for key, listed in made.items() for name in (key, *listed) if COHORT in name]


def test_of_items_that_changed_each_is_made_once_and_what_says_the_same_is_not_written(shop: Shop) -> None:
    camp(shop)
    assert len(shop.writes()) == 6
    assert shop.writes() == []
    shop.basket("y", "tent-1", "stove-1")  # nothing new
    assert shop.writes() == []
    shop.basket("y", "tent-1", "lamp")
    shop.basket("z", "tent-1", "lamp")
    assert shop.made() == {"together:tent-1": ["lamp", "stove-1"], "together:lamp": ["tent-1"]}


def test_the_setting_says_how_many_lists_are_made_for_each_answer() -> None:
    for per_answer, made in ((0.25, [0, 0, 0, 1] * 3), (3.0, [3])):
        shop = camp(Shop(per_answer))
        shop.item("tent-3", categories=("tents",))
        assert [len(shop.lists.after_answer()) for _ in made] == made
    none = camp(Shop(0.0))
    assert none.writes() == [] == list(none.lists.after_update(9, last=True))
    assert not len(none.index.changed.likeness), "and nothing is noted for it"


def test_what_went_is_on_no_list_that_is_made_and_its_own_lists_expire(shop: Shop) -> None:
    camp(shop)
    shop.item("tent-3", categories=("tents",))
    assert shop.made()["similar:tent-1"] == ["tent-2", "tent-3"]
    shop.item("tent-2", ts=2, available=False)
    shop.item("stove-1", ts=2, deleted=True)
    shop.now += DAY + 2_000  # all is renewed
    shop.basket("n", "nothing")
    made = shop.made()
    assert made["similar:tent-1"] == ["tent-3"] and made["together:tent-1"] == []
    assert not {"similar:tent-2", "similar:stove-1", "together:stove-1"} & made.keys()
    shop.item("tent-2", ts=3, categories=("tents",))
    shop.basket("n", "nothing")
    assert shop.made()["similar:tent-2"] == ["tent-1", "tent-3"]


def test_versions_only_grow_over_a_restart_too_and_no_version_is_written_twice(shop: Shop) -> None:
    camp(shop)
    before = {write.key: write.version for write in shop.writes()}
    shop.item("tent-1", ts=2, categories=("stoves", "tents"))
    assert shop.made().keys() == set(), "what Redis would not take waits for the next version"
    shop.basket("n", "nothing")
    changed = {write.key: write for write in shop.writes()}
    assert ids(changed["similar:tent-1"]) == ["stove-1", "tent-2", "stove-2"]
    shop.start()
    shop.basket("n", "nothing")
    after = {write.key: write.version for write in shop.writes()}
    assert after.keys() >= before.keys(), "what is known of no instance is written anew"
    assert all(after[key] > version for key, version in before.items())
    assert all(after[key] > write.version for key, write in changed.items())


def test_subtasks_share_the_items() -> None:
    shops = [camp(Shop(subtask=(part, 3))) for part in range(3)]
    made = [shop.made().keys() for shop in shops]
    assert sorted(key for keys in made for key in keys) == sorted(camp(Shop()).made())
    assert all(len(keys) < 6 for keys in made)


def test_ids_of_any_kind_are_json_and_keys_as_they_are(shop: Shop) -> None:
    names = ['"]}', "<script>alert(1)</script>", "\x1b[31m\r\n\x00", "\u202e\U0001f600" * 9, "{slot}:*?"]
    for name in names:
        shop.item(name, categories=("c",))
    made = {write.key: write for write in shop.writes()}
    assert made.keys() == {list_key(SIMILAR, name) for name in names}
    for name in names:
        listed = json_of(made[list_key(SIMILAR, name)])
        assert listed["item_id"] == name and {slot["item_id"] for slot in listed["items"]} < set(names) - {name}
        assert [slot["rank"] for slot in listed["items"]] == [1, 2, 3]


def test_rows_that_may_be_other_items_are_made_anew() -> None:
    behaviour = msgspec.structs.replace(BEHAVIOUR, catalogue=CatalogueSettings(items=3))
    shop = Shop(behaviour=behaviour)
    for number in range(3):
        shop.item(f"a{number}", categories=("c",))
    assert shop.made().keys() == {f"similar:a{number}" for number in range(3)}
    for number in range(3):
        shop.item(f"b{number}", categories=("c",))
    made = shop.made()
    held = set(shop.index.table.rows)
    assert shop.index.releases and "b2" in held and made.keys() == {f"similar:{name}" for name in held}
    assert all(set(listed) <= held for listed in made.values())


def test_what_trends_is_made_once_in_an_interval_and_says_its_share_of_the_first(shop: Shop) -> None:
    assert list(shop.lists.after_update(0)) == []
    camp(shop)
    (trending,) = shop.lists.after_update(8)
    assert (trending.key, trending.version, trending.made) == (TRENDING, 9, 0)
    told = json_of(trending)
    assert (told["key"], "item_id" in told, told["ts"], told["items"][0]["score"]) == (TRENDING, False, 8, 1.0)
    assert ids(trending) == ["tent-1", "stove-1"], "what one user took is not told"
    shop.basket("n", "nothing")
    assert list(shop.lists.after_update(9)) == []
    assert [write.key for write in shop.lists.after_update(10_008)] == [TRENDING]


def test_at_the_end_what_is_left_is_made_up_to_a_bound(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    camp(shop)
    monkeypatch.setattr(lists_module, "AT_THE_END", 4)
    first = [write.key for write in shop.lists.after_update(8, last=True)]
    monkeypatch.setattr(lists_module, "AT_THE_END", 100)
    rest = [write.key for write in shop.lists.after_update(8, last=True)]
    assert first[0] == TRENDING and len(first) <= 5 and TRENDING not in rest
    assert {*first, *rest} == {TRENDING, *camp(Shop()).made()}


def test_lists_are_counted_by_name(shop: Shop) -> None:
    camp(shop)
    made = shop.writes()
    counted = {value: number for name, value, number in shop.lists.counts.take() if name == "lists"}
    assert counted == {name: sum(write.key.startswith(name) for write in made) for name in (SIMILAR, TOGETHER)}


def test_an_index_that_nobody_publishes_from_notes_nothing() -> None:
    index = ItemIndex(BEHAVIOUR)
    index.apply(CatalogueUpdate(Item("i", 1)))
    assert not len(index.changed.neighbours)


def test_what_is_kept_of_lists_is_42_bytes_for_each_row_of_the_index(shop: Shop) -> None:
    for number in range(600):
        shop.item(f"i{number}", categories=("c",))
    assert shop.writes(1)
    kept = [shop.lists._stamps, shop.index.changed.neighbours, shop.index.changed.likeness]
    for turns in shop.lists._turns.values():
        kept += [turns._version, turns._second, turns._said]
    assert sum(array.nbytes for array in kept) == 42 * shop.index.table.capacity
