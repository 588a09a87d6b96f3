"""What the operator starts of the FlinkDeployment, started here without it: its own command, options and sizes, by the
image's entry point in a Flink laid out as the image's, with a ZooKeeper in place of Kubernetes.
"""

from pathlib import Path

import pytest
import redis
from containers import containers, put
from riverrank.jobs.dev import services
from shop_events import CATALOGUE, expected, stream
from streams import alone, cached, send, topics, wait_until
from test_application_mode import distinct, whole
from test_kubernetes import deployment
from zookeeper import ZooKeeper

pytestmark = pytest.mark.timeout(600)
SECRET = "not-to-be-told-to-anybody"
SIZED = {"jobManager": "jobmanager", "taskManager": "taskmanager"}


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
