"""The broker goes and comes back; the service stays."""

from __future__ import annotations

import pytest

from load.broker import Broker
from tests.conftest import ServiceStarter
from tests.support.service import assert_all_delivered
from tests.support.topics import Record, committed, create_topic, now_ms

PARTITIONS = 4
DELAY_SECONDS = 3


@pytest.mark.parametrize("kill", [False, True], ids=["clean", "killed"])
def test_a_broker_restart_while_delivering_and_waiting_costs_only_time(
    private_kafka: Broker, start: ServiceStarter, kill: bool
) -> None:
    """One partition delivers all the time; another one is paused until after the restart; two are empty."""
    topic = create_topic(private_kafka.bootstrap, PARTITIONS)
    first_ms = now_ms()
    topic.produce(*(Record(first_ms + 10 * number, partition=0) for number in range(900)))
    topic.produce(*(Record(first_ms + 9_000 + number, partition=1) for number in range(10)))
    service = start(topic, DELAY_SECONDS=DELAY_SECONDS, COMMIT_INTERVAL_SECONDS=1)
    service.wait_for_records(100)
    service.wait_until(lambda: service.partitions()[1]["state"] == "paused")
    private_kafka.stop(kill=kill)
    assert service.get("/livez") is not None
    private_kafka.start()
    service.wait_for_records(len(topic.records), 60)
    service.wait_until(lambda: sum(one["overdue"] for one in service.partitions().values()) == 0)
    assert_all_delivered(topic, DELAY_SECONDS, service)
    assert service.metric("rebalances_total") == 1
    service.wait_until(lambda: committed(topic)[0] == 900)
    service.stop()
    assert committed(topic) == {0: 900, 1: 10, 2: 0, 3: 0}
