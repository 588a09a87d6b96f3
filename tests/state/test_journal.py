"""When a log is to be made short, and what is left of it then."""

from riverrank.state.journal import LEAST_BYTES, DictEntries, Journal

RECORD = bytes(1024)
SHORT = LEAST_BYTES // len(RECORD)


def appended(journal: Journal, most: int) -> int:
    """How many records of a KiB until the owner is to compact."""
    return next((n for n in range(1, most) if journal.append(RECORD)), most)


def test_a_log_is_made_short_once_it_is_half_of_the_base() -> None:
    journal = Journal(DictEntries(), limit=10_000)
    assert appended(journal, 10_000) == SHORT
    journal.compact({"a": bytes(8 * LEAST_BYTES), "b": bytes(4 * LEAST_BYTES)})
    assert appended(journal, 10_000) == 6 * SHORT
    journal.compact({"b": b""})  # what an entry held before it holds no longer
    assert appended(journal, 10_000) == 4 * SHORT


def test_a_restored_log_goes_on_as_it_was() -> None:
    entries = DictEntries()
    first = Journal(entries, limit=10_000)
    first.compact({"a": bytes(8 * LEAST_BYTES)})
    assert appended(first, SHORT) == SHORT
    second = Journal(entries, limit=10_000)
    base, log = second.load()
    assert (list(base), len(log)) == (["a"], SHORT - 1)
    assert appended(second, 10_000) == 3 * SHORT + 1


def test_what_waits_is_kept_and_does_not_count_as_growth() -> None:
    journal = Journal(DictEntries(), limit=10_000)
    waiting = [RECORD + bytes([k % 256]) for k in range(2 * SHORT)]
    journal.compact({"a": b"x"}, waiting)
    assert journal.length == 2 * SHORT
    assert appended(journal, 10_000) == SHORT
    assert Journal(journal.entries).load()[1] == [*waiting, *[RECORD] * SHORT]


def test_after_so_many_records_whatever_their_size() -> None:
    journal = Journal(DictEntries(), limit=5)
    assert [journal.append(b"") for _ in range(5)] == [False] * 4 + [True]


def test_what_its_owner_puts_beside_it_is_no_part_of_the_base() -> None:
    entries = DictEntries({"item:a": bytes(80 * LEAST_BYTES), "block": bytes(8 * LEAST_BYTES)})
    journal = Journal(entries, limit=10_000)
    base, _ = journal.load(beside=("item:", "weights:"))
    assert list(base) == ["item:a", "block"]
    assert appended(journal, 10_000) == 4 * SHORT
