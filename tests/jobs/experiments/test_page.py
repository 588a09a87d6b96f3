"""The page on experiments: its examples run as they stand, and it names what an arm may change."""

import json
import os
import re
import subprocess
from pathlib import Path

from console_script import SCRIPT
from riverrank.operators.arms import MAY_CHANGE

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "experiments.md").read_text("utf-8")


def test_the_examples_of_the_page_run_as_they_stand(tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    path = f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e"],
        input=script,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "click-through\tbold\t" in done.stdout and "first slot\tSNIPS\t" in done.stdout
    compared = json.loads((tmp_path / "compared.json").read_text("utf-8"))
    assert compared["slates"] == 600 and compared["arms"].keys() == {"control", "bold"}
    assert compared["sample_ratio"] > 0.001 and compared["arms"]["bold"]["users"] + 1 > 20
    estimated = json.loads((tmp_path / "estimated.json").read_text("utf-8"))
    assert estimated["slates"] == 600 and len(estimated["figures"]) == 5


def test_the_page_names_all_that_an_arm_may_change() -> None:
    names = {f"`{section}.{name}`" for section, settings in MAY_CHANGE.items() for name in settings}
    assert len(names) > 10 and {name for name in names if name not in PAGE} == set()
