"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

from load.compare.about import About
from load.compare.ahead import WHY, ahead
from load.compare.cases import Case
from load.compare.contender import Contender
from load.compare.contest import Entry, Results
from load.compare.figures import Spread

_STEADY_COLUMNS = {
    "early": "early",
    "delivered_percent": "delivered, %",
    "lateness_p50_ms": "p50, ms",
    "lateness_p99_ms": "p99, ms",
    "lateness_p999_ms": "p99.9, ms",
    "lateness_max_ms": "max, ms",
    "bytes_per_log_byte": "bytes read / log",
    "cpu_us_per_record": "CPU, us/record",
    "cpu_percent": "CPU, % of a core",
    "rss_mib": "peak RSS, MiB",
    "rebalances": "rebalances",
}
_CATCH_UP_COLUMNS = {
    "early": "early",
    "delivered_percent": "delivered, %",
    "records_per_second": "records/s",
    "of_bare": "of the bare loop",
    "bytes_per_log_byte": "bytes read / log",
    "cpu_us_per_record": "CPU, us/record",
    "rss_mib": "peak RSS, MiB",
    "rebalances": "rebalances",
}

_FAILURE_CHARACTERS = 300
_EXPLANATION = """\
Median of {rounds} rounds, in brackets the least and the most.

- *Lateness* is delivery less (timestamp + delay), by the wall clock, in the process. A measured record that did not
  come counts as late as it was when the contender was stopped.
- *Bytes read* are what the process's sockets received, by the kernel's count (`ss`); *log* is the topic's size on the
  broker's disk, the tail of later records included: who reads no further than it must stays below 1.
- *CPU* and *memory* are the process's own, not the broker's, not PostgreSQL's server's.
- *Rebalances* are those after the first assignment.
"""


def markdown(results: Results, takers: Mapping[str, Contender], about: About) -> str:
    """The whole report."""
    lines = ["# Side by side", "", f"`{about.command}`", "", f"{about.in_words()}.", ""]
    lines += [_EXPLANATION.format(rounds=about.rounds)]
    for case, entries in results.items():
        lines += [f"## {case.name}", "", *_table(case, entries, takers), *_caveats(entries), ""]
    lines += _who_is_ahead(results)
    lines += [f"- **Left out:** {name}: {reason}." for name, reason in about.left_out.items()]
    return "\n".join(lines) + "\n"


def _table(case: Case, entries: Mapping[str, Entry], takers: Mapping[str, Contender]) -> list[str]:
    columns = _CATCH_UP_COLUMNS if case.is_catch_up else _STEADY_COLUMNS
    head = ["", *columns.values()]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * len(columns)}"]
    for name, entry in entries.items():
        spreads = entry.spreads()
        cells = [_cell(spreads.get(column)) for column in columns]
        lines.append(f"| {takers[name].words} | {' | '.join(cells)} |")
    return lines


def _who_is_ahead(results: Results) -> list[str]:
    """In every round, by one figure; and why."""
    lines = ["## Who is ahead of this service, and why", ""]
    by_figure = {figure: [one for one in ahead(results) if one.figure == figure] for figure in WHY}
    for figure, found in by_figure.items():
        if found:
            column = (_STEADY_COLUMNS | _CATCH_UP_COLUMNS)[figure]
            where = "; ".join(
                f"{one.name} at {one.case.name}: {amount(one.theirs)} for {amount(one.ours)}" for one in found
            )
            lines += [f"- **{column}:** {where}. Why: {WHY[figure]}."]
    return [*lines, *([] if len(lines) > 2 else ["Nobody, by any figure, in every round."]), ""]


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "failed"
    if isnan(spread.median):
        return "-"
    middle, least, most = map(amount, (spread.median, spread.least, spread.most))
    return middle if least == most else f"{middle} ({least} - {most})"


def amount(value: float) -> str:
    """Whole numbers with thousands apart, others with three digits that count."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def _caveats(entries: Mapping[str, Entry]) -> Sequence[str]:
    """What a reader must know before believing a row."""
    lines = []
    for name, entry in entries.items():
        lines += [f"- **{name} failed in a round:** {_one_line(failure)}" for failure in entry.failures]
        late = [one for one in entry.rounds if one.ready_before_measured_seconds < 0]
        if late:
            lines.append(
                f"- **{name} had not joined its group when the first measured record was due** in {len(late)} rounds."
            )
        wrong = sum(one.out_of_order + one.duplicates for one in entry.rounds)
        if wrong:
            lines.append(f"- **{name}** delivered {wrong:,.0f} records again or out of order.")
    return ["", *lines] if lines else []


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_FAILURE_CHARACTERS]
