"""`dead-letters list`: one line each, in bounded memory however many there are."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from delayed_consumer.dead_letters.letters import DeadLetter, LetterId
from delayed_consumer.dead_letters.progress import Progress
from delayed_consumer.dead_letters.reading import Reader
from delayed_consumer.dead_letters.selection import Selection, Span
from delayed_consumer.dead_letters.text import escaped, moment, shortened, size
from delayed_consumer.logs import on_one_line

TABLE_LIMIT = 100
PIPED_COLUMNS = 1000  # a line of a file or a pipe is not broken
_LONGEST_KEY = 40
_LONGEST_ERROR = 200


@dataclass(frozen=True, slots=True)
class Topic:
    """The dead-letter topic, and what there is of it now."""

    name: str
    ranges: dict[int, tuple[int, int]]
    reader: Reader

    def letters(
        self, selection: Selection, spans: Sequence[Span], err: TextIO, *, bar: bool = True
    ) -> Iterator[DeadLetter]:
        """Those of the selection, with a bar where that takes long."""
        with Progress(sum(map(len, spans)), err, bar=bar) as progress:
            found = 0
            for letter in self.reader.read(spans):
                if progress.is_time():
                    progress.show(f"{found} found")
                if selection.takes(letter):
                    found += 1
                    yield letter


def show_list(
    topic: Topic, selection: Selection, limit: int | None, *, as_json: bool, out: TextIO, err: TextIO
) -> None:
    """Those of the selection; with a limit the newest of them.

    They are read twice where there is a limit: which ones they are is only known at the end, and to keep all values
    until then would take any amount of memory.
    """
    if not as_json:
        limit = limit or TABLE_LIMIT
    total = None
    if limit is not None:
        total, newest = _newest(topic.letters(selection, selection.spans(topic.ranges), err), limit)
        selection = replace(selection, ids=newest)
    spans = selection.spans(topic.ranges) if total != 0 else []
    show = _show_json if as_json else _show_table
    bar = not (as_json and out.isatty())  # it would be drawn over what is written meanwhile
    show(topic, topic.letters(selection, spans, err, bar=bar), total, out)


def _newest(letters: Iterable[DeadLetter], limit: int) -> tuple[int, frozenset[LetterId]]:
    """How many there are, and the newest of them."""
    heap: list[tuple[int, LetterId]] = []
    total = 0
    for letter in letters:
        total += 1
        entry = (letter.timestamp_ms, letter.id)
        if len(heap) < limit:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
    return total, frozenset(one for _, one in heap)


def _show_json(topic: Topic, letters: Iterable[DeadLetter], total: int | None, out: TextIO) -> None:
    """Written as they are read. ``total`` None: all are listed."""
    out.write(f'{{"topic":"{topic.name}","dead_letters":[')
    count = 0
    for count, letter in enumerate(letters, 1):
        out.write((",\n" if count > 1 else "\n") + orjson.dumps(letter.as_document()).decode())
    out.write(f'\n],"total":{count if total is None else total}}}\n')


def _show_table(topic: Topic, letters: Iterable[DeadLetter], total: int | None, out: TextIO) -> None:
    """The newest first."""
    rows: list[tuple[int, LetterId, Sequence[Text]]] = [(one.timestamp_ms, one.id, _row(one)) for one in letters]
    rows.sort(key=lambda row: row[:2], reverse=True)
    table = Table("id", "dead-lettered", box=None, pad_edge=False)
    table.add_column("origin", overflow="fold")
    table.add_column("attempts", justify="right")
    table.add_column("error", overflow="fold", ratio=1 if out.isatty() else None)
    table.add_column("key", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    for _, _, row in rows:
        table.add_row(*row)
    console = Console(file=out, markup=False, highlight=False, width=None if out.isatty() else PIPED_COLUMNS)
    if rows:
        console.print(table)
    for remark in _remarks(topic, len(rows), total or 0):
        console.print(Text(remark))


def _row(letter: DeadLetter) -> Sequence[Text]:
    """Not strings: those could hold what rich takes for markup or an emoji."""
    origin = letter.origin
    cells = (
        str(letter.id),
        moment(letter.timestamp_ms),
        "-" if origin is None else f"{origin.topic}[{origin.partition}] {origin.offset}",
        "-" if origin is None else str(origin.attempts),
        "not a dead letter of ours" if origin is None else shortened(on_one_line(letter.error or ""), _LONGEST_ERROR),
        shortened(escaped(letter.key), _LONGEST_KEY),
        size(letter.size_bytes),
    )
    return [Text(cell) for cell in cells]


def _remarks(topic: Topic, shown: int, total: int) -> Iterator[str]:
    yield f"total {total} in {topic.name}"
    if shown < total:
        yield f"shown are the newest {shown}; --limit shows more, --json all"
