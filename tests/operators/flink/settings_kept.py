"""Which settings shape what is kept, and what becomes of it where they change: FOLLOWED, with a check of it; begun
ANEW, with what is told; or REFUSED, with what is told, by the operators that keep it. NOTHING_KEPT are all the others.
"""

from collections.abc import Callable, Collection
from typing import Any

import pytest
from kept_job import KeptJob
from riverrank.operators.catalogue.tokens import COHORT, CONTEXT
from riverrank.operators.models.learner import LinearLearner
from riverrank.state import uids
from riverrank.state.sessions import decode_session

Settings = dict[str, Any]  # by key
Check = Callable[[KeptJob], None]
BAYES = {"learner.model": "naive_bayes.BernoulliNB"}
NO_LINEAR_FORM = {"learner.optimizer": "optim.AdaGrad"}


def of_a_user(most: int, number: Callable[[KeptJob, str], int]) -> Check:
    """Of each user, from before or new, so many are kept at most, and of one so many."""

    def check(job: KeptJob) -> None:
        assert max(number(job, user) for user in job.slates) == most

    return check


def of_all(most: int, names: Callable[[KeptJob], Collection[str]], least: int = 1) -> Check:
    """So many are kept at most, and cohorts beside them."""

    def check(job: KeptJob) -> None:
        held = [name for name in names(job) if name.isprintable()]
        assert least <= len(held) <= most, held

    return check


def of_no_cohort(job: KeptJob) -> None:
    """Nothing that was stated is a name."""
    for names in (signals, indexed):
        assert [name for name in names(job) if name.startswith(COHORT) and not name.startswith(CONTEXT)] == []


def history(job: KeptJob, user: str) -> int:
    return len(decode_session(job.session_of(user)).history)


def event_ids(job: KeptJob, user: str) -> int:
    return len(decode_session(job.session_of(user)).hashes) // 8


def impressions(job: KeptJob, user: str) -> int:
    return len(decode_session(job.session_of(user)).impressions)


def hidden(job: KeptJob, user: str) -> int:
    return len(job.user(user).seen_by)


def tokens(job: KeptJob, user: str) -> int:
    return len(job.user(user).tokens) // 4


def signals(job: KeptJob) -> Collection[str]:
    return job.signals.function.shards["0"].table.rows


def vectors(job: KeptJob) -> Collection[str]:
    return job.ranker.function.ranker.embedding.table.rows


def counted(job: KeptJob) -> Collection[str]:
    return job.ranker.function.ranker.autoencoder.slots


def indexed(job: KeptJob) -> Collection[str]:
    return job.recommend.function.index.read(None).table.rows


def sessions(job: KeptJob) -> Collection[str]:
    return job.recommend.function.index.read(None).sessions.table.rows


def unmeasured(job: KeptJob) -> None:
    assert {job.user(user).precision for user in job.slates} == {b""}


def of_adam(job: KeptJob) -> None:
    assert {frozenset(job.user(user).memory) for user in job.slates} == {frozenset({"n_iterations", "m", "v"})}


def linear(job: KeptJob) -> None:
    learners = job.recommend.function.recommend.control.learners
    assert all(isinstance(learners.of(job.user(user)), LinearLearner) for user in job.slates)


def row(before: Settings, after: Settings, *others: Any) -> Any:
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    values = (f"{key}={before.get(key, '')}>{after.get(key, '')}" for key in changed)
    return pytest.param(before, after, *others, id=" ".join(values))


