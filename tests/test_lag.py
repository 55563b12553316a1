"""The arithmetic of waiting and overdue against a plain model, and what the command shows of it."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delayed_consumer.backlog import (
    LogBounds,
    PartitionLag,
    RecordTime,
    examine,
    first_waiting_ms,
    partition_lag,
    search_borders,
)
from delayed_consumer.core.records import Partition
from delayed_consumer.lag import as_document, duration, show, totals

ORDERS = Partition("orders", 0)
DELAY_MS = 1_000
NOW_MS = 10_000.0
DUE, WAITING = 9_000, 9_001  # timestamps: the last that is due now, and the first that is not
MARKER = None  # an offset without a record: a transaction marker, an aborted or a compacted record


def delay_ms(topic: str) -> int:
    return DELAY_MS


class Log:
    """A partition whose records are known: timestamps by offset."""

    def __init__(self, timestamps_ms: Sequence[int | None], first: int = 0) -> None:
        self.records = [RecordTime(first + i, at) for i, at in enumerate(timestamps_ms) if at is not None]
        self.first = first
        self.end = first + len(timestamps_ms)
        self.reads = 0

    def bounds(self) -> LogBounds:
        """What a broker says, without markers."""
        border = next((one for one in self.records if one.timestamp_ms >= WAITING), None)
        return LogBounds(self.first, self.end, border)

    def first_records(self, offsets: Mapping[Partition, int]) -> Mapping[Partition, RecordTime | None]:
        self.reads += len(offsets)
        return {
            partition: next((one for one in self.records if one.offset >= offset), None)
            for partition, offset in offsets.items()
        }

    def lag(self, committed: int | None, bounds: LogBounds | None = None) -> PartitionLag:
        return partition_lag(ORDERS, committed, bounds or self.bounds(), DELAY_MS, "earliest")

    def examined(self, committed: int | None, bounds: LogBounds | None = None) -> PartitionLag:
        [lag] = examine([self.lag(committed, bounds)], delay_ms, NOW_MS, self.first_records)
        return lag


def no_answer(_: Mapping[Partition, int]) -> dict[Partition, RecordTime | None]:
    return {}


def counts(lag: PartitionLag) -> tuple[int | None, int | None]:
    return lag.overdue, lag.waiting


def test_a_record_is_due_in_the_very_millisecond_of_timestamp_plus_delay() -> None:
    assert first_waiting_ms(NOW_MS, DELAY_MS) == WAITING
    assert first_waiting_ms(NOW_MS + 0.999, DELAY_MS) == WAITING
    assert first_waiting_ms(NOW_MS + 1, DELAY_MS) == WAITING + 1


def test_a_delay_longer_than_the_age_of_the_epoch_asks_for_no_negative_time() -> None:
    assert first_waiting_ms(NOW_MS, 20_000) == 0


def test_half_of_the_records_is_overdue_and_half_waits() -> None:
    lag = Log([DUE, DUE, WAITING, WAITING]).lag(committed=None)
    assert counts(lag) == (2, 2)
    assert lag.next_due_ms == WAITING + DELAY_MS


def test_what_is_committed_counts_no_more() -> None:
    log = Log([DUE, DUE, WAITING, WAITING])
    assert counts(log.lag(committed=1)) == (1, 2)
    assert counts(log.lag(committed=2)) == (0, 2)
    assert counts(log.lag(committed=4)) == (0, 0)


def test_an_empty_partition_has_nothing() -> None:
    lag = Log([], first=7).lag(committed=None)
    assert counts(lag) == (0, 0)
    assert (lag.next_due_ms, lag.oldest_overdue_seconds) == (None, 0.0)


def test_a_log_of_due_records_has_its_border_at_the_end() -> None:
    lag = Log([DUE, DUE]).lag(committed=0)
    assert counts(lag) == (2, 0)
    assert lag.next_due_ms is None


def test_deleted_records_are_neither_overdue_nor_waiting() -> None:
    assert counts(Log([DUE, WAITING], first=100).lag(committed=5)) == (1, 1)


def test_a_commit_beyond_the_end_belongs_to_an_earlier_topic_of_the_name() -> None:
    assert counts(Log([DUE, WAITING]).lag(committed=5_000)) == (1, 1)


def test_a_group_without_a_commit_that_starts_at_the_latest_has_nothing_to_do() -> None:
    lag = partition_lag(ORDERS, None, Log([DUE, WAITING]).bounds(), DELAY_MS, "latest")
    assert counts(lag) == (0, 0)


def test_a_partition_without_an_answer_has_no_counts() -> None:
    lag = partition_lag(ORDERS, 3, None, DELAY_MS, "earliest")
    assert (lag.committed, lag.end, lag.next_due_ms, lag.oldest_overdue_seconds) == (3, None, None, None)
    assert counts(lag) == (None, None)


def test_records_behind_one_that_waits_wait_with_it_however_old_they_are() -> None:
    assert counts(Log([DUE, WAITING, 0, DUE]).lag(committed=0)) == (1, 3)


@given(st.lists(st.integers(DUE - 3, WAITING + 3)), st.data())
def test_the_counts_are_those_of_the_running_maximum(timestamps_ms: list[int], data: st.DataObject) -> None:
    log = Log(timestamps_ms)
    border = log.bounds().border
    committed = data.draw(st.integers(0, border.offset if border else log.end))
    due_ms = [max(timestamps_ms[: i + 1]) + DELAY_MS for i in range(len(timestamps_ms))]
    overdue = sum(1 for at_ms in due_ms[committed:] if at_ms <= NOW_MS)
    assert counts(log.lag(committed)) == (overdue, log.end - committed - overdue)
    assert counts(log.examined(committed)) == counts(log.lag(committed))


def test_the_oldest_overdue_record_tells_its_age() -> None:
    assert Log([DUE - 2_500, DUE, WAITING]).examined(committed=0).oldest_overdue_seconds == 2.5
    assert Log([DUE - 2_500, DUE, WAITING]).examined(committed=1).oldest_overdue_seconds == 0.0


def test_a_record_of_next_year_that_is_done_hides_nothing_behind_it() -> None:
    log = Log([10**12, *[DUE] * 300, *[WAITING] * 700])
    hidden = log.lag(committed=1)
    assert hidden.border_is_hidden
    assert counts(hidden) == (0, 1_000)
    lag = log.examined(committed=1)
    assert counts(lag) == (300, 700)
    assert lag.next_due_ms == WAITING + DELAY_MS


def test_a_marker_with_the_time_of_its_commit_is_not_taken_for_a_waiting_record() -> None:
    log = Log([DUE, MARKER, DUE, MARKER])
    fooled = LogBounds(0, 4, RecordTime(1, WAITING))
    assert counts(log.lag(0, fooled)) == (1, 3)
    lag = log.examined(0, fooled)
    assert counts(lag) == (4, 0)
    assert lag.next_due_ms is None
    assert counts(Log([DUE, MARKER]).examined(0, LogBounds(0, 2, RecordTime(1, WAITING)))) == (2, 0)


def test_a_marker_at_the_end_is_neither_overdue_nor_waiting() -> None:
    log = Log([DUE, MARKER])
    assert counts(log.examined(1, LogBounds(0, 2, None))) == (0, 0)
    assert counts(log.examined(1, LogBounds(0, 2, RecordTime(1, WAITING)))) == (0, 0)


def test_a_gap_before_the_first_record_that_is_not_done_is_not_counted() -> None:
    lag = Log([DUE, MARKER, MARKER, DUE, WAITING]).examined(committed=1)
    assert counts(lag) == (1, 1)


def test_records_that_came_after_the_end_was_asked_do_not_count() -> None:
    log = Log([DUE, MARKER, MARKER, DUE - 500, WAITING])
    lag = log.examined(1, LogBounds(0, 2, None))
    assert counts(lag) == (0, 0)
    assert lag.oldest_overdue_seconds == 0.0
    newer = Log([DUE, MARKER, MARKER, WAITING])
    assert search_borders({ORDERS: (0, 3)}, {ORDERS: WAITING}, newer.first_records) == {ORDERS: None}


def test_a_waiting_record_that_came_after_the_end_was_asked_is_not_the_next_one_due() -> None:
    lag = Log([DUE, MARKER, WAITING]).examined(0, LogBounds(0, 2, RecordTime(1, WAITING)))
    assert counts(lag) == (2, 0)
    assert lag.next_due_ms is None


def test_a_partition_that_cannot_be_read_keeps_what_the_brokers_said() -> None:
    lag = Log([DUE, WAITING]).lag(committed=0)
    assert examine([lag], delay_ms, NOW_MS, no_answer) == [lag]


def test_nothing_is_read_of_partitions_without_a_backlog() -> None:
    log = Log([DUE, DUE])
    assert counts(log.examined(committed=2)) == (0, 0)
    assert log.reads == 0


@given(
    st.lists(st.sampled_from([DUE, MARKER]), max_size=40),
    st.lists(st.sampled_from([WAITING, MARKER]), max_size=40),
)
def test_the_bisection_finds_the_first_waiting_record_whatever_the_gaps(
    due: list[int | None], waiting: list[int | None]
) -> None:
    log = Log([*due, *waiting])
    found = search_borders({ORDERS: (0, log.end)}, {ORDERS: WAITING}, log.first_records)
    assert found == {ORDERS: log.bounds().border}
    assert log.reads <= 8


def test_a_search_leaves_out_a_partition_that_stops_answering() -> None:
    assert search_borders({ORDERS: (0, 10)}, {ORDERS: WAITING}, no_answer) == {}


LAGS = [
    PartitionLag(ORDERS, 5, 5, 20, 8, next_due_ms=10_400, oldest_overdue_seconds=3_723.0),
    PartitionLag(Partition("orders", 1), None, 0, 4, 0, next_due_ms=733_000, oldest_overdue_seconds=0.0),
]


def rendered(lags: Sequence[PartitionLag], remarks: Sequence[str] = ()) -> list[str]:
    out = io.StringIO()
    show(lags, remarks, NOW_MS, out, UTC)
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_the_document_has_the_promised_names_and_no_others() -> None:
    document = as_document(LAGS)
    assert document["partitions"][0] == {
        "topic": "orders",
        "partition": 0,
        "committed": 5,
        "end": 20,
        "waiting": 12,
        "overdue": 3,
        "next_due_ms": 10_400,
        "oldest_overdue_seconds": 3_723.0,
    }
    assert document["totals"] == {
        "waiting": 16,
        "overdue": 3,
        "next_due_ms": 10_400,
        "oldest_overdue_seconds": 3_723.0,
    }
    assert document.keys() == {"partitions", "totals"}


def test_the_table_has_a_row_for_each_partition_and_one_of_totals() -> None:
    header, first, second, total = rendered(LAGS)
    assert header == "topic partition committed end waiting overdue next due oldest overdue"
    assert first == "orders 0 5 20 12 3 00:00:10 (in 0.4s) 1h 02m"
    assert second == "orders 1 - 4 4 0 00:12:13 (in 12m 03s) -"
    assert total == "total 16 3 00:00:10 (in 0.4s) 1h 02m"


def test_an_unknown_count_makes_the_total_unknown() -> None:
    lags = [*LAGS, PartitionLag(Partition("orders", 2), None)]
    assert totals(lags)["overdue"] is None
    assert totals(lags)["oldest_overdue_seconds"] is None
    assert rendered(lags)[-2] == "orders 2 - ? ? ? - ?"


def test_remarks_stand_below_the_table() -> None:
    assert rendered([], ["no topic matches ^x"])[-1] == "no topic matches ^x"


@pytest.mark.parametrize("timestamp_ms", [2**63 - 1, 32_503_680_000_000])
def test_a_due_time_in_a_far_century_is_shown_all_the_same(timestamp_ms: int) -> None:
    lag = PartitionLag(ORDERS, 0, 0, 1, 0, next_due_ms=timestamp_ms, oldest_overdue_seconds=0.0)
    assert re.search(r"in \d+d \d\dh", rendered([lag])[1])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0s"),
        (4.21, "4.2s"),
        (9.96, "10s"),
        (59.6, "1m 00s"),
        (723, "12m 03s"),
        (7_500, "2h 05m"),
        (3_600, "1h 00m"),
        (273_600, "3d 04h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
