"""The whole job writes to a cluster by TLS with few rights, and through the loss of a primary that Sentinel watches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import redis
from redises import SecuredNode, Watched, cluster, watched
from riverrank.operators.cache.rights import rights_of_job
from secured import Authority
from streams import TIMEOUT_SECONDS, cached, wait_until

START_MS = 1_764_000_000_000
SCRIPT = Path(sys.executable).with_name("riverrank")
SECRET = "gehe;im'7"
QUOTED = "gehe%3Bim%277"
USERS = [f"u{user}" for user in range(12)]


def events(folder: Path, each: int) -> Path:
    path = folder / "events.jsonl"
    made = [
        {
            "event_id": f"e{k}",
            "type": "click",
            "user_id": f"u{k % len(USERS)}",
            "item_id": f"i{k % 7}",
            "ts": START_MS + k,
        }
        for k in range(each * len(USERS))
    ]
    path.write_text("".join(json.dumps(event) + "\n" for event in made), "utf-8")
    return path


def started(folder: Path, each: int, url: str) -> subprocess.Popen[str]:
    command = [SCRIPT, "run", "--events", events(folder, each)]
    environment = {**os.environ, "RIVERRANK_REDIS_URL": url}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def shown_by_the_system() -> str:
    """The command lines of all processes."""
    lines = []
    for entry in Path("/proc").iterdir():
        try:
            lines.append((entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdecimal() else "")
        except OSError:
            continue  # it has ended
    return "\n".join(lines)


def test_the_job_writes_to_a_cluster_by_tls_with_the_rights_that_are_documented(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    with cluster(lambda: SecuredNode(authority)) as scene:
        for node in scene.nodes:
            rules = [*rights_of_job("rr:").split(), "+cluster|slots"]
            scene.admin(node).execute_command("ACL", "SETUSER", "app", "on", f">{SECRET}", *rules)
        nodes = ",".join(f"127.0.0.1:{node.secured_port}" for node in scene.nodes if isinstance(node, SecuredNode))
        running = started(tmp_path, 20, f"rediss+cluster://app:{QUOTED}@{nodes}/0?ssl_ca_certs={authority.ca}")
        wait_until(lambda: scene.hget("rr:slate:u0", "version") is not None or running.poll() is not None)
        processes = shown_by_the_system()
        out, err = running.communicate(timeout=TIMEOUT_SECONDS)
        assert running.returncode == 0, err
        assert {scene.hget(f"rr:slate:{user}", "version") for user in USERS} == {"20"}
    assert str(events(tmp_path, 20)) in processes
    assert f"writes slates to Redis at rediss+cluster://app:***@{nodes}/0" in err
    for text in (out, err, processes):
        assert SECRET not in text and QUOTED not in text


def test_the_job_goes_on_at_the_new_primary_and_leaves_the_last_version_of_each_user(tmp_path: Path) -> None:
    with watched() as scene:
        running = started(tmp_path, 300, scene.url)
        wait_until(lambda: max(cached(scene.primary, USERS).values()) > 0)
        scene.primary.kill()
        at_the_kill = at_replica(scene)
        _, err = running.communicate(timeout=TIMEOUT_SECONDS)
        assert running.returncode == 0, err
        assert max(at_the_kill.values()) < 300 == min(at_replica(scene).values()) == max(at_replica(scene).values())
        assert redis.Redis(port=scene.replica.port).info("replication")["role"] == "master"


def at_replica(scene: Watched) -> dict[str, int]:
    return cached(scene.replica, USERS)
