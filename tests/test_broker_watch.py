"""A client that has forgotten all brokers is told from one that is looking for them."""

from __future__ import annotations

import logging

from delayed_consumer.broker_watch import FORGOTTEN_AFTER_MS, BrokerWatch
from delayed_consumer.sinks.relaying import RelayProducer, serve_reports

# As librdkafka 2.16 says it.
LEARNED = '"b:9092/1":{"name":"b:9092/1", "nodeid":1, "source":"learned", "state":"UP"}'
CONFIGURED = '"b:9092/bootstrap":{"name":"b:9092/bootstrap", "nodeid":-1, "source":"configured", "state":"INIT"}'
NONE = '"GroupCoordinator":{"name":"GroupCoordinator", "nodeid":-1, "source":"logical", "state":"INIT"}'


def statistics(at_ms: float, brokers: str) -> str:
    return f'{{ "name": "one", "type":"consumer", "ts":{at_ms * 1000:.0f}, "brokers":{{ {brokers} }} }}'


def lost_after(*brokers: str, every_ms: float = FORGOTTEN_AFTER_MS) -> bool:
    watch = BrokerWatch()
    for index, one in enumerate(brokers):
        watch.look(statistics(1_000_000 + index * every_ms, one))
    return watch.lost


def test_a_client_is_lost_when_it_has_known_no_broker_for_some_time() -> None:
    assert lost_after(LEARNED, NONE, NONE)
    assert lost_after(NONE, NONE)
    assert lost_after(NONE, NONE, LEARNED), "it stays so"


def test_a_client_that_goes_back_to_where_it_began_is_not_lost() -> None:
    assert not lost_after()
    assert not lost_after(LEARNED, NONE)
    assert not lost_after(LEARNED, NONE, CONFIGURED, NONE)
    assert not lost_after(LEARNED, NONE, NONE, NONE, every_ms=FORGOTTEN_AFTER_MS / 3)


def test_a_producer_that_is_lost_has_failed_for_good() -> None:
    producer = RelayProducer({"bootstrap.servers": "127.0.0.1:1"}, logging.getLogger("client"))
    assert not serve_reports(producer)
    for at_ms in (1_000, 1_000 + FORGOTTEN_AFTER_MS):
        producer.watch.look(statistics(at_ms, NONE))
    assert serve_reports(producer)
