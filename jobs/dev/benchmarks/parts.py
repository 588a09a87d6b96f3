"""Where the time of one event goes, by part, in microseconds: the local operators with a stop-watch around each part.

PARTS names the callables of each part; where one no longer exists or is never called, that is a failure. What a
stop-watch costs is measured first and subtracted; what lies in no part is listed as the rest.
"""

import importlib
import inspect
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from riverrank.jobs.errors import Failure

from .figures import Spread
from .local import Local
from .streams import shop_stream

RECOMMEND, RANKER = "riverrank.operators.slate.recommend", "riverrank.operators.models.ranker"
LEARNER, REPLAY = "riverrank.operators.models.learner", "riverrank.jobs.local.replay"

# Each part with the callables whose time it is, where they are looked up when they are called. Of parts within parts
# the innermost gets the time, and is listed below the outermost.
PARTS: Mapping[str, Sequence[str]] = {
    "parse": (f"{REPLAY}:decode_event",),
    "session": (
        "riverrank.operators.session.session:Session.accept",
        "riverrank.operators.session.session:Session.routes",
        "riverrank.operators.session.session:Session.sampled",
    ),
    "signals": (
        "riverrank.operators.signals.signals:Signals.learn",
        "riverrank.operators.signals.signals:Signals.flush",
    ),
    "index updates": (f"{REPLAY}:decode_update", "riverrank.operators.index.item_index:ItemIndex.apply"),
    "ranker": (f"{RANKER}:Ranker.learn", f"{RANKER}:Ranker.flush"),
    "recommend": (f"{RECOMMEND}:Recommend.answer",),
    "write": (f"{REPLAY}:Sink.write",),
    "retrieve": (
        "riverrank.operators.candidates.retrieve:Retriever.find",
        f"{RECOMMEND}:context_of",
        f"{RANKER}:context_of",
    ),
    "embedding": (
        "riverrank.operators.signals.embedding:Embedding.take",
        "riverrank.operators.signals.embedding:Embedding.moved",
    ),
    "learn": (
        "riverrank.operators.models.ensemble:Ensemble.choose",
        f"{LEARNER}:LinearLearner.prefer",
    ),
    "decode": (f"{RECOMMEND}:decode_learner", f"{LEARNER}:Learners.of"),
    "encode": (f"{RECOMMEND}:encode_learner", f"{LEARNER}:LinearLearner.store"),
    "score": (
        f"{LEARNER}:Inputs.__init__",
        f"{LEARNER}:LinearLearner.logits",
        "riverrank.operators.models.weights:RankerWeights.logits",
    ),
    "rerank": ("riverrank.operators.slate.rerank:Reranker.position",),
    "reasons": (
        f"{RECOMMEND}:parts_of",
        f"{LEARNER}:LinearLearner.contributions",
        "riverrank.operators.slate.explain:Explainer.causes",
    ),
    "json": (f"{RECOMMEND}:to_json",),
}
REST = "rest"
ALL = "all, without stop-watches"
CALIBRATIONS, CALIBRATION_CALLS = 7, 20_000


class PartTime(NamedTuple):
    """Time of a part within an outer one ("" where it is outermost itself), calls an event, microseconds an event."""

    outer: str
    part: str
    calls: float
    microseconds: Spread


class Target(NamedTuple):
    """Where a callable stands: `owner` (a module or class) has it under `name`, as `held`."""

    owner: Any
    name: str
    held: Any

    @classmethod
    def at(cls, path: str) -> "Target":
        """The callable at `module:name` or `module:Class.name`. Raises `Failure` where there is none.

        >>> Target.at("json:JSONDecoder.decode").name
        'decode'
        """
        module, _, names = path.partition(":")
        *outer, name = names.split(".")
        try:
            owner: Any = importlib.import_module(module)
            for step in outer:
                owner = getattr(owner, step)
            held = inspect.getattr_static(owner, name)
        except (ImportError, AttributeError) as error:
            raise Failure(f"{path} does not exist any more ({error}): mend the table of parts") from error
        called = getattr(owner, name)
        if not callable(called) or inspect.isgeneratorfunction(called):
            raise Failure(f"{path} is not a function whose calls can be timed: mend the table of parts")
        return cls(owner, name, held)


@contextmanager
def wrapped(wrappers: Mapping[str, Callable[[Callable[..., Any]], Callable[..., Any]]]) -> Iterator[None]:
    """Have the callable at each path wrapped for as long as the context lasts. Raises `Failure` as `Target.at` does."""
    targets = {path: Target.at(path) for path in wrappers}
    try:
        for path, (owner, name, held) in targets.items():
            inner = held.__func__ if isinstance(held, classmethod | staticmethod) else held
            outer: Any = wrappers[path](inner)
            setattr(owner, name, type(held)(outer) if isinstance(held, classmethod | staticmethod) else outer)
        yield
    finally:
        for owner, name, held in targets.values():
            setattr(owner, name, held)


