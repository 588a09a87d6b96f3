"""What compose and the operator start, started here without them: the job in Flink's application mode, by the image's
own entry point, in a Flink laid out as the image's; it goes on where it ended, with nothing learned twice or lost.
"""

import json
from pathlib import Path

import pytest
import redis
from containers import containers, put
from riverrank.jobs.dev import services
from shop_events import CATALOGUE, expected, stream
from streams import Answers, alone, answers, cached, received, send, topics, wait_until
from test_compose import services as of_compose
from test_kubernetes import deployment
from zookeeper import ZooKeeper

pytestmark = pytest.mark.timeout(600)
SECRET = "not-to-be-told-to-anybody"
SIZED = {"jobManager": "jobmanager", "taskManager": "taskmanager"}


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
        assert up.wait_for_job(again) == job
        wait_until(lambda: cached(valkey, after) == {user: history[-1][0] for user, history in after.items()})
        assert worker.ending is None
        assert distinct(whole(broker, "composed")) == distinct(after)


def of_deployment(folder: Path, store: ZooKeeper) -> dict[str, object]:
    """The FlinkDeployment's options and sizes, with this folder for the object store and ZooKeeper for ConfigMaps."""
    spec = deployment()["spec"]
    said = {key: put(value, {"s3://YOUR-BUCKET": folder.as_uri()}) for key, value in spec["flinkConfiguration"].items()}
    sizes = {part: spec[name]["resource"]["memory"] for name, part in SIZED.items()}
    return {
        **said,
        **{f"{part}.memory.process.size": size for part, size in sizes.items()},
        **store.conf(folder / "jobs"),
        "high-availability.cluster-id": "riverrank",
        "execution.checkpointing.interval": "1 s",
        "metrics.reporters": "none",  # they would listen on every interface
    }


def test_the_deployments_job_outlives_its_jobmanager_and_tells_its_secrets_to_nobody(
    broker: services.KafkaBroker, valkey: services.Valkey, tmp_path: Path
) -> None:
    settings = topics(broker, tmp_path, "deployed", alone())
    first, second = stream(300, 1), stream(300, 2)
    before, after = expected(tmp_path, first).answers, expected(tmp_path, [*first, *second]).answers
    send(broker, "deployed-items", CATALOGUE)
    send(broker, "deployed-events", first, key="user_id")
    with redis.Redis.from_url(valkey.url) as client:
        client.execute_command("ACL", "SETUSER", "shop", "on", f">{SECRET}", "~*", "+@all")
    spec = deployment()["spec"]
    job = [put(word, {"/opt/riverrank/settings/riverrank.toml": settings}) for word in spec["job"]["args"]]
    command = ["standalone-job", "--job-classname", spec["job"]["entryClass"], *job]
    environment = {
        **{each["name"]: each["value"] for each in spec["podTemplate"]["spec"]["containers"][0]["env"]},
        "RIVERRANK_PRIVACY_KEY": SECRET,
        "RIVERRANK_REDIS_URL": valkey.url.replace("://", f"://shop:{SECRET}@"),
    }
    folder = tmp_path / "containers"
    folder.mkdir()
    with ZooKeeper() as store, containers(folder, of_deployment(folder, store), environment) as up:
        up.start("taskmanager", ["taskmanager"])
        running = up.start("jobmanager", command)
        run = up.wait_for_job(running)
        wait_until(lambda: distinct(whole(broker, "deployed")) == distinct(before))
        wait_until(lambda: any(folder.glob(f"riverrank/checkpoints/{run}/chk-*/_metadata")))
        running.kill()

        send(broker, "deployed-events", second, key="user_id")
        assert up.wait_for_job(up.start("jobmanager-again", command)) == run
        wait_until(lambda: cached(valkey, after) == {user: history[-1][0] for user, history in after.items()})
        assert distinct(whole(broker, "deployed")) == distinct(after)
    logs = list(folder.glob("*.out"))
    assert len(logs) == 3 and all(path.stat().st_size > 1_000 for path in logs)
    assert [path.name for path in logs if SECRET in path.read_text("utf-8", "replace")] == []
