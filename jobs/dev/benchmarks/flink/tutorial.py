"""The way tutorials show a recommender on PyFlink: the contestant that `jobs.dev.bench` measures the job against.

No part of riverrank runs here, but what writes its files. It is written as a good tutorial would write it: process
mode with its defaults, types where they count, one pickled River pipeline a user in ValueState, features cut once when
the operator opens, one call of River for each candidate. It must live in a module that can be imported: what is
pickled from `__main__` is not what it was.
"""

import heapq
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyflink.common import Configuration, Types, WatermarkStrategy
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSource, StreamFormat
from pyflink.datastream.state import ValueStateDescriptor
from river import compose, linear_model, preprocessing
from riverrank.jobs.flink.sinks import to_parts
from riverrank.state.outputs import SLATES

CANDIDATES = 100
SLATE_SIZE = 20
Features = dict[str, float]
Record = dict[str, Any]


def run(events: str, items: str, slates: str) -> None:
    """Answer the events of a file from the items of a file, with part files in the folder `slates`; to the end."""
    settings = Configuration()
    settings.set_string("python.execution-mode", "process")
    settings.set_string("python.executable", sys.executable)
    settings.set_string("restart-strategy.type", "none")
    settings.set_string("rest.port", "0")
    env = StreamExecutionEnvironment.get_execution_environment(settings)
    env.set_parallelism(1)
    lines = FileSource.for_record_stream_format(StreamFormat.text_line_format(), Path(events).absolute().as_uri())
    ranked = (
        env.from_source(lines.build(), WatermarkStrategy.no_watermarks(), "events")
        .map(json.loads)
        .key_by(_user_of, Types.STRING())
        .process(RankForUser(items), Types.STRING())
    )
    to_parts(ranked, Path(slates), SLATES.name)
    env.execute("tutorial")


class RankForUser(KeyedProcessFunction):
    """Learns from an event whether a look at an item leads to more, then ranks the candidates for its user."""

    def __init__(self, items: str) -> None:
        self.items = items

    def open(self, runtime_context: RuntimeContext) -> None:
        with Path(self.items).open("rb") as lines:
            catalogue = [json.loads(line) for line in lines]
        self.features = {item["item_id"]: features_of(item) for item in catalogue}
        self.candidates = [(item["item_id"], self.features[item["item_id"]]) for item in catalogue[:CANDIDATES]]
        self.model = runtime_context.get_state(ValueStateDescriptor("model", Types.PICKLED_BYTE_ARRAY()))
        self.version = runtime_context.get_state(ValueStateDescriptor("version", Types.LONG()))

    def process_element(self, value: Record, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        model = self.model.value() or new_model()
        model.learn_one(self.features[value["item_id"]], value["type"] in ("cart", "purchase"))
        self.model.update(model)
        version = (self.version.value() or 0) + 1
        self.version.update(version)
        scores = [(model.predict_proba_one(features)[True], item_id) for item_id, features in self.candidates]
        best = heapq.nlargest(SLATE_SIZE, scores)
        user_id = value["user_id"]
        slate = {
            "slate_id": f"{user_id}:{version}",
            "user_id": user_id,
            "version": version,
            "ts": value["ts"],
            "trigger": value["event_id"],
            "items": [{"item_id": i, "rank": rank, "score": score} for rank, (score, i) in enumerate(best, start=1)],
        }
        yield json.dumps(slate)


def features_of(item: Record) -> Features:
    """A few small features of an item, as River takes them.

    >>> features_of({"categories": ["tents"], "attributes": {"brand": "Dovre", "price": 1.0}, "published_ts": 0})
    {'price': 0.0, 'published': 0.0, 'category=tents': 1.0, 'brand=Dovre': 1.0}
    """
    return {
        "price": math.log(item["attributes"]["price"]),
        "published": item["published_ts"] / 1e12,
        **{f"category={category}": 1.0 for category in item["categories"]},
        f"brand={item['attributes']['brand']}": 1.0,
    }


def new_model() -> compose.Pipeline:
    """What a new user starts with."""
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


def _user_of(event: Record) -> str:
    return str(event["user_id"])
