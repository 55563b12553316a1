"""The service as a container runs it: a process with an environment, judged from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from load.broker import free_ports
from load.guard import KILL, DeathWatch
from load.oracle import Delivered, Key, Verdict, judge
from tests.support.json_lines import ARRIVED_MS, JsonLines
from tests.support.topics import Topic
from tests.support.wait import wait_until

T = TypeVar("T")

COMMAND = (sys.executable, "-m", "delayed_consumer")
_ROOT = Path(__file__).parents[2]
_END_SECONDS = 40.0
_ANSWER_SECONDS = 5.0
_LOG_TAIL = 40


class ServiceProcess:
    """One life of the service, running as soon as it is made; `kill` it at the end.

    ``records`` are its lines of stdout, ``log`` its lines of stderr, both parsed and with the time they arrived.
    """

    def __init__(
        self, environment: Mapping[str, str], *, stdout: int | None = None, command: Sequence[str] = COMMAND
    ) -> None:
        """``stdout``: a descriptor that takes the records instead; then ``records`` stays empty."""
        self._port = free_ports(1)[0]
        self._process = subprocess.Popen(
            command,
            # Nothing of the environment of whoever runs the tests, as in a container.
            env={"PATH": os.environ["PATH"], "HTTP_PORT": str(self._port), "LOG_FORMAT": "json", **environment},
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
        )
        self._kill_at_death = DeathWatch(KILL, str(self._process.pid))
        self._pipes = [pipe for pipe in (self._process.stderr, self._process.stdout) if pipe is not None]
        self._lines = [JsonLines(pipe.fileno()) for pipe in self._pipes]
        for lines in self._lines:
            lines.start()
        self.log = self._lines[0].objects
        self.records = self._lines[1].objects if stdout is None else []

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of this event so far."""
        return [line for line in self.log if line["event"] == name]

    def offsets(self, partition: int = 0) -> list[int]:
        """What was delivered of a partition, in the order it came."""
        return [record["offset"] for record in self.records if record["partition"] == partition]

    def wait_until(self, condition: Callable[[], T | None], timeout_seconds: float = 40.0, what: str = "") -> T:
        """As `wait_until`, and fails at once when the process has ended before it became true."""

        def look() -> T | None:
            ended = self.ended
            value = condition()
            assert value or not ended, f"the service ended with {self._process.returncode} before {what or 'that'}"
            return value

        return wait_until(look, timeout_seconds, what)

    def wait_for_event(self, name: str, timeout_seconds: float = 40.0) -> dict[str, Any]:
        """The first log line of this event."""
        return self.wait_until(lambda: self.events(name), timeout_seconds, f"the event {name}")[0]

    def wait_for_records(self, count: int, timeout_seconds: float = 40.0) -> None:
        self.wait_until(lambda: len(self.records) >= count, timeout_seconds, f"{count} records")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait_for_exit(self, timeout_seconds: float = _END_SECONDS) -> int:
        """Its exit code, or minus the signal that killed it, after its last line was read."""
        code = self._process.wait(timeout_seconds)
        self._release()
        return code

    def stop(self) -> float:
        """SIGTERM, and it must end cleanly. Returns how many seconds that took."""
        begun = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self._process.wait(_END_SECONDS)
        seconds = time.monotonic() - begun
        self._release()
        assert code == 0, f"exit code {code} after SIGTERM"
        return seconds

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self._process.kill()
        self._process.wait()
        self._release()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of ``delayed_consumer_<name>`` that have these labels; 0 without an answer."""
        samples = (
            sample
            for family in text_string_to_metric_families(self.get("/metrics") or "")
            for sample in family.samples
            if sample.name == f"delayed_consumer_{name}" and labels.items() <= sample.labels.items()
        )
        return sum(sample.value for sample in samples)

    def status(self) -> dict[str, Any]:
        """/status; empty without an answer."""
        answer: dict[str, Any] = json.loads(self.get("/status") or "{}")
        return answer

    def partitions(self, topic: str | None = None) -> dict[int, dict[str, Any]]:
        """The assigned partitions of /status by number, of one topic where there are several."""
        listed = self.status().get("partitions", [])
        return {one["partition"]: one for one in listed if topic is None or one["topic"] == topic}

    def get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=_ANSWER_SECONDS) as answer:
                body: bytes = answer.read()
                return body.decode()
        except (urllib.error.URLError, OSError):
            return None

    def log_tail(self) -> str:
        """For the report of a failed test."""
        lines = [json.dumps(line) for line in self.log[-_LOG_TAIL:]] + self._lines[0].others[-_LOG_TAIL:]
        return "\n".join([f"the end of the log of service {self.pid} ({self._process.returncode=}):", *lines])

    def _release(self) -> None:
        """Whatever belongs to a process that has ended. Once more does nothing."""
        self._kill_at_death.close()
        for lines, pipe in zip(self._lines, self._pipes, strict=True):
            lines.join()
            pipe.close()


def deliveries(*services: ServiceProcess) -> dict[Key, Delivered]:
    """What several lives of the service delivered, in the order it arrived, for the oracle."""
    columns: dict[Key, Delivered] = {}
    records = sorted((record for service in services for record in service.records), key=lambda one: one[ARRIVED_MS])
    for one in records:
        column = columns.setdefault((one["topic"], one["partition"]), Delivered())
        column.add(one["offset"], one["due_ms"], one["delivered_ms"], one[ARRIVED_MS])
    return columns


def verdict(topic: Topic, delay_seconds: float, *services: ServiceProcess) -> Verdict:
    """The oracle's, of several lives of the service; several may overlap, so due times may begin anew."""
    return judge(topic.written, deliveries(*services), round(delay_seconds * 1000), restarted=len(services) > 1)


def assert_all_delivered(
    topic: Topic, delay_seconds: float, *services: ServiceProcess, duplicates_at_most: int = 0
) -> Verdict:
    """Every record, none early, in order per partition and none more often than permitted."""
    found = verdict(topic, delay_seconds, *services)
    assert found.faults == 0, found
    assert found.duplicates <= duplicates_at_most, found.findings
    return found
