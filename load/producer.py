"""Writes the topic that the service reads: back-dated all at once, or live."""

from __future__ import annotations

import random
import string
import threading
import time
from array import array

from confluent_kafka import Producer

from load.oracle import Key, Written
from load.scenarios import Scenario, Slot
from load.topics import ERRORS_ONLY, end_offsets

_LINGER_MS = 20
_POLL_EVERY = 1000
_LARGEST_BATCH_RECORDS = 10_000
_FLUSH_SECONDS = 120.0
# Careful guesses: the topic has to be full before the first record is due.
_BATCHES_WRITTEN_A_SECOND = 1_500
_RECORDS_WRITTEN_A_SECOND = 60_000
_TEXT_BYTES = 65_536
_TEXT_STEP_BYTES = 977  # from one record's value to the next one's: no two near each other are alike


class TopicWriter:
    """Writes records of one size into given partitions of a new topic and keeps what the oracle needs.

    A new topic and an idempotent producer make the offset of a record its number in its partition; `close` asks the
    broker whether that is so, which is cheaper than a callback a record.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partitions: int,
        size_bytes: int,
        batch_records: int,
        codec: str = "none",
    ) -> None:
        """``batch_records``: the size of the log's batches, which a fetch cannot split."""
        self._bootstrap = bootstrap
        self._topic = topic
        self._text = _text() * (size_bytes // _TEXT_BYTES + 2)  # a slice from anywhere in the first
        self._size_bytes = size_bytes
        self._calls = 0
        self.batch_records = max(1, min(_LARGEST_BATCH_RECORDS, batch_records))
        self.written: dict[Key, Written] = {(topic, number): Written() for number in range(partitions)}
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": ERRORS_ONLY,
                "enable.idempotence": True,
                "linger.ms": _LINGER_MS,
                "compression.type": codec,
                "batch.num.messages": self.batch_records,
                "queue.buffering.max.messages": 2_000_000,
                "queue.buffering.max.kbytes": 512 * 1024,
            }
        )

    def write(self, partition: int, timestamp_ms: int, key: bytes | None = None) -> None:
        column = self.written[self._topic, partition]
        value = self._value(partition, len(column))
        while not self._produced(partition, timestamp_ms, key, value):
            self._producer.poll(0.05)
        column.add(len(column), timestamp_ms)
        self._calls += 1
        if self._calls % _POLL_EVERY == 0:
            self._producer.poll(0)

    def close(self) -> None:
        """Waits until all is acknowledged.

        Raises:
            RuntimeError: the log is not what was written.
        """
        unsent = self._producer.flush(_FLUSH_SECONDS)
        ends = end_offsets(self._bootstrap, self._topic, len(self.written))
        expected = [len(column) for column in self.written.values()]
        if unsent or ends != expected:
            raise RuntimeError(f"the topic {self._topic} ends at {ends}, not at {expected}")

    def _value(self, partition: int, number: int) -> bytes:
        start = number * _TEXT_STEP_BYTES % _TEXT_BYTES
        return (b"%d/%d " % (partition, number) + self._text[start : start + self._size_bytes])[: self._size_bytes]

    def _produced(self, partition: int, timestamp_ms: int, key: bytes | None, value: bytes) -> bool:
        try:
            self._producer.produce(self._topic, value=value, key=key, partition=partition, timestamp=timestamp_ms)
        except BufferError:
            return False
        return True


def _text() -> bytes:
    """What a codec makes about a third of, as it does of real records."""
    rng = random.Random(0)
    words = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 10))) for _ in range(1000)]
    return " ".join(rng.choices(words, k=_TEXT_BYTES // 3)).encode()[:_TEXT_BYTES]


def writer_for(scenario: Scenario, bootstrap: str, topic: str) -> TopicWriter:
    """Batches as a live producer with its linger makes them, also where the topic is filled at once."""
    per_partition = scenario.rate / max(1, scenario.partitions - scenario.empty_partitions)
    batch_records = round(per_partition * _LINGER_MS / 1000)
    return TopicWriter(bootstrap, topic, scenario.partitions, scenario.size_bytes, batch_records)


def fill(writer: TopicWriter, scenario: Scenario, ahead_seconds: float) -> float:
    """Writes all records, their timestamps such that the measurement begins ``ahead_seconds`` after the writing.

    Returns the first moment of the measurement (wall clock, ms). It has to be known beforehand, so how long the
    writing takes is a guess.
    """
    records = sum(1 for _ in scenario.slots())
    writing_seconds = records / _RECORDS_WRITTEN_A_SECOND + records / writer.batch_records / _BATCHES_WRITTEN_A_SECOND
    first_due_ms = time.time() * 1000 + 1000 * (ahead_seconds + writing_seconds)
    for slot in scenario.slots():
        writer.write(slot.partition, round(first_due_ms + slot.due_after_ms) - scenario.delay_ms)
    writer.close()
    return first_due_ms


class LiveProducer(threading.Thread):
    """Writes each record when its time comes and keeps how late it was itself."""

    def __init__(self, writer: TopicWriter, scenario: Scenario, first_ms: float) -> None:
        """``first_ms``: the wall time of the schedule's first moment; due times follow a delay later."""
        super().__init__(name="live-producer", daemon=True)
        self._writer = writer
        self._scenario = scenario
        self._first_ms = first_ms
        self.lateness_ms = array("d")
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for slot in self._scenario.slots():
                self._write_in_time(slot)
            self._writer.close()
        except Exception as error:  # handed to the thread that waits
            self.error = error

    def _write_in_time(self, slot: Slot) -> None:
        planned_ms = self._first_ms + slot.due_after_ms
        ahead_ms = planned_ms - time.time() * 1000
        if ahead_ms > 0:
            time.sleep(ahead_ms / 1000)
        now_ms = time.time() * 1000
        self._writer.write(slot.partition, int(now_ms))
        self.lateness_ms.append(max(0.0, now_ms - planned_ms))
