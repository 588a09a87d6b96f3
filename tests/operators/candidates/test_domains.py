"""A slate that is asked for one domain holds items of it alone, whoever proposes them, and is as long as any other."""

import msgspec
import numpy as np
import pytest
from few_rows import ROW
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.candidates.context import context_of
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.candidates.sources import domain
from riverrank.operators.index.domains import ANY, MAX_DOMAINS, MAX_MASKS, NOWHERE, Domains
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour, DomainSettings, ExplorationSettings, RulesSettings, SlateSettings
from riverrank.state.messages import CatalogueUpdate, Seen
from riverrank.state.records.incoming import Item
from shop_pipeline import PLAIN, Shop, ids

DOMAIN = DomainSettings(attribute="brand")
OF_BRANDS = msgspec.structs.replace(PLAIN, domain=DOMAIN)


def brand(item: str) -> str:
    return f"b{int(item[1:]) % 4}"


def shop_of(behaviour: Behaviour = OF_BRANDS) -> Shop:
    """120 items of four brands, of which users take."""
    shop = Shop(behaviour, items=120)
    shop.crowd(events=8)
    return shop


@pytest.mark.parametrize("event", [("request",), ("click", "i2"), ("purchase", "i7")], ids=lambda event: event[0])
def test_a_slate_for_a_domain_is_of_its_items_alone_and_of_the_usual_size(event):
    shop = shop_of()
    shop.send("u", "click", "i1")
    for name in ("b0", "b1", "b2", "b3"):
        slate = shop.send("u", *event, context={"domain": name})
        assert {brand(item) for item in ids(slate)} == {name} and len(slate.items) == 20
    assert len({brand(item) for item in ids(shop.send("u", "request"))}) > 1


def test_what_is_tried_what_is_pinned_and_what_is_new_is_of_the_domain_too():
    behaviour = msgspec.structs.replace(
        OF_BRANDS,
        exploration=ExplorationSettings(rate=1.0),
        rules=RulesSettings(pin=("category=c1", "category=c2")),
    )
    shop = shop_of(behaviour)
    for k in range(200, 260):
        shop.item(f"i{k}", ts=5000, attributes={"brand": brand(f"i{k}")})
    sources: set[str] = set()
    for user in range(4):
        slate = shop.send(f"u{user}", "request", context={"domain": "b1"})
        assert {brand(item) for item in ids(slate)} == {"b1"} and len(slate.items) == 20
        sources |= {source for slot in slate.items for source in slot.sources}
        first = slate.items[0]  # that of c2 would be of another domain
        assert int(first.item_id[1:]) % 6 == 1 and first.reasons[0].code == "rule" != slate.items[1].reasons[0].code
    assert "new" in sources


def test_a_domain_that_no_item_is_in_has_an_empty_slate_and_one_that_is_all_hidden_brings_its_own_back():
    shop = shop_of(msgspec.structs.replace(OF_BRANDS, slate=SlateSettings(size=5)))
    assert ids(shop.send("u", "request", context={"domain": "toys"})) == []
    shop.item("toy", attributes={"brand": "toys"})
    for _ in range(2):
        assert ids(shop.send("u", "request", context={"domain": "toys"})) == ["toy"]
        shop.send("u", "purchase", "toy")
    shop.send("u", "purchase", "i1")
    assert ids(shop.send("u", "request", context={"domain": "toys"})) == ["toy"]  # rather than i1


def test_items_change_their_domain_and_leave_it():
    shop = shop_of()
    asked = {"domain": "b1"}
    assert "i1" in ids(shop.send("u", "click", "i5", context=asked))
    for change in ({"attributes": {"brand": "b2"}}, {"attributes": {"brand": "b1"}, "available": False}, {}):
        shop.item("i1", ts=9000 + shop.sent, **change)
        assert "i1" not in ids(shop.send("u", "click", "i5", context=asked))
    shop.item("i1", ts=9000 + shop.sent, attributes={"brand": "b1"})
    assert "i1" in ids(shop.send("u", "click", "i5", context=asked))


def test_a_domain_far_from_what_is_popular_has_a_slate_of_its_own_best():
    shop = shop_of(msgspec.structs.replace(OF_BRANDS, slate=SlateSettings(size=5, candidates=10)))
    for k in range(40):
        shop.item(f"r{k}", attributes={"brand": "rare"})
    for k in (3, 3, 3, 9, 9):
        shop.send(f"fan{shop.sent}", "click", f"r{k}")
    assert ids(shop.send("u", "request", context={"domain": "rare"}))[:2] == ["r3", "r9"]


@pytest.mark.parametrize("asked", [{"domain": "b1"}, {"domain": ""}, {"domain": ["b1"]}, {"domain": 1.5}])
def test_where_no_attribute_is_named_or_no_name_is_asked_for_nothing_is_left_out(asked):
    behaviour = PLAIN if asked == {"domain": "b1"} else OF_BRANDS
    slate = shop_of(behaviour).send("u", "request", context=asked)
    assert len({brand(item) for item in ids(slate)}) > 1


def test_without_an_attribute_there_is_no_feature_and_nothing_is_kept():
    index = shop_of(PLAIN).index
    plain, of_brands = (set(Retriever(behaviour, index).features.names) for behaviour in (PLAIN, OF_BRANDS))
    assert of_brands - plain == {"domain_last", "domain_share"} and plain < of_brands
    assert len(index.domains.of) == 0 and not index.domains._numbers


