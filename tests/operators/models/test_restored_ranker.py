"""A ranker goes on from its journal, as it last told, whatever the index came to know meanwhile; and forgets users."""

import pytest
from learner_inputs import shop
from riverrank.operators.candidates.context import WARM
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour, EmbeddingSettings, RankerSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.learners import RANKER
from riverrank.state.messages import Feedback, Seen, decode_update
from riverrank.state.records.incoming import Event


@pytest.mark.parametrize("limit", [5, 100])
def test_restored_ranker_goes_on_as_if_nothing_had_happened_though_the_index_knows_what_did(limit):
    """The index that it is restored over was told of things since: nothing of before is learned again."""
    behaviour = Behaviour(ranker=RankerSettings(flush_events=1))
    index, entries, signals = shop(), DictEntries(), Signals(behaviour, 0)
    first = Ranker.restore(behaviour, index, Journal(entries, limit))
    users = [f"u{k // 2}" for k in range(60)]  # nobody is half way through a choice at a restart
    feedbacks = [
        Feedback(
            Event(f"e{k}", "click", user, k, f"i{k % 3 * 4 + k % 2}"), 1.0 + k % 2, (Seen("i3", 0, 1.0),) * (k % 2)
        )
        for k, user in enumerate(users)
    ]
    for feedback in feedbacks[:34]:
        first.learn(feedback)
        assert first.due() and first.flush()
    told = RANKER.encode(first._state(alone=True))
    untold = Ranker.restore(behaviour, index, Journal(DictEntries(entries), limit))
    for feedback in feedbacks[34:38]:  # in the log, and not told of yet
        untold.learn(feedback)
    assert RANKER.encode(untold._state(alone=True)) != told
    again = Ranker.restore(behaviour, index, Journal(untold.journal.entries, limit))
    again.version -= 4
    assert RANKER.encode(again._state(alone=True)) == told
    assert any(key.startswith("log:") for key in entries)
    for feedback in feedbacks[:34]:
        signals.learn(feedback)
    for update in signals.flush():
        index.apply(decode_update(update))
    second = Ranker.restore(behaviour, index, Journal(DictEntries(entries), limit))
    kept = [model.net.count for model in second.models]
    assert all(0 <= model.net.count - count <= limit for model, count in zip(first.models, kept, strict=True))
    for model, count in zip(first.models, kept, strict=True):
        model.net.count = count  # it keeps those that came since
    for feedback in feedbacks[34:]:
        assert RANKER.encode(first._state(alone=True)) == RANKER.encode(second._state(alone=True))
        first.learn(feedback)
        second.learn(feedback)
    assert (second.version, second.rewarded, second.reward) == (60, 60, pytest.approx(1.5))


def test_a_ranker_of_a_version_that_wrote_the_log_alone_learns_it_again():
    index, entries = shop(), DictEntries()
    whole = Ranker.restore(Behaviour(), index, Journal(entries))
    for k in range(30):
        event = Event(f"e{k}", "click", "u", k, f"i{k % 40}")
        whole.learn(Feedback(event, 1.0, (Seen("i3", 0, 1.0),) if k else ()))
        whole.flush()
    del entries["latest"]
    again = Ranker.restore(Behaviour(), index, Journal(entries))
    assert again.models[WARM].net.steps == whole.models[WARM].net.steps > 20
    assert (again.version, again.rewarded) == (30, 30)


def test_once_a_user_is_erased_neither_journal_nor_memory_knows_them() -> None:
    """What was learned from the user's choices stays, as it is no longer theirs alone; who comes back begins anew."""
    index, entries = shop(), DictEntries()
    ranker = Ranker.restore(Behaviour(), index, Journal(entries))
    for k in range(12):
        event = Event(f"e{k}", "click", ("u", "canary")[k % 2], k, f"i{k % 40}")
        ranker.learn(Feedback(event, 1.0, (Seen("i3", 0, 1.0),)))
        shown = Event(f"s{k}", "impression", event.user_id, k, items=("i1", "i2"))
        ranker.learn(Feedback(shown, 0.0, (Seen("i3", 0, 1.0),)))
        ranker.flush()
    assert any(b"canary" in value for value in entries.values())
    goes_on = Event("buys", "purchase", "canary", 20, "i11")
    ranker.learn(Feedback(goes_on, 2.0, (Seen("i3", 0, 1.0), Seen("i11", 11, 1.0)), story_reward=1.0))
    ranker.learn(Feedback(Event("likes", "click", "canary", 21, "i2"), 1.0, (Seen("i3", 0, 1.0),)))
    assert "canary" in ranker.chosen._by_user and ranker.flush()
    learned, version = ranker.models[WARM].weights.copy(), ranker.version
    ranker.learn(Feedback(Event("gone", "erase", "canary", 100), 0.0, (), epoch=100))
    half_way = Ranker.restore(Behaviour(), index, Journal(restored := DictEntries(entries)))
    for each, kept in ((ranker, entries), (half_way, restored)):
        assert each.flush() and kept and not any(b"canary" in value for value in kept.values())
        assert not each.flush()
    assert "canary" not in {*ranker.served._by_user, *ranker.chosen._by_user} and "u" in ranker.served._by_user
    assert {user for user, _ in ranker.shown._lists} == {"u"}
    again = Ranker.restore(Behaviour(), index, Journal(DictEntries(entries)))
    assert again.version == ranker.version == version
    assert (again.models[WARM].weights == learned).all()
    steps = ranker.models[WARM].net.steps
    ranker.learn(Feedback(Event("back", "click", "canary", 101, "i4"), 1.0, (Seen("i3", 101, 1.0),), epoch=100))
    assert ranker.models[WARM].net.steps == steps  # from what was served before, nothing is chosen


def test_the_ranker_hears_of_each_erasure_and_it_is_no_feedback_to_be_counted():
    session = Session(Behaviour(embedding=EmbeddingSettings(warmup_events=1, sample=0.0)))
    taken, gone = Feedback(Event("e", "click", "u", 1, "i"), 1.0, ()), Feedback(Event("gone", "erase", "u", 2), 0.0, ())
    assert session.draw_sample(gone) and session.sent == 0
    assert session.draw_sample(taken) and not session.draw_sample(taken)
    assert session.draw_sample(gone) and session.sent == 2
