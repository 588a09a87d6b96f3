"""A consumer of the Kafka that is configured leaves nothing behind."""

import threading

import pytest
from kafka.errors import KafkaError
from riverrank.jobs.config.consuming import consuming
from riverrank.jobs.config.edges import KafkaSettings
from valkey_server import free_port


def test_a_consumer_that_does_not_reach_its_broker_leaves_no_thread() -> None:
    before = threading.active_count()
    for _ in range(3):
        nobody = KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}")
        with pytest.raises(KafkaError), consuming(nobody, bootstrap_timeout_ms=200):
            pytest.fail("there is no broker")
    assert threading.active_count() == before
