"""A shop whose slates are logged: lines of events and slates, as a run writes them, and what another policy would have
earned in truth.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from riverrank.jobs.config.schema import parse
from riverrank.jobs.evaluation.shop import Shop, ShopSettings
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Slate, to_json

START_MS = 1_764_000_000_000
ONE_A_CLICK = {"cart": 1.0, "purchase": 1.0}  # what goes on with a click earns no more


def behaviour(**sections: object) -> Behaviour:
    """Settings of a shop where a click earns 1, whatever comes of it."""
    return parse({"reward": ONE_A_CLICK, **sections}).behaviour


class Log(NamedTuple):
    """Lines of the records of a run; and of each slate that was seen, what `other` earns there in the mean with each
    of the first ten ranks: float64 (slates, 10).
    """

    items: list[bytes]
    events: list[bytes]
    slates: list[bytes]
    other: np.ndarray


def arrivals(lines: list[bytes]):
    """Lines as a file gives them."""
    return iter([Arrival(0, n, 0, line) for n, line in enumerate(lines)])


def logged(own: Behaviour, other: Behaviour, seed: int, visits: int, customers: int = 40) -> Log:
    """Customers who come in turn, `visits` times each, and click."""
    shop = Shop(ShopSettings(seed=seed, items=150, customers=customers, search=0.0, drift=0.0, reserve=-2.5))
    run, beside = Pipeline(own), Pipeline(other)
    catalogue = shop.catalogue(START_MS)
    for item in catalogue:
        run.lessons.item(item)
        beside.lessons.item(item)
    events: list[Event] = []
    slates: list[bytes] = []
    last: dict[int, tuple[Slate, Slate]] = {}
    truth = []
    for visit in range(visits):
        for customer in range(customers):
            ts = START_MS + 1000 * (visit * customers + customer)
            slate, items = None, []
            if customer in last:
                slate, instead = last[customer]
                items = [slot.item_id for slot in slate.items]
                rows = np.array([int(slot.item_id.removeprefix("i-")) for slot in instead.items[:10]])
                truth.append(np.zeros(10))
                truth[-1][: len(rows)] = shop.click_probability(customer, rows) * shop.examination(len(rows))
            for event in shop.visit(customer, slate and slate.slate_id, items, ts).events:
                arrival = Arrival(0, len(events), 0, b"")
                events.append(event)
                mine, others = run.take(event, arrival), beside.take(event, arrival)
                if mine is not None and mine.slate is not None:
                    slates.append(mine.slate)
                    last[customer] = decoded(mine.slate), decoded(others.slate)
    return Log([to_json(item) for item in catalogue], [to_json(event) for event in events], slates, np.array(truth))


def decoded(slate: bytes) -> Slate:
    return msgspec.json.decode(slate, type=Slate)
