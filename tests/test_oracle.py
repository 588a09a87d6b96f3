"""The oracle: made streams that touch every part of `riverrank replay` are answered as they were before. Where a change
means to answer differently, `python tests/oracle.py compare` says by how much, and `pin` renews what is pinned.
"""

import json
import os
import tomllib
from collections import Counter

import oracle
import pytest

TYPES = {"view", "click", "like", "dislike", "cart", "purchase", "rate", "impression", "profile", "request", "erase"}
PROPOSING = {
    *("covisit", "embedding", "autoencoder", "sessions", "content", "cohort", "popular", "trending", "new"),
    *("repeat", "context"),
}
REASONS = {  # because_you_disliked is none where a dislike is worth less than nothing
    *(f"because_you_{verb}" for verb in ("viewed", "clicked", "liked", "carted", "bought", "rated")),
    *("because_of_your_history", "like_your_history", "stated_preference", "cohort", "popular", "trending", "new"),
    *(
        "context",
        "repeat",
        "rule",
        "novelty",
        "learner",
        "exploration",
        "category",
        "brand",
        "year",
        "price",
        "sale",
        "moods",
    ),
}
FAULTS = {"bad_encoding", "bad_json", "bad_field", "too_large", "late"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return oracle.run_all(tmp_path_factory.mktemp("oracle"))


@pytest.fixture(scope="module")
def counts(folders):
    return {name: oracle.counts(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def pinned():
    return json.loads(oracle.PINNED.read_text())


@pytest.mark.parametrize("name", oracle.STREAMS)
def test_a_stream_is_answered_as_it_was(name, folders, counts, pinned):
    assert counts[name] == pinned[name]["counts"]
    assert oracle.digests(folders[name]) == pinned[name]["digests"]


@pytest.mark.parametrize("name", ["all-kinds", "thompson", "bounds"])  # by one shard, by two, and with little room
def test_one_core_answers_as_several_do(name, folders, tmp_path):
    """On several, what learns from everyone has an index of its own: nothing may depend on who reads it when."""
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("there is one core only")
    alone = oracle.run(name, tmp_path, one_core=True)
    for output in oracle.OUTPUTS:
        assert (alone / f"{output}.jsonl").read_bytes() == (folders[name] / f"{output}.jsonl").read_bytes()


def test_what_is_pinned_is_the_streams(pinned):
    assert {name: about["about"] for name, about in pinned.items()} == {
        name: stream.about for name, stream in oracle.STREAMS.items()
    }


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("events", TYPES),
        ("sources", PROPOSING | {"rule"}),
        ("reasons", REASONS),
        ("dead letters", FAULTS),
        ("strategies", {"cold", "warm"}),
        ("predictions", {"click", "rating"}),
    ],
)
def test_all_that_there_is_appears(what, expected, counts):
    total = sum((Counter(count[what]) for count in counts.values()), Counter())
    assert set(total) == expected
    assert min(total.values()) >= 2


def test_impressions_are_answered_and_not_and_users_are_erased(counts):
    assert sum(count["shown and taken"] for count in counts.values()) > 50
    assert sum(count["shown"] - count["shown and taken"] for count in counts.values()) > 100
    assert counts["all-kinds"]["receipts"] > 5


def test_every_way_to_explore_has_propensities_below_1(counts):
    below = Counter()
    for name, stream in oracle.STREAMS.items():
        exploration = tomllib.loads(stream.config)["exploration"]
        below[exploration.get("kind", "epsilon")] += counts[name]["propensities below 1"]
        assert (counts[name]["propensities below 1"] > 0) == (exploration["rate"] > 0)
    assert below.keys() == {"epsilon", "softmax", "thompson"}
    assert min(below.values()) > 1000


def test_sources_that_are_off_move_scores(folders):
    apart = oracle.compared(folders["all-kinds"], folders["fewer-sources"])
    assert apart["slates"] > 200
    assert apart["score"] > 0.01


def test_nothing_depends_on_how_strings_hash(folders, tmp_path):
    again = oracle.run("bounds", tmp_path, hash_seed="1")
    for output in oracle.OUTPUTS:
        assert (again / f"{output}.jsonl").read_bytes() == (folders["bounds"] / f"{output}.jsonl").read_bytes()


def test_a_stream_is_nothing_apart_from_itself(folders):
    apart = oracle.compared(folders["rules"], folders["rules"])
    assert apart["slates"] == apart["same order"] == apart["same but for ties"] > 100
    assert apart["overlap of top 10"] == apart["dead letters equal"] == apart["receipts equal"] == 1
    assert apart["score"] == apart["propensity"] == apart["prediction"] == apart["only in one"] == 0


def test_floats_are_rounded_and_nothing_else():
    assert oracle.canonical({"b": 0.123456, "a": [1, -0.0, "0.123456", 123456, True, None]}) == (
        '{"a": [1, 0.0, "0.123456", 123456, true, null], "b": 0.1235}'
    )
