"""What `riverrank replay` answers to made streams that touch every part of it, as digests to hold it to. Drives the
command line alone, so it outlives any change within.

    python tests/oracle.py write DIR         all outputs of all streams
    python tests/oracle.py pin               renew tests/golden/oracle.json
    python tests/oracle.py compare DIR DIR   how far two such folders are apart
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from oracle_records import Record, made_events, made_lines
from oracle_streams import STREAMS

PINNED = Path(__file__).parent / "golden" / "oracle.json"
OUTPUTS = ("slates", "predictions", "dead_letters", "receipts")
DIGITS = 4  # of a float that count
TOP = 10
TIE = 1e-4  # of two scores, which are given with five digits
AT_ONCE = 2  # processes
TIMEOUT_SECONDS = 240

# One kind of arithmetic on every x86 machine, whatever it could do besides: that of AVX2, in one thread. What a machine
# has none of is nothing to disable, and said nothing about.
STEADY = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_CORETYPE": "HASWELL",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
}


# Running them.


def run(name: str, folder: Path, hash_seed: str = "0", one_core: bool = False) -> Path:
    """Replay the stream `name` in a process of its own; the folder of its outputs, which is `folder`/`name`."""
    stream, target = STREAMS[name], folder / name
    target.mkdir(parents=True)
    for what, lines in zip(("items", "events"), made_lines(stream), strict=True):
        (target / f"{what}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (target / "config.toml").write_text(stream.config)
    flags = ["--config", str(target / "config.toml")]
    for what in ("items", "events", *OUTPUTS):
        flags += [f"--{what.replace('_', '-')}", str(target / f"{what}.jsonl")]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RIVERRANK_", "PYTHON"))}
    environment = kept | STEADY | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [*_riverrank(), "replay", *flags],
        preexec_fn=_keep_to_one_core if one_core else None,
        check=False,
        env=environment,
        timeout=TIMEOUT_SECONDS,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{name}: riverrank replay ended with {done.returncode}:\n{done.stderr}")
    return target


def run_all(folder: Path) -> dict[str, Path]:
    """Replay all streams, a few at once; the folder of each one's outputs."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(STREAMS, pool.map(lambda name: run(name, folder), STREAMS), strict=True))


def _keep_to_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _riverrank() -> list[str]:
    script = Path(sys.executable).parent / "riverrank"
    return [str(script)] if script.exists() else [sys.executable, "-m", "riverrank.jobs.cli"]


def records(folder: Path, output: str) -> list[Record]:
    """The records of one output, in their order."""
    with (folder / f"{output}.jsonl").open("rb") as file:
        return [json.loads(line) for line in file]


# Judging what came out.


def canonical(record: Any) -> str:
    """A record as JSON with its keys in order and its floats rounded.

    >>> canonical({"b": 0.123456, "a": [1, -0.0]})
    '{"a": [1, 0.0], "b": 0.1235}'
    """
    return json.dumps(_rounded(record), sort_keys=True)


def digests(folder: Path) -> dict[str, str]:
    """The digest of each output of a stream."""
    return {
        output: hashlib.sha256("\n".join(map(canonical, records(folder, output))).encode()).hexdigest()
        for output in OUTPUTS
    }


def counts(folder: Path) -> Record:
    """What came in and out of a stream, counted, so that a reader sees what it touches."""
    slates = records(folder, "slates")
    slots = [slot for slate in slates for slot in slate["items"]]
    events = list(made_events(STREAMS[folder.name]))
    impressions = {event["event_id"] for event in events if event["type"] == "impression"}
    predictions = records(folder, "predictions")
    shown = [prediction for prediction in predictions if prediction["event_id"] in impressions]
    return {
        "events": _tally(event["type"] for event in events),
        "slates": len(slates),
        "empty slates": sum(not slate["items"] for slate in slates),
        "strategies": _tally(slate["strategy"] for slate in slates),
        "sources": _tally(source for slot in slots for source in slot["sources"]),
        "reasons": _tally(reason["code"] for slot in slots for reason in slot["reasons"]),
        "propensities below 1": sum(slot["propensity"] < 1 for slot in slots),
        "predictions": _tally(prediction["kind"] for prediction in predictions),
        "shown": len(shown),
        "shown and taken": sum(prediction["label"] > 0 for prediction in shown),
        "dead letters": _tally(letter["reason"] for letter in records(folder, "dead_letters")),
        "receipts": len(records(folder, "receipts")),
    }


def found(folders: Mapping[str, Path]) -> Record:
    """Of each stream what it is about, its counts and its digests: what is pinned."""
    return {
        name: {"about": STREAMS[name].about, "counts": counts(folder), "digests": digests(folder)}
        for name, folder in folders.items()
    }


def compared(one: Path, other: Path) -> Record:
    """How far the outputs of one stream in two folders are apart."""
    slates = [{slate["trigger"]: slate for slate in records(folder, "slates")} for folder in (one, other)]
    pairs = [(slates[0][trigger], slates[1][trigger]) for trigger in slates[0] if trigger in slates[1]]
    ids = [tuple([slot["item_id"] for slot in slate["items"]] for slate in pair) for pair in pairs]
    overlaps = [len({*a[:TOP]} & {*b[:TOP]}) / max(len(a[:TOP]), len(b[:TOP]), 1) for a, b in ids if a or b]
    predictions = [
        {(p["event_id"], p["item_id"], p["kind"]): p["prediction"] for p in records(folder, "predictions")}
        for folder in (one, other)
    ]
    lone = len(slates[0].keys() ^ slates[1].keys()) + len(predictions[0].keys() ^ predictions[1].keys())
    return {
        "slates": len(pairs),
        "same order": sum(a == b for a, b in ids),
        "same but for ties": sum(_is_tied(*pair) for pair in pairs),
        f"overlap of top {TOP}": round(sum(overlaps) / max(len(overlaps), 1), 4),
        "score": _largest([_by_item(pair, "score") for pair in pairs]),
        "propensity": _largest([_by_item(pair, "propensity") for pair in pairs]),
        "prediction": _largest([(predictions[0], predictions[1])]),
        "only in one": lone,
        "dead letters equal": records(one, "dead_letters") == records(other, "dead_letters"),
        "receipts equal": records(one, "receipts") == records(other, "receipts"),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") + 0.0
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def _tally(names: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _is_tied(one: Record, other: Record) -> bool:
    """Whether two slates have the same scores at the same places: items that differ are worth the same."""
    a, b = ([slot["score"] for slot in slate["items"]] for slate in (one, other))
    return len(a) == len(b) and all(abs(x - y) <= TIE for x, y in zip(a, b, strict=True))


def _by_item(pair: tuple[Record, Record], field: str) -> tuple[Record, Record]:
    one, other = ({slot["item_id"]: slot[field] for slot in slate["items"]} for slate in pair)
    return one, other


def _largest(pairs: Sequence[tuple[Mapping[Any, float], Mapping[Any, float]]]) -> float:
    """The largest difference of what both of a pair hold."""
    return max((abs(a[key] - b[key]) for a, b in pairs for key in a.keys() & b.keys()), default=0.0)


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; the exit code."""
    match arguments:
        case ["write", folder]:
            run_all(Path(folder))
        case ["pin"]:
            with tempfile.TemporaryDirectory() as folder:
                pinned = json.dumps(found(run_all(Path(folder))), indent=1)
            PINNED.write_text(pinned + "\n")
        case ["compare", one, other]:
            for name in STREAMS:
                apart = compared(Path(one) / name, Path(other) / name)
                print(name, *(f"{what} {value:g}" for what, value in apart.items()), sep=", ")
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
