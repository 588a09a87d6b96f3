"""The streams that the oracle answers: what each is about, how it is configured, and how large it is."""

from collections.abc import Mapping
from typing import NamedTuple

USUAL = {"view": 4, "click": 6, "like": 1.5, "dislike": 1, "cart": 1.5, "purchase": 1, "rate": 1, "request": 1.5}
USUAL |= {"impression": 2, "profile": 1}


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
    asks: tuple[str, ...] = ()  # domains that every other slate is asked for


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
        "its beginning, without sessions, and the autoencoder",
        ALL_KINDS + "[sources]\noff = ['sessions', 'autoencoder']\n",
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
    "domains": Stream(
        "slates of one domain, pinned and explored, with contexts of three shards",
        """
        [domain]
        attribute = "brand"
        [signals]
        shards = 3
        [rules]
        pin = ["category=sport"]
        [slate]
        size = 6
        candidates = 30
        [exploration]
        kind = "epsilon"
        rate = 0.2
        """,
        seed=8,
        events=300,
        users=8,
        asks=("Fox", "Lynx", "nobody"),
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
