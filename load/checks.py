"""What must be reached, and whether it was."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}


@dataclass(frozen=True)
class Check:
    """One measured number; without ``bound`` it is for information only."""

    name: str
    measured: float
    unit: str = ""
    bound: float | None = None
    comparison: Literal["<=", ">=", "="] = "<="

    @property
    def passed(self) -> bool:
        """A number that could not be measured does not pass."""
        if self.bound is None:
            return True
        return not math.isnan(self.measured) and _COMPARISONS[self.comparison](self.measured, self.bound)


@dataclass
class Section:
    """The results of one measurement."""

    title: str
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def at_most(name: str, measured: float, bound: float, unit: str = "") -> Check:
    return Check(name, measured, unit, bound)


def at_least(name: str, measured: float, bound: float, unit: str = "") -> Check:
    return Check(name, measured, unit, bound, ">=")


def exactly(name: str, measured: float, bound: float, unit: str = "") -> Check:
    return Check(name, measured, unit, bound, "=")
