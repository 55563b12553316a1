"""Pictures of one scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from math import ceil, floor, log10
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from load.measure import Measurement
from load.quantiles import quantile
from load.verdicts import LATENESS_P50_MS, LATENESS_P99_MS

_Drawing = Callable[[Axes, Measurement], None]

_POINTS = 20_000  # more would make a picture of megabytes that looks the same
_BINS = 120
_NINES = (0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 1.0)
_FLOOR_MS = 0.01  # a logarithmic axis has no 0
_COLOURS = {
    "reading": "tab:blue",
    "waiting": "tab:orange",
    "paused": "lightgrey",
    "delivering": "tab:green",
    "blocked": "tab:red",
}


def draw(run: Measurement, directory: Path) -> list[Path]:
    """Draws what there is data for; returns the files."""
    mpl.use("agg")
    directory.mkdir(parents=True, exist_ok=True)
    drawings: list[tuple[str, _Drawing]] = [
        ("rates", _rates),
        ("lateness-quantiles", _quantiles),
        ("lateness-over-time", _over_time),
    ]
    if run.states:
        drawings.append(("partition-states", _states))
    return [_save(directory / f"{run.scenario.name}-{name}.png", run, drawing) for name, drawing in drawings]


def _save(path: Path, run: Measurement, drawing: _Drawing) -> Path:
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    drawing(axes, run)
    figure.savefig(path, dpi=110)
    return path


def _rates(axes: Axes, run: Measurement) -> None:
    """In: by timestamp; out: by delivery less the delay. Where the service is on time they coincide."""
    bin_seconds = max(1.0, run.scenario.run_seconds / _BINS)
    stamped = (stamp for column in run.written.values() for stamp in column.timestamps_ms)
    came = (moment - run.scenario.delay_ms for column in run.delivered.values() for moment in column.delivered_ms)
    origin_ms = run.first_due_ms - run.scenario.delay_ms
    bins = range(int(run.scenario.run_seconds / bin_seconds))
    for label, moments, style in (("written", stamped, "-"), ("delivered, less the delay", came, "--")):
        counts = Counter(int((moment - origin_ms) / 1000 // bin_seconds) for moment in moments)
        rates = [counts[one] / bin_seconds for one in bins]
        axes.step([one * bin_seconds for one in bins], rates, style, where="post", label=label)
    axes.set(title=f"{run.scenario.name}: rate in and rate out", xlabel="timestamp, s", ylabel="records/s")
    axes.set_ylim(0, 1.2 * axes.get_ylim()[1])
    axes.legend(loc="lower right")


def _quantiles(axes: Axes, run: Measurement) -> None:
    """The x axis has one step for each nine, and the last is the maximum."""
    for label, late_ms in (("at the sink", run.lateness_ms()), ("at the reader", run.arrival_lateness_ms())):
        steps = [step for step, q in enumerate(_NINES) if len(late_ms) * (1 - q) >= 1 or q == 1.0]
        axes.plot(steps, [max(_FLOOR_MS, quantile(late_ms, _NINES[step])) for step in steps], "o-", label=label)
    if run.sink == "log":
        steps = [_NINES.index(0.5), _NINES.index(0.99)]
        axes.plot(steps, [LATENESS_P50_MS, LATENESS_P99_MS], "k_", markersize=20, label="must be below")
    axes.set_xticks(range(len(_NINES)), [*(f"{q * 100:g}" for q in _NINES[:-1]), "max"])
    axes.set(title=f"{run.scenario.name}: lateness", xlabel="percent of the records", ylabel="at most this late, ms")
    _logarithmic(axes)
    axes.legend(loc="upper left")


def _over_time(axes: Axes, run: Measurement) -> None:
    points = list(_thinned(list(zip(run.verdict.due_ms, run.verdict.lateness_ms, strict=True))))
    seconds = [(due_ms - run.first_due_ms) / 1000 for due_ms, _ in points]
    axes.plot(seconds, [max(_FLOOR_MS, late_ms) for _, late_ms in points], ".", markersize=2)
    axes.set(title=f"{run.scenario.name}: lateness over time", xlabel="due, s", ylabel="late, ms")
    _logarithmic(axes)


def _logarithmic(axes: Axes) -> None:
    """Whole powers of ten, so that pictures of different runs can be compared."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(10 ** floor(log10(low)), max(10.0, 10 ** ceil(log10(high))))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(visible=True, which="both", alpha=0.3)


def _thinned(points: list[tuple[int, float]]) -> Iterable[tuple[int, float]]:
    """Evenly chosen ones, and all of the latest, which are what one looks for."""
    step = max(1, len(points) // _POINTS)
    latest = sorted(points, key=lambda point: point[1])[-1000:] if step > 1 else []
    return [*points[::step], *latest]


def _states(axes: Axes, run: Measurement) -> None:
    """A bar for each partition, coloured by its state; a tick where a record was delivered."""
    for now, later in zip(run.states, run.states[1:], strict=False):
        left = (now.at_ms - run.first_due_ms) / 1000
        for number, state in now.states.items():
            axes.barh(number, (later.at_ms - now.at_ms) / 1000, left=left, height=0.7, color=_COLOURS[state])
    for (_, number), column in run.delivered.items():
        seconds = [(moment - run.first_due_ms) / 1000 for moment in column.delivered_ms]
        axes.plot(seconds, [number] * len(seconds), "k|", markersize=18, label="delivered")
    for state, colour in _COLOURS.items():
        axes.barh(0, 0, color=colour, label=state)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=6)
    axes.set_yticks(range(run.scenario.partitions))
    axes.set(title=f"{run.scenario.name}: what each partition did", xlabel="s", ylabel="partition")
