"""`riverrank evaluate` says what noise promises, of each policy that has any, and of a policy without nothing."""

import json
from pathlib import Path

import msgspec
import pytest
from evaluated import evaluated, made_files, settings
from riverrank.jobs.config.edges import PRIVACY_KEY_VARIABLE
from riverrank.jobs.evaluation import report as reports
from riverrank.operators.privacy.budget import Accountant


def test_the_report_says_what_was_spent_where_there_is_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRIVACY_KEY_VARIABLE, "the secret of this shop")
    files = made_files(tmp_path)
    plain, noised = settings(files), settings(files, **{"noise.epsilon": 3.0, "noise.window": 3_600_000})
    report = evaluated(plain, (), {"with noise": noised.behaviour}).report()
    (told,) = json.loads(msgspec.json.encode(report))["noise"].items()
    windows = told[1]["windows"]
    assert told[0] == "with noise" and 11 <= windows <= 13, "700 events, a minute apart"
    spent = Accountant(noised.behaviour.noise).spent(windows)
    assert told[1] == {
        "epsilon": 3.0, "windows": windows, "epsilon_of_all": spent.epsilon, "delta_of_all": spent.delta,
    }  # fmt: skip
    assert f"with noise: epsilon 3 a window; of a user in all of {windows} windows" in reports.text(report)
    without = evaluated(plain).report()
    assert "noise" not in json.loads(msgspec.json.encode(without))
    assert "epsilon" not in reports.text(without)
