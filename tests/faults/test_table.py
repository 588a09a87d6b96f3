"""The comparison sees what is wrong, and the table says of each row what was seen of it, and nothing of others."""

from pathlib import Path

import pytest
import table
from scene import Compared, Seen, differing, differing_letters, unanswered
from shop_events import Expected
from table import Row

HELD = Row("kill -9", "passed", 61.4, Seen(600, 24, 480, Compared(500, 24, 480, 24, 2, []), 3))
WANTED = {"u1": [(1, "e1", 0, "[]"), (2, "e2", 1, "[]")]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "u1 has 0 answers of 2: as far as they go equal"),
        ({"u1": [(1, "e1", 0, "[]")]}, "u1 has 1 answers of 2: as far as they go equal"),
        ({"u1": [*WANTED["u1"][::-1]]}, "u1 has 2 answers of 2: at 0 (2, 'e2', 1, '[]') for (1, 'e1', 0, '[]')"),
        ({"u1": [WANTED["u1"][0], (2, "e2", 2, "[]")]}, "u1 has 2 answers of 2: at 1 (2, 'e2', 2, '[]')"),
        ({"u1": [*WANTED["u1"], (2, "e3", 2, "[]")]}, "u1 has 3 answers of 2: as far as they go equal"),
        ({**WANTED, "u2": WANTED["u1"]}, "u2 has slates, and none are wanted"),
    ],
)
def test_what_differs_is_told(given, said):
    assert differing(WANTED, WANTED) == []
    (wrong,) = differing(given, WANTED)
    assert wrong.startswith(said)


def test_dead_letters_that_lack_or_are_too_many_are_told():
    wanted = [{"topic": "events", "reason": "late", "raw": "a"}]
    there = [("x-events", 0, 7, "late", "a")]
    assert differing_letters(there, wanted) == []
    assert "1 missing" in differing_letters([], wanted)[0]
    assert "1 others" in differing_letters([*there, ("x-events", 0, 8, "late", "a")], wanted)[0]


def test_what_replay_itself_answers_twice_or_not_at_all_is_told():
    lines = [
        '{"event_id":"e1","type":"click"}',
        '{"event_id":"e2","type":"rate"}',
        '{"event_id":"e3","type":"impression"}',
    ]
    late = [{"topic": "events", "reason": "late", "raw": '{"event_id":"e4","type":"click"}'}]
    wanted = Expected(WANTED, late)
    assert unanswered([*lines, late[0]["raw"], *lines], wanted) == []
    assert unanswered([*lines, '{"event_id":"e5","type":"view"}'], wanted) == ["e5 is answered 0 times"]
    twice = {"u1": [*WANTED["u1"], (3, "e2", 2, "[]")]}
    assert unanswered(lines, Expected(twice, late)) == ["e2 is answered 2 times"]


def test_a_row_that_failed_or_was_skipped_shows_no_figure(tmp_path: Path) -> None:
    rows = [
        HELD,
        Row("SIGSTOP", "failed", 5.0, HELD.seen, "3 differences"),
        Row("disk", "skipped", 0.1, None, "no disk"),
    ]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}old\n{table.END}after\n")
    table.write(page, table.lines(rows))
    before, head, _, *lines, after = [line for line in page.read_text().splitlines() if line and line[:2] != "<!"]
    assert (before, after) == ("before", "after") and head.startswith("| fault | events |")
    assert lines == [
        "| kill -9 | 600 | 24 | 500 | 24 of 24 | 480 of 480 | 24 of 24 | 2 | 3 | 61 |",
        "| SIGSTOP | **FAILED**: 3 differences |  |  |  |  |  |  |  | 5 |",
        "| disk | **skipped**: no disk |  |  |  |  |  |  |  | 0 |",
    ]
    (tmp_path / "other.md").write_text("no table")
    with pytest.raises(ValueError, match="no place for the table"):
        table.write(tmp_path / "other.md", [])
