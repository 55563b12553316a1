"""`delayed-consumer lag`: what waits and what is overdue, per partition; asks the brokers, needs no running service."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, TextIO

import orjson
from rich.console import Console
from rich.table import Table

from delayed_consumer.backlog import PartitionLag, examine
from delayed_consumer.clock import SystemClock
from delayed_consumer.core.records import Partition
from delayed_consumer.errors import ConfigError, ExitCode
from delayed_consumer.probe import Probe, missing_topics
from delayed_consumer.settings import Settings

TIMEOUT_S = 10.0
PIPED_COLUMNS = 1000  # a line of a file or a pipe is not broken
_UNKNOWN = "?"


def lag(settings: Settings, *, as_json: bool, out: TextIO) -> int:
    """Shows the group's lag. Returns the exit code.

    Raises:
        ConfigError: a topic does not exist.
        AuthError: the brokers do not let us in, or do not permit us to see a topic or the group.
        UnreachableError: the brokers do not answer.
    """
    now_ms = SystemClock().now_ms()
    lags = sorted(_ask(settings, now_ms), key=lambda one: one.partition)
    if as_json:
        out.write(orjson.dumps(as_document(lags)).decode() + "\n")
    else:
        show(lags, _remarks(settings, lags), now_ms, out)
    return ExitCode.OK


def _ask(settings: Settings, now_ms: float) -> list[PartitionLag]:
    timeout_s = min(TIMEOUT_S, settings.start_timeout_seconds)
    with Probe(settings.client_config(), timeout_s=timeout_s) as probe:
        topics = probe.topics(settings.subscriptions)  # retry topics are made at the first start
        missing = missing_topics(settings.kafka_topics, topics)
        if missing:
            raise ConfigError([f"KAFKA_TOPICS: the topic {topic} does not exist" for topic in missing])
        partitions = [Partition(topic, number) for topic, count in topics.items() for number in range(count)]
        committed = probe.committed(settings.kafka_group_id, partitions)
        lags = probe.measure(committed, settings.delay_ms, now_ms, settings.start_from)
        return examine(lags, settings.delay_ms, now_ms, probe.first_records)


def _remarks(settings: Settings, lags: Collection[PartitionLag]) -> list[str]:
    """What explains numbers that could surprise."""
    if not lags:
        return [f"no topic matches {','.join(settings.subscriptions)}"]
    remarks = []
    uncommitted = [one for one in lags if one.committed is None]
    if uncommitted:
        whose = "no commit yet" if len(uncommitted) == len(lags) else f"no commit in {len(uncommitted)} partitions"
        remarks.append(f"group {settings.kafka_group_id} has {whose}: counted as START_FROM={settings.start_from} does")
    silent = [str(one.partition) for one in lags if one.end is None]
    if silent:
        remarks.append(f"no answer from the brokers for {', '.join(silent)}")
    return remarks


def as_document(lags: Collection[PartitionLag]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "partitions": [
            {
                "topic": one.partition.topic,
                "partition": one.partition.number,
                "committed": one.committed,
                "end": one.end,
                "waiting": one.waiting,
                "overdue": one.overdue,
                "next_due_ms": one.next_due_ms,
                "oldest_overdue_seconds": one.oldest_overdue_seconds,
            }
            for one in lags
        ],
        "totals": totals(lags),
    }


def totals(lags: Collection[PartitionLag]) -> Mapping[str, float | None]:
    """Sums, the earliest next due time and the oldest age. None where a partition's is unknown: the sum of the
    others would look like good news."""
    return {
        "waiting": _over(sum, [one.waiting for one in lags]),
        "overdue": _over(sum, [one.overdue for one in lags]),
        "next_due_ms": min((one.next_due_ms for one in lags if one.next_due_ms is not None), default=None),
        "oldest_overdue_seconds": _over(max, [0.0, *(one.oldest_overdue_seconds for one in lags)]),
    }


def _over(reduce: Callable[[Iterable[Any]], float], values: Collection[float | None]) -> float | None:
    return None if None in values else reduce(values)


def show(
    lags: Collection[PartitionLag], remarks: Iterable[str], now_ms: float, out: TextIO, zone: tzinfo | None = None
) -> None:
    """The table, with a row of totals. ``zone``: of the clock times; None: this machine's."""
    table = Table("topic", box=None, pad_edge=False)
    for column in ("partition", "committed", "end", "waiting", "overdue"):
        table.add_column(column, justify="right")
    table.add_column("next due")
    table.add_column("oldest overdue", justify="right")
    for one in lags:
        table.add_row(
            one.partition.topic,
            str(one.partition.number),
            "-" if one.committed is None else str(one.committed),
            _count(one.end),
            *_state(one.waiting, one.overdue, one.next_due_ms, one.oldest_overdue_seconds, now_ms, zone),
        )
    total = totals(lags)
    table.add_section()
    table.add_row("total", "", "", "", *_state(**total, now_ms=now_ms, zone=zone), style="bold")
    console = Console(file=out, markup=False, highlight=False, width=None if out.isatty() else PIPED_COLUMNS)
    console.print(table)
    for remark in remarks:
        console.print(remark)


def _state(
    waiting: float | None,
    overdue: float | None,
    next_due_ms: float | None,
    oldest_overdue_seconds: float | None,
    now_ms: float,
    zone: tzinfo | None,
) -> tuple[str, str, str, str]:
    oldest = _UNKNOWN if oldest_overdue_seconds is None else _age(oldest_overdue_seconds)
    return _count(waiting), _count(overdue), _moment(next_due_ms, now_ms, zone), oldest


def _count(number: float | None) -> str:
    return _UNKNOWN if number is None else str(number)


def _age(seconds: float) -> str:
    return duration(seconds) if seconds else "-"


def _moment(due_ms: float | None, now_ms: float, zone: tzinfo | None) -> str:
    if due_ms is None:
        return "-"
    until = f"in {duration((due_ms - now_ms) / 1000)}"
    try:
        due, now = (datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone) for at_ms in (due_ms, now_ms))
    except (OverflowError, ValueError, OSError):  # a timestamp may be any 64-bit number
        return until
    return f"{due:%H:%M:%S} ({until})" if due.date() == now.date() else f"{due:%Y-%m-%d %H:%M:%S} ({until})"


def duration(seconds: float) -> str:
    """The two largest units: ``12m 03s``, ``2h 05m``, ``3d 04h``; below ten seconds with a decimal: ``4.2s``."""
    if 0 <= seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_rest = divmod(minutes, 60)
    days, hours_rest = divmod(hours, 24)
    for count, unit, smaller, smaller_unit in (
        (days, "d", hours_rest, "h"),
        (hours, "h", minutes_rest, "m"),
        (minutes, "m", rest, "s"),
    ):
        if count:
            return f"{count}{unit} {smaller:02}{smaller_unit}"
    return f"{rest}s"
