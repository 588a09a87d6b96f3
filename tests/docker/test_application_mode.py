"""What compose starts, started here without it: the job in Flink's application mode, by the image's
own entry point, in a Flink laid out as the image's; it goes on where it ended, with nothing learned twice or lost.
"""

import json
from pathlib import Path

import pytest
from containers import containers, put
from riverrank.jobs.dev import services
from shop_events import CATALOGUE, expected, stream
from streams import Answers, alone, answers, cached, received, send, topics, wait_until
from test_compose import services as of_compose

pytestmark = pytest.mark.timeout(600)


def distinct(found: Answers) -> set[tuple[object, ...]]:
    return {(user, *answer) for user, history in found.items() for answer in history}


def whole(broker: services.KafkaBroker, name: str) -> Answers:
    """By user, what the job has answered by now."""
    return answers((json.loads(value) for _, value in received(broker, f"{name}-slates")), whole=True)


def test_composes_one_job_goes_on_from_its_newest_checkpoint_when_it_is_brought_up_again(
    broker: services.KafkaBroker, valkey: services.Valkey, tmp_path: Path
) -> None:
    settings = topics(broker, tmp_path, "composed", alone())
    first, second = stream(300, 1), stream(300, 2)
    before, after = expected(tmp_path, first).answers, expected(tmp_path, [*first, *second]).answers
    send(broker, "composed-items", CATALOGUE)
    send(broker, "composed-events", first, key="user_id")
    state = tmp_path / "state"
    state.mkdir()
    places = {"/state": state, "kafka:9092": broker.bootstrap, "redis://valkey:6379/0": valkey.url, "$$": "$"}
    jobmanager, taskmanager = (of_compose()[name] for name in ("jobmanager", "taskmanager"))
    said = put(jobmanager["environment"]["FLINK_PROPERTIES"], places).splitlines()
    options = {key: value for line in said for key, _, value in [line.partition(": ")]}
    options |= {"parallelism.default": "1", "execution.checkpointing.interval": "1 s"}
    command = [f"{put(word, places)} --config {settings}" if "exec" in word else word for word in jobmanager["command"]]
    with containers(tmp_path, options) as up:
        worker = up.start("taskmanager", taskmanager["command"])
        running = up.start("jobmanager", command)
        job = up.wait_for_job(running)
        wait_until(lambda: distinct(whole(broker, "composed")) == distinct(before))
        wait_until(lambda: any(state.glob(f"checkpoints/{job}/chk-*/_metadata")))
        running.kill()

        send(broker, "composed-events", second, key="user_id")
        again = up.start("jobmanager-again", command, home="jobmanager")
        # Under the id of before, a TaskManager that still holds that job would refuse the code of this one for good.
        assert up.wait_for_job(again) != job
        wait_until(lambda: cached(valkey, after) == {user: history[-1][0] for user, history in after.items()})
        assert worker.ending is None
        assert distinct(whole(broker, "composed")) == distinct(after)
