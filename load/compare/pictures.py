"""Pictures of a comparison: lateness by quantile, cost, catch-up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from load.compare.contest import Entry, Results
from load.compare.figures import spread

_Drawing = Callable[[Axes, dict[str, Entry]], None]

_COLUMNS = 2
_NINES = (50.0, 90.0, 99.0, 99.9, 99.99)
_FLOOR_MS = 0.01  # a logarithmic axis has no 0


def draw(results: Results, directory: Path) -> list[Path]:
    """Draws what there is data for; returns the files."""
    mpl.use("agg")
    directory.mkdir(parents=True, exist_ok=True)
    steady = {case: entries for case, entries in results.items() if not case.is_catch_up}
    catch_up = {case: entries for case, entries in results.items() if case.is_catch_up}
    wanted: list[tuple[str, Results, _Drawing]] = [
        ("lateness", steady, _lateness),
        ("cpu", steady, _bars("cpu_percent", "CPU, % of a core")),
        ("bytes", steady, _bars("bytes_per_log_byte", "bytes read / size of the log")),
        ("catch-up", catch_up, _bars("records_per_second", "records/s", logarithmic=False)),
    ]
    return [_save(directory / f"compare-{name}.png", cases, drawing) for name, cases, drawing in wanted if cases]


def _save(path: Path, cases: Results, drawing: _Drawing) -> Path:
    """One drawing for each case, side by side on the same scales."""
    columns = min(_COLUMNS, len(cases))
    rows = -(-len(cases) // columns)
    figure = Figure(figsize=(6.5 * columns, 0.5 + 3.5 * rows), layout="constrained")
    first: Axes | None = None
    for number, (case, entries) in enumerate(cases.items(), start=1):
        axes = figure.add_subplot(rows, columns, number, sharex=first, sharey=first)
        first = first or axes
        axes.set_title(case.name)
        drawing(axes, entries)
    handles, names = first.get_legend_handles_labels() if first is not None else ([], [])
    if names:
        figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    figure.savefig(path, dpi=100)
    return path


def _lateness(axes: Axes, entries: dict[str, Entry]) -> None:
    """All rounds together. The x axis has one step for each nine; quantiles finer than the records are left out."""
    for number, (name, entry) in enumerate(entries.items()):
        records = entry.lateness.get_total_count()
        steps = [step for step, percent in enumerate(_NINES) if records * (100 - percent) / 100 >= 1]
        late_ms = [max(_FLOOR_MS, entry.lateness.get_value_at_percentile(_NINES[step]) / 1000) for step in steps]
        axes.plot(steps, late_ms, "o-", color=f"C{number}", label=name)
    axes.set_xticks(range(len(_NINES)), [f"{percent:g}" for percent in _NINES])
    axes.set(xlabel="percent of the records", ylabel="at most this late, ms", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(visible=True, alpha=0.3)


def _bars(figure: str, label: str, logarithmic: bool = True) -> _Drawing:
    """One figure's median, and its least and most."""

    def drawing(axes: Axes, entries: dict[str, Entry]) -> None:
        over_rounds = [spread(getattr(one, figure) for one in entry.rounds) for entry in entries.values()]
        middle = [one.median for one in over_rounds]
        reach = [[one.median - one.least for one in over_rounds], [one.most - one.median for one in over_rounds]]
        colours = [f"C{number}" for number in range(len(entries))]
        axes.barh(list(entries), middle, xerr=reach, color=colours, ecolor="black")
        axes.set(xlabel=label, xscale="log" if logarithmic else "linear")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_inverted(True)

    return drawing
