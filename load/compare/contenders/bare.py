"""Reads as fast as the client can and delivers at once, due or not: the limit for a consumer in Python."""

from __future__ import annotations

from confluent_kafka import Consumer

from load.compare.contenders.task import BOOTSTRAP_SERVERS, GROUP_ID, TOPIC, exit_on_sigterm
from load.compare.notes import Notes, assigned


def main() -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": BOOTSTRAP_SERVERS,
            "group.id": GROUP_ID,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 20,  # the client's default rests for a second whenever its queue is full
        }
    )
    consumer.subscribe([TOPIC], on_assign=assigned)
    notes = Notes()
    exit_on_sigterm()
    try:
        while True:
            first = consumer.poll(1.0)
            if first is not None and not first.error():
                messages = [first, *consumer.consume(500, 0)]
                notes.delivered_together((one.partition() or 0, one.offset() or 0) for one in messages)
    finally:
        notes.flush()
        consumer.close()


if __name__ == "__main__":
    main()
