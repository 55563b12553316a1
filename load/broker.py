"""A real single-node Apache Kafka (KRaft) for tests and measurements, gone without a trace when its owner ends."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from load.broker_jars import available, kafka_jars
from load.guard import KILL, REMOVE, DeathWatch

__all__ = ["Broker", "available", "free_ports"]

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0

# One node does everything; small, and quick to start; sessions may be short so that tests of time-outs are.
_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "broker.session.timeout.ms": "3000",  # how long a restart after SIGKILL waits for its former self
    "broker.heartbeat.interval.ms": "500",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "5",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "5",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",  # 10 s by default: after a crash
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "group.consumer.min.session.timeout.ms": "500",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "log.cleaner.dedupe.buffer.size": "2097152",
    "log.cleaner.backoff.ms": "500",
    "log.retention.check.interval.ms": "1000",
}


class Broker:
    """A broker on a free port of 127.0.0.1, started by ``with``; its data is removed at the end.

    ``overrides`` are added to its server.properties. ``stop`` and ``start`` restart it on the same port with
    the same data.
    """

    def __init__(self, overrides: Mapping[str, str] | None = None) -> None:
        self._jars = kafka_jars()
        self._port, self._controller_port = free_ports(2)
        self._overrides = dict(overrides or {})
        self._directory = Path(tempfile.mkdtemp(prefix="delayed-consumer-kafka-"))
        self._remove_at_death = DeathWatch(REMOVE, self._directory)
        self._java: subprocess.Popen[bytes] | None = None
        self._kill_at_death: DeathWatch | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def data_directory(self) -> Path:
        """Where the logs of the partitions are: ``<topic>-<partition>/*.log``."""
        return self._directory / "data"

    def __enter__(self) -> Broker:
        try:
            self._format()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the stopped broker and waits until it serves.

        Raises:
            RuntimeError: it ended or did not answer in time; the message has the end of its log.
        """
        with self._log.open("ab") as log:
            self._java = subprocess.Popen(
                self._command("kafka.Kafka", str(self._settings)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._kill_at_death = DeathWatch(KILL, str(self._java.pid))
        self._wait_until_it_serves(self._java)

    def stop(self, kill: bool = False) -> None:
        """Stops it cleanly (SIGTERM), or as a crash does (SIGKILL)."""
        if self._java is None or self._kill_at_death is None:
            return
        self._java.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self._java.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._java.kill()
            self._java.wait()
        self._kill_at_death.close()
        self._java = self._kill_at_death = None

    def pause(self) -> None:
        """Freezes the process: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kills it and removes its data."""
        self.stop(kill=True)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._remove_at_death.close()

    @property
    def _settings(self) -> Path:
        return self._directory / "server.properties"

    @property
    def _log(self) -> Path:
        return self._directory / "broker.log"

    def _command(self, main_class: str, *arguments: str) -> list[str]:
        level = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", "-Xmx512m", level, "-cp", f"{self._jars}/*", main_class, *arguments]

    def _format(self) -> None:
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in self._properties().items()))
        # The first byte is fixed: an id that begins with a dash would be taken for an option.
        cluster_id = urlsafe_b64encode(b"k" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        command = self._command("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._settings))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"formatting the storage of Apache Kafka failed:\n{done.stdout}{done.stderr}")

    def _properties(self) -> dict[str, str]:
        plaintext = f"PLAINTEXT://{self.bootstrap}"
        return {
            **_PROPERTIES,
            "listeners": f"{plaintext},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": plaintext,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "log.dirs": str(self.data_directory),
            **self._overrides,
        }

    def _signal(self, number: signal.Signals) -> None:
        if self._java is None:
            raise RuntimeError("the broker is stopped")
        self._java.send_signal(number)

    def _wait_until_it_serves(self, java: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not _serves(self.bootstrap):
            if java.poll() is not None or time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"Apache Kafka did not start (exit code {java.returncode}):\n{tail}")


def _serves(bootstrap: str) -> bool:
    """Whether topics and a group's coordinator answer: a fresh cluster answers NOT_COORDINATOR for a moment."""
    quiet: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200}
    try:
        AdminClient(quiet).list_topics(timeout=1)
        consumer = Consumer({**quiet, "group.id": "is-the-coordinator-there"})
        try:
            asked = [TopicPartition("is-the-coordinator-there", 0)]
            return all(answer.error is None for answer in consumer.committed(asked, timeout=2))
        finally:
            consumer.close()
    except KafkaException:
        time.sleep(0.1)
        return False


def free_ports(count: int) -> list[int]:
    """Free ports outside the range the system hands out for connections: while a broker restarts, nobody,
    not even a client that knocks at the very port, may be given its port as a local one."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randint(15_000, 32_000)
        with socket.socket() as sock:
            if port not in ports and sock.connect_ex(("127.0.0.1", port)) != 0:
                ports.append(port)
    return ports
