"""What SIGKILL costs: nothing lost, and repeated at most what was delivered since the last commit."""

from __future__ import annotations

import random
import time

from confluent_kafka import Consumer, TopicPartition

from load.checks import Check, Section, at_least
from load.cluster import Cluster
from load.deliveries import Deliveries
from load.oracle import judge
from load.producer import fill, writer_for
from load.progress import say
from load.scenarios import Scenario
from load.service import ServiceProcess
from load.topics import create_topic
from load.verdicts import promises
from load.wait import wait_until

KILLS = 25
WITHIN_SECONDS = 60.0
_SCENARIO = Scenario("kills", rate=1000, seconds=WITHIN_SECONDS + 5, partitions=4, tail_seconds=0)
_LATEST_START_SECONDS = 30.0
# A static member is given its partitions back at once; a dynamic one waits for its dead self to time out.
_SETTINGS = {"KAFKA_GROUP_INSTANCE_ID": "load-kills", "COMMIT_INTERVAL_SECONDS": "0.5"}


class _Lives:
    """The lives of one instance, what they delivered and what they might repeat."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._settings = {**cluster.environment(topic, _SCENARIO.delay_seconds), **_SETTINGS}
        self.deliveries = Deliveries()
        self.repeats_allowed = 0
        self.killed_while_delivering = 0

    def live_until(self, moment: float) -> None:
        """One life, ended by SIGKILL at ``moment`` (monotonic), whatever it does then."""
        before = self.deliveries.count
        with ServiceProcess(self._settings, self.deliveries) as service:
            time.sleep(max(0.0, moment - time.monotonic()))
            service.kill()
        self.killed_while_delivering += self.deliveries.count > before
        self.repeats_allowed += self._delivered_since_commit()

    def live_to_the_end(self, records: int) -> int:
        """The last life: until all is delivered. Returns its exit code."""
        with ServiceProcess(self._settings, self.deliveries) as service:
            service.wait_ready()
            wait_until(lambda: self._distinct() >= records, _LATEST_START_SECONDS + _SCENARIO.seconds, service)
            return service.stop().exit_code

    def _distinct(self) -> int:
        """Records are delivered in offset order, without gaps."""
        return sum(max(column.offsets) + 1 for column in self.deliveries.by_partition.values())

    def _delivered_since_commit(self) -> int:
        committed = self._committed()
        return sum(
            max(0, max(column.offsets) + 1 - committed[number])
            for (_, number), column in self.deliveries.by_partition.items()
        )

    def _committed(self) -> dict[int, int]:
        """Per partition; 0 where nothing was committed yet."""
        consumer = Consumer({"bootstrap.servers": self._cluster.bootstrap, "group.id": self._topic})
        try:
            asked = [TopicPartition(self._topic, number) for number in range(_SCENARIO.partitions)]
            return {one.partition: max(0, one.offset) for one in consumer.committed(asked, timeout=20)}
        finally:
            consumer.close()


def kills(cluster: Cluster, seed: int) -> Section:
    """Kills at random instants (of ``seed``) while records fall due all the time."""
    topic = create_topic(cluster.bootstrap, "load-kills", _SCENARIO.partitions)
    writer = writer_for(_SCENARIO, cluster.bootstrap, topic)
    say("kills: writing the records ...")
    first_due_ms = fill(writer, _SCENARIO, ahead_seconds=1)
    time.sleep(max(0.0, first_due_ms / 1000 - time.time()))
    records = sum(map(len, writer.written.values()))
    lives = _Lives(cluster, topic)
    rng = random.Random(seed)
    begun = time.monotonic()
    apart = WITHIN_SECONDS / KILLS
    for number in range(KILLS):
        lives.live_until(begun + apart * (number + 1 - rng.uniform(0, 0.4)))
        say(f"kills: {number + 1} of {KILLS}, delivered {lives.deliveries.count:,}")
    took_seconds = time.monotonic() - begun
    exit_code = lives.live_to_the_end(records)
    verdict = judge(writer.written, lives.deliveries.by_partition, _SCENARIO.delay_ms)
    return Section(
        f"kills: {KILLS} SIGKILLs, {_SCENARIO.rate:,.0f} records/s, COMMIT_INTERVAL_SECONDS 0.5, seed {seed}",
        [
            *promises(verdict, duplicates_allowed=lives.repeats_allowed),
            Check("written", records),
            at_least("kills while records were delivered", lives.killed_while_delivering, KILLS // 2),
            Check("kills took", took_seconds, "s"),
            Check("exit code of the last life", exit_code, "", 0, "="),
        ],
        list(verdict.findings) if verdict.faults else [],
    )
