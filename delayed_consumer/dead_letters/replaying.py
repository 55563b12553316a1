"""`dead-letters replay`: what it is made of, what it says at its end, and how to carry on where it was cut short."""

from __future__ import annotations

import argparse
from typing import ClassVar, TextIO

from delayed_consumer.clock import SystemClock
from delayed_consumer.dead_letters.arguments import continuation
from delayed_consumer.dead_letters.interrupt import Interrupt
from delayed_consumer.dead_letters.listing import Topic
from delayed_consumer.dead_letters.outbox import Nowhere, ProducerOutbox
from delayed_consumer.dead_letters.progress import Progress
from delayed_consumer.dead_letters.replay import Replay
from delayed_consumer.dead_letters.report import Report, show_report
from delayed_consumer.dead_letters.selection import selection_of
from delayed_consumer.dead_letters.targets import Targets
from delayed_consumer.errors import ExitCode, ServiceError
from delayed_consumer.probe.connection import ClientProperties


class NotReplayedError(ServiceError):
    """Some dead letters were refused or are not there; each was reported, and the others are replayed."""

    exit_code: ClassVar[int] = ExitCode.GAVE_UP


def replay(
    topic: Topic,
    targets: Targets,
    options: argparse.Namespace,
    producer: ClientProperties,
    patience_s: float,
    out: TextIO,
    err: TextIO,
) -> int:
    """Returns the exit code.

    Raises:
        ConfigError, AuthError: nothing can be written to the topic of ``--to``.
        UnreachableError: the brokers did not answer for ``patience_s``.
        NotReplayedError: some records were refused, or are not there.
    """
    targets.check()
    clock, interrupt, ended_by = SystemClock(), Interrupt(), None
    begun_ms = clock.now_ms()
    selection = selection_of(options, begun_ms)
    spans = selection.spans(topic.ranges)
    with (
        ProducerOutbox(producer, patience_s, interrupt) as producers,
        Progress(sum(map(len, spans)), err, lines=True) as progress,
        interrupt,
    ):
        report = Report(progress.say)
        outbox = Nowhere() if options.dry_run else producers
        work = Replay(selection, targets.of, outbox, report, clock.now_ms, new_timestamp=options.new_timestamp)
        try:
            work.run(topic.reader.read(spans, lambda: interrupt.came), progress, interrupt)
        except ServiceError as error:
            ended_by = error
    done = work.frontier.after()
    if ended_by is not None and done == selection.after and not report.tallies:
        raise ended_by  # before anything was done: there is nothing to tell
    if ended_by is not None or interrupt.came:  # before stdout, which may be closed
        progress.say(f"to carry on behind what was done: {continuation(options, begun_ms, done)}")
    show_report(report, dry_run=options.dry_run, out=out)
    if ended_by is not None:
        raise ended_by
    if interrupt.signal is not None:
        report.complain(f"interrupted by {interrupt.signal.name}")
        return 128 + interrupt.signal
    _raise_if_incomplete(report.refused, work.missing)
    return ExitCode.OK


def _raise_if_incomplete(refused: int, missing: int) -> None:
    """Each of them was named when it was noticed."""
    if refused or missing:
        words = f"{refused} were refused" + (f", {missing} are not there" if missing else "")
        raise NotReplayedError(f"not all were replayed: {words}; nothing is deleted from the dead-letter topic")
