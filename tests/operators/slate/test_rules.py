"""Rules by attribute: what they do to slates, what they leave alone, and what is refused."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.jobs.config.schema import parse
from riverrank.jobs.errors import UsageError
from riverrank.operators.catalogue.tokens import MAX_TOKENS, token_of
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.learner import LinearLearner
from riverrank.operators.settings import Behaviour, ExplorationSettings, RulesSettings
from riverrank.operators.slate.rules import Rules, add_amounts, categories, pin, strongest_token
from riverrank.state.learners import decode_learner, encode_learner
from riverrank.state.messages import CatalogueUpdate
from riverrank.state.records.incoming import Item
from riverrank.state.records.outgoing import Slate
from shop_pipeline import PLAIN, Shop, ids


def shop(items: int = 60, behaviour: Behaviour = PLAIN, **rules) -> Shop:
    """Items i0, i1, ... of category c0 to c5 and brand b0 to b3 in turn, after a crowd's clicks."""
    made = Shop(msgspec.structs.replace(behaviour, rules=RulesSettings(**rules)), items)
    made.crowd(events=4)
    return made


def added(rules: Rules, rows: Sequence[int]) -> np.ndarray:
    return rules.add_to(np.zeros(len(rows)), np.array(rows, np.int32))


def of_brand(slate, brand: int) -> list[int]:
    return [slot.rank for slot in slate.items if int(slot.item_id[1:]) % 4 == brand]


def test_what_is_excluded_is_on_no_slate():
    made = shop(exclude=("brand=b1", "category=c2"))
    popular = msgspec.json.decode(made.recommend.popular(0).slate, type=Slate)
    for slate in (made.send("u", "request"), made.send("u", "click", "i1"), made.send("u", "click", "i2"), popular):
        numbers = [int(item[1:]) for item in ids(slate)]
        assert len(numbers) == 20 and all(n % 4 != 1 and n % 6 != 2 for n in numbers)


def test_boosts_raise_and_burials_lower():
    plain, raised, lowered = (
        made.send("u", "click", "i1")
        for made in (shop(), shop(boost={"brand=b2": 2.0}), shop(bury={"brand=b2": 2.0, "brand=b9": 1.0}))
    )
    assert sum(of_brand(raised, 2)[:3]) < sum(of_brand(plain, 2)[:3]) < sum((of_brand(lowered, 2) + [99] * 3)[:3])


def test_amounts_of_several_rules_add_up():
    index = ItemIndex(Behaviour())
    index.apply(CatalogueUpdate(Item("i", 1, categories=("a", "b"), attributes={"brand": "x"})))
    rules = Rules(
        RulesSettings(boost={"category=a": 0.5, "brand=x": 0.9}, bury={"category=b": 0.25, "brand=x": 0.5}), index
    )
    index.apply(CatalogueUpdate(Item("j", 1, categories=("b",))))
    logits = np.array([1.0, 2.0])
    assert rules.add_to(logits, np.array([0, 1], np.int32)).tolist() == pytest.approx([0.65, -0.25])
    assert logits.tolist() == pytest.approx([1.65, 1.75])
    amounts, numbers = rules.by_token
    strongest = [strongest_token(index.tokens, row, amounts) for row in (0, 1)]
    assert [rules.tokens[numbers[token]] for token in strongest] == ["category=a", "category=b"]


def test_tokens_that_come_later_are_known_as_well():
    index = ItemIndex(Behaviour())
    rules = Rules(RulesSettings(boost={"category=late": 1.0}), index)
    for k in range(50):
        index.apply(CatalogueUpdate(Item(f"i{k}", 1, categories=(f"c{k}",))))
        assert added(rules, [k]).tolist() == [0.0]
    index.apply(CatalogueUpdate(Item("late", 1, categories=("late",), attributes={"brand": "last"})))
    assert added(rules, range(51)).tolist() == [0.0] * 50 + [1.0]
    categories = rules.categories(np.array([50], np.int32))
    assert categories[0].tolist() == [index.token_numbers["category=late"]] + [-1] * (MAX_TOKENS - 1)


def test_rules_hold_for_tokens_that_got_other_numbers():
    index = ItemIndex(Behaviour())
    rules = Rules(RulesSettings(boost={"category=c": 1.0, "sku=x3": 0.5, "sku=x3000": 2.0}), index)
    for k in range(3000):
        index.apply(CatalogueUpdate(Item("i", k, attributes={"sku": f"x{k}"})))
        assert added(rules, [0]).tolist() == [0.5 * (k == 3)] and (rules.categories(np.array([0])) == -1).all()
    index.apply(CatalogueUpdate(Item("i", 3000, categories=("c",), attributes={"sku": "x3000"})))
    assert index.vocabulary.releases > 1 and added(rules, [0]).tolist() == [3.0]
    assert rules.categories(np.array([0]))[0, 0] == index.token_numbers["category=c"]


def test_no_rules_say_nothing_and_look_at_no_token():
    index = ItemIndex(Behaviour())
    index.apply(CatalogueUpdate(Item("i", 1, categories=("a",))))
    rules = Rules(RulesSettings(), index)
    assert added(rules, [0]).tolist() == [0.0] and rules.pinnable(None, rules.index.servable) is None
    assert rules.pins(np.zeros(1, np.int32), np.zeros(1)).positions.tolist() == []
    assert [len(array) for array in rules.by_token] == [0, 0]


