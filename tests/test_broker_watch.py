"""A client that has forgotten all brokers is told from one that is looking for them."""

from __future__ import annotations

import logging

from delayed_consumer.broker_watch import BrokerWatch
from delayed_consumer.sinks.relaying import RelayProducer, serve_reports

# As librdkafka 2.16 says it.
LEARNED = '{ "brokers":{ "b:9092/1":{"name":"b:9092/1", "nodeid":1, "source":"learned", "state":"UP"} } }'
CONFIGURED = '{ "brokers":{ "b:9092/bootstrap":{"name":"b:9092/bootstrap", "source":"configured", "state":"INIT"} } }'
NONE = '{ "brokers":{ "GroupCoordinator":{"name":"GroupCoordinator", "source":"logical", "state":"INIT"} } }'


def lost_after(*statistics: str) -> bool:
    watch = BrokerWatch()
    for one in statistics:
        watch.look(one)
    return watch.lost


def test_a_client_is_lost_when_it_knows_no_broker_twice_in_a_row() -> None:
    assert lost_after(LEARNED, NONE, NONE)
    assert lost_after(NONE, NONE)


def test_a_client_that_goes_back_to_where_it_began_is_not_lost() -> None:
    assert not lost_after()
    assert not lost_after(LEARNED, NONE)
    assert not lost_after(LEARNED, NONE, CONFIGURED, NONE)


def test_a_producer_that_is_lost_has_failed_for_good() -> None:
    producer = RelayProducer({"bootstrap.servers": "127.0.0.1:1"}, logging.getLogger("client"))
    assert not serve_reports(producer)
    for _ in range(2):
        producer.watch.look(NONE)
    assert serve_reports(producer)
