"""`dead-letters replay`: writes dead letters to where they came from; what is not acknowledged is not done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from delayed_consumer.dead_letters.arguments import as_ids
from delayed_consumer.dead_letters.frontier import Frontier
from delayed_consumer.dead_letters.interrupt import Interrupt
from delayed_consumer.dead_letters.letters import DeadLetter
from delayed_consumer.dead_letters.outbox import Outbox, Sending
from delayed_consumer.dead_letters.progress import Progress
from delayed_consumer.dead_letters.report import Report, Sent
from delayed_consumer.dead_letters.selection import Selection
from delayed_consumer.dead_letters.targets import NOW, Refusal, Target
from delayed_consumer.errors import ServiceError
from delayed_consumer.origin import Origin


class Replay:
    """One run over a selection."""

    def __init__(
        self,
        selection: Selection,
        target_of: Callable[[Origin], Target | Refusal],
        outbox: Outbox,
        report: Report,
        now_ms: Callable[[], float],
        *,
        new_timestamp: bool,
    ) -> None:
        self._selection = selection
        self._target_of = target_of
        self._outbox = outbox
        self._report = report
        self._now_ms = now_ms
        self._new_timestamp = new_timestamp
        self._missing = {one for one in selection.ids if one.offset > selection.after.get(one.partition, -1)}
        self.frontier = Frontier(selection.after)

    def run(self, letters: Iterable[DeadLetter], progress: Progress, interrupt: Interrupt) -> None:
        """Until all are answered, or a signal came. Raises ServiceError when the brokers do not answer."""
        try:
            for letter in letters:
                self._take(letter)
                if progress.is_time():
                    progress.show(self._so_far())
            self._outbox.finish()
        except ServiceError:
            self._outbox.abandon()
            raise
        if interrupt.came:
            self._outbox.abandon()
        else:
            self._name_missing()

    def _take(self, letter: DeadLetter) -> None:
        self._missing.discard(letter.id)
        if self._selection.takes(letter):
            self._replay(letter)
        self.frontier.read(letter.id)

    def _replay(self, letter: DeadLetter) -> None:
        if letter.origin is None:
            self._report.leave_out(letter.id)
            return
        topic, target = letter.origin.topic, self._target_of(letter.origin)
        if not isinstance(target, Target):
            self._report.refuse(Sent(letter.id, topic, topic, letter.size_bytes), str(target))
            return
        timestamp_ms = NOW if self._new_timestamp else target.timestamp_ms(letter.origin, self._now_ms())
        sending = Sending(letter, letter.origin, target, timestamp_ms)
        sent = Sent(letter.id, topic, target.topic, letter.size_bytes, sending.renewed)
        self.frontier.sent(letter.id)
        self._outbox.send(sending, partial(self._answered, sent))

    def _answered(self, sent: Sent, refused: str | None) -> None:
        """``refused``: why; None: it is acknowledged."""
        self.frontier.answered(sent.letter)
        if refused is None:
            self._report.acknowledge(sent)
        else:
            self._report.refuse(sent, refused)

    def _so_far(self) -> str:
        after = self.frontier.after()
        return f"{self._report.acknowledged} acknowledged" + (f", --after {as_ids(after.items())}" if after else "")

    def _name_missing(self) -> None:
        for letter in sorted(self._missing):
            self._report.complain(f"{letter} is not there")

    @property
    def missing(self) -> int:
        return len(self._missing)
