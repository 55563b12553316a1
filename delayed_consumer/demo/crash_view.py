"""What `demo --crash` shows: how far each guarantee is, and at the end what the crash repeated and lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

_PROMISES = {
    "at-most-once": "repeats nothing",
    "at-least-once": "loses nothing",
    "exactly-once": "does neither",
}
_LEGEND = """\
repeated: delivered, and the kill came before the commit
lost: committed, and the kill came before the delivery
rolled back: written in a transaction that the kill cut off, and read by nobody
"""
_NEEDS_A_CLUSTER = """\
exactly-once was left out: it needs transactions, which the embedded broker lacks.
A real Kafka has them, and shows all three on topics that are deleted again:
    delayed-consumer demo --crash --bootstrap HOST:PORT
The docker-compose.yml has one: docker compose up --detach kafka
    delayed-consumer demo --crash --bootstrap localhost:29092"""


@dataclass(frozen=True, slots=True)
class Row:
    """One guarantee. None: not known yet, or nothing that it has."""

    guarantee: str
    state: str
    written: int
    delivered: int  # repeats included
    before: int  # of these, before the kill
    repeated: int | None
    lost: int | None
    undone: int | None  # written in a transaction that the kill ended: no reader of committed records sees it
    kept: bool | None


class CrashView:
    """Shows rows on ``out``: a live table on a terminal, a line for each news elsewhere."""

    def __init__(self, out: TextIO, bootstrap: str | None) -> None:
        """``bootstrap`` None: it runs on the embedded broker."""
        self._console = Console(file=out, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._bootstrap = bootstrap
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        where = f"the Kafka at {self._bootstrap}" if self._bootstrap else "an embedded broker"
        self._console.print(
            f"On {where}, the service is killed (SIGKILL) in the middle of its work and started again, "
            "once for each guarantee. That takes about half a minute.",
            soft_wrap=True,
        )
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_live()
        if kind is KeyboardInterrupt:
            self._console.print("Interrupted: the services that it started have ended.")

    def show(self, rows: Sequence[Row]) -> None:
        if self._live is not None:
            self._live.update(_progress(rows), refresh=True)
            return
        for row in rows:
            if self._told.get(row.guarantee) != row.state:
                self._told[row.guarantee] = row.state
                self._console.print(f"{row.guarantee}: {row.state}, delivered {row.delivered:,} of {row.written:,}")

    def summary(self, rows: Sequence[Row], *, exactly_once_left_out: bool) -> None:
        if self._live is not None:
            self._live.update("", refresh=True)
        self._end_live()
        table = Table(title=f"What the crash did to {rows[0].written:,} records", title_justify="left")
        table.add_column("guarantee", no_wrap=True)
        for name in ("delivered\nbefore it", "delivered\nafter it", "repeated", "lost", "rolled\nback", "kept"):
            table.add_column(name, justify="right")
        for row in rows:
            counts = (row.before, row.delivered - row.before, row.repeated, row.lost, row.undone)
            kept = "[green]yes[/green]" if row.kept else "[bold red]NO[/bold red]"
            table.add_row(f"{row.guarantee}\n[dim]{_PROMISES[row.guarantee]}[/dim]", *map(_number, counts), kept)
        self._console.print(table)
        self._console.print(_LEGEND, soft_wrap=True)
        if exactly_once_left_out:
            self._console.print(_NEEDS_A_CLUSTER, soft_wrap=True)

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()


def _progress(rows: Sequence[Row]) -> Table:
    table = Table()
    table.add_column("guarantee", min_width=14)
    table.add_column("state", min_width=22)
    for name in ("records", "delivered"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row.guarantee, row.state, _number(row.written), _number(row.delivered))
    return table


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
