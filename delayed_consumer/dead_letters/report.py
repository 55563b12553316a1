"""What a replay has come to: what is refused at once, the rest at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from delayed_consumer.dead_letters.letters import LetterId
from delayed_consumer.dead_letters.text import size
from delayed_consumer.logs import on_one_line

PIPED_COLUMNS = 1000  # a line of a file or a pipe is not broken
_MOST_NAMED = 10


class Sent(NamedTuple):
    """What is remembered of a record until its answer: not its value.

    ``topic`` is where it came from, ``target`` where it goes. ``renewed``: with a timestamp that is not its own.
    """

    letter: LetterId
    topic: str
    target: str
    size_bytes: int
    renewed: bool = False


@dataclass(slots=True)
class Tally:
    """What became of the records of one origin topic."""

    acknowledged: int = 0
    size_bytes: int = 0
    refused: int = 0
    renewed: int = 0


@dataclass(slots=True)
class Report:
    """What a replay has come to. Reports what is refused when it happens.

    ``say`` takes a line for stderr. ``tallies`` are by the topic that records came from and the one that they go to.
    In a dry run what would be sent counts as acknowledged.
    """

    say: Callable[[str], None]
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    foreign: int = 0
    first_foreign: list[LetterId] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        return sum(tally.acknowledged for tally in self.tallies.values())

    @property
    def refused(self) -> int:
        return sum(tally.refused for tally in self.tallies.values())

    def acknowledge(self, sent: Sent) -> None:
        tally = self._tally(sent)
        tally.acknowledged += 1
        tally.size_bytes += sent.size_bytes
        tally.renewed += sent.renewed

    def refuse(self, sent: Sent, reason: str) -> None:
        self._tally(sent).refused += 1
        self.complain(f"{sent.letter} of {sent.topic}: {reason}")

    def leave_out(self, letter: LetterId) -> None:
        self.foreign += 1
        if len(self.first_foreign) < _MOST_NAMED:
            self.first_foreign.append(letter)

    def complain(self, line: str) -> None:
        self.say(f"delayed-consumer: {on_one_line(line)}")

    def _tally(self, sent: Sent) -> Tally:
        return self.tallies.setdefault((sent.topic, sent.target), Tally())


def show_report(report: Report, *, dry_run: bool, out: TextIO) -> None:
    """The result, a row for each topic."""
    table = Table("from", "to", box=None, pad_edge=False)
    for column in ("would be replayed" if dry_run else "replayed", "size", "refused"):
        table.add_column(column, justify="right")
    for (origin, target), tally in sorted(report.tallies.items()):
        cells = (origin, target, str(tally.acknowledged), size(tally.size_bytes), str(tally.refused))
        table.add_row(*map(Text, cells))
    console = Console(file=out, markup=False, highlight=False, width=None if out.isatty() else PIPED_COLUMNS)
    if report.tallies:
        console.print(table)
    for remark in _remarks(report, dry_run):
        console.print(Text(remark))


def _remarks(report: Report, dry_run: bool) -> Iterator[str]:
    yield f"{'a dry run, nothing is written' if dry_run else 'acknowledged'}: {report.acknowledged} records"
    renewed = sum(tally.renewed for tally in report.tallies.values())
    if renewed:
        yield f"{renewed} of them with a newer timestamp: their topic would soon delete a record as old as they are"
    if report.foreign:
        named = ", ".join(map(str, report.first_foreign))
        more = f" and {report.foreign - len(report.first_foreign)} more" if report.foreign > _MOST_NAMED else ""
        yield f"{report.foreign} have no origin and cannot be replayed: {named}{more}"
