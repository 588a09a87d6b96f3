"""A prior on Flink: what it holds travels with the job, answers are those of replay, and a job leaves its own."""

import json
from pathlib import Path

import pytest
from riverrank.jobs.cli import main as cli
from riverrank.jobs.dev import services
from riverrank.state.prior import from_file
from streams import Record, alone, answers, job_of, received, send, topics, wait_until

START_MS = 1_764_000_000_000
USERS, ITEMS, EVENTS = 6, 40, 60
pytestmark = pytest.mark.timeout(900)


def lines(name: str, count: int) -> list[str]:
    made = []
    for k in range(count):
        event = {"event_id": f"{name}{k}", "type": "click", "user_id": f"u{k % USERS}", "ts": START_MS + 1000 * k}
        made.append(json.dumps(event | {"item_id": f"i{(k * 7 + k % USERS) % ITEMS}"}))
    return made


CATALOGUE = [
    json.dumps({"item_id": f"i{n}", "ts": START_MS, "title": f"Title {n}", "categories": [f"c{n % 4}"]})
    for n in range(ITEMS)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events, items, a prior, settings that start from it with nothing broadcast, and what replay answers then."""
    folder = tmp_path_factory.mktemp("prior")
    (folder / "old.jsonl").write_text("\n".join(lines("old", 300)) + "\n")
    (folder / "events.jsonl").write_text("\n".join(lines("e", EVENTS)) + "\n")
    (folder / "items.jsonl").write_text("\n".join(CATALOGUE) + "\n")
    items = ["--items", str(folder / "items.jsonl")]
    assert cli.main(["prior", "--events", str(folder / "old.jsonl"), *items, "--out", str(folder / "shop.prior")]) == 0
    (folder / "plain.toml").write_text(alone())
    (folder / "from.toml").write_text(f'{alone()}\n[prior]\nfile = "{folder}/shop.prior"\n')
    for name in ("plain", "from"):
        assert cli.main(["replay", *files(folder, name), "--config", str(folder / f"{name}.toml")]) == 0
    assert read(folder / "plain.slates")[0]["items"] != read(folder / "from.slates")[0]["items"]
    return folder


def files(folder: Path, name: str) -> list[str]:
    paths = {"events": "events.jsonl", "items": "items.jsonl", "slates": f"{name}.slates"}
    return [word for flag, path in paths.items() for word in (f"--{flag}", str(folder / path))]


def read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_starts_from_a_prior_as_replay_does_and_leaves_one(folder: Path, tmp_path: Path) -> None:
    """With nothing broadcast, every slate is by what it started from, to the last digit."""
    config = tmp_path / "run.toml"
    config.write_text((folder / "from.toml").read_text() + f'out = "{tmp_path}/left.prior"\n')
    assert cli.main(["run", *files(folder, "run"), "--config", str(config), "--parallelism", "2"]) == 0
    expected = answers(read(folder / "from.slates"), whole=True)
    assert len(expected) == USERS and answers(read(folder / "run.slates"), whole=True) == expected


def test_a_run_leaves_what_replay_would(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.toml").write_text(f'[prior]\nout = "{tmp_path}/left.prior"\n')
    assert cli.main(["run", *files(folder, "left"), "--config", str(tmp_path / "out.toml")]) == 0
    assert from_file((tmp_path / "left.prior").read_bytes()).learned_from == EVENTS


def test_a_prior_reaches_the_taskmanagers_of_a_cluster_with_the_job(
    folder: Path, cluster: services.FlinkCluster, broker: services.KafkaBroker, zipped: Path, tmp_path: Path
) -> None:
    """They do not see the file: it is gone before the first event comes."""
    here = tmp_path / "here.prior"
    here.write_bytes((folder / "shop.prior").read_bytes())
    settings = topics(broker, tmp_path, "prior", alone(), f'[prior]\nfile = "{here}"')
    send(broker, "prior-items", CATALOGUE)
    job = cluster.run("-p", 2, *job_of(zipped, "--config", settings))
    here.unlink()
    cluster.wait_for(job)
    send(broker, "prior-events", lines("e", EVENTS), key="user_id")
    wait_until(lambda: len(received(broker, "prior-slates")) >= EVENTS)
    cluster.stop_with_savepoint(job, tmp_path / "savepoints")
    slates = [json.loads(value) for _, value in received(broker, "prior-slates")]
    assert answers(slates, whole=True) == answers(read(folder / "from.slates"), whole=True)
