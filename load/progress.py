"""Where a measurement stands: one line that is renewed on a terminal, a line every five seconds elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.status import Status

_PLAIN_EVERY_SECONDS = 5.0


class Progress:
    """Shows what ``line`` says whenever `update` is called, but never too often. On stderr: stdout has the report."""

    def __init__(self, line: Callable[[], str]) -> None:
        self._line = line
        self._console = Console(file=sys.stderr)
        self._status: Status | None = self._console.status("") if self._console.is_terminal else None
        self._next_plain = 0.0

    def __enter__(self) -> Progress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def update(self) -> None:
        if self._status is not None:
            self._status.update(self._line())
        elif time.monotonic() >= self._next_plain:
            self._next_plain = time.monotonic() + _PLAIN_EVERY_SECONDS
            sys.stderr.write(f"{self._line()}\n")


def say(text: str) -> None:
    """One line about what happens now."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def milliseconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f} ms"
