"""What the client libraries alone do: loops without a delay, a hold or failures, to compare the service with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import urllib3
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from delayed_consumer.origin import Origin
from delayed_consumer.settings import Settings
from delayed_consumer.sinks.topic import producer_properties

THREADS = 32
_TUNED = {"fetch.queue.backoff.ms": 20}  # the client's default rests for a second whenever its queue is full
_MAX_MESSAGE_BYTES = 1_048_588  # a broker's default, which the service asks for
_VALUE = b"x" * 200

_Produce = Callable[[Producer, str, Sequence[Message]], None]


def with_defaults(records: int, partitions: int) -> float:
    """Reads and forgets, with the client's own settings."""
    return _consume(records, partitions, {})


def tuned(records: int, partitions: int) -> float:
    """Reads and forgets, without the second's rest."""
    return _consume(records, partitions, _TUNED)


def one_by_one(records: int, partitions: int) -> float:
    """The same with a call for each record, as a handler of single records has one."""
    consumer, _ = _reader(partitions, _TUNED)
    begun = time.perf_counter()
    read = 1
    while read < records:
        if consumer.poll(0.1) is not None:
            read += 1
    seconds = time.perf_counter() - begun
    consumer.close()
    return seconds


def relay(records: int, partitions: int) -> float:
    """Reads, and produces what it read until all is acknowledged, with the properties of the service's producer."""

    def produce(producer: Producer, target: str, messages: Sequence[Message]) -> None:
        for message in messages:
            headers: Any = message.headers()
            producer.produce(target, message.value(), message.key(), message.partition() or 0, headers=headers)

    return _relay(records, partitions, produce)


def relay_with_origin(records: int, partitions: int) -> float:
    """The same, but it writes what the service does, four headers more, and sees each acknowledgement.

    They are always the same four: the loop itself costs as little as it can.
    """
    acknowledged = 0
    origin: Any = Origin("load-relay-12345678", 3, 123_456, 1_700_000_000_000, ()).as_headers()

    def report(error: KafkaError | None, _: Message) -> None:
        nonlocal acknowledged
        acknowledged += error is None

    def produce(producer: Producer, target: str, messages: Sequence[Message]) -> None:
        for message in messages:
            headers = [*(message.headers() or ()), *origin]
            producer.produce(target, message.value(), message.key(), message.partition() or 0, report, None, 0, headers)

    seconds = _relay(records, partitions, produce)
    if acknowledged != records:
        raise RuntimeError(f"{acknowledged} of {records} records were acknowledged")
    return seconds


def posts(records: int, _: int) -> float:
    """As many POSTs to SINK_URL by urllib3 alone, from threads that share a pool of connections."""
    url = urllib3.util.parse_url(os.environ["SINK_URL"])
    pool = urllib3.HTTPConnectionPool(url.host or "", url.port, maxsize=THREADS, block=True, retries=False)

    def post_share(thread: int) -> None:
        for _ in range(thread, records, THREADS):
            answer = pool.urlopen("POST", url.request_uri, _VALUE, {"Content-Type": "application/octet-stream"})
            if answer.status != 200:
                raise RuntimeError(f"the server answered {answer.status}")

    with ThreadPoolExecutor(THREADS) as threads:
        begun = time.perf_counter()
        list(threads.map(post_share, range(THREADS)))
        return time.perf_counter() - begun


def _relay(records: int, partitions: int, produce: _Produce) -> float:
    target = os.environ["SINK_TOPIC"]
    producer = Producer(producer_properties(Settings().producer_config(), _MAX_MESSAGE_BYTES))
    consumer, first = _reader(partitions, _TUNED)
    begun = time.perf_counter()
    produce(producer, target, [first])
    read = 1
    while read < records:
        message = consumer.poll(0.1)
        if message is not None:
            messages = [message, *consumer.consume(500, 0)]
            produce(producer, target, messages)
            producer.poll(0)
            read += len(messages)
    producer.flush()
    seconds = time.perf_counter() - begun
    consumer.close()
    return seconds


def _consume(records: int, partitions: int, properties: Mapping[str, int]) -> float:
    consumer, _ = _reader(partitions, properties)
    begun = time.perf_counter()
    read = 1
    while read < records:
        if consumer.poll(0.1) is not None:
            read += 1 + len(consumer.consume(500, 0))
    seconds = time.perf_counter() - begun
    consumer.close()
    return seconds


def _reader(partitions: int, properties: Mapping[str, int]) -> tuple[Consumer, Message]:
    """A consumer that reads all partitions, and the first record."""
    topic = os.environ["KAFKA_TOPICS"]
    named = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], "group.id": os.environ["KAFKA_GROUP_ID"]}
    consumer = Consumer({**named, **properties})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    message = None
    while message is None:
        message = consumer.poll(0.1)
    return consumer, message
