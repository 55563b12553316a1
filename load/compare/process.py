"""One life of a contender."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from load.compare.output import Drain, Format
from load.guard import KILL, DeathWatch
from load.usage import UsageSampler

_STOP_SECONDS = 15.0
_OF_THE_TESTS = "KAFKA_BOOTSTRAP_SERVERS_TEST"  # under one of the service's prefixes, and none of its settings


class ContenderProcess:
    """Started by ``with``, and killed at its end if it still runs. ``environment`` is added to this process's own."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], output: Format) -> None:
        self._command = command
        self._environment = {**os.environ, **environment}
        self._environment.pop(_OF_THE_TESTS, None)
        self._format: Format = output

    def __enter__(self) -> ContenderProcess:
        self._log = tempfile.TemporaryFile()
        self.output = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log
        )
        self._kill_at_death = DeathWatch(KILL, str(self._process.pid))
        self.usage = UsageSampler(self._process.pid)
        self.usage.start()
        assert self._process.stdout is not None
        self._stdout = self._process.stdout
        self.drain = Drain(self._stdout, self.output, self._format)
        self.drain.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._release()
        self._log.close()
        self.output.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def raise_if_ended(self) -> None:
        """Raises RuntimeError if it has ended by itself."""
        if self._process.poll() is not None:
            raise RuntimeError(f"it ended with {self._process.returncode}:\n{self.log()[-2000:]}")

    def stop(self) -> None:
        """SIGTERM, SIGKILL if that takes long; all it wrote is read then."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._release()

    def log(self) -> str:
        """What it wrote to stderr so far."""
        return os.pread(self._log.fileno(), 100_000_000, 0).decode(errors="replace")

    def _release(self) -> None:
        """Whatever belongs to a process that has ended. Once more does nothing."""
        self._process.wait()
        self._kill_at_death.close()
        self.usage.stop()
        self.drain.join()
        self._stdout.close()
