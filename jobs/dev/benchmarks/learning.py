"""Learning alone, in rows a second: our learners within the running operators, beside Vowpal Wabbit and River.

A row is one candidate with its features and whether it was taken. Ours are timed where they run, with all that a call
of them costs; what they learned from is written down, and given to Vowpal Wabbit's own loop and to River. Vowpal Wabbit
reads its rows from its binary cache, which it makes in a first pass; all run on one core.
"""

import functools
import importlib.util
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from river import linear_model, optim
from riverrank.jobs.errors import Failure

from .figures import Spread
from .local import Local
from .parts import wrapped
from .streams import shop_stream

PASSES = 20  # over the rows, that Vowpal Wabbit is timed by
RATE = 0.02
VOWPAL = f"--loss_function logistic --sgd --learning_rate {RATE} --quiet --holdout_off"


class Rows(NamedTuple):
    """Candidates that one call learned from: dense features float64 (r, d), tokens int (r, t), -1 for none (None: this
    learner has no tokens), and the position of the one that was taken.
    """

    dense: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64] | None
    taken: int


def _preferred(_: Any, inputs: Any, *__: Any, **___: Any) -> Rows:
    return Rows(inputs.dense.copy(), inputs.tokens.astype(np.int64), 0)


def _chosen(_: Any, features: Any, position: int, *__: Any, **___: Any) -> Rows:
    return Rows(features.copy(), None, position)


# Each learner with the callable that learns (as `parts.PARTS` names them), and what of its arguments the rows are. The
# first argument after `self` is as long as there are rows.
LEARNERS: dict[str, tuple[str, Callable[..., Rows]]] = {
    "per-user learner": ("riverrank.operators.models.learner:LinearLearner.prefer", _preferred),
    "ranker": ("riverrank.operators.models.ensemble:Ensemble.choose", _chosen),
}


class Rate(NamedTuple):
    """Who learned, from whose rows, how many of these, with how many features each on average; rows a second."""

    learner: str
    rows_of: str
    rows: int
    features: float
    per_second: Spread


@dataclass
class Taken:
    """What was seen of one of our learners."""

    kept: list[Rows] = field(default_factory=list)
    rows: int = 0
    nanoseconds: int = 0


def measure(warm_up: int, events: int, rounds: int, most: int) -> dict[str, Any]:
    """All rates, with `most` rows for the others; `missing` says what could not be compared with, and why."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    taken, rates = ours(warm_up, events, rounds)
    found: list[Rate] = []
    missing = ""
    if importlib.util.find_spec("vowpalwabbit") is None:
        missing = "Vowpal Wabbit is not installed: make setup"
    for name, rows in taken.items():
        kept = _first(rows, most)
        count = sum(len(choice.dense) for choice in kept)
        features = _features(kept) / count
        found.append(Rate(f"riverrank's {name}", name, count, features, rates[name]))
        if not missing:
            found.append(Rate("Vowpal Wabbit", name, count, features, vowpal(kept, rounds)))
        found.append(Rate("River", name, count, features, river(kept, rounds)))
    return {"rates": found, "missing": missing}


def ours(warm_up: int, events: int, rounds: int) -> tuple[dict[str, list[Rows]], dict[str, Spread]]:
    """What our learners learned from after `warm_up` events, in the first round; and rows a second of each.

    Rows are noted in the first round alone, which is not timed.
    """
    items, stream = shop_stream(warm_up + (1 + rounds) * events)
    local = Local()
    local.load(map(local.arrival, items))
    arrivals = iter(list(map(local.arrival, stream)))
    local.run(itertools.islice(arrivals, warm_up))
    kept: dict[str, list[Rows]] = {}
    rates: dict[str, list[float]] = {name: [] for name in LEARNERS}
    for number in range(1 + rounds):
        seen = {name: Taken() for name in LEARNERS}
        note = _noted if number == 0 else _timed
        with wrapped({path: functools.partial(note, seen[name], of) for name, (path, of) in LEARNERS.items()}):
            local.run(itertools.islice(arrivals, events))
        for name, learned in seen.items():
            if number == 0:
                kept[name] = learned.kept
            elif not learned.rows:
                raise Failure(f"the {name} learned nothing in {events} events: give more")
            else:
                rates[name].append(learned.rows / learned.nanoseconds * 1e9)
    return kept, {name: Spread.of(values) for name, values in rates.items()}


def vowpal(choices: Sequence[Rows], rounds: int) -> Spread:
    """Rows a second of Vowpal Wabbit's own loop over its cache: the difference between many passes and one."""
    rows = sum(len(choice.dense) for choice in choices)
    with tempfile.TemporaryDirectory(prefix="riverrank-bench-") as folder:
        text = Path(folder) / "rows.vw"
        with text.open("w", encoding="utf-8") as file:
            for choice in choices:
                file.writelines(_lines(choice))
        rates = []
        for _ in range(rounds):
            one, many = (_passes(text, passes) for passes in (1, 1 + PASSES))
            rates.append(PASSES * rows / max(many - one, 1e-9))
    return Spread.of(rates)


