"""docs/notebook.py goes from files, or from topics, to an answer."""

import subprocess
import sys
from pathlib import Path

import pytest
from kafka import KafkaProducer
from riverrank.jobs.dev.services import KafkaBroker
from shown_shop import made_shop

ROOT = Path(__file__).resolve().parent.parent
STREAMS = ("slates", "events", "predictions", "items")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_shop(tmp_path_factory.mktemp("shop"))


def answered(folder: Path, *arguments: str) -> str:
    """What the notebook prints, run as a script."""
    command = [sys.executable, ROOT / "docs" / "notebook.py", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_notebook_answers_from_files_and_from_topics_alike(shop: Path, tmp_path: Path, broker: KafkaBroker) -> None:
    of_files = answered(tmp_path, *(part for name in STREAMS for part in (f"--{name}", f"{shop / name}.jsonl")))
    assert of_files.startswith("arm 'control': ") and "slates of 12 users were shown" in of_files
    topics = {name: f"notebook-{name}" for name in STREAMS}
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for name, topic in topics.items():
        broker.create_topic(topic)
        for line in (shop / f"{name}.jsonl").read_bytes().splitlines():
            producer.send(topic, value=line)
    producer.send(topics["slates"], key=b"u", value=None)
    producer.close()
    named = "".join(f'{name} = "{topic}"\n' for name, topic in topics.items())
    (tmp_path / "topics.toml").write_text(f"[kafka]\n{named}")
    of_topics = answered(tmp_path, "--kafka", broker.bootstrap, "--config", "topics.toml")
    assert of_topics == of_files
