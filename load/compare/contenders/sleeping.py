"""The consumer of a typical tutorial: sleeps until the record it has read is due."""

from __future__ import annotations

import time

from confluent_kafka import Consumer

from load.compare.contenders.task import BOOTSTRAP_SERVERS, DELAY_SECONDS, GROUP_ID, TOPIC, exit_on_sigterm
from load.compare.notes import Notes, assigned


def main() -> None:
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP_SERVERS, "group.id": GROUP_ID, "auto.offset.reset": "earliest"})
    consumer.subscribe([TOPIC], on_assign=assigned)
    notes = Notes()
    exit_on_sigterm()
    try:
        while True:
            message = consumer.poll(1.0)
            if message is None or message.error():
                continue
            wait_seconds = message.timestamp()[1] / 1000 + DELAY_SECONDS - time.time()
            if wait_seconds > 0:
                time.sleep(wait_seconds)
            notes.delivered(message.partition() or 0, message.offset() or 0)
    finally:
        notes.flush()
        consumer.close()


if __name__ == "__main__":
    main()