def river(choices: Sequence[Rows], rounds: int) -> Spread:
    """Rows a second of River's logistic regression, each a dictionary that was made before."""
    examples = [example for choice in choices for example in _named(choice)]
    rates = []
    for _ in range(rounds):
        model = linear_model.LogisticRegression(optim.SGD(RATE))
        started = time.perf_counter()
        for features, label in examples:
            model.learn_one(features, label)
        rates.append(len(examples) / (time.perf_counter() - started))
    return Spread.of(rates)


def _noted(taken: Taken, rows_of: Callable[..., Rows], learn: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any, **named: Any) -> Any:
        taken.kept.append(rows_of(*arguments, **named))
        return learn(*arguments, **named)

    return noted


def _timed(taken: Taken, _: Callable[..., Rows], learn: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:
        taken.rows += len(arguments[1])
        started = time.perf_counter_ns()
        result = learn(*arguments, **named)
        taken.nanoseconds += time.perf_counter_ns() - started
        return result

    return timed


def _first(choices: Sequence[Rows], most: int) -> list[Rows]:
    """The first choices, with about `most` rows."""
    counts = np.cumsum([len(choice.dense) for choice in choices])
    return list(choices[: int(np.searchsorted(counts, most)) + 1])


def _features(choices: Sequence[Rows]) -> int:
    """How many features other than 0 all rows have together."""
    dense = sum(int(np.count_nonzero(choice.dense)) for choice in choices)
    return dense + sum(int((choice.tokens >= 0).sum()) for choice in choices if choice.tokens is not None)


def _named(choice: Rows) -> list[tuple[dict[str, float], bool]]:
    """Rows as River takes them, without what is 0."""
    found = []
    for row, dense in enumerate(choice.dense.tolist()):
        features = {f"f{number}": value for number, value in enumerate(dense) if value}
        if choice.tokens is not None:
            features |= {f"t{token}": 1.0 for token in choice.tokens[row].tolist() if token >= 0}
        found.append((features, row == choice.taken))
    return found


def _lines(choice: Rows) -> list[str]:
    """Rows as Vowpal Wabbit reads them."""
    return [
        f"{1 if label else -1} | {' '.join(f'{name}:{value:.6g}' for name, value in features.items())}\n"
        for features, label in _named(choice)
    ]


def _passes(text: Path, passes: int) -> float:
    """Seconds of so many passes over the rows, the first of which writes the cache."""
    from vowpalwabbit import Workspace  # noqa: PLC0415 - it may not be installed, which `measure` says

    cache = text.with_suffix(".cache")
    started = time.perf_counter()
    Workspace(f"-d {text} --passes {passes} --cache_file {cache} --kill_cache {VOWPAL}").finish()
    return time.perf_counter() - started
