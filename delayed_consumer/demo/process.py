"""The service in a process of its own, as `demo --crash` starts, kills and stops it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping

from delayed_consumer.demo.cluster import Arrival
from delayed_consumer.errors import GaveUpError

STOP_TIMEOUT_SECONDS = 60.0


class Process:
    """One life of the service. Not later than the demo's end it ends as well."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - see close
        self._process = subprocess.Popen(
            [sys.executable, "-m", "delayed_consumer.demo.service"],
            # Nothing of ours but where the modules are: a SINK_URL that is set would contradict the demo's settings.
            env={"PYTHONPATH": os.pathsep.join(sys.path), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C is the demo's to handle
        )
        assert self._process.stdout is not None
        self._stdout = self._process.stdout
        os.set_blocking(self._stdout.fileno(), False)
        self._half_line = b""

    def arrivals(self) -> Iterator[Arrival]:
        """What its handler has done since the last call; after the end, all the rest."""
        lines = (self._half_line + (self._stdout.read() or b"")).split(b"\n")
        self._half_line = lines.pop()
        for line in lines:
            partition, offset, delivered_ms = line.split()
            yield int(partition), int(offset), float(delivered_ms)

    def raise_if_ended(self) -> None:
        """Raises GaveUpError with its last words when it has ended by itself."""
        if self._process.poll() is not None:
            self._log.seek(0)
            words = self._log.read().splitlines()[-1:] or ["it did not say why"]
            raise GaveUpError(f"the demo's service ended with {self._process.returncode}: {words[0]}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(STOP_TIMEOUT_SECONDS)

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Once it has ended."""
        for stream in (self._process.stdin, self._stdout, self._log):
            if stream is not None:
                stream.close()
