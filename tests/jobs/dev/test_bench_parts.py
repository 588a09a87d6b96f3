"""The stop watches of the bench: what each part takes, without what they cost."""

import sys
from types import ModuleType

import pytest
from riverrank.jobs.dev.benchmarks import learning, parts
from riverrank.jobs.errors import Failure

WORK = """
class Work:
    def __init__(self, clock):
        self.clock = clock

    def outer(self):
        self.clock.now += 2_000_000
        for _ in range(2):
            self.inner()
        for _ in range(1000):
            self.idle()

    def inner(self):
        self.clock.now += 3_000_000

    def idle(self):
        pass
"""


class Clock:
    """Nanoseconds that pass when something works, and 200 with each look at them."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 200
        return self.now


def test_stop_watches_find_what_each_part_takes_and_not_what_they_cost(work: ModuleType) -> None:
    """`outer` works for 2 ms, calls `inner` twice, for 3 ms, and `idle` 1,000 times, which costs nothing."""
    clock = Clock()
    watches = parts.StopWatches({name: [f"work:Work.{name}"] for name in ("outer", "inner", "idle")}, clock)
    with watches.running():
        work.Work(clock).outer()
    assert clock.now > 8_400_000  # with what 1,003 watches cost
    taken = watches.taken()
    assert {key: calls for key, (calls, _) in taken.items()} == {
        ("", "rest"): 0,
        ("", "outer"): 1,
        ("outer", "inner"): 2,
        ("outer", "idle"): 1000,
    }
    assert taken["", "outer"][1] == pytest.approx(2_000, abs=1)
    assert taken["outer", "inner"][1] == pytest.approx(6_000, abs=1)
    assert taken["outer", "idle"][1] == pytest.approx(0, abs=1)
    assert watches.never_called() == []
    assert work.Work.inner.__name__ == "inner"  # the watches are off again


def test_part_that_is_gone_or_never_called_is_named(work: ModuleType) -> None:
    with (
        pytest.raises(Failure, match=r"work:Work.moved does not exist any more"),
        parts.StopWatches({"moved": ["work:Work.moved"]}).running(),
    ):
        pass
    watches = parts.StopWatches({"idle": ["work:Work.idle"], "inner": ["work:Work.inner"]})
    with watches.running():
        work.Work(Clock()).idle()
    watches.taken()
    assert watches.never_called() == ["work:Work.inner"]


def test_every_part_of_the_table_exists() -> None:
    paths = [path for paths in parts.PARTS.values() for path in paths]
    paths += [path for path, _ in learning.LEARNERS.values()]
    assert len(paths) > 15
    for path in paths:
        parts.Target.at(path)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module with something to do."""
    module = ModuleType("work")
    exec(WORK, module.__dict__)
    monkeypatch.setitem(sys.modules, "work", module)
    return module
