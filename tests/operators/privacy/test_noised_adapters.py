"""SIGNALS and RANKER with noise as Flink drives them, without Java: a crash changes nothing of what is told."""

import pytest
from adapters import CATALOGUE
from harness import Harness
from noised_shop import events, feedbacks, noised, updates
from riverrank.operators.flink.ranker import RankerFunction
from riverrank.operators.flink.signals import SignalsFunction
from riverrank.operators.privacy.blocks import noised as kernel
from riverrank.operators.privacy.budget import Accountant
from riverrank.operators.warm import warm
from riverrank.state.messages import Weights, decode_update, encode


def test_signals_tell_blocks_through_a_crash_and_what_they_cost():
    behaviour = noised()
    stream = feedbacks(events(650), behaviour)
    first = Harness(SignalsFunction(behaviour))
    for feedback in stream[:255]:
        first.element(encode(feedback), "0")
    second = first.restored(SignalsFunction(behaviour))
    for feedback in stream[255:]:
        second.element(encode(feedback), "0")
    second.advance(10 * behaviour.signals.flush_every)
    second.end_of_input()
    assert first.main + second.main == [*map(encode, updates(behaviour, stream))]
    assert second.metrics["riverrank.epsilon_thousandths"] == round(1000 * Accountant(behaviour.noise).spent(1).epsilon)


def test_the_ranker_steps_once_a_batch_is_whole_and_goes_on_from_there():
    behaviour = noised(batch=20)
    stream = feedbacks(events(130), behaviour)
    first = Harness(RankerFunction(behaviour, lambda: CATALOGUE))
    for feedback in stream[:70]:
        first.element(encode(feedback), "0")
    first.advance(10 * behaviour.ranker.flush_every)
    told = [decode_update(raw) for raw in first.main]
    assert [type(each) for each in told] == 3 * [Weights]
    assert [each.version for each in told] == [20, 40, 60]
    second = first.restored(RankerFunction(behaviour, lambda: ()))
    for feedback in stream[70:]:
        second.element(encode(feedback), "0")
    assert decode_update(second.main[0]).version == 80


def test_once_all_is_warm_nothing_is_compiled_between_events():
    before = len(kernel.signatures)
    assert warm(noised(3.0)) > 0
    compiled = len(kernel.signatures)
    assert compiled == 1 >= before
    updates(noised(), feedbacks(events(250), noised()))
    assert len(kernel.signatures) == compiled


@pytest.mark.parametrize("epsilon", [0.0, 8.0])
def test_the_choice_of_learner_follows_the_setting(epsilon):
    behaviour = noised(epsilon)
    harness = Harness(SignalsFunction(behaviour))
    for feedback in feedbacks(events(150), behaviour):
        harness.element(encode(feedback), "0")
    assert ("riverrank.epsilon_thousandths" in harness.metrics) is bool(epsilon)
