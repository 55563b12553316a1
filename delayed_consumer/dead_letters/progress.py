"""How far a command has come, on stderr: a bar on a terminal, else a line now and then where that is wanted."""

from __future__ import annotations

from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from delayed_consumer.clock import Clock, SystemClock

BAR_AFTER_MS = 1_000.0
BAR_EVERY_MS = 100.0
LINE_EVERY_MS = 5_000.0
_LOOK_EVERY = 100  # records: to ask the time costs as much as to take one


class Progress:
    """Says nothing before it takes long."""

    def __init__(
        self, total: int, err: TextIO, *, bar: bool = True, lines: bool = False, clock: Clock | None = None
    ) -> None:
        """``total``: offsets to read. ``bar``: where ``err`` is a terminal. ``lines``: where it is none."""
        self._total = total
        self._taken = 0
        self._err = err
        self._has_bar = err.isatty() and bar
        self._shows = self._has_bar or (lines and not err.isatty())
        self._clock = clock or SystemClock()
        self._bar: RichProgress | None = None
        self._show_at_ms = self._clock.steady_ms() + (BAR_AFTER_MS if self._has_bar else LINE_EVERY_MS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, line: str) -> None:
        """A line of its own, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(Text(line), soft_wrap=True)
        else:
            self._err.write(f"{line}\n")
            self._err.flush()

    def is_time(self) -> bool:
        """Counts one more that was read; whether to `show` something now."""
        self._taken += 1
        return self._shows and self._taken % _LOOK_EVERY == 0 and self._clock.steady_ms() >= self._show_at_ms

    def show(self, words: str) -> None:
        """``words``: what has come of it so far."""
        if self._has_bar:
            self._draw(words)
        else:
            self.say(f"{self._taken} of {self._total} read, {words}")
        self._show_at_ms = self._clock.steady_ms() + (BAR_EVERY_MS if self._has_bar else LINE_EVERY_MS)

    def _draw(self, words: str) -> None:
        if self._bar is None:
            columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeRemainingColumn())
            self._bar = RichProgress(*columns, console=Console(file=self._err), transient=True)
            self._bar.add_task(words, total=self._total)
            self._bar.start()
        for task in self._bar.task_ids:
            self._bar.update(task, description=words, completed=self._taken)
