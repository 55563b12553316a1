"""What a Python handler costs: catch-up against a loop that only reads, and how late the handler is called."""

from __future__ import annotations

import time

from load.checks import Check, Section, at_least, at_most, exactly
from load.cluster import Cluster
from load.limits import handler_functions
from load.limits.catchup import BARE, PARTITIONS, RECORDS, due_records, faster_bare
from load.limits.contest import Contestant, Work, figures, median_rates
from load.producer import fill, writer_for
from load.progress import say
from load.scenarios import Scenario
from load.topics import create_topic

_LEAST_SHARE_BATCH = 0.6
_LEAST_SHARE_RECORD = 0.3
_LATENESS_P99_MS = 2.0
_STEADY = Scenario("handlers", rate=1000, seconds=20, partitions=PARTITIONS)
_START_SECONDS = 5.0  # before the first record is due the process has started and joined its group


def python_sink(function: str) -> dict[str, str]:
    return {"SINK": "python", "SINK_HANDLER": f"{handler_functions.__name__}:{function}"}


_ONE_BY_ONE = "bare loop, one by one"
_BATCH, _RECORD = "@batch handler", "handler of single records"
_HANDLERS = {
    _BATCH: Contestant("service", python_sink("take_batch")),
    f"{_BATCH} that looks at key and value": Contestant("service", python_sink("look_at_batch")),
    _RECORD: Contestant("service", python_sink("take_record")),
    f"{_RECORD} that looks at key and value": Contestant("service", python_sink("look_at_record")),
}


def handlers(cluster: Cluster) -> Section:
    contestants = {**BARE, _ONE_BY_ONE: Contestant("bare-one-by-one"), **_HANDLERS}
    median = median_rates(due_records(cluster, "handlers"), contestants)
    batches, one_by_one = faster_bare(median), median[_ONE_BY_ONE]
    return Section(
        f"handlers: {RECORDS:,} due records of 200 B in {PARTITIONS} partitions; {_STEADY.rate_text} when they are due",
        [
            *(Check(name, rate, "records/s") for name, rate in median.items()),
            at_least(f"{_BATCH} / the faster bare loop of batches", median[_BATCH] / batches, _LEAST_SHARE_BATCH),
            Check(f"{_BATCH} / {_ONE_BY_ONE}", median[_BATCH] / one_by_one),
            at_least(f"{_RECORD} / {_ONE_BY_ONE}", median[_RECORD] / one_by_one, _LEAST_SHARE_RECORD),
            Check(f"{_RECORD} / the faster bare loop of batches", median[_RECORD] / batches),
            *_lateness(cluster),
        ],
    )


def _lateness(cluster: Cluster) -> list[Check]:
    """By the handler's own clock."""
    topic = create_topic(cluster.bootstrap, "load-handlers-steady", PARTITIONS)
    say("handlers: writing the records that fall due one by one ...")
    first_due_ms = fill(writer_for(_STEADY, cluster.bootstrap, topic), _STEADY, _START_SECONDS)
    time.sleep(max(0.0, first_due_ms / 1000 - _START_SECONDS - time.time()))
    say("handlers: they fall due ...")
    expected = int(_STEADY.rate * _STEADY.seconds)
    work = Work(cluster, topic, expected, PARTITIONS)
    measured = figures(work, Contestant("handler-lateness", python_sink("note_lateness")))
    return [
        Check("lateness at the handler p50", measured["p50"], "ms"),
        at_most("lateness at the handler p99", measured["p99"], _LATENESS_P99_MS, "ms"),
        Check("lateness at the handler p99.9", measured["p99.9"], "ms"),
        Check("lateness at the handler max", measured["max"], "ms"),
        exactly("early at the handler", measured["early"], 0),
        at_least("calls", measured["calls"], expected),
    ]
