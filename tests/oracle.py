"""What `riverrank replay` answers to made streams that touch every part of it, as digests to hold it to. Drives the
command line alone, so it outlives any change within.

    python tests/oracle.py write DIR         all outputs of all streams
    python tests/oracle.py pin               renew tests/golden/oracle.json
    python tests/oracle.py compare DIR DIR   how far two such folders are apart
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

PINNED = Path(__file__).parent / "golden" / "oracle.json"
OUTPUTS = ("slates", "predictions", "dead_letters", "receipts")
T0 = 1_764_000_000_000
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

CATEGORIES = ("drama", "comedy", "sci-fi", "crime", "nature", "sport")
BRANDS = ("Fox", "Aldra", "Lynx", "Møre", "Isbre")
ADJECTIVES = ("quiet", "bright", "northern", "hidden", "endless", "borrowed", "electric")
NOUNS = ("harbour", "winter", "machine", "garden", "witness", "river", "kingdom", "orchestra")
AGES = ("18-24", "25-34", "35-49")
ANSWERED = ("view", "click", "like", "dislike", "cart", "purchase", "rate", "request")
USUAL = {"view": 4, "click": 6, "like": 1.5, "dislike": 1, "cart": 1.5, "purchase": 1, "rate": 1, "request": 1.5}
USUAL |= {"impression": 2, "profile": 1}
Record = dict[str, Any]


class Stream(NamedTuple):
    """A made stream: what it is about, its configuration (TOML), its size, and how often each event type comes."""

    about: str
    config: str
    seed: int
    events: int = 500
    users: int = 30
    items: int = 120
    mix: Mapping[str, float] = USUAL
    turns: bool = False  # every taste changes half-way
    dirty: bool = False  # with redeliveries, late events and what cannot be used


ALL_KINDS = """
[history]
event_ids = 16
[impression]
max_open = 2
[exploration]
rate = 0.0
"""

STREAMS: Mapping[str, Stream] = {
    "all-kinds": Stream(
        "every event type and every fault, few event ids kept, nothing explored",
        ALL_KINDS,
        seed=1,
        events=650,
        users=6,
        mix=USUAL | {"erase": 0.3},
        dirty=True,
    ),
    "fewer-sources": Stream(
        "its beginning, without text and interest, which score and never propose",
        ALL_KINDS + "[sources]\noff = ['text', 'interest']\n",
        seed=1,
        events=300,
        users=6,
        mix=USUAL | {"erase": 0.3},
        dirty=True,
    ),
    "rules": Stream(
        "rules, diversity, novelty, a cap on categories, epsilon, only what the catalogue holds",
        """
        [rules]
        pin = ["category=sport", "brand=Lynx"]
        boost = {"sale=true" = 1.5, "category=drama" = 0.5}
        bury = {"brand=Fox" = 2.0}
        exclude = ["category=crime", "year=1980~"]
        [diversity]
        strength = 0.5
        novelty = 1.5
        category_cap = 4
        [exploration]
        kind = "epsilon"
        rate = 0.3
        [catalogue]
        strict = true
        new_items = 12
        [slate]
        size = 10
        candidates = 30
        """,
        seed=2,
        items=240,
    ),
    "softmax": Stream(
        "ratings above all, cohorts, few seen items remembered, Adam, softmax",
        """
        [learner]
        optimizer = "optim.Adam"
        rate = 0.05
        negatives = 2
        parameters = {l2 = 0.001}
        [exploration]
        kind = "softmax"
        rate = 0.4
        halved_after = 20
        [reward]
        view = 0.1
        rate_from = 3.5
        [slate]
        seen = 10
        """,
        seed=3,
        mix={"rate": 8, "click": 4, "request": 2, "profile": 3, "impression": 2, "view": 1, "dislike": 1},
    ),
    "thompson": Stream(
        "two shards, tastes that change, few content weights, Thompson",
        """
        [signals]
        shards = 2
        flush_events = 7
        half_life_events = 200
        trend_half_life_events = 30
        [learner]
        drift = 1.0
        tokens = 6
        [slate]
        size = 8
        [exploration]
        kind = "thompson"
        rate = 0.8
        """,
        seed=4,
        users=3,
        items=360,
        mix={"view": 3, "click": 6, "like": 2, "purchase": 1, "request": 1, "impression": 8, "profile": 0.5},
        turns=True,
    ),
    "bounds": Stream(
        "little is kept of anything, what is learned from is sampled early, and what was taken may come again",
        """
        seed = 7
        [slate]
        hide = []
        size = 12
        candidates = 40
        seen = 10
        [history]
        size = 12
        [signals]
        neighbours = 4
        window = 5
        items = 60
        sessions = 8
        forgetting = 0.9
        [embedding]
        dimensions = 8
        negatives = 16
        items = 60
        warmup_events = 120
        sample = 0.4
        [ranker]
        warmup_events = 80
        sample = 0.5
        flush_events = 16
        [catalogue]
        items = 130
        [exploration]
        rate = 0.1
        """,
        seed=5,
        events=750,
        items=100,
        mix=USUAL | {"erase": 0.2},
    ),
    "tree": Stream(
        "a learner of River's that is not linear",
        """
        [learner]
        model = "tree.HoeffdingTreeClassifier"
        parameters = {grace_period = 10, leaf_prediction = "nb"}
        negatives = 2
        tokens = 8
        [slate]
        size = 8
        candidates = 16
        [exploration]
        kind = "softmax"
        rate = 0.1
        """,
        seed=6,
        events=220,
        users=6,
        items=60,
    ),
}


# The made streams.


def made_items(stream: Stream) -> Iterator[Record]:
    """The catalogue, then what becomes of it: updates, deletions, and records that are older than what is known."""
    rng = random.Random(f"items:{stream.seed}")
    for k in range(stream.items):
        yield _item(rng, k, T0 - 1000 * k)
    for k in range(0, stream.items, 7):
        changed = _item(rng, k, T0 + 500)
        if k % 3 == 0:
            changed = {"item_id": _id(k), "ts": T0 + 500, "deleted": True}
        elif k % 3 == 1:
            changed["ts"] = T0 - 10_000_000
        yield changed


def made_events(stream: Stream) -> Iterator[Record]:
    """What users do, in the order in which it arrives."""
    rng = random.Random(f"events:{stream.seed}")
    crowd = _Crowd(stream, rng)
    types, weights = list(stream.mix), list(stream.mix.values())
    for number in range(stream.events):
        user, kind = int(stream.users * rng.random() ** 1.5), rng.choices(types, weights)[0]
        if rng.random() < 0.06:  # one who looks around, and takes nothing
            user, kind = stream.users + rng.randrange(5), rng.choice(("request", "request", "profile", "impression"))
        yield crowd.event(number, user, kind)


def made_lines(stream: Stream) -> tuple[list[bytes], list[bytes]]:
    """The lines of the items and of the events, those that cannot be used among them."""
    rng = random.Random(f"lines:{stream.seed}")
    items = [_line(item) for item in made_items(stream)]
    events: list[bytes] = []
    for number, event in enumerate(made_events(stream)):
        events.append(_line(event))
        if stream.dirty and rng.random() < 0.06:
            events.append(events[-1 - rng.randrange(min(len(events), 40))])
        if stream.dirty and rng.random() < 0.02:
            events.append(_line(event | {"event_id": f"late-{number}", "ts": event["ts"] - 86_400_000}))
    if stream.dirty:
        items = _with(items, _bad_items())
        events = _with(events, _bad_events())
    return items, events


class _Crowd:
    """Users with a taste each, who mostly go on from what they took last."""

    def __init__(self, stream: Stream, rng: random.Random) -> None:
        self.stream, self.rng, self.now = stream, rng, T0 + 3_600_000
        self.last: dict[int, int] = {}
        self.shown: dict[int, tuple[str, str]] = {}  # the item of an impression that will be taken, and its slate
        self.answers: Counter[int] = Counter()

    def event(self, number: int, user: int, kind: str) -> Record:
        """The next event, of user `user`; a tenth of them arrive out of order."""
        rng = self.rng
        self.now += rng.randrange(200, 12_000)
        ts = self.now - rng.randrange(600_000) if rng.random() < 0.1 else self.now
        event: Record = {"event_id": f"e-{number}", "type": kind, "user_id": f"u-{user}", "ts": ts}
        if kind == "impression":
            self._show(event, user, number)
        elif kind == "profile":
            event["attributes"] = {"age_band": rng.choice(AGES), "likes": rng.sample(CATEGORIES, rng.randrange(3))}
        elif kind == "erase":
            event["ts"] = self.now
        elif kind != "request":
            self._take(event, user, number)
        if kind in ANSWERED:
            self.answers[user] += 1
            if rng.random() < 0.2:
                event["context"] = {"device": rng.choice(("mobile", "tv")), "hour": rng.randrange(24)}
        return event

    def _turned(self, number: int) -> bool:
        return self.stream.turns and number > self.stream.events // 2

    def _show(self, event: Record, user: int, number: int) -> None:
        """Items at random; where tastes change, one, which is nearly always taken, and afterwards never."""
        rng, turns = self.rng, self.stream.turns
        names = [_id(rng.randrange(self.stream.items)) for _ in range(1 if turns else rng.randrange(1, 6))]
        if rng.random() < (0.0 if turns else 0.3):
            names.append(f"x-{rng.randrange(20)}")
        event["items"] = names
        slate = f"u-{user}:{self.answers[user]}" if rng.random() < 0.5 else ""
        if slate:
            event["slate_id"] = slate
        chance = 0.6 if not turns else 0.0 if self._turned(number) else 1.0
        if rng.random() < chance:
            self.shown[user] = rng.choice(names), slate

    def _take(self, event: Record, user: int, number: int) -> None:
        rng, kind = self.rng, event["type"]
        if user in self.shown and rng.random() < 0.8:
            event["item_id"], slate = self.shown.pop(user)
            if slate:
                event["slate_id"] = slate
        elif rng.random() < 0.08:
            event["item_id"] = f"x-{rng.randrange(20)}"
        else:
            self.last[user] = self._next(user, number)
            event["item_id"] = _id(self.last[user])
        if kind == "rate":
            event["value"] = float(rng.choice((1, 2, 3, 3.5, 4, 4.5, 5, 5)))

    def _next(self, user: int, number: int) -> int:
        rng, n, size = self.rng, len(CATEGORIES), self.stream.items
        taste = (user + 3 * self._turned(number)) % n
        if user in self.last and rng.random() < 0.5 and self.last[user] % n == taste:
            return (self.last[user] + n * rng.randrange(1, 4)) % size
        if rng.random() < 0.8:
            return taste + n * int(size // n * rng.random() ** 2)
        return rng.randrange(size)


def _id(k: int) -> str:
    return f"i-{k:03}"


def _item(rng: random.Random, k: int, ts: int) -> Record:
    """Item `k`: every eleventh says nothing of itself, and of the others each a different part."""
    item: Record = {"item_id": _id(k), "ts": ts}
    if k % 11 == 10:
        return item
    category = CATEGORIES[k % len(CATEGORIES)]
    item["title"] = f"{rng.choice(BRANDS)} {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    item["categories"] = [category, rng.choice(CATEGORIES)] if rng.random() < 0.3 else [category]
    item["attributes"] = {
        "brand": rng.choice(BRANDS),
        "year": rng.randrange(1970, 2025),
        "price": round(2 + 60 * rng.random(), 2),
        "sale": rng.random() < 0.2,
        "moods": rng.sample(ADJECTIVES, 2),
    }
    if k % 2:
        item["text"] = f"A {category} about the {rng.choice(NOUNS)} of a {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}."
        item["published_ts"] = T0 - rng.randrange(10**9)
    if k % 3 == 0:
        item["embedding"] = [round(rng.gauss(0, 1), 3) for _ in range(6)]
    if k % 17 == 5:
        item["available"] = False
    return item


def _line(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()


def _with(lines: list[bytes], others: Sequence[bytes]) -> list[bytes]:
    """The `others` among the `lines`, evenly."""
    made, step = list(lines), max(1, len(lines) // (len(others) + 1))
    for place, other in reversed(list(enumerate(others, start=1))):
        made.insert(place * step, other)
    return made


def _bad_events() -> list[bytes]:
    good = {"event_id": "bad", "type": "click", "user_id": "u-1", "item_id": "i-001", "ts": T0}
    faults: list[Record] = [
        {"item_id": None},
        {"type": "buy"},
        {"type": "rate"},
        {"type": "impression"},
        {"type": "impression", "items": []},
        {"user_id": ""},
        {"event_id": "e" * 257},
        {"ts": -1},
        {"ts": "yesterday"},
        {"value": "much"},
        {"context": {"deep": 2**70}},
    ]
    lines = [_line(good | fault) for fault in faults]
    lines += [b"{broken", b"[]", b"", b'{"event_id":"\xff\xfe"}', _line(good)[:-9], b'{"type":"click"}']
    return [*lines, _line(good | {"context": {"long": "x" * (1 << 20)}})]


def _bad_items() -> list[bytes]:
    faults: list[Record] = [{"item_id": ""}, {"ts": 1.5}, {"published_ts": -1}, {"categories": "drama"}]
    lines = [_line({"item_id": "i-bad", "ts": T0} | fault) for fault in faults]
    return [*lines, b"null", b"item", b"\x80", _line({"item_id": "i-bad", "ts": T0, "text": "x" * (1 << 20)})]


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
