"""aiokafka with a task for each partition, which sleeps until the next record is due."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Collection

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition

from load.compare.contenders.task import BOOTSTRAP_SERVERS, DELAY_SECONDS, GROUP_ID, TOPIC
from load.compare.notes import Notes, assigned

_BATCH_RECORDS = 500


class Tasks(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    """One task for each assigned partition."""

    def __init__(self, consumer: AIOKafkaConsumer, notes: Notes) -> None:
        self._consumer = consumer
        self._notes = notes
        self._tasks: list[asyncio.Task[None]] = []

    async def on_partitions_assigned(self, partitions: Collection[TopicPartition]) -> None:
        assigned()
        self._tasks = [asyncio.create_task(self._work(partition)) for partition in partitions]

    async def on_partitions_revoked(self, _: Collection[TopicPartition]) -> None:
        for task in self._tasks:
            task.cancel()

    async def _work(self, partition: TopicPartition) -> None:
        while True:
            batches = await self._consumer.getmany(partition, timeout_ms=1000, max_records=_BATCH_RECORDS)
            for record in batches.get(partition, ()):
                await self._deliver(record)

    async def _deliver(self, record: ConsumerRecord) -> None:
        due_seconds = record.timestamp / 1000 + DELAY_SECONDS
        while (wait_seconds := due_seconds - time.time()) > 0:
            await asyncio.sleep(wait_seconds)
        self._notes.delivered(record.partition, record.offset)


async def main() -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    consumer = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP_SERVERS, group_id=GROUP_ID, auto_offset_reset="earliest")
    notes = Notes()
    consumer.subscribe([TOPIC], listener=Tasks(consumer, notes))
    await consumer.start()
    try:
        await stopping.wait()
    finally:
        notes.flush()
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main())
