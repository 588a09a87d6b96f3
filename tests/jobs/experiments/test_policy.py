"""Another configuration, asked for the chance of what was logged: the job's own operators, over the same events."""

import re

import numpy as np
import pytest
from logged_shop import arrivals, behaviour, logged
from riverrank.jobs.experiments.estimate import FEW, estimate
from riverrank.jobs.experiments.items import ItemsInTime
from riverrank.jobs.experiments.log import SlateLog
from riverrank.jobs.experiments.policy import OtherPolicy
from riverrank.operators.flink.arrivals import event_of, item_of

HOUR = 3_600_000
NARROW = {"strength": 0.05}
FLOORS = {"floors": {"brand=Aldra": 0.2, "brand=Tarn": 0.1}}
NEVER_SURE = {"halved_after": 1_000_000}


@pytest.mark.parametrize(
    "sections",
    [
        {"exploration": {"rate": 0.3}},
        {"exploration": {"kind": "softmax", "rate": 0.3}, "diversity": {"novelty": 1.0}},
        {"exploration": {"kind": "thompson", "rate": 0.5}, "diversity": {"strength": 0.4}},
        {"exploration": {"rate": 0.3}, "diversity": {"category_cap": 2}, "rules": {"pin": ["category=tents"]}},
        {"exploration": {"rate": 0.0}},
        {"experiment": {"arms": {"bold": {"share": 0.5, "exploration.rate": 0.5, "slate.size": 7}}}},
        {"fairness": FLOORS, "exploration": {"rate": 0.3}, "diversity": {"category_cap": 2}},
        {"fairness": FLOORS, "exploration": {"kind": "softmax", "rate": 0.3}, "rules": {"pin": ["category=tents"]}},
        {"fairness": FLOORS, "exploration": {"kind": "thompson", "rate": 0.5}},
        {"experiment": {"arms": {"fair": {"share": 0.5, "fairness.floors": FLOORS["floors"]}}}},
    ],
    ids=lambda sections: next(iter(sections)),
)
def test_the_policy_that_was_logged_says_the_propensities_that_were(sections):
    own = behaviour(**sections)
    log = logged(own, own, 1, 4, customers=12)
    items = ItemsInTime([item_of(arrival, own) for arrival in arrivals(log.items)])
    policy, slates, compared = OtherPolicy(own, items), SlateLog(arrivals(log.slates)), 0
    events = ((arrival, event_of(arrival, own)) for arrival in arrivals(log.events))
    for _, slate, asked in policy.events(events, slates.answer_to, 20):
        if slate is not None:
            assert asked.chance == pytest.approx([slot.propensity for slot in slate.items], abs=2e-6)
            compared += 1
    assert compared == len(log.slates) > 40 and slates.unmatched == 0


def test_what_the_same_configuration_earns_is_what_was_earned():
    own = behaviour(exploration={"rate": 0.3})
    log = logged(own, own, 2, 6, customers=12)
    found = estimate(
        own, arrivals(log.items), arrivals(log.events), SlateLog(arrivals(log.slates)), HOUR, 10, seen=True
    )
    for figure in found.figures:
        earned = found.earned[figure.of].value
        assert earned > 0.0 and figure.sample == pytest.approx(found.slates, rel=1e-3)
        if "DR" not in figure.estimator:
            assert figure.earned.value == pytest.approx(earned, rel=1e-3)


def test_in_a_shop_intervals_hold_what_another_configuration_would_have_earned():
    """Whole runs: the slates that it makes at the same moments, by the shop's own chances of a click."""
    held, depth = [], 3
    for seed in range(4):
        own = behaviour(seed=seed, exploration={"kind": "softmax", "rate": 0.5, **NEVER_SURE})
        other = behaviour(seed=seed, exploration={"kind": "softmax", "rate": 0.4, **NEVER_SURE}, diversity=NARROW)
        log = logged(own, other, seed, 16)
        slates = SlateLog(arrivals(log.slates))
        found = estimate(other, arrivals(log.items), arrivals(log.events), slates, HOUR, depth, seen=True)
        true = {"first slot": log.other[:, 0].mean(), "slate": log.other[:, :depth].sum(axis=1).mean()}
        assert found.slates == len(log.other) and found.users == 40
        for figure in found.figures:
            low, high = figure.earned.once
            held.append(low <= true[figure.of] <= high)
            assert FEW < figure.sample < found.slates
    assert np.mean(held) >= 0.9, held


def test_where_the_log_cannot_tell_it_is_said():
    own, other = behaviour(exploration={"rate": 0.0}), behaviour(rules={"boost": {"category=tents": 5.0}})
    log = logged(own, other, 3, 4, customers=12)
    slates = SlateLog(arrivals(log.slates))
    told = " ".join(estimate(other, arrivals(log.items), arrivals(log.events), slates, HOUR, 10).warnings)
    assert "no chance in it, as by exploration.rate 0" in told and "the mean weight is" in told
    assert "effective sample size" in told and "with --seen only these count" in told


def test_slates_of_other_items_and_of_other_chances_are_told():
    own = behaviour(exploration={"kind": "softmax", "rate": 0.5, **NEVER_SURE})
    log = logged(own, own, 3, 6, customers=12)

    def warned(items: list[bytes], slates: list[bytes]) -> str:
        found = estimate(own, arrivals(items), arrivals(log.events), SlateLog(arrivals(slates)), HOUR, 3)
        return " ".join(found.warnings)

    assert warned(log.items, log.slates) == "impressions say which slates were seen: with --seen only these count"
    gone = [re.sub(rb'"ts":\d+', b'"ts":1,"available":false', line) for line in log.items]
    assert f"{len(log.slates)} of {len(log.slates)} slates would be empty" in warned(gone, log.slates)
    halved = [
        re.sub(rb'"propensity":([0-9.e-]+)', lambda p: b'"propensity":%r' % (float(p[1]) / 2), line)
        for line in log.slates
    ]
    assert "slates came more often than their propensities say" in warned(log.items, halved)
    never = [re.sub(rb'"propensity":[0-9.e-]+', b'"propensity":0', line) for line in log.slates]
    assert f"{len(log.slates)} records of the slates are no slates" in warned(log.items, never)


def test_what_went_after_the_slates_was_there_when_they_were_made():
    own = behaviour(exploration={"kind": "softmax", "rate": 0.5, **NEVER_SURE})
    log = logged(own, own, 3, 6, customers=12)
    last = max(int(re.search(rb'"ts":(\d+)', line)[1]) for line in log.events)
    gone = [b'{"item_id":"%s","ts":%d,"deleted":true}' % (line.split(b'"')[3], last + 1) for line in log.items]
    found, same = (
        estimate(own, arrivals(items), arrivals(log.events), SlateLog(arrivals(log.slates)), HOUR, 3)
        for items in ([*log.items, *gone], log.items)
    )
    assert found == same and found.weights["slate"].once == (1.0, 1.0)