@pytest.fixture(scope="module")
def index() -> ItemIndex:
    """Eight items of four brands, and three of none."""
    index = ItemIndex(OF_BRANDS)
    for k in range(8):
        index.apply(CatalogueUpdate(Item(f"i{k}", 1, attributes={"brand": brand(f"i{k}")})))
    for k in range(8, 11):
        index.apply(CatalogueUpdate(Item(f"i{k}", 1)))
    return index


@given(st.lists(st.integers(0, 10), unique=True, max_size=6))
def test_the_last_domain_and_the_share_of_a_domain_are_features_of_those_names(index, history):
    retriever = Retriever(OF_BRANDS, index)
    asked = context_of(index, [Seen(f"i{k}", 1, 1.0) for k in history], {})
    found = retriever.find(asked, None)
    columns = dict(zip(retriever.features.names, found.features.T, strict=True))
    newest_first = [brand(f"i{k}") if k < 8 else None for k in reversed(history)]
    weights = [0.9**k / sum(0.9**h for h in range(len(history))) for k in range(len(history))]
    expected = {}
    for k in range(11):
        own = [k < 8 and brand(f"i{k}") == other for other in newest_first]
        share = sum(weight for weight, same in zip(weights, own, strict=True) if same)
        expected[f"i{k}"] = [float(own[:1] == [True]), share]
    names = [index.table.ids[row] for row in found.rows]
    assert set(names) == expected.keys()
    by_name = [expected[name] for name in names]
    assert columns["domain_last"].tolist() == [last for last, _ in by_name]
    assert columns["domain_share"] == pytest.approx([share for _, share in by_name], rel=1e-6)


def test_a_category_is_a_domain_too_by_the_first_an_item_has():
    shop = Shop(msgspec.structs.replace(PLAIN, domain=DomainSettings(attribute="category")))
    shop.item("both", ts=2, categories=("c7", "c1"))
    assert ids(shop.send("u", "request", context={"domain": "c7"})) == ["both"]
    assert "both" not in ids(shop.send("u", "request", context={"domain": "c1"}))


CHANGES = st.tuples(ROW, st.none() | st.sampled_from("abc"), st.booleans())


@given(st.lists(CHANGES, max_size=20), st.lists(CHANGES, max_size=20), st.sets(ROW))
def test_a_mask_that_is_kept_is_as_one_that_is_made(before, after, gone):
    domains, servable = Domains("x"), np.zeros(12, bool)
    domains.fit(12)
    for changes in (before, after):
        for row, name, may in changes:
            servable[row] = may
            domains.put(row, name, may)
        for number in (0, 1, NOWHERE):
            domains.mask(number, servable)
    servable[[*gone]] = False
    domains.release(np.array([*gone], np.int64))
    for number in (0, 1):
        assert domains.mask(number, servable).tolist() == (servable & (domains.of == number)).tolist()
    assert not domains.mask(NOWHERE, servable).any()


def test_domains_and_masks_are_bounded():
    domains, servable = Domains("x"), np.ones(2000, bool)
    domains.fit(2000)
    for k in range(2000):
        domains.put(k, f"n{k}", True)
    for k in range(2000):
        number = domains.asked({"domain": f"n{k}"})
        assert number == (k if k < MAX_DOMAINS else NOWHERE)
        assert domains.mask(number, servable).tolist().count(True) == (k < MAX_DOMAINS)
        assert len(domains._masks) <= MAX_MASKS
    assert domains.of[MAX_DOMAINS] == ANY == domains.asked({"domain": None}) == domains.asked(None)


@given(st.lists(ROW, max_size=6), st.lists(ROW, unique=True, max_size=5), st.lists(st.integers(-1, 2), min_size=12))
def test_the_share_of_a_domain_is_the_weight_of_the_history_in_it(rows, history, domains):
    weights, of = np.arange(1, 1 + len(history), dtype=np.float32) / 8, np.array(domains[:12], np.int16)
    scores = np.full((len(rows), 3), 99.0, np.float32)
    domain.share_in(np.array(rows, np.int32), np.array(history, np.int32), weights, of, scores, 1)
    expected = [sum(weights[h] for h, row in enumerate(history) if of[own] >= 0 and of[row] == of[own]) for own in rows]
    assert scores[:, 1].tolist() == expected and (scores[:, [0, 2]] == 99.0).all()


TWINS = {"domain.share_in": test_the_share_of_a_domain_is_the_weight_of_the_history_in_it}


def test_a_domain_is_named_by_a_text_or_a_whole_number():
    shop = Shop(msgspec.structs.replace(PLAIN, domain=DomainSettings(attribute="store")))
    for k, store in enumerate((16, 21, 16, 21, "16")):
        shop.item(f"s{k}", attributes={"store": store})
    for asked, there in ((16, {"s0", "s2", "s4"}), ("21", {"s1", "s3"}), (17, set())):
        assert {*ids(shop.send("u", "request", context={"domain": asked}))} == there


def test_a_domain_that_its_last_item_left_makes_room_for_another():
    domains = Domains("store")
    domains.fit(2)
    domains.put(0, "first", True)
    for k in range(3 * MAX_DOMAINS):
        domains.put(1, f"s{k}", True)
    last = {"domain": f"s{3 * MAX_DOMAINS - 1}"}
    assert domains.mask(domains.asked(last), np.ones(2, bool)).tolist() == [False, True]
    assert domains.asked({"domain": "s0"}) == NOWHERE != domains.asked({"domain": "first"})
    domains.release(np.array([1]))
    assert domains.asked(last) == NOWHERE
