"""The curves: CPU and memory as something grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from load.compare.figures import Figures
from load.growth.points import curves

_COLUMNS = 2


def draw(measured: Mapping[str, Sequence[Figures]], directory: Path) -> Path:
    """All curves in one picture: CPU to the left, memory to the right of each."""
    mpl.use("agg")
    directory.mkdir(parents=True, exist_ok=True)
    drawn = curves()
    figure = Figure(figsize=(13, 3.5 * len(drawn) / _COLUMNS), layout="constrained")
    for number, curve in enumerate(drawn, start=1):
        axes = figure.add_subplot(-(-len(drawn) // _COLUMNS), _COLUMNS, number)
        x = [point.x for point in curve.points]
        axes.plot(x, [one.cpu_percent for one in measured[curve.name]], "o-", color="C0")
        axes.set_xscale("log" if min(x) > 0 else "linear")
        axes.set(title=curve.name, xlabel=curve.x_label, ylim=(0, None))
        axes.set_ylabel("CPU, % of a core", color="C0")
        memory = axes.twinx()
        memory.plot(x, [one.rss_mib for one in measured[curve.name]], "s--", color="C1")
        memory.set_ylim(0, None)
        memory.set_ylabel("peak RSS, MiB", color="C1")
    path = directory / "growth.png"
    figure.savefig(path, dpi=100)
    return path
