"""A real Prometheus asks a real cluster, with the alerts as they are but for their times: it raises the alarm for each
fault that is made, and none while all is well.
"""

import json
import re
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from riverrank.jobs.dev import services
from riverrank.jobs.dev.cluster import CHECKOUT_CONF
from ruamel.yaml import YAML
from streams import job_of, received, send, topics, wait_until
from watched import FLINKS, RULES, Prometheus, exported, loopback_servers, tool

PORTS = 4  # that a part of Flink may listen at
SECONDS = 15  # what each time that an alert looks back is here
USERS, ITEMS = 8, 30
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F")  # 127.0.0.1, as Linux lists it
pytestmark = pytest.mark.timeout(900)


def hurried(rules: str) -> str:
    """The rules with other times: all that they look back is SECONDS, and an alert fires once it held for a second."""
    looked_back = re.sub(
        r"\[\d+[mhd]\]|(?<=offset )\d+[mhd]", lambda m: f"[{SECONDS}s]" if m[0][0] == "[" else f"{SECONDS}s", rules
    )
    return re.sub(r"(?m)^(\s+for:) .*$", r"\1 1s", looked_back)


def listening(ports: range) -> set[str]:
    """The addresses at which these ports are listened at."""
    table = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    found = {line[1].partition(":")[::2] for line in table if line[3] == "0A"}
    held = {address for address, port in found if int(port, 16) in ports}
    return {"127.0.0.1" if address in LOOPBACK else address for address in held}


class Shop:
    """Sends events of now, and sees what is answered and what fires."""

    def __init__(self, broker: services.KafkaBroker, prometheus: Prometheus, name: str) -> None:
        self.broker, self.prometheus, self.name = broker, prometheus, name
        self.is_open = True
        self.ids = "i"  # what the ids of clicked items begin with
        self._numbers = count()

    def events(self, number: int, age_ms: int = 0) -> list[str]:
        """Clicks and lists of items, each of another user in turn."""
        made = []
        for k in (next(self._numbers) for _ in range(number)):
            event = {"event_id": f"e{k}", "user_id": f"u{k % USERS}", "ts": round(1000 * time.time()) - age_ms}
            item = f"{self.ids}{k * 7 % ITEMS if self.ids == 'i' else k}"
            event |= {"type": "impression", "items": [item]} if k % 5 == 4 else {"type": "click", "item_id": item}
            made.append(json.dumps(event))
        return made

    def send(self, lines: list[str]) -> None:
        send(self.broker, f"{self.name}-events", lines, key="user_id")

    def until(self, holds: Callable[[set[str]], bool], events: int = 10) -> None:
        """Go on, if the shop is open with so many events each time, until that holds of the alerts that fire."""

        def step() -> bool:
            if self.is_open:
                self.send(self.events(events))
            return holds(self.prometheus.firing())

        wait_until(step)

    def until_seen(self, wanted: set[str], events: int = 10) -> None:
        """Go on until each of these alerts fired, be it at another time than the others."""
        seen: set[str] = set()

        def all_seen(firing: set[str]) -> bool:
            seen.update(firing)
            return wanted <= seen

        self.until(all_seen, events)

    def is_calm(self, seconds: float = 3.0) -> None:
        """Wait until nothing fires for so long."""
        alarm = time.monotonic()

        def calm(firing: set[str]) -> bool:
            nonlocal alarm
            alarm = time.monotonic() if firing else alarm
            return time.monotonic() - alarm > seconds

        self.until(calm)


