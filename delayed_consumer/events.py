"""Every log line and what it counts, one method each. Nothing else logs or counts."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from delayed_consumer import __version__
from delayed_consumer.core.due import DueTimes
from delayed_consumer.core.flow import FlowChange
from delayed_consumer.core.records import Partition, Run
from delayed_consumer.dispatch import Progress
from delayed_consumer.failures import Failure, Fate, Forward
from delayed_consumer.logs import DIGITS
from delayed_consumer.metrics import Metrics
from delayed_consumer.positions import Start
from delayed_consumer.sinks import Outcome
from delayed_consumer.status import ServiceStatus

REPEAT_AFTER_MS = 60_000.0
MOST_LISTED = 10


class Events:
    """What happens, as log lines and metrics.

    Nothing is logged per record at `info`: the status line sums it up. `debug` has a line per run.
    """

    def __init__(self, logger: logging.Logger, metrics: Metrics) -> None:
        self._logger = logger
        self._metrics = metrics
        self._last_logged_ms: dict[str, float] = {}

    # The service

    def started(self, settings: Mapping[str, object]) -> None:
        self._info("started", f"delayed-consumer {__version__} started", settings=settings)

    def setting_warning(self, warning: str) -> None:
        self._warn("setting_warning", warning)

    def topic_created(self, topic: str, partitions: int) -> None:
        self._info("topic_created", f"created the topic {topic} with {partitions} partitions", topic=topic)

    def transactional_id(self, name: str) -> None:
        self._info("transactional_id", f"transactions under the id {name}", transactional_id=name)

    def cannot_ask(self, partitions: Collection[Partition], reason: str, steady_ms: float) -> None:
        if self._may_repeat("committed", steady_ms):
            self._warn(
                "cannot_ask",
                f"{_listed(partitions)} wait: what a transaction has committed of them cannot be asked: {reason}",
            )

    def waiting_for_brokers(self, reason: str, steady_ms: float) -> None:
        if self._may_repeat("brokers", steady_ms):
            self._warn("waiting_for_brokers", f"the brokers do not answer yet: {reason}")

    def stopping(self) -> None:
        self._info("stopping", "stopping: what waits is still in Kafka")

    def left_silently(self) -> None:
        self._warn(
            "left_silently",
            "the brokers did not answer at the stop: what was delivered since the last commit will be repeated",
        )

    def stopped(self, abandoned: int) -> None:
        self._info("stopped", "stopped", abandoned_in_flight=abandoned)

    def status(self, status: ServiceStatus) -> None:
        lateness = self._metrics.lateness
        quantiles = {f"p{name}_ms": _ms(lateness.quantile(q)) for name, q in (("50", 0.5), ("99", 0.99))}
        sums = {
            "partitions": len(status.partitions),
            "paused": sum(one.state == "paused" for one in status.partitions),
            "waiting": sum(one.waiting or 0 for one in status.partitions),
            "overdue": sum(one.overdue or 0 for one in status.partitions),
            "held": sum(one.held for one in status.partitions),
            "held_bytes": sum(one.held_bytes for one in status.partitions),
            "in_flight": sum(one.in_flight for one in status.partitions),
            "delivered": self._metrics.totals()["delivered"],
        }
        words = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in sums.items())
        self._info("status", words, **sums, **quantiles)

    # The group

    def assigned(self, partitions: Sequence[Partition]) -> None:
        self._metrics.rebalances_assigned.inc()
        self._info("assigned", f"assigned {_listed(partitions)}", partitions=[str(one) for one in partitions])

    def revoked(self, partitions: Sequence[Partition], abandoned: int) -> None:
        self._metrics.rebalances_revoked.inc()
        self._info(
            "revoked",
            f"revoked {_listed(partitions)}",
            partitions=[str(one) for one in partitions],
            abandoned_in_flight=abandoned,
        )

    def lost(self, partitions: Sequence[Partition]) -> None:
        self._metrics.rebalances_lost.inc()
        self._warn(
            "lost",
            f"lost {_listed(partitions)}: the group went on without us; what was held is dropped",
            partitions=[str(one) for one in partitions],
        )

    def idle_member(self) -> None:
        self._warn(
            "idle_member",
            "nothing is assigned to this instance: the group has as many members as there are partitions, "
            "or more. It stands by",
        )

    # Reading

    def unusual_timestamps(self, partition: Partition, due: DueTimes, steady_ms: float) -> None:
        if due.future:
            self._metrics.future_timestamps.inc(due.future)
            if self._may_repeat(f"future {partition}", steady_ms):
                self._warn(
                    "future_timestamp",
                    f"{partition}: a timestamp lies further ahead than MAX_FUTURE_SECONDS; due {_utc(due.due_ms[-1])}",
                    records=due.future,
                    due_ms=due.due_ms[-1],
                )
        if due.missing:
            self._metrics.missing_timestamps.inc(due.missing)
            if self._may_repeat(f"missing {partition}", steady_ms):
                self._warn(
                    "missing_timestamp",
                    f"{partition}: records without a timestamp are due the delay after they were read",
                    records=due.missing,
                )

    def started_at(self, starts: Mapping[Partition, Start]) -> None:
        for partition, start in starts.items():
            if start.lost is not None:
                self._metrics.data_loss.inc(start.lost)
                self._error(
                    "data_loss",
                    f"{partition}: {start.lost} offsets are no longer in the log; going on at {_offset(start.offset)}",
                    lost=start.lost,
                )
        words = ", ".join(f"{one} at {_offset(start.offset)}" for one, start in list(starts.items())[:MOST_LISTED])
        self._info("started_at", f"reading {words}{_more(len(starts))}")

    def topics_replaced(self, topics: Collection[str]) -> None:
        for topic in sorted(topics):
            self._warn("topic_replaced", f"{topic} was deleted and made again; it is read from its start", topic=topic)

    def anchored(self, offsets: Mapping[Partition, int]) -> None:
        if offsets:
            where = ", ".join(f"{partition} at {offset}" for partition, offset in list(offsets.items())[:MOST_LISTED])
            self._info("anchored", f"a new group, committed at the latest: {where}{_more(len(offsets))}")

    def no_positions(self, partitions: Collection[Partition], reason: str, steady_ms: float) -> None:
        if self._may_repeat("positions", steady_ms):
            self._warn("no_positions", f"cannot ask where to start reading {_listed(partitions)} yet: {reason}")

    def flow_changed(self, change: FlowChange) -> None:
        self._metrics.pauses.inc(len(change.pause))
        self._metrics.resumes.inc(len(change.resume))
        self._metrics.stuck_pauses.inc(len(change.stuck))
        for partition in change.stuck:
            self._warn("stuck_pause", f"{partition}: silent though it was resumed; resumed again")
        if change.pause:
            self._debug("paused", f"paused {_listed(change.pause)}")
        if change.resume:
            self._debug("resumed", f"resumed {_listed([partition for partition, _ in change.resume])}")

    # Delivering

    def handed_over(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._debug("handed_over", f"{run.partition}: {len(run)} from offset {run.first_offset}")

    def progressed(self, news: Sequence[Progress]) -> None:
        """The counters move once for all of it: at 10,000 records/s there are four runs each millisecond."""
        delivered = value_bytes = 0
        for progress in news:
            outcome, before = progress.outcome, progress.done_before
            delivered += progress.newly_done - len(outcome.diverted)
            value_bytes += _value_bytes(outcome, before)
            self._metrics.lateness.observe(outcome.run.due_ms[before : outcome.done], progress.begun_ms)
            if not outcome.goes_on:
                self._metrics.delivery_seconds.observe(progress.took_seconds)
            if outcome.failure is not None:
                self._metrics.failed.inc()
        self._metrics.delivered.inc(delivered)
        self._metrics.bytes_delivered.inc(value_bytes)

    def failed(self, run: Run, index: int, failure: Failure, fate: Fate) -> None:
        """The service goes on; where it does not, `progressed` hears of it."""
        self._metrics.failed.inc()
        to = f"; it goes to {fate.topic}" if isinstance(fate, Forward) else ""
        self._warn(
            "delivery_failed",
            f"{_record(run, index)} failed ({_attempts(failure.attempts)}): {failure.reason}{to}",
            **_coordinates(run, index),
            reason=failure.reason,
            attempts=failure.attempts,
        )

    def skipped(self, run: Run, index: int) -> None:
        self._metrics.skipped.inc()
        self._warn("skipped", f"{_record(run, index)} is given up (ON_FAILURE=skip)", **_coordinates(run, index))

    def forwarded(self, run: Run, index: int, to: Forward) -> None:
        (self._metrics.retried if to.retry else self._metrics.dead_lettered).inc()
        event = "retry_scheduled" if to.retry else "dead_lettered"
        self._info(event, f"{_record(run, index)} is in {to.topic}", **_coordinates(run, index), to=to.topic)

    def cannot_forward(self, run: Run, index: int, topic: str, reason: str, steady_ms: float) -> None:
        if self._may_repeat(f"forward {topic}", steady_ms):
            self._error(
                "cannot_forward",
                f"{topic} does not take {_record(run, index)}, which blocks its partition until it does: {reason}",
                **_coordinates(run, index),
                to=topic,
                reason=reason,
            )

    def batch_refused(self, reason: str, steady_ms: float) -> None:
        if self._may_repeat("batch", steady_ms):
            self._warn(
                "batch_refused",
                f"a batch was refused as a whole; its records are tried one by one to find which are wrong: {reason}",
                reason=reason,
            )

    def committed(self, offsets: Mapping[Partition, int], error: str | None) -> None:
        if error is None:
            self._metrics.commits_ok.inc()
            self._debug("committed", f"committed {len(offsets)} partitions")
        else:
            self._metrics.commits_failed.inc()
            self._warn("commit_failed", f"a commit failed and is tried again: {error}")

    # Surroundings

    def client_error(self, reason: str, steady_ms: float) -> None:
        if self._may_repeat(f"client {reason}", steady_ms):
            self._warn("client_error", reason)

    def brokers_forgotten(self, client: str) -> None:
        self._warn(
            "brokers_forgotten",
            f"the client ({client}) has forgotten all brokers, see librdkafka issue 5301; another one goes on",
            client=client,
        )

    def received_bytes(self, total: int) -> None:
        self._metrics.set_received_bytes(total)

    def clock_stepped(self, step_ms: float) -> None:
        self._metrics.clock_steps.inc()
        self._warn("clock_stepped", f"the wall clock was set by {step_ms / 1000:+.1f} s; due times follow it")

    def probe_failed(self, reason: str, steady_ms: float) -> None:
        if self._may_repeat("probe", steady_ms):
            self._warn("probe_failed", f"cannot ask the brokers what waits: {reason}")

    def page_failed(self, error: Exception) -> None:
        self._logger.error("the status server: %r", error, exc_info=error, extra={"event": "page_failed"})

    def retention(self, topic: str, retention_ms: int, delay_ms: int, margin_ms: int) -> None:
        self._metrics.set_retention_margin(topic, (retention_ms - delay_ms) / 1000)
        if retention_ms < delay_ms + margin_ms:
            self._warn(
                "short_retention",
                f"{topic}: records are kept {retention_ms / 1000:g} s and delayed {delay_ms / 1000:g} s: some may "
                "be deleted before they are due. Lengthen retention.ms",
                retention_ms=retention_ms,
                delay_ms=delay_ms,
            )

    def _may_repeat(self, what: str, steady_ms: float) -> bool:
        """Whether this was not logged in the last minute."""
        what = DIGITS.sub("", what)  # the client says how long a connection had been up
        if steady_ms - self._last_logged_ms.get(what, -math.inf) < REPEAT_AFTER_MS:
            return False
        self._last_logged_ms[what] = steady_ms
        return True

    def _debug(self, event: str, message: str) -> None:
        self._logger.debug(message, extra={"event": event})

    def _info(self, event: str, message: str, **fields: object) -> None:
        self._logger.info(message, extra={"event": event, "fields": fields})

    def _error(self, event: str, message: str, **fields: object) -> None:
        self._logger.error(message, extra={"event": event, "fields": fields})

    def _warn(self, event: str, message: str, **fields: object) -> None:
        self._logger.warning(message, extra={"event": event, "fields": fields})


def _attempts(count: int) -> str:
    return {0: "not tried", 1: "1 attempt"}.get(count, f"{count} attempts")


def _record(run: Run, index: int) -> str:
    return f"{run.partition} offset {run.offsets[index]}"


def _coordinates(run: Run, index: int) -> dict[str, object]:
    return {"topic": run.partition.topic, "partition": run.partition.number, "offset": run.offsets[index]}


def _value_bytes(outcome: Outcome, before: int) -> int:
    delivered = sum(map(len, outcome.run.messages[before : outcome.done]))
    return delivered - sum(len(outcome.run.messages[index]) for index in outcome.diverted)


def _listed(partitions: Collection[Partition]) -> str:
    if not partitions:
        return "nothing"
    return ", ".join(str(one) for one in list(partitions)[:MOST_LISTED]) + _more(len(partitions))


def _offset(offset: int | None) -> str:
    return "the start of the log" if offset is None else str(offset)


def _more(count: int) -> str:
    return f" and {count - MOST_LISTED} more" if count > MOST_LISTED else ""


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _utc(moment_ms: int) -> str:
    try:
        return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{moment_ms} ms"  # beyond the calendar: timestamps go up to 2**63 - 1
