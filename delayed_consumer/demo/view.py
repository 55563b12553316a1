"""What the demo shows: a live table on a terminal, a line a second elsewhere, a summary at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from delayed_consumer.demo.tally import Tally
from delayed_consumer.status import PartitionState, PartitionStatus

LINE_EVERY_SECONDS = 1.0
STYLES: Mapping[PartitionState, str] = {
    "reading": "cyan",
    "waiting": "yellow",
    "paused": "magenta",
    "delivering": "bold green",
    "blocked": "bold red",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One look at the demo."""

    elapsed_seconds: float
    total_seconds: float
    produced: int
    delivered: int
    lateness_ms: float | None
    partitions: Sequence[PartitionStatus]
    delivered_by_partition: Mapping[int, int]
    now_ms: float

    @property
    def waiting(self) -> int:
        return self.produced - self.delivered

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.total_seconds - self.elapsed_seconds)


class View:
    """Shows frames on ``out``."""

    def __init__(self, out: TextIO, delay_seconds: float) -> None:
        self._console = Console(file=out, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._delay_seconds = delay_seconds
        self._next_line_seconds = 0.0

    def __enter__(self) -> Self:
        self._console.print(
            f"Every record is delivered {self._delay_seconds:g} s after its timestamp. "
            "Joining the group of an embedded broker takes about three seconds ..."
        )
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_live()

    def show(self, frame: Frame) -> None:
        if self._live is not None:
            self._live.update(_screen(frame), refresh=True)
        elif frame.elapsed_seconds >= self._next_line_seconds:
            self._next_line_seconds = frame.elapsed_seconds + LINE_EVERY_SECONDS
            self._console.print(_line(frame), soft_wrap=True)

    def interrupted(self) -> None:
        self._end_live()
        self._console.print("Interrupted: what has not arrived yet counts as not delivered.")

    def summary(self, tally: Tally, *, pauses: int, resumes: int) -> None:
        self._end_live()
        table = Table(title="Summary", title_justify="left", show_header=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        for name, value in (
            ("produced", f"{len(tally.due_ms):,}"),
            ("delivered", f"{len(tally.arrived):,}"),
            ("early", _verdict(tally.early)),
            ("lost", _verdict(tally.lost)),
            ("repeated", _verdict(tally.repeated)),
            *((f"lateness {name}", _quantile(tally.lateness_ms, q)) for name, q in _QUANTILES.items()),
            ("partitions paused / resumed", f"{pauses} / {resumes} times"),
        ):
            table.add_row(name, value)
        self._console.print(table)

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()


_QUANTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


def _quantile(values: Sequence[float], q: float) -> str:
    if not values:
        return "-"
    ordered = sorted(values)
    return f"{ordered[min(len(ordered) - 1, int(len(ordered) * q))]:.2f} ms"


def _verdict(count: int) -> str:
    return f"[green]{count}[/green]" if count == 0 else f"[bold red]{count}[/bold red]"


def _screen(frame: Frame) -> Group:
    table = Table()
    for name in ("partition", "state", "until due", "waiting", "in memory", "delivered"):
        table.add_column(name, justify="left" if name == "state" else "right", min_width=10)
    for one in frame.partitions:
        table.add_row(
            f"{one.topic}[{one.partition}]",
            Text(one.state, style=STYLES[one.state]),
            _until_due(one, frame.now_ms),
            str(one.waiting if one.waiting is not None else "-"),
            str(one.held + one.in_flight),
            str(frame.delivered_by_partition.get(one.partition, 0)),
        )
    bar = ProgressBar(total=frame.total_seconds, completed=min(frame.elapsed_seconds, frame.total_seconds), width=66)
    return Group(table, Text(_totals(frame)), bar)


def _line(frame: Frame) -> str:
    states = ", ".join(f"{one.partition} {one.state}{_due_note(one, frame.now_ms)}" for one in frame.partitions)
    return f"{frame.elapsed_seconds:5.1f} s  {_totals(frame)}  partitions: {states}"


def _totals(frame: Frame) -> str:
    late = "" if frame.lateness_ms is None else f"  last one {frame.lateness_ms:.2f} ms late"
    return (
        f"produced {frame.produced}  waiting {frame.waiting}  delivered {frame.delivered}{late}  "
        f"{frame.seconds_left:.0f} s left"
    )


def _until_due(one: PartitionStatus, now_ms: float) -> str:
    return "-" if one.next_due_ms is None else f"{max(0.0, one.next_due_ms - now_ms) / 1000:.1f} s"


def _due_note(one: PartitionStatus, now_ms: float) -> str:
    return "" if one.next_due_ms is None else f" ({_until_due(one, now_ms)})"
