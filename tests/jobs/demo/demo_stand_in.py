"""A stand-in for the job, for tests of the demo: slates of any items, at once, without Flink."""

STAND_IN = """
import json, random, sys
from kafka import KafkaConsumer, KafkaProducer
from riverrank.jobs.config.schema import load
from riverrank.operators.cache.redis_cache import Cache, slate_key
from riverrank.state.event_types import ANSWERED
from riverrank.state.records.decoding import decode_event, decode_item
from riverrank.state.records.outgoing import Cause, ModelInfo, Slate, Slot, to_json
from riverrank.state.messages import CacheWrite

config = load(sys.argv[sys.argv.index("--config") + 1])
kafka = config.kafka.python_arguments()
catalogue = KafkaConsumer(config.kafka.items, **kafka, auto_offset_reset="earliest", consumer_timeout_ms=2000)
items = [decode_item(record.value).item_id for record in catalogue]
events = KafkaConsumer(config.kafka.events, **kafka, auto_offset_reset="earliest", fetch_max_wait_ms=10)
producer, cache, versions = KafkaProducer(**kafka), Cache(config.redis.url), {}
print(f"stand-in for the job: {len(items)} items", flush=True)


def write(key, user, trigger):
    versions[key] = version = versions.get(key, 0) + 1
    slots = tuple(
        Slot(item, rank, 0.5, 1.0, ("new",), (Cause("new"),)) for rank, item in enumerate(random.sample(items, 20), 1)
    )
    slate = Slate(f"{user}:{version}", user, version, 1, trigger, "cold", "control", ModelInfo(0, 0), slots)
    return CacheWrite(key, 0, version, to_json(slate))


while True:
    writes = {"popular": write("popular", "popular", "popular")}
    for batch in events.poll(timeout_ms=20).values():
        for event in (decode_event(record.value) for record in batch):
            if event.type in ANSWERED:
                writes[event.user_id] = write(slate_key(event.user_id), event.user_id, event.event_id)
                producer.send(config.kafka.slates, value=writes[event.user_id].slate, key=event.user_id.encode())
    cache.write(list(writes.values()))
"""
