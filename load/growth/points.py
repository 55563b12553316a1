"""What grows, and where it is measured, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from load.compare.cases import Case

DELAY = "delay"

_DAY_SECONDS = 86_400.0
_DELAYS_SECONDS = (1.0, 60.0, 3600.0, _DAY_SECONDS, 7 * _DAY_SECONDS)
_BACKLOGS_BYTES = (10**6, 10**7, 10**8, 10**9, 5 * 10**9)
_PARTITIONS = (1, 10, 100, 1000)
_SIZES_BYTES = (10, 100, 1000, 10_000, 100_000, 990_000)  # a client sends no more than 1,000,000 B
_HANDLERS_MS = (0.0, 1.0, 5.0, 20.0, 50.0)

_RATE = 1000.0
_BACKLOG_RATE, _BACKLOG_SIZE_BYTES = 100.0, 10_000
_BACKLOG_DELAY_SECONDS = 7200.0  # the largest spans 5,000 s, and brokers refuse what is dated an hour ahead
_IDLE_RATE = 10.0
_BYTES_PER_SECOND = 5_000_000  # of large records
_HANDLER_RATE = 40.0  # half of what four partitions do with the slowest handler
_BEFORE_SECONDS, _SECONDS, _AFTER_SECONDS = 1.5, 5.0, 6.0


@dataclass(frozen=True)
class Point:
    """One place on a curve: a topic, a delay of about so long, and settings of the service."""

    x: float
    case: Case
    delay_seconds: float = 900.0
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    name: str
    x_label: str
    points: tuple[Point, ...]


def curves() -> list[Curve]:
    return [
        Curve(DELAY, "delay, s", tuple(Point(x, _steady("delay"), delay_seconds=x) for x in _DELAYS_SECONDS)),
        Curve(
            "backlog",
            "waiting, bytes",
            tuple(Point(x, _with_backlog(x), _BACKLOG_DELAY_SECONDS) for x in _BACKLOGS_BYTES),
        ),
        Curve(
            "idle partitions",
            "partitions, all but one of them empty",
            tuple(Point(x, _steady("idle", _IDLE_RATE, partitions=x, empty_partitions=x - 1)) for x in _PARTITIONS),
        ),
        Curve(
            "busy partitions",
            f"partitions, {_RATE:,.0f} records/s in all",
            tuple(Point(x, _steady("busy", partitions=x)) for x in _PARTITIONS),
        ),
        Curve("record size", "bytes of a value", tuple(Point(x, _of_size(x)) for x in _SIZES_BYTES)),
        Curve(
            "handler",
            f"ms in the handler, {_HANDLER_RATE:,.0f} records/s",
            tuple(Point(x, _steady("handler", _HANDLER_RATE), settings=_handler(x)) for x in _HANDLERS_MS),
        ),
    ]


def _steady(
    name: str,
    rate: float = _RATE,
    partitions: int = 4,
    empty_partitions: int = 0,
    size_bytes: int = 200,
    seconds_after: float = _AFTER_SECONDS,
) -> Case:
    return Case(
        name=name,
        partitions=partitions,
        size_bytes=size_bytes,
        records=round(rate * (_BEFORE_SECONDS + _SECONDS + seconds_after)),
        rate=rate,
        warm_up_seconds=_BEFORE_SECONDS,
        seconds=_SECONDS,
        empty_partitions=empty_partitions,
        batch_records=max(1, round(rate / partitions / 50)),
    )


def _with_backlog(size_bytes: int) -> Case:
    waiting_seconds = size_bytes / _BACKLOG_SIZE_BYTES / _BACKLOG_RATE
    return _steady("backlog", _BACKLOG_RATE, size_bytes=_BACKLOG_SIZE_BYTES, seconds_after=waiting_seconds)


def _of_size(size_bytes: int) -> Case:
    return _steady("size", min(_RATE, _BYTES_PER_SECOND / size_bytes), size_bytes=size_bytes)


def _handler(milliseconds: float) -> dict[str, str]:
    return {"SINK_HANDLER": "load.growth.handler:take", "GROWTH_HANDLER_SECONDS": str(milliseconds / 1000)}
