"""SINK=topic when the target does not take a record, or is not there."""

from __future__ import annotations

from tests.conftest import Kafka, ServiceStarter
from tests.support.topics import Record, committed, create_topic, now_ms, read_all, unique


def test_a_record_too_large_for_the_target_stops_the_service_at_it(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap, partitions=2)
    target = create_topic(kafka.bootstrap, config={"max.message.bytes": "20000"})
    at_ms = now_ms() - 60_000
    small, large = b"s" * 1000, b"l" * 50_000
    topic.produce(*(Record(at_ms + number, large if number == 30 else small) for number in range(60)))
    relay = {"DELAY_SECONDS": 1, "SINK": "topic", "SINK_TOPIC": target.name}
    for _ in range(2):  # a restart stops at the same record
        service = start(topic, **relay)
        assert service.wait_for_exit() == 1
        [reason] = service.events("failed")
        assert f"{topic.name}[0] offset 30" in reason["message"]
        assert committed(topic)[0] == 30
    messages = read_all(target, 60, idle_seconds=2)
    assert [message.value() for message in messages[:30]] == [small] * 30


def test_a_target_that_does_not_exist_is_a_bad_setting(kafka: Kafka, start: ServiceStarter) -> None:
    topic = create_topic(kafka.bootstrap)
    missing = unique("missing")
    service = start(topic, DELAY_SECONDS=1, SINK="topic", SINK_TOPIC=missing)
    assert service.wait_for_exit() == 78
    [reason] = service.events("failed")
    assert missing in reason["message"]


def test_a_target_deleted_while_relaying_stops_the_service_and_costs_no_record(
    kafka: Kafka, start: ServiceStarter
) -> None:
    topic, target = create_topic(kafka.bootstrap), create_topic(kafka.bootstrap)
    first_ms = now_ms()
    topic.produce(*(Record(first_ms + 20 * number, b"%d" % number) for number in range(200)))
    gone_after = {"KAFKA_CONF_TOPIC_METADATA_PROPAGATION_MAX_MS": 1000}  # 30 s by default
    relay = {"DELAY_SECONDS": 1, "SINK": "topic", "SINK_TOPIC": target.name, **gone_after}
    service = start(topic, **relay)
    service.wait_until(lambda: service.metric("delivered_total") >= 20)
    target.delete()
    assert service.wait_for_exit() == 1
    [reason] = service.events("failed")
    next_offset = committed(topic)[0]
    assert f"{topic.name}[0] offset {next_offset}:" in reason["message"]
    again = create_topic(kafka.bootstrap, name=target.name)
    start(topic, **relay)
    relayed = [message.value() for message in read_all(again, 200 - int(next_offset or 0))]
    assert relayed == [b"%d" % number for number in range(int(next_offset or 0), 200)]
