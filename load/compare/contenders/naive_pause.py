"""Pauses a partition at the first record that is not due, goes back to it, and resumes when it is."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, Message, TopicPartition

from load.compare.contenders.task import BOOTSTRAP_SERVERS, DELAY_SECONDS, GROUP_ID, TOPIC, exit_on_sigterm
from load.compare.notes import Notes, assigned

_POLL_SECONDS = 1.0


class PausingConsumer:
    def __init__(self, consumer: Consumer, notes: Notes) -> None:
        self._consumer = consumer
        self._notes = notes
        self._due_seconds: dict[int, float] = {}  # of the paused partitions

    def step(self) -> None:
        message = self._consumer.poll(self._wait_seconds())
        self._resume_due()
        if message is not None and not message.error():
            self._take(message)

    def _wait_seconds(self) -> float:
        next_due_seconds = min(self._due_seconds.values(), default=float("inf"))
        return max(0.0, min(_POLL_SECONDS, next_due_seconds - time.time()))

    def _resume_due(self) -> None:
        now_seconds = time.time()
        for number in [number for number, due_seconds in self._due_seconds.items() if due_seconds <= now_seconds]:
            del self._due_seconds[number]
            self._consumer.resume([TopicPartition(TOPIC, number)])

    def _take(self, message: Message) -> None:
        number, offset = message.partition() or 0, message.offset() or 0
        due_seconds = message.timestamp()[1] / 1000 + DELAY_SECONDS
        if due_seconds > time.time():
            self._consumer.pause([TopicPartition(TOPIC, number)])
            self._consumer.seek(TopicPartition(TOPIC, number, offset))
            self._due_seconds[number] = due_seconds
        else:
            self._notes.delivered(number, offset)


def main() -> None:
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP_SERVERS, "group.id": GROUP_ID, "auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC], on_assign=assigned)
    notes = Notes()
    pausing = PausingConsumer(consumer, notes)
    exit_on_sigterm()
    try:
        while True:
            pausing.step()
    finally:
        notes.flush()
        consumer.close()


if __name__ == "__main__":
    main()
