"""SESSION: what an erasure takes, and what stays away after it."""

import pytest
from feeding import HOUR, click, feed
from riverrank.state.messages import History
from riverrank.state.records.incoming import Event
from riverrank.state.sessions import decode_session


def test_erasure_leaves_nothing_but_its_own_mark():
    erase = Event("x", "erase", "u", 3000)
    profile = Event("p", "profile", "u", 1000, attributes={"likes": ["drama"]})
    fed = feed([profile, click(1, 2000), erase])
    state = decode_session(fed.state)
    assert (list(state.history), state.attributes, state.impressions, state.newest) == ([], {}, [], -1)
    assert len(state.hashes) == len(state.times) == 8
    assert fed.feedbacks[-1].epoch == 3000


def test_after_an_erasure_old_events_stay_away_and_new_ones_begin_afresh():
    erase = Event("x", "erase", "u", 3000)
    fed = feed([click(1, 2000), erase, erase, click(1, 2000), click(2, 4000)])
    assert [f.event.event_id for f in fed.feedbacks] == ["e-1", "x", "e-2"]
    assert fed.feedbacks[-1].history == History()
    assert fed.feedbacks[-1].epoch == 3000


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("ts", [0, HOUR, 2 * HOUR])
def test_an_erasure_that_comes_again_or_is_older_than_the_last_takes_nothing_with_it(ts, name):
    erase = Event("x", "erase", "u", 2 * HOUR)
    before = feed([click(1, HOUR), erase, click(2, 3 * HOUR), click(3, 9 * HOUR)])
    after = feed([Event(name, "erase", "u", ts)], state=before.state)
    assert after.state == before.state and after.feedbacks == after.rejects == []
    later = feed([Event("z", "erase", "u", 2 * HOUR + 1)], state=after.state)
    assert decode_session(later.state).epoch == later.feedbacks[0].epoch == 9 * HOUR, "what came before is newer"
    assert list(decode_session(later.state).history) == []


def test_what_came_before_an_erasure_stays_away_also_where_it_is_newer_and_a_second_erasure_is_one():
    """The clock of who asks to be forgotten may be behind that of the page."""
    erase, taken = Event("x", "erase", "u", 1000), [click(1, 2000), click(2, 3000)]
    fed = feed([*taken, erase, *taken, erase, click(3, 3000), click(4, 3001)])
    assert [f.event.event_id for f in fed.feedbacks] == ["e-1", "e-2", "x", "e-4"] and fed.rejects == []
    again = feed([Event("y", "erase", "u", 1500), click(4, 3001), click(5, 3002)], state=fed.state)
    assert [f.event.event_id for f in again.feedbacks] == ["y", "e-5"]
    assert [f.epoch for f in again.feedbacks] == [3001, 3001] and fed.feedbacks[-1].epoch == 3000
    nothing_since = feed([erase, Event("y", "erase", "u", 1500)], state=feed([*taken, erase]).state)
    assert nothing_since.feedbacks == []


def test_an_erasure_at_the_beginning_of_time_is_one():
    first = feed([click(1, 0), Event("x", "erase", "u", 0)])
    assert [f.event.event_id for f in first.feedbacks] == ["e-1", "x"]
    assert feed([click(2, 9 * HOUR), Event("x", "erase", "u", 0)], state=first.state).feedbacks[-1].event == click(
        2, 9 * HOUR
    )


def test_a_late_erasure_is_honoured():
    fed = feed([click(1, 10 * HOUR), Event("x", "erase", "u", HOUR)])
    assert fed.feedbacks[-1].event.type == "erase"
    assert decode_session(fed.state).history == History()