@given(st.integers(0, 10_000))
def test_kernels_find_in_tokens_what_a_plain_reading_does(seed):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(-1, 9, (12, 5)).astype(np.int32)
    rows, logits = rng.permutation(12)[:7].astype(np.int32), rng.integers(0, 4, 7).astype(float)
    amounts, is_category = rng.normal(size=9) * (rng.random(9) < 0.5), rng.random(9) < 0.5
    held = [[token for token in tokens[row].tolist() if token >= 0] for row in rows]

    raised, said = logits.copy(), np.zeros(7)
    add_amounts(tokens, rows, amounts, raised, said)
    assert said == pytest.approx([sum(amounts[token] for token in each) for each in held])
    assert raised == pytest.approx(logits + said)
    for row, each in zip(rows, held, strict=True):
        strongest = max(each, key=lambda token: abs(amounts[token]), default=-1)
        assert strongest_token(tokens, row, amounts) == strongest
    found = categories(tokens, rows, is_category)
    assert [[t for t in each if is_category[t]] for each in held] == [[t for t in each if t >= 0] for each in found]
    wanted, pinned = rng.integers(0, 9, 4).astype(np.int32), []
    for token in wanted:
        fit = [c for c in range(7) if token in held[c] and c not in pinned]
        pinned.append(max(fit, key=lambda c: logits[c], default=-1))
    assert pin(tokens, rows, logits, wanted).tolist() == pinned


def test_a_pin_stands_first_with_propensity_1_even_if_no_source_proposed_it():
    made = shop(items=400, pin=("campaign=summer", "brand=b3"))
    made.item("sun", categories=("garden",), attributes={"campaign": "summer"})
    for k in range(300):
        made.item(f"newer{k}", ts=10**9 + k)  # so that `sun` is not among the newest
    for user in ("u", "v"):
        slate = made.send(user, "request" if user == "u" else "click", "i1")
        first, second = slate.items[:2]
        assert (first.item_id, first.propensity, first.sources) == ("sun", 1.0, ("rule",))
        assert (first.reasons[0].code, first.reasons[0].value) == ("rule", "campaign=summer")
        assert int(second.item_id[1:]) % 4 == 3 and second.propensity == 1.0
    assert "sun" not in ids(made.send("w", "purchase", "sun")) and "sun" not in ids(made.send("w", "request"))


def test_a_pin_that_nothing_has_pins_nothing():
    assert ids(shop(pin=("campaign=none",)).send("u", "click", "i1")) == ids(shop().send("u", "click", "i1"))


def test_rules_teach_nothing_by_themselves():
    """After the same clicks, what is kept of a user but for slates is the same to the byte with rules and without."""
    states = []
    for rules in ({}, {"pin": ("brand=b1",), "boost": {"brand=b2": 3.0}, "bury": {"category=c1": 1.0}}):
        made = shop(**rules)
        for k in (1, 8, 15, 22):
            made.send("u", "click", f"i{k}")
        state = decode_learner(made.users["u"])
        assert state.memory["n_iterations"] > 0
        state.slates = b""
        states.append(encode_learner(state))
    assert states[0] == states[1]


def test_a_pin_that_was_shown_and_passed_over_is_learned_from_as_any_other(monkeypatch):
    """Where a click names its slate, what stood above it was passed over, whoever put it there."""
    made, taught, prefer = shop(pin=("brand=b3",)), [], LinearLearner.prefer
    slate = made.send("u", "click", "i1")

    def noted(self, inputs, *args, **named):
        taught.append([inputs.index.table.ids[row] for row in inputs.rows[inputs.picks].tolist()])
        prefer(self, inputs, *args, **named)

    monkeypatch.setattr(LinearLearner, "prefer", noted)
    made.send("u", "click", slate.items[1].item_id, slate_id=slate.slate_id)
    assert of_brand(slate, 3)[0] == slate.items[0].rank
    assert taught[0] == [slate.items[1].item_id, slate.items[0].item_id]


def test_where_all_that_may_be_served_is_pinned_nothing_is_left_to_explore():
    for kind in ("epsilon", "softmax", "thompson"):
        behaviour = msgspec.structs.replace(PLAIN, exploration=ExplorationSettings(kind, rate=0.5))
        made = Shop(msgspec.structs.replace(behaviour, rules=RulesSettings(pin=("brand=b0",))), items=1)
        slate = made.send("u", "request")
        assert [(slot.item_id, slot.propensity) for slot in slate.items] == [("i0", 1.0)]


@pytest.mark.parametrize(
    ("rule", "token"),
    [
        ("category=horror", "category=horror"),
        ("category=7", "category=7"),
        ("brand=A=B", "brand=A=B"),
        ("year=1980~", "year=1980~"),
        ('size="42"', "size=42"),
        ("sale=true", "sale=True"),
        ('sale="true"', "sale=true"),
    ],
)
def test_a_rule_names_the_token_that_items_have(rule, token):
    assert token_of(rule) == token


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (
            {"exclude": ["horror"]},
            'rules.exclude: "horror" is no attribute with its value: expected such as "category=',
        ),
        ({"boost": {"=x": 1.0}}, 'rules.boost: "=x" is no attribute with its value'),
        ({"pin": ["year=1979"]}, 'write "year=1980~" for the one that holds 1979'),
        ({"bury": {"price=9.9": 1.0}}, 'write "price=8~" for the one that holds 9.9'),
        ({"boost": {"brand=x": -1.0}}, "rules.boost: expected a table, each value a number above 0 and at most 100"),
        ({"boost": {"brand=x": "much"}}, "rules.boost: expected a table, each value a number"),
        ({"exclude": [3]}, "rules.exclude: expected a list, each a text"),
        ({"exclude": "brand=x"}, "rules.exclude: expected a list, each a text"),
        ({"exclud": ["brand=x"]}, "rules.exclud: no such key; the nearest is rules.exclude"),
    ],
)
def test_a_rule_that_nothing_could_meet_is_refused_with_the_mend(rules, told):
    with pytest.raises(UsageError) as raised:
        parse({"rules": rules})
    assert told in str(raised.value)
