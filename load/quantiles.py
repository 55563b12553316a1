"""Quantiles by the nearest rank: always a value that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, nan


def quantile(ascending: Sequence[float], q: float) -> float:
    """The smallest value that at least the share ``q`` (0 to 1) does not exceed; nan of nothing."""
    if not ascending:
        return nan
    return ascending[max(0, ceil(q * len(ascending)) - 1)]
