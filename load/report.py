"""The report: a table on the terminal and the same as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from confluent_kafka import libversion, version
from rich.console import Console
from rich.table import Table

from load.checks import Check, Section


def show(sections: Sequence[Section], console: Console) -> None:
    """A table for each measurement, and at the end whether all passed."""
    for section in sections:
        console.print(_table(section))
        for note in section.notes:
            console.print(f"  {note}", markup=False)
        for picture in section.pictures:
            console.print(f"  picture: {picture}", markup=False)
    failed = [f"{one.title}: {check.name}" for one in sections for check in one.checks if not check.passed]
    console.print(f"FAILED: {'; '.join(failed)}" if failed else "all passed", style="red" if failed else "green")


def write_json(sections: Sequence[Section], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "passed": all(one.passed for one in sections), "sections": _plain(sections)}
    path.write_text(json.dumps(report, indent=2, default=str) + "\n")


def machine() -> dict[str, object]:
    """What the numbers were measured on and with."""
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "confluent_kafka": version(),
        "librdkafka": libversion()[0],
    }


def _plain(sections: Sequence[Section]) -> list[dict[str, object]]:
    return [
        {
            "title": one.title,
            "passed": one.passed,
            "checks": [
                {**asdict(check), "measured": _json_number(check), "passed": check.passed} for check in one.checks
            ],
            "notes": one.notes,
            "pictures": [picture.name for picture in one.pictures],
        }
        for one in sections
    ]


def _json_number(check: Check) -> float | None:
    return None if math.isnan(check.measured) else check.measured


def _table(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left", title_style="bold")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("must be", justify="right")
    table.add_column("")
    for check in section.checks:
        table.add_row(check.name, _amount(check.measured, check.unit), _bound(check), _mark(check))
    return table


def _bound(check: Check) -> str:
    return "" if check.bound is None else f"{check.comparison} {_amount(check.bound, check.unit)}"


def _mark(check: Check) -> str:
    if check.bound is None:
        return ""
    return "[green]pass[/green]" if check.passed else "[red]FAIL[/red]"


def _amount(value: float, unit: str) -> str:
    """Whole numbers with thousands apart, others with three digits that count."""
    if math.isnan(value):
        return "not measured"
    digits = f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}".rstrip()