class StopWatches:
    """Own time of each part by the outermost part it is in; what wrapping costs is subtracted.

    >>> watches = StopWatches({"load": ["json:loads"]})
    >>> import json
    >>> with watches.running():
    ...     _ = json.loads("[]")
    >>> [(part.outer, part.part, calls) for part, calls in watches.calls.items()]
    [('', 'load', 1)]
    """

    class Key(NamedTuple):
        """A part, and the outermost part that it is in."""

        outer: str
        part: str

    def __init__(self, parts: Mapping[str, Sequence[str]] = PARTS) -> None:
        self.calls: dict[StopWatches.Key, int] = defaultdict(int)
        self._parts = parts
        self._called: dict[str, int] = dict.fromkeys((path for paths in parts.values() for path in paths), 0)
        self._own: dict[StopWatches.Key, int] = defaultdict(int)  # nanoseconds
        self._within: dict[StopWatches.Key, int] = defaultdict(int)  # calls that a part's own time holds the rest of
        self._stack: list[list[Any]] = [[REST, 0]]  # of parts that are running: name, nanoseconds in parts within
        self._inside, self._outside = self._calibrated()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time all parts for as long as the context lasts; the time of the whole is the rest's."""
        watches = {path: self._watch(part, path) for part, paths in self._parts.items() for path in paths}
        with wrapped(watches):
            self._stack[0][1] = 0
            started = time.perf_counter_ns()
            yield
            self._own[self.Key("", REST)] += time.perf_counter_ns() - started - self._stack[0][1]

    def taken(self) -> dict["StopWatches.Key", float]:
        """Nanoseconds of each part since the last call of this, without what watching cost; never below 0."""
        rest = self.Key("", REST)
        found = {
            key: max(
                0.0, own - self._inside * (0 if key == rest else self.calls[key]) - self._outside * self._within[key]
            )
            for key, own in self._own.items()
        }
        for counts in (self._own, self._within, self.calls):
            counts.clear()
        return found

    def never_called(self) -> list[str]:
        """The paths that no call came by."""
        return [path for path, calls in self._called.items() if not calls]

    def _watch(self, part: str, path: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        stack, own, calls, within, called = self._stack, self._own, self.calls, self._within, self._called
        key_of, clock = self.Key, time.perf_counter_ns

        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            def watched(*arguments: Any, **named: Any) -> Any:
                frame: list[Any] = [part, 0]
                stack.append(frame)
                started = clock()
                try:
                    return function(*arguments, **named)
                finally:
                    spent = clock() - started
                    stack.pop()
                    stack[-1][1] += spent
                    outer = stack[1][0] if len(stack) > 1 else ""
                    key = key_of(outer, part)
                    own[key] += spent - frame[1]
                    calls[key] += 1
                    called[path] += 1
                    parent = stack[-1][0]
                    within[key_of(stack[1][0] if len(stack) > 2 else "", parent)] += 1

            return watched

        return wrap

    def _calibrated(self) -> tuple[float, float]:
        """Nanoseconds that a watch adds to the own time of what it watches, and to that of what called it."""
        inside, outside = [], []
        nothing = _nothing
        watched = self._watch("", "")(nothing)
        self._called[""] = 0
        for _ in range(CALIBRATIONS):
            plain = _seconds(nothing)
            self._own.clear()
            whole = _seconds(watched)
            own = self._own[self.Key("", "")]
            inside.append((own - plain) / CALIBRATION_CALLS)
            outside.append((whole - own) / CALIBRATION_CALLS)
        del self._called[""]
        for counts in (self._own, self._within, self.calls):
            counts.clear()
        return max(0.0, min(inside)), max(0.0, min(outside))


def measure(warm_up: int, events: int, rounds: int) -> dict[str, Any]:
    """Parts of an event: after `warm_up` events, in each round `events` with stop-watches and as many without.

    Returns the rows of `PartTime` as lists, those of the whole last. Raises `Failure` where a part is never called.
    """
    items, stream = shop_stream(warm_up + 2 * rounds * events)
    watches = StopWatches()
    whole: list[float] = []
    times: list[dict[StopWatches.Key, float]] = []
    calls: dict[StopWatches.Key, int] = defaultdict(int)
    with tempfile.TemporaryDirectory(prefix="riverrank-bench-") as folder:
        local = Local(slates=Path(folder) / "slates.jsonl")
        arrivals = list(map(local.arrival, stream))
        local.load(map(local.arrival, items))
        local.run(arrivals[:warm_up])
        for start in range(warm_up, len(arrivals), 2 * events):
            started = time.perf_counter()
            local.run(arrivals[start : start + events])
            whole.append((time.perf_counter() - started) / events * 1e6)
            with watches.running():
                local.run(arrivals[start + events : start + 2 * events])
            for key, count in watches.calls.items():
                calls[key] += count
            times.append(watches.taken())
    unused = watches.never_called()
    if unused:
        raise Failure(f"{', '.join(unused)}: never called, so these parts mean nothing: mend the table of parts")
    keys = sorted({key for taken in times for key in taken}, key=_order)
    rows = [
        PartTime(
            *key, calls[key] / (events * rounds), Spread.of([taken.get(key, 0.0) / events / 1e3 for taken in times])
        )
        for key in keys
    ]
    return {"parts": [*rows, PartTime("", ALL, 1.0, Spread.of(whole))]}


def _order(key: StopWatches.Key) -> tuple[int, int, int]:
    """By outermost part, itself first; the rest last."""
    names = [*PARTS, REST]
    outer = key.outer or key.part
    return names.index(outer), int(bool(key.outer)), names.index(key.part)


def _nothing() -> None:
    return None


def _seconds(function: Callable[[], None]) -> int:
    """Nanoseconds of many calls, the loop's among them."""
    started = time.perf_counter_ns()
    for _ in range(CALIBRATION_CALLS):
        function()
    return time.perf_counter_ns() - started
