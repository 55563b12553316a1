"""A start that cannot work ends with its documented code and one line of reason, in bounded time."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import pytest

from load.broker import Broker, free_ports
from tests.conftest import Kafka, ServiceStarter
from tests.support.topics import Record, Topic, create_topic, now_ms, unique


def test_a_missing_topic_is_a_bad_setting(kafka: Kafka, start: ServiceStarter) -> None:
    present, missing = create_topic(kafka.bootstrap), Topic(kafka.bootstrap, unique("missing"), 1)
    begun = time.monotonic()
    service = start(present, KAFKA_TOPICS=f"{present.name},{missing.name}")
    assert service.wait_for_exit() == 78
    assert time.monotonic() - begun < 10
    [reason] = service.events("failed")
    assert missing.name in reason["message"]


def test_brokers_out_of_reach_end_the_start_with_its_own_code(start: ServiceStarter) -> None:
    nobody = Topic(f"127.0.0.1:{free_ports(1)[0]}", "topic", 1)
    begun = time.monotonic()
    service = start(nobody, START_TIMEOUT_SECONDS=2)
    assert service.wait_for_exit() == 69
    assert 2 <= time.monotonic() - begun < 10
    [reason] = service.events("failed")
    assert nobody.bootstrap in reason["message"]


@pytest.mark.parametrize("silent", [False, True], ids=["refusing", "silent"])
def test_sigterm_while_the_brokers_are_out_of_reach_ends_it_quickly(start: ServiceStarter, silent: bool) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:
            listener.listen()
        service = start(Topic(f"127.0.0.1:{listener.getsockname()[1]}", "topic", 1), START_TIMEOUT_SECONDS=600)
        service.wait_for_event("waiting_for_brokers")
        assert service.get("/livez") is not None
        assert service.get("/readyz") is None
        assert service.stop() < 3


def test_sigterm_while_the_broker_is_gone_ends_it_within_the_grace(
    private_kafka: Broker, start: ServiceStarter
) -> None:
    topic = create_topic(private_kafka.bootstrap)
    topic.produce(Record(now_ms()))
    service = start(topic, DELAY_SECONDS=1)
    service.wait_for_records(1)
    private_kafka.stop(kill=True)
    service.signal(signal.SIGTERM)
    assert service.wait_for_exit(25) == 0


def test_as_pid_1_it_stops_at_sigterm(kafka: Kafka, start: ServiceStarter) -> None:
    """The kernel gives PID 1 no default action for a signal: it must have set its own."""
    unshare = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no new PID namespace here: {tried.stderr.strip()}")
    topic = create_topic(kafka.bootstrap)
    topic.produce(Record(now_ms()))
    code = "import os, runpy; assert os.getpid() == 1; runpy.run_module('delayed_consumer', run_name='__main__')"
    service = start.by((*unshare, sys.executable, "-c", code), topic, DELAY_SECONDS=900)
    service.wait_until(lambda: service.partitions())
    inner = int(subprocess.run(["pgrep", "-P", str(service.pid)], capture_output=True, text=True, check=True).stdout)
    begun = time.monotonic()
    subprocess.run(["kill", "-TERM", str(inner)], check=True)
    assert service.wait_for_exit() == 0
    assert time.monotonic() - begun < 2
    assert len(service.events("stopped")) == 1
