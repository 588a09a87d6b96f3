"""Savepoints of released versions restore: the job goes on where it ended, with all that it had learned."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from kept_savepoints import (
    SAVEPOINTS,
    SHAPES,
    KeptRun,
    answered_of,
    answers_to,
    digest_of,
    digested,
    kept_of,
    replayed,
    unpacked,
)
from riverrank.jobs.dev import services
from streams import cached, received, wait_until

ROOT = Path(__file__).resolve().parents[3]
VERSIONS = sorted(path.name for path in SAVEPOINTS.iterdir())
pytestmark = pytest.mark.timeout(900)  # a cluster on a busy machine takes its time


def test_there_is_a_savepoint_of_every_kind_of_each_version() -> None:
    held = {version: {path.name for path in (SAVEPOINTS / version).iterdir()} for version in VERSIONS}
    headings = re.findall(r"(?m)^## (\d\S*)(.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    assert headings and {name for name, said in headings if said != " (not released)"} <= held.keys()
    assert metadata.version("riverrank") in dict(headings)
    ends = "tar.xz", "json.xz"
    assert held == {version: {f"{kind}.{end}" for kind in SHAPES for end in ends} for version in VERSIONS}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_savepoint_of_that_version_restores_and_the_job_goes_on_as_if_it_had_not_ended(
    version: str,
    kind: str,
    cluster: services.FlinkCluster,
    broker: services.KafkaBroker,
    valkey: services.Valkey,
    tmp_path: Path,
) -> None:
    """At another parallelism, and with part of the events delivered again. Items are those of an uninterrupted run to
    the last digit; of an older version, as long as the present one answers all that came as that did. What is said
    besides holds in any case.
    """
    kept = kept_of(version, kind)
    first, waiting, second = kept.stretches(kind)
    run = KeptRun(version, kind, cluster, broker, tmp_path)
    run.send([*first, *waiting])  # read before the savepoint
    run.send([*waiting, *second])
    job = run.submit(run.quiet, valkey.url, "-p", 2, "-s", unpacked(version, kind, tmp_path))
    run.answered(answered_of(second))
    late = {event["event_id"] for event in waiting}
    waited = {user: slates[-1][0] for user, slates in kept.before.items() if slates[-1][1] in late}
    wanted = waited | {user: slates[-1][0] for user, slates in kept.after.items()}
    assert set(waited) - set(kept.after), "whose last slates Redis had not taken when the savepoint was made"
    wait_until(lambda: cached(valkey, wanted) == wanted)
    found = digested(run.answers())
    cluster.stop_with_savepoint(job, tmp_path / "savepoints")

    assert {user: [slate[:3] for slate in slates] for user, slates in found.items()} == {
        user: [slate[:3] for slate in slates] for user, slates in kept.after.items()
    }
    whole = replayed(kind, [*first, *waiting, *second], tmp_path)
    if version == metadata.version("riverrank") or digest_of(digested(whole)) == kept.replayed:
        assert found == kept.after
        if kind == "alone":
            assert found == digested(answers_to(second, whole))
    assert received(broker, f"{run.name}-dead-letters") == []