def test_each_fault_raises_its_alarm_and_none_is_raised_without(
    broker: services.KafkaBroker, valkey: services.Valkey, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("prometheus")
    monkeypatch.setenv("HADOOP_CLASSPATH", str(tmp_path))  # which Flink's scripts put on the class path
    usual = YAML(typ="safe").load(CHECKOUT_CONF / "config.yaml")["env"]["java"]["opts"]["all"]
    settings = topics(broker, tmp_path, "watched")
    first = services.free_port()
    ports = range(first, first + PORTS)
    conf = {
        "env.java.opts.all": f"{usual} {loopback_servers(tmp_path)}",
        "metrics.reporters": "prom",
        "metrics.reporter.prom.port": f"{ports[0]}-{ports[-1]}",
        "heartbeat.timeout": "6 s",
        "execution.checkpointing.interval": "1 s",
        "execution.checkpointing.min-pause": "100 ms",
        "restart-strategy.exponential-delay.max-backoff": "2 s",
        "restart-strategy.exponential-delay.attempts-before-reset-backoff": 1_000_000,
    }
    with (
        services.FlinkCluster(taskmanagers=1, conf=conf) as cluster,
        Prometheus(hurried(RULES.read_text("utf-8")), ports) as prometheus,
    ):
        items = [json.dumps({"item_id": f"i{n}", "ts": 1}) for n in range(ITEMS)]
        send(broker, "watched-items", items)
        submitted = job_of(zipped, "--config", settings, "--redis", valkey.url)
        shop = Shop(broker, prometheus, "watched")
        shop.until(lambda firing: firing == {"RiverrankJobDown"})  # there is none yet
        cluster.wait_for(cluster.run("-p", 1, *submitted))
        shop.until(lambda firing: len(received(broker, "watched-slates")) > 100)
        shop.is_calm(2 * SECONDS)
        assert listening(ports) == {"127.0.0.1"}
        seen = prometheus.names()
        told = {
            exported(name) for name in ("events", "slates", "slate_age", "choices", "hits", "cache_age_ms", "signals")
        }
        assert (FLINKS | told) - seen == set()
        redis_goes_away(shop, valkey)
        records_are_of_no_use(shop)
        ids_are_others(shop)
        more_comes_than_is_answered(shop)
        checkpoints_have_no_folder(shop, cluster)
        a_taskmanager_is_lost(shop, cluster)


def redis_goes_away(shop: Shop, valkey: services.Valkey) -> None:
    valkey.stop()
    shop.until(lambda firing: firing == {"RiverrankRedisAway"})
    shop.until(lambda firing: firing == {"RiverrankRedisAway", "RiverrankWritesWait"})
    valkey.start()
    shop.is_calm()


def records_are_of_no_use(shop: Shop) -> None:
    poison = ["{broken"] * 100
    shop.send(poison)
    shop.until(lambda firing: firing == {"RiverrankDeadLetters"})
    shop.is_calm()
    shop.send(shop.events(100, age_ms=2 * 86_400_000))
    shop.until(lambda firing: firing == {"RiverrankLate"})
    shop.is_calm()
    shop.is_open = False
    time.sleep(SECONDS)
    shop.send(poison)
    shop.until(lambda firing: firing == {"RiverrankDeadLetters", "RiverrankNoSlates"})
    shop.is_open = True
    shop.is_calm()


def ids_are_others(shop: Shop) -> None:
    """What is clicked is nothing that the job was told of."""
    shop.until(lambda firing: shop.prometheus.value("min(riverrank:choices:increase1h)") > 300, events=40)
    shop.ids = "other"
    shop.until_seen({"RiverrankHitRate"}, events=40)
    shop.ids = "i"
    shop.is_calm()


def more_comes_than_is_answered(shop: Shop) -> None:
    shop.until_seen({"RiverrankLag"}, events=1_000)
    shop.until_seen({"RiverrankSlow"})
    shop.is_calm()


def checkpoints_have_no_folder(shop: Shop, cluster: services.FlinkCluster) -> None:
    """As where a disk that is mounted is lost: none can be written, and a job that starts anew finds none."""
    folder, away = cluster.folder / "checkpoints", cluster.folder / "away"
    folder.rename(away)
    folder.touch()
    shop.until_seen({"RiverrankCheckpointsFail", "RiverrankCheckpointsOld", "RiverrankJobRestarts"})
    folder.unlink()
    away.rename(folder)
    shop.is_calm()


def a_taskmanager_is_lost(shop: Shop, cluster: services.FlinkCluster) -> None:
    answered = len(received(shop.broker, f"{shop.name}-slates"))
    cluster.kill_taskmanager(0)
    shop.until(lambda firing: "RiverrankJobDown" in firing)
    cluster.start_taskmanager()
    shop.is_calm()
    assert len(received(shop.broker, f"{shop.name}-slates")) > answered
