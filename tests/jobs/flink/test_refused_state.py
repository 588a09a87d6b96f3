"""A run that can't go on from the state that it is given says so in one line, with the setting that is another and the
mend; and the state is as it was.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from console_script import riverrank
from riverrank.jobs.config.edges import PRIVACY_KEY_VARIABLE
from riverrank.jobs.dev import services
from shop_events import CATALOGUE, stream
from streams import TIMEOUT_SECONDS, received, send, topics, wait_until

pytestmark = pytest.mark.timeout(900)  # six runs of a Flink on a busy machine


def test_a_state_of_other_settings_is_refused_in_a_line_with_the_mend_and_then_gone_on_from(
    broker: services.KafkaBroker, tmp_path: Path
) -> None:
    first, second = stream(40, 1), stream(40, 2)
    config, state = topics(broker, tmp_path, "refused"), tmp_path / "state"
    flags = ("run", "--config", config, "--state", state)
    items = tmp_path / "items.jsonl"
    items.write_text("\n".join(CATALOGUE))
    send(broker, "refused-items", CATALOGUE)
    send(broker, "refused-events", first, key="user_id")
    versions = ran(flags, broker)
    assert max(versions) > 1
    (metadata,) = (state / "riverrank" / "savepoints").rglob("_metadata")
    found = json.loads(riverrank("state", "inspect", metadata.parent, "--json").stdout)
    assert found["users"]["session"] == found["users"]["recommend"] > 10

    send(broker, "refused-events", second, key="user_id")
    text = config.read_text()
    for setting, told in (
        (
            "[signals]\nneighbours = 30",
            "the job failed: state was made with signals.neighbours = 60, and it is 30 now: ",
        ),
        ("[embedding]\ndimensions = 16", "state was made with embedding.dimensions = 32, and it is 16 now: set it to "),
    ):
        config.write_text(f"{text}\n{setting}\n")
        assert told in refusal(*flags)
    config.write_text(text.replace("[job]", "[job]\nmax_parallelism = 64"))
    of_flink = refusal(*flags)
    assert "job.max_parallelism stays what it was when the state began: set that, or give another --state" in of_flink
    assert "secret" not in of_flink
    config.write_text(text)
    told = refusal(*flags, "--items", items)
    assert "or with a topic that this run neither reads nor writes: set that as it was, or give another" in told
    told = refusal(*flags, environment={PRIVACY_KEY_VARIABLE: "another secret of these"})
    assert "begun with another secret (privacy.key_file, RIVERRANK_PRIVACY_KEY)" in told and "--state DIR" in told
    after = ran(flags, broker, len(versions))
    assert sorted(after) != sorted(versions) and max(after) > max(versions)


def refusal(*flags: object, environment: dict[str, str] | None = None) -> str:
    """The one line that a run with these flags fails with."""
    done = riverrank(*flags, environment=environment)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("riverrank: ")]
    assert done.stderr.endswith(f"{line}\n"), done.stderr
    return line


def ran(flags: tuple[object, ...], broker: services.KafkaBroker, before: int = 0) -> list[int]:
    """The versions of all slates, once a run with these flags answered what was there to answer, and was stopped."""
    command = [sys.executable, "-m", "riverrank.jobs.cli", *map(str, flags)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: len(slates(broker)) > before + 25)
        running.terminate()
        running.wait(TIMEOUT_SECONDS)
    finally:
        running.kill()
        running.communicate()
    return slates(broker)


def slates(broker: services.KafkaBroker) -> list[int]:
    return [json.loads(value)["version"] for _, value in received(broker, "refused-slates")]
