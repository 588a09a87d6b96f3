"""The help names every command, flag and output there is, and starts fast."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from console_script import assert_one_line, riverrank
from riverrank.jobs.config.fields import schema_of
from riverrank.jobs.config.schema import Config
from riverrank.state.outputs import OUTPUTS

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = (
    *("run", "replay", "evaluate", "compare", "estimate", "get", "explain", "erase", "export", "serve"),
    *("check", "convert", "demo", "starters", "drift"),
    "state",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_without_boxes(command: str) -> None:
    done = riverrank(command, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith(f"Usage: riverrank {command} ")
    assert "\u2500" not in done.stdout


def test_the_help_lists_every_command_and_starts_fast() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = riverrank("--help")
    assert (
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2
    )  # seconds of work: others share the machine
    listed = [line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)
    loaded = (
        "import sys; from riverrank.jobs.cli.main import main; main(['replay', '--help']); main(['--help']); "
        "print([m for m in ('numpy', 'numba', 'river', 'pyflink', 'kafka', 'redis') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True).splitlines()[-1] == "[]"


def test_an_interruption_while_modules_are_imported_is_no_traceback() -> None:
    command = (
        "import sys\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from riverrank.jobs.cli.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_readme_names_every_command() -> None:
    named = set(re.findall(r"riverrank ([a-z]+) ", (ROOT / "README.md").read_text("utf-8")))
    assert set(COMMANDS) - {"demo"} <= named


def test_a_flag_says_what_its_setting_says() -> None:
    shown = " ".join(riverrank("replay", "--help").stdout.split())
    for key in ("files.events", "files.dead_letters", "kafka.bootstrap", "redis.url", "job.parallelism"):
        meaning = schema_of(Config).settings[key].meaning
        assert f"{meaning[0].upper()}{meaning[1:]}." in shown
        assert f"Sets {key}." in shown


def test_the_job_file_takes_the_flags_that_a_cluster_can_serve() -> None:
    command = [sys.executable, ROOT / "jobs/recommend.py"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=120, check=True)
    assert {f"--{name}" for name in ("config", "events", "items", "kafka", "redis", *OUTPUTS)} <= set(
        done.stdout.split()
    )
    assert_one_line(subprocess.run(command, capture_output=True, text=True, timeout=120, check=False), 2, "no events")


TOY_OUTPUT = """
import sys
from riverrank.state.outputs import OUTPUTS, Origin, Output
OUTPUTS["toy-answers"] = Output("toy-answers", "toys", "", Origin.ANSWER, lambda answer: (b"%d" % answer.version,))
from riverrank.jobs.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_an_output_is_added_by_one_entry(events: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOY_OUTPUT]
    shown = subprocess.run([*command, "replay", "--help"], capture_output=True, text=True, timeout=120, check=True)
    assert "--toy-answers FILE Path for toys; - is standard output. Sets files.toy_answers." in " ".join(
        shown.stdout.split()
    )
    written = tmp_path / "toys"
    flags = ["--events", str(events), "--toy-answers", str(written)]
    subprocess.run([*command, "replay", *flags], capture_output=True, timeout=120, check=True)
    assert written.read_text().split() == [str(1 + n // 3) for n in range(60)]  # three users take turns
