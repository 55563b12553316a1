"""What is held in memory is bounded, whatever waits."""

from __future__ import annotations

import random

import psutil

from tests.conftest import Kafka, ServiceStarter
from tests.support.service import ServiceProcess, assert_all_delivered
from tests.support.topics import Record, create_topic, now_ms

MIB = 1024 * 1024
HOLD_BYTES = 8 * MIB
PARTITIONS = 4
VALUE_BYTES = 4096
COUNT = 10 * HOLD_BYTES // VALUE_BYTES


def test_a_backlog_of_ten_times_the_hold_stays_within_it_and_is_delivered(
    kafka: Kafka, start: ServiceStarter, dice: random.Random
) -> None:
    """Due over 10 s, the first partition later than the others: its future may not fill what the others need."""
    topic = create_topic(kafka.bootstrap, PARTITIONS)
    first_ms = now_ms() + 3000
    topic.produce(
        *(
            Record(
                first_ms + 10_000 * number // COUNT + (5000 if number % PARTITIONS == 0 else 0),
                dice.randbytes(8) * (VALUE_BYTES // 8),
                partition=number % PARTITIONS,
            )
            for number in range(COUNT)
        )
    )
    service = start(topic, DELAY_SECONDS=0, HOLD_MAX_BYTES="8MiB", LOOKAHEAD_SECONDS=60)
    service.wait_for_event("assigned")
    bare_bytes = resident_bytes(service)
    held_bytes = [0.0]
    resident = [0]

    def watch() -> bool:
        held_bytes.append(service.metric("held_bytes"))
        resident.append(resident_bytes(service))
        return len(service.records) >= COUNT

    service.wait_until(watch, 60)
    assert HOLD_BYTES / 4 < max(held_bytes) <= HOLD_BYTES
    assert max(resident) - bare_bytes < 100 * MIB
    found = assert_all_delivered(topic, 0, service)
    assert max(found.lateness_ms) < 3000
    assert service.metric("stuck_pauses_total") == 0


def resident_bytes(service: ServiceProcess) -> int:
    return 0 if service.ended else psutil.Process(service.pid).memory_info().rss
