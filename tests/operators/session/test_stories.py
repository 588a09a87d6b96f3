"""A click and the purchase after it are one story: what SESSION says of it, and what each learner makes of it."""

import numpy as np
import pytest
from learner_inputs import SPACE, shop
from made_feedbacks import SMALL, lists_of
from riverrank.operators.candidates.context import WARM, context_of
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.models.drift import HEAD
from riverrank.operators.models.ensemble import Ensemble
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour, HistorySettings, RankerSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.item_tables import NEGATIVES, POPULARITY, POSITIVES, RATINGS
from riverrank.state.learners import NetState, decode_learner
from riverrank.state.messages import Feedback, Seen, decode_feedback, encode
from riverrank.state.records.incoming import Event
from shop_pipeline import Shop

MINUTE = 60_000


def did(kind: str, minutes: int, item: str = "i", slate_id: str | None = None, value: float | None = None) -> Event:
    return Event(f"{kind}-{minutes}-{item}", kind, "u", minutes * MINUTE, item, value, slate_id=slate_id)


def fed(events: list[Event], behaviour: Behaviour = Behaviour()) -> list[Feedback]:  # noqa: B008 - frozen
    """What a session makes of one user's events."""
    session, state, feedbacks = Session(behaviour), None, []
    for event in events:
        accepted = session.accept(event, state)
        state = accepted.state
        feedbacks.append(accepted.feedback)
    return feedbacks


def dumped(ensemble: Ensemble) -> tuple[list, list, NetState]:
    weights, losses, net = ensemble.dump()
    return weights.tolist(), losses.tolist(), net


@pytest.mark.parametrize(
    ("events", "rewards"),
    [
        ([did("click", 1), did("click", 2, "other"), did("purchase", 29)], [0.0, 0.0, 1.0]),
        ([did("view", 1), did("cart", 20), did("purchase", 45)], [0.0, 0.3, 1.5]),
        ([did("click", 1), did("purchase", 40)], [0.0, 0.0]),  # too long after
        ([did("click", 1, slate_id="s"), did("purchase", 400, slate_id="s")], [0.0, 1.0]),  # but of the same slate
        ([did("click", 1, slate_id="s"), did("purchase", 400, slate_id="t")], [0.0, 0.0]),
        ([did("click", 1), did("click", 2)], [0.0, 0.0]),  # the same again is no further step
        ([did("purchase", 1), did("click", 2), did("purchase", 3)], [0.0, 0.0, 1.0]),  # looked at again, bought again
        ([did("click", 1), did("dislike", 2), did("purchase", 3)], [0.0, 0.0, 0.0]),  # the last word counts
        ([did("purchase", 1), did("rate", 2, value=5.0)], [0.0, 2.0]),
        ([did("purchase", 1), did("rate", 2, value=1.0)], [0.0, 0.0]),  # a refusal is a word of its own
        ([did("purchase", 5), did("click", 9), did("rate", 7, value=5.0)], [0.0, 0.0, 2.0]),  # by time
    ],
)
def test_a_further_step_with_an_item_goes_on_with_the_story(events: list[Event], rewards: list[float]) -> None:
    assert [feedback.story_reward for feedback in fed(events)] == rewards
    off = fed(events, Behaviour(history=HistorySettings(story=0)))
    assert [feedback.story_reward for feedback in off] == [0.0] * len(events)


def test_a_story_is_one_choice_and_gains_what_it_is_worth_more() -> None:
    clicked, bought, rated = fed([did("click", 1), did("purchase", 2), did("rate", 3, value=5.0)])
    assert [each.is_choice for each in (clicked, bought, rated)] == [True, False, False]
    assert [each.gain for each in (clicked, bought, rated)] == [1.0, 1.0, 0.0]
    assert decode_feedback(encode(bought)) == bought


def test_a_purchase_after_a_click_counts_as_one_like_of_a_purchases_reward_and_pairs_no_second_time():
    signals, session = Signals(SMALL, 0), Session(SMALL)
    state = None
    for number, (kind, item) in enumerate((("click", "a"), ("click", "b"), ("purchase", "b"), ("rate", "b"))):
        accepted = session.accept(Event(f"e{number}", kind, "u", number, item, 5.0 if kind == "rate" else None), state)
        state = accepted.state
        signals.learn(accepted.feedback)
    signals.settle()
    stats = signals.table.stats[signals.table.rows["b"]]
    assert (stats[POSITIVES], stats[NEGATIVES], stats[RATINGS]) == (1.0, 0.0, 1.0)
    assert stats[POPULARITY] == pytest.approx(2.0, rel=1e-3)
    assert lists_of(signals.table) == {"a": {"b": (1.0, 0.0)}, "b": {"a": (0.0, 1.0)}}
    assert len(signals.updates()[0].keys) == 2 * 4  # one of a, one of b


def test_a_purchase_after_a_click_raises_the_clicks_own_choice_and_is_no_second_one() -> None:
    index = shop()
    ranker, expected = Ranker(Behaviour(), index), Ensemble(RankerSettings().rate, SPACE.prior[WARM])
    ranker.stories = True  # else nothing was gone on with yet, and no choice is kept
    ranker.learn(Feedback(Event("e1", "click", "u", 1, "i0"), 1.0, ()))
    history = (Seen("i0", 1, 1.0),)
    found = Retriever(Behaviour(), index).find(context_of(index, history, {}, "u"), None)
    taken = int(found.positions(np.array([index.row("i4")]))[0])
    click = Feedback(Event("e2", "click", "u", 2, "i4"), 1.0, history)
    ranker.learn(click)
    expected.choose(found.features, taken, 1.0)
    assert dumped(ranker.models[WARM]) == dumped(expected) and ranker.reward == 1.0
    bought = Feedback(Event("e3", "purchase", "u", 3, "i4"), 2.0, click.history_after(), story_reward=1.0)
    ranker.learn(bought)
    assert (ranker.reward, ranker.rewarded) == (pytest.approx(1.5), 2)  # the mean of two choices
    expected.choose(found.features, taken, 2.0 / ranker.reward - 1.0 / ranker.reward)
    assert dumped(ranker.models[WARM]) == dumped(expected)
    ranker.learn(Feedback(Event("e4", "purchase", "u", 4, "i8"), 2.0, bought.history_after()))
    assert dumped(ranker.models[WARM]) != dumped(expected)  # what comes after is chosen from what there was then
    assert ranker.autoencoder.waits == 3  # choices


def test_a_further_step_with_an_item_teaches_the_learner_what_it_weighs_more_and_no_other_choice():
    shop = Shop()
    shop.crowd(events=2)

    def learned(user: str, kind: str, item: str) -> tuple[bytes, bytes, bytes]:
        shop.send(user, kind, item)
        state = decode_learner(shop.users[user])
        return state.weights, state.losses[:HEAD], state.token_weights

    shop.send("u", "request")
    clicked = learned("u", "click", "i1")
    assert learned("u", "purchase", "i1") == clicked  # a click is worth a whole preference
    shop.send("v", "request")
    viewed = learned("v", "view", "i1")
    after = learned("v", "click", "i1")
    assert after[:2] == viewed[:2]  # by content alone: what was served knows that it was taken
    told = [np.frombuffer(weights, "<f4") for weights in (viewed[2], after[2])]
    assert np.dot(*told) > 0 and np.linalg.norm(told[1]) > 2 * np.linalg.norm(told[0])  # .3, and then .7 more of it
