"""What functions do where they arrive: numpy warns of nothing in their thread, and cores are shared as they should."""

import pickle
import threading

import numpy as np
import pytest
from adapters import BEHAVIOUR, feedback, line, parsed, recommend, session
from harness import Harness
from riverrank.operators.flink.signals import SignalsFunction


def test_numpy_warns_of_nothing_in_the_thread_of_an_operator() -> None:
    said: list[dict[str, str]] = []

    def arrive() -> None:
        said.append(np.geterr())
        pickle.loads(pickle.dumps(session()))
        said.append(np.geterr())

    thread = threading.Thread(target=arrive)
    thread.start()
    thread.join()
    assert set(said[0].values()) != {"ignore"} == set(said[1].values())


def test_recommend_takes_its_core_at_its_first_record(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    monkeypatch.setattr("riverrank.operators.flink.shipped.share_core", lambda: taken.append("on arrival"))
    monkeypatch.setattr("riverrank.operators.flink.recommend.share_core", lambda: taken.append("at a record"))
    harness = recommend()
    harness.function.__setstate__(harness.function.__getstate__())
    assert taken == []
    harness.element(feedback("e1"), "u")
    harness.element(feedback("e2"), "u")
    assert taken == ["at a record"]
    signals = SignalsFunction(BEHAVIOUR)
    signals.__setstate__(signals.__getstate__())
    assert taken == ["at a record", "on arrival"]


def test_threads_that_write_checkpoints_are_told_to_step_back_where_records_are_answered_and_where_they_are_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[str] = []
    monkeypatch.setattr("riverrank.operators.flink.shipped.step_back", names.append)
    monkeypatch.setattr("riverrank.operators.flink.shipped.LOOK_EVERY", 2)
    answering, learning = recommend(), Harness(session())
    for number in range(5):
        answering.element(feedback(f"e{number}"), "u")
    assert names == ["AsyncOperations"] * 2
    for key, value in parsed(*(line(f"e{number}") for number in range(4))):
        learning.element(value, key)
    assert names == ["AsyncOperations"] * 4
