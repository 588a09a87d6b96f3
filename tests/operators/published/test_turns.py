"""Whose turn it is: each row that changed once, round robin, those of one part, and what is to be renewed."""

import numpy as np
from riverrank.operators.published.turns import NONE, ROWS_LOOKED_AT, Turns

DAY = 86_400_000
NOW = 1_764_000_000_000


class Bench:
    def __init__(self, rows: int = 6, ttl_ms: int = 2 * DAY, part: int = 0, parts: int = 1) -> None:
        self.turns = Turns(ttl_ms, part, parts)
        self.turns.fit(rows)
        self.changed, self.servable = np.zeros(rows, np.bool_), np.ones(rows, np.bool_)
        self.marks = np.arange(rows, dtype=np.uint32)

    def next(self, version: int = 1, now: int = NOW) -> int:
        return self.turns.next(self.changed, self.servable, self.marks, version, now)


def test_rows_that_changed_have_one_turn_each_round_robin() -> None:
    bench = Bench()
    bench.changed[[1, 3, 4]] = True
    assert [bench.next(), bench.next()] == [1, 3]
    bench.changed[[0, 3]] = True
    assert [bench.next() for _ in range(4)] == [4, 0, 3, NONE]


def test_what_may_not_be_served_waits_until_it_may() -> None:
    bench = Bench()
    bench.changed[2], bench.servable[2] = True, False
    assert bench.next() == NONE
    bench.servable[2] = True
    assert bench.next() == 2


def test_every_row_is_of_one_part() -> None:
    seen = []
    for part in range(3):
        bench = Bench(rows=10, part=part, parts=3)
        bench.changed[:] = True
        while (row := bench.next()) != NONE:
            seen.append(row)
            assert row % 3 == part
    assert sorted(seen) == list(range(10))


def test_a_list_is_written_where_it_says_something_else_and_renewed_before_redis_drops_it() -> None:
    bench = Bench()
    turns = bench.turns
    assert turns.is_news(1, b"abcd", 1, NOW) and not turns.is_news(1, b"abcd", 2, NOW + 1)
    assert turns.is_news(1, b"abce", 3, NOW + 2)
    assert bench.next(9, NOW + DAY) == NONE
    assert bench.next(9, NOW + DAY + 2_000) == 1, "half of what Redis keeps it for"
    assert turns.is_news(1, b"abce", 9, NOW + DAY + 2_000)
    assert bench.next(10, NOW + DAY + 3_000) == NONE


def test_an_empty_list_is_written_after_one_that_was_none_and_then_left_to_expire() -> None:
    bench = Bench()
    assert not bench.turns.is_news(2, b"", 1, NOW)
    assert bench.turns.is_news(2, b"abcd", 2, NOW) and bench.turns.is_news(2, b"", 3, NOW)
    assert not bench.turns.is_news(2, b"", 4, NOW + 1)
    assert bench.next(5, NOW + 3 * DAY) == NONE, "it is not renewed"
    assert bench.turns.is_news(2, b"abcd", 6, NOW + 3 * DAY)


def test_no_row_is_written_twice_with_one_version_which_redis_would_not_take() -> None:
    bench = Bench()
    assert bench.turns.is_news(1, b"abcd", 7, NOW)
    bench.changed[1] = True
    assert bench.next(7) == NONE and bench.changed[1]
    assert bench.next(8) == 1


def test_what_redis_never_drops_is_never_renewed_and_a_turn_looks_at_so_many_rows() -> None:
    bench = Bench(rows=3 * ROWS_LOOKED_AT, ttl_ms=0)
    assert bench.turns.is_news(1, b"abcd", 1, 1_000) and bench.next(2, NOW) == NONE
    bench.changed[2 * ROWS_LOOKED_AT + 1] = True
    assert [bench.next(2) for _ in range(2)] == [NONE, 2 * ROWS_LOOKED_AT + 1]


def test_what_is_forgotten_is_written_again() -> None:
    bench = Bench()
    assert bench.turns.is_news(1, b"abcd", 7, NOW)
    bench.turns.forget()
    assert bench.turns.is_news(1, b"abcd", 7, NOW)