FOLLOWED = [
    row({}, {"history.size": 3}, of_a_user(3, history)),
    row({"history.size": 3}, {}, None),
    row({}, {"history.event_ids": 16}, of_a_user(16, event_ids)),
    row({}, {"history.story": 0}, None),
    row({}, {"impression.max_open": 1}, of_a_user(1, impressions)),
    row({}, {"impression.window": 1000}, None),
    row({}, {"slate.seen": 2}, of_a_user(2, hidden)),
    row({}, {"slate.size": 3}, None),
    row({}, {"slate.hide": ["click:30d", "view"]}, None),
    row({"slate.hide": []}, {}, None),
    row({}, {"learner.tokens": 3}, of_a_user(3, tokens)),
    row({}, {"learner.tokens": 0}, of_a_user(0, tokens)),
    row({"learner.tokens": 0}, {}, None),
    row({}, {"learner.optimizer": "optim.Adam"}, of_adam),
    row({"learner.optimizer": "optim.Adam"}, {"learner.optimizer": "optim.RMSProp"}, linear),
    row({}, {"learner.parameters": {"l2": 0.1}}, linear),
    row({}, {"learner.rate": 0.0}, linear),
    row({}, {"learner.drift": 0.0}, None),
    row({"exploration.kind": "softmax"}, {}, unmeasured),
    row({}, {"signals.items": 60, "signals.window": 2}, of_all(60, signals)),
    row({}, {"signals.sessions": 4}, of_all(4, sessions, 4)),
    row({}, {"signals.window": 2}, None),
    row({}, {"signals.forgetting": 0.5}, None),
    row({}, {"signals.half_life_events": 10, "signals.trend_half_life_events": 2}, None),
    row({}, {"embedding.items": 60, "signals.window": 2}, of_all(60, vectors)),
    row({}, {"autoencoder.items": 8}, of_all(8, counted, 8)),
    row({"autoencoder.items": 0}, {}, of_all(120, counted)),
    row({}, {"catalogue.items": 60}, of_all(60, indexed, 58)),
    row({}, {"catalogue.strict": True}, None),
    row({}, {"cohorts.users": 1}, None),
    row({"cohorts.users": 1}, {"cohorts.users": 1, "cohorts.attributes": []}, of_no_cohort),
    row({}, {"sources.off": ["content", "sessions", "covisit"]}, None),
    row({"sources.off": ["embedding", "autoencoder"]}, {}, None),
    row({}, {"domain.attribute": "category"}, None),
    row({}, {"reward.rate_most": 10.0, "reward.rate_from": 8.0}, None),
    row({}, {"reward.click": -1.0}, None),
    row({}, {"ranker.rate": 0.5}, None),
]
MODEL = "learner.model is .* now: users whose learners are of another class.* begin with new ones; set it as it was"
MADE = "learner.parameters, rate or tokens are others now.* begin with new ones; set them as they were"
ANEW = [  # with what is told, and whether it is the learners that are new
    row({}, BAYES, MODEL, True),
    row(BAYES, {}, MODEL, True),
    row(BAYES, {"learner.model": "linear_model.PAClassifier"}, MODEL, True),
    row({}, NO_LINEAR_FORM, MODEL, True),
    row(NO_LINEAR_FORM, {}, MODEL, True),
    row(BAYES, {**BAYES, "learner.parameters": {"alpha": 0.5}}, MADE, True),
    row(BAYES, {**BAYES, "learner.tokens": 3}, MADE, True),
    row(NO_LINEAR_FORM, {**NO_LINEAR_FORM, "learner.rate": 0.5}, MADE, True),
    row({}, {"exploration.kind": "thompson"}, "exploration.kind is thompson now: .* as unsure as new ones", False),
    row({}, {"autoencoder.items": 0}, "autoencoder.items is 0 now: what was counted of [0-9]+ items is given", False),
    row(
        {"domain.attribute": "category"},
        {},
        "weights of what no source tells any more .domain_last, domain_share. are",
        False,
    ),
]
INDEXED, SIGNALS_TOO = (uids.RANKER, uids.RECOMMEND), (uids.RANKER, uids.RECOMMEND, uids.SIGNALS)


def _was(key: str, was: int, now: int) -> str:
    return f"state was made with {key} = {was}, and it is {now} now: set it to {was}, or start without this savepoint"


REFUSED = [  # with what is told, and who tells it
    row({"signals.shards": a}, {"signals.shards": b}, _was("signals.shards", a, b), SIGNALS_TOO)
    for a, b in ((1, 2), (2, 1), (2, 3))
] + [
    row({}, {"signals.neighbours": 30}, _was("signals.neighbours", 60, 30), SIGNALS_TOO),
    row({}, {"signals.neighbours": 90}, _was("signals.neighbours", 60, 90), SIGNALS_TOO),
    row({}, {"embedding.dimensions": 16}, _was("embedding.dimensions", 32, 16), INDEXED),
    row({}, {"embedding.dimensions": 64}, _was("embedding.dimensions", 32, 64), INDEXED),
]
NOTHING_KEPT = {  # only what is done from now on depends on it
    "allowed_lateness", "allowed_ahead", "seed",
    "signals.flush_events", "signals.flush_every", "ranker.flush_events", "ranker.flush_every",
    "embedding.rate", "embedding.negatives", "embedding.warmup_events", "embedding.sample",
    "ranker.warmup_events", "ranker.sample", "learner.negatives", "slate.candidates", "catalogue.new_items",
    "diversity.strength", "diversity.novelty", "diversity.category_cap", "exploration.rate", "exploration.halved_after",
    "rules.pin", "rules.boost", "rules.bury", "rules.exclude", "fairness.floors", "prior.file", "prior.out",
    "prior.every", "experiment.salt", "experiment.arms",
}  # fmt: skip
# Of what is kept with noise, in the place of all that SIGNALS and RANKER keep without: tests/operators/privacy. What
# one user contributes is refused where it is another; of the others, only what is told from now on depends on them.
OF_NOISE = {
    "noise.epsilon", "noise.window", "noise.contributions", "noise.pairs",
    "noise.delta", "noise.release", "noise.batch", "noise.clip",
}  # fmt: skip
