"""Where the time of one event goes, by part, in microseconds: the local operators with a stop-watch around each part.

PARTS names the callables of each part; where one no longer exists or is never called, that is a failure. What a
stop-watch costs is measured first and subtracted; what lies in no part is listed as the rest.
"""

import functools
import importlib
import inspect
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from riverrank.jobs.config.schema import parse
from riverrank.jobs.errors import Failure
from riverrank.jobs.local.writing import opened

from .figures import Spread
from .local import Local
from .streams import shop_stream

RECOMMEND, RANKER = "riverrank.operators.slate.recommend", "riverrank.operators.models.ranker"
LEARNER, PIPELINE = "riverrank.operators.models.learner", "riverrank.jobs.local.pipeline"

# Each part with the callables whose time it is, where they are looked up when they are called. Of parts within parts
# the innermost gets the time, and is listed below the outermost.
PARTS: Mapping[str, Sequence[str]] = {
    "parse": (f"{PIPELINE}:event_of",),
    "session": (
        "riverrank.operators.session.session:Session.accept",
        "riverrank.operators.session.session:Session.routes",
        "riverrank.operators.session.session:Session.draw_sample",
    ),
    "signals": (
        "riverrank.operators.signals.signals:Signals.learn",
        "riverrank.operators.signals.signals:Signals.updates",
    ),
    "index updates": ("riverrank.operators.index.item_index:ItemIndex.apply",),
    "ranker": (f"{RANKER}:Ranker.learn", f"{RANKER}:Ranker.updates"),
    "recommend": (f"{RECOMMEND}:Recommend.answer",),
    "write": (f"{PIPELINE}:Pipeline._write",),
    "retrieve": (
        "riverrank.operators.candidates.retrieval:Retriever.find",
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
        "riverrank.operators.slate.learning:Learning.learn",
    ),
    "decode": (f"{RECOMMEND}:decode_learner", f"{LEARNER}:Learners.of"),
    "encode": (f"{RECOMMEND}:encode_learner", f"{LEARNER}:LinearLearner.store"),
    "score": (f"{LEARNER}:LinearLearner.score",),
    "drift": (f"{RECOMMEND}:with_history_since", f"{RECOMMEND}:watch"),
    "rerank": ("riverrank.operators.slate.rerank:Reranker.rerank",),
    "reasons": (
        f"{LEARNER}:LinearLearner.contributions",
        "riverrank.operators.slate.explain:Explainer.parts",
        "riverrank.operators.slate.explain:Explainer.reasons",
    ),
    "json": ("riverrank.operators.slate.writing:SlotWriter.write", f"{RECOMMEND}:to_json"),
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


class Call:
    """Calls of one path from within another one: their number and all their nanoseconds; the calls within them."""

    __slots__ = ("calls", "nanoseconds", "path", "within")

    def __init__(self, path: str) -> None:
        self.path, self.calls, self.nanoseconds = path, 0, 0
        self.within: dict[str, Call] = {}


class Key(NamedTuple):
    """A part, and the outermost part that it is in."""

    outer: str
    part: str


class StopWatches:
    """Own time of each part by the outermost part it is in; what watching costs is subtracted.

    >>> watches = StopWatches({"load": ["json:loads"]})
    >>> import json
    >>> with watches.running():
    ...     _ = json.loads("[]")
    >>> calls, microseconds = watches.taken()["", "load"]
    >>> calls, 0 < microseconds < 1e6, watches.never_called()
    (1, True, [])
    """

    def __init__(
        self, parts: Mapping[str, Sequence[str]] = PARTS, clock: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        """`clock` counts nanoseconds."""
        self._clock = clock
        self._part_of = {path: part for part, paths in parts.items() for path in paths}
        self._never = dict.fromkeys(self._part_of)
        self._whole = self._now = Call("")
        self._inside, self._outside = self._calibrated()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time all parts for as long as the context lasts; the time of the whole is the rest's."""
        with wrapped({path: functools.partial(self._watched, path) for path in self._part_of}):
            self._whole = self._now = Call("")
            started = self._clock()
            yield
            self._whole.nanoseconds = self._clock() - started

    def taken(self) -> dict[Key, tuple[int, float]]:
        """Calls and microseconds of each part while the watches last ran, without what watching cost; never below 0."""
        found: dict[Key, tuple[int, float]] = {}
        self._collect(self._whole, "", found)
        return {key: (calls, max(0.0, nanoseconds) / 1e3) for key, (calls, nanoseconds) in found.items()}

    def never_called(self) -> list[str]:
        """The paths that no call came by, in all that `taken` looked at."""
        return list(self._never)

    def _collect(self, call: Call, outer: str, found: dict[Key, tuple[int, float]]) -> None:
        part = self._part_of.get(call.path, REST)
        key = Key(outer, part)
        within = call.within.values()
        own = call.nanoseconds - sum(each.nanoseconds for each in within)
        cost = self._inside * call.calls + self._outside * sum(each.calls for each in within)
        calls, nanoseconds = found.get(key, (0, 0.0))
        found[key] = calls + call.calls, nanoseconds + own - cost
        self._never.pop(call.path, None)
        for each in within:
            self._collect(each, "" if call is self._whole else outer or part, found)

    def _watched(self, path: str, function: Callable[..., Any]) -> Callable[..., Any]:
        clock = self._clock

        def watched(*arguments: Any, **named: Any) -> Any:
            caller = self._now
            call = caller.within.get(path)
            if call is None:
                call = caller.within[path] = Call(path)
            self._now = call
            started = clock()
            try:
                return function(*arguments, **named)
            finally:
                call.nanoseconds += clock() - started
                call.calls += 1
                self._now = caller

        return watched

    def _calibrated(self) -> tuple[float, float]:
        """Nanoseconds that a watch adds to the time of what it watches, and to that of what called it: of many tries
        the shortest, since whatever else the machine does only adds to them.
        """
        watched = self._watched("", _nothing)
        plain, inside, whole = [], [], []
        for _ in range(CALIBRATIONS):
            plain.append(self._looped(_nothing))
            self._now = Call("")
            whole.append(self._looped(watched))
            inside.append(self._now.within[""].nanoseconds / CALIBRATION_CALLS)
        added = max(0.0, min(inside) - min(plain))
        return added, max(0.0, min(whole) - min(plain) - added)

    def _looped(self, function: Callable[[], None]) -> float:
        """Nanoseconds of a call, the loop's among them."""
        started = self._clock()
        for _ in range(CALIBRATION_CALLS):
            function()
        return (self._clock() - started) / CALIBRATION_CALLS


def measure(warm_up: int, events: int, rounds: int) -> dict[str, Any]:
    """Parts of an event: after `warm_up` events, in each round `events` with stop-watches and as many without.

    Returns the rows of `PartTime` as lists, those of the whole last. Raises `Failure` where a part is never called.
    """
    items, stream = shop_stream(warm_up + 2 * rounds * events)
    watches = StopWatches()
    whole: list[float] = []
    times: list[dict[Key, tuple[int, float]]] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="riverrank-bench-"))
        slates = stack.enter_context(opened(parse({}, {"files.slates": f"{folder}/slates.jsonl"})))
        local = Local(outputs=slates)
        arrivals = list(map(local.arrival, stream))
        local.load(map(local.arrival, items))
        local.run(arrivals[:warm_up])
        for start in range(warm_up, len(arrivals), 2 * events):
            started = time.perf_counter()
            local.run(arrivals[start : start + events])
            whole.append((time.perf_counter() - started) / events * 1e6)
            with watches.running():
                local.run(arrivals[start + events : start + 2 * events])
            times.append(watches.taken())
    unused = watches.never_called()
    if unused:
        raise Failure(f"{', '.join(unused)}: never called, so these parts mean nothing: mend the table of parts")
    rows = []
    for key in sorted({key for taken in times for key in taken}, key=_order):
        found = [taken.get(key, (0, 0.0)) for taken in times]
        calls = sum(number for number, _ in found) / (events * rounds)
        rows.append(PartTime(*key, calls, Spread.of([microseconds / events for _, microseconds in found])))
    return {"parts": [*rows, PartTime("", ALL, 1.0, Spread.of(whole))]}


def _order(key: Key) -> tuple[int, int, int]:
    """By outermost part, itself first; the rest last."""
    names = [*PARTS, REST]
    outer = key.outer or key.part
    return names.index(outer), int(bool(key.outer)), names.index(key.part)


def _nothing() -> None:
    return None
