"""The service as a container runs it: a process with an environment, judged from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Any

from prometheus_client.parser import text_string_to_metric_families

from load.broker import free_ports
from load.deliveries import Deliveries, LineReader
from load.guard import KILL, DeathWatch
from load.usage import UsageSampler

_OF_THE_TESTS = "KAFKA_BOOTSTRAP_SERVERS_TEST"  # under one of the service's prefixes, and none of its settings
_STOP_SECONDS = 30.0
_ANSWER_SECONDS = 5.0
_SERVICE = (sys.executable, "-m", "delayed_consumer")


@dataclass(frozen=True)
class Stopped:
    """How the service ended after SIGTERM."""

    exit_code: int
    seconds: float


class ServiceProcess:
    """One life of the service, started by ``with`` and killed at its end if it still runs.

    ``environment`` is added to this process's own, so that settings can be tried from the shell.
    """

    def __init__(self, environment: Mapping[str, str], deliveries: Deliveries | None = None) -> None:
        self._port = free_ports(1)[0]
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != _OF_THE_TESTS},
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(self._port),
            "LOG_FORMAT": "json",
            **environment,
        }
        self.deliveries = deliveries or Deliveries()

    def __enter__(self) -> ServiceProcess:
        self._log: IO[bytes] = tempfile.TemporaryFile()
        self.started_ms = time.time() * 1000
        self._process = subprocess.Popen(
            _SERVICE, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log
        )
        self._kill_at_death = DeathWatch(KILL, str(self._process.pid))
        self.usage = UsageSampler(self._process.pid)
        self.usage.start()
        assert self._process.stdout is not None
        self._stdout = self._process.stdout
        self._reader = LineReader(self._stdout, self.deliveries)
        self._reader.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        self._log.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, timeout_seconds: float = 60.0) -> float:
        """Waits for /readyz; the seconds since the start."""
        deadline = time.monotonic() + timeout_seconds
        while self._get("/readyz") is None:
            self.raise_if_ended()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the service is not ready after {timeout_seconds} s:\n{self.log()[-3000:]}")
            time.sleep(0.05)
        return time.time() - self.started_ms / 1000

    def raise_if_ended(self) -> None:
        """Raises RuntimeError if the process has ended by itself or wrote what is no record."""
        if self._reader.error is not None:
            raise RuntimeError("stdout has what is no record") from self._reader.error
        if self._process.poll() is not None:
            raise RuntimeError(f"the service ended with {self._process.returncode}:\n{self.log()[-3000:]}")

    def stop(self) -> Stopped:
        """SIGTERM; waits for the end and for the last line."""
        begun = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(_STOP_SECONDS)
        seconds = time.monotonic() - begun
        self._release()
        return Stopped(self._process.returncode, seconds)

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self._process.kill()
        self._process.wait()
        self._release()

    def metrics(self) -> Mapping[str, float]:
        """All samples of /metrics as ``name`` or ``name{value,...}``. Raises RuntimeError if it does not answer."""
        return MappingProxyType(_samples(self._ask("/metrics")))

    def status(self) -> dict[str, Any]:
        """/status. Raises RuntimeError if it does not answer."""
        status: dict[str, Any] = json.loads(self._ask("/status"))
        return status

    def log(self) -> str:
        """What it wrote to stderr so far."""
        return os.pread(self._log.fileno(), 100_000_000, 0).decode(errors="replace")

    def _release(self) -> None:
        """Whatever belongs to a process that has ended. Once more does nothing."""
        self._kill_at_death.close()
        self.usage.stop()
        self._reader.join()
        self._stdout.close()

    def _ask(self, path: str) -> str:
        answer = self._get(path)
        if answer is None:
            raise RuntimeError(f"{path} does not answer")
        return answer

    def _get(self, path: str) -> str | None:
        """None: no answer, or one that is an error."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=_ANSWER_SECONDS) as answer:
                body: bytes = answer.read()
                return body.decode()
        except (urllib.error.URLError, OSError):
            return None


def _samples(text: str) -> dict[str, float]:
    """Each sample by its name and its labels' values, which are sorted by the labels' names."""
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = ",".join(value for _, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{values}}}" if values else sample.name] = sample.value
    return samples
