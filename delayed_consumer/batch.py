"""Marks a handler that takes lists of records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

Handler = Callable[[Any], object]  # gets a Record, or a list of them where it is marked; may be async
Function = TypeVar("Function", bound=Callable[..., object])

_MARK = "delayed_consumer_batch_records"
DEFAULT_MAX_RECORDS = 500


@overload
def batch(handler: Function, /) -> Function: ...
@overload
def batch(*, max_records: int = DEFAULT_MAX_RECORDS) -> Callable[[Function], Function]: ...
def batch(
    handler: Function | None = None, /, *, max_records: int = DEFAULT_MAX_RECORDS
) -> Function | Callable[[Function], Function]:
    """``@batch`` or ``@batch(max_records=100)``: the handler gets a list of one partition's due records, in order.

    A list has what is due at the moment, from one record up to ``max_records``; nothing is waited for. A list whose
    call fails is tried again record by record, in lists of one: the failed call was the first attempt of each, and
    each gets one more at least, so one record that cannot be handled does not take the others with it.

    Raises:
        ValueError: ``max_records`` is not a whole number above 0.
    """
    if type(max_records) is not int or max_records < 1:
        raise ValueError(f"max_records={max_records!r} is not a whole number above 0")

    def mark(function: Function) -> Function:
        setattr(function, _MARK, max_records)
        return function

    return mark if handler is None else mark(handler)


def batch_records(handler: object) -> int | None:
    """The longest list that ``handler`` takes; None: it takes single records."""
    records: int | None = getattr(handler, _MARK, None)
    return records
