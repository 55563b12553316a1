"""What the service is compared with does its work: a rival that loses records, or is early, would prove nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from load.cluster import Cluster
from load.compare.cases import Case
from load.compare.contender import BY_DEFAULT, Contender, contenders
from load.compare.log import write_log
from load.compare.postgres_server import PostgresQueue
from load.compare.run import Run, run
from load.oracle import Verdict, judge
from tests.conftest import Kafka

LIMIT_SECONDS = 60.0
QUEUE = PostgresQueue()
EVERYONE = contenders(QUEUE)
WAITING = ("aiokafka", "java", "spring", "naive-pause", "postgres")


@pytest.fixture(scope="module", autouse=True)
def _queue() -> Iterator[None]:
    yield
    QUEUE.close()


def judged(kafka: Kafka, case: Case, contender: Contender) -> tuple[Run, Verdict]:
    reason = contender.missing()
    if reason is not None:
        pytest.skip(reason)
    cluster = Cluster(kafka.bootstrap, None)
    log = write_log(cluster, case)
    ran = run(contender, log, cluster, LIMIT_SECONDS)
    return ran, judge(log.written, ran.delivered, ran.schedule.delay_ms, ran.schedule.until_ms)


@pytest.mark.parametrize("name", BY_DEFAULT)
def test_every_contender_delivers_a_backlog_whole_and_once(kafka: Kafka, name: str) -> None:
    ran, verdict = judged(kafka, Case("backlog", partitions=2, size_bytes=200, records=1000), EVERYONE[name])
    assert (len(verdict.due_ms), verdict.duplicates, verdict.faults) == (1000, 0, 0), verdict.findings
    assert len(ran.assigned_ms) == 1
    assert ran.begun.cpu_seconds > 0


@pytest.mark.parametrize("name", WAITING)
def test_a_rival_is_never_early_either(kafka: Kafka, name: str) -> None:
    case = Case("steady", partitions=2, size_bytes=200, records=150, rate=100.0, seconds=1.0)
    _, verdict = judged(kafka, case, EVERYONE[name])
    assert verdict.delivered > 0
    assert (verdict.early, verdict.duplicates, verdict.unknown) == (0, 0, 0), verdict.findings
