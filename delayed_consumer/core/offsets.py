"""Which records are in flight, and so the first offset that is not done."""

from __future__ import annotations

from delayed_consumer.core.records import Run


class InFlight:
    """The runs of one partition that were handed to the sink and are not done.

    Runs start in offset order and finish in any. A dict keeps insertion order, so its first key has the
    first offset not done, whatever has finished behind it.
    """

    def __init__(self) -> None:
        self._done: dict[Run, int] = {}  # how many records of each are done, from its first
        self._next_offset = 0
        self.records = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._done)

    @property
    def first_unfinished_offset(self) -> int | None:
        run, done = self._first()
        return None if run is None else run.offsets[done]

    @property
    def first_unfinished_due_ms(self) -> int | None:
        run, done = self._first()
        return None if run is None else run.due_ms[done]

    @property
    def span_offsets(self) -> int:
        """From the first offset not done to behind the last that was started: what a crash may repeat."""
        first = self.first_unfinished_offset
        return 0 if first is None else self._next_offset - first

    def start(self, run: Run) -> None:
        self._done[run] = 0
        self._next_offset = run.next_offset
        self.records += len(run)
        self.bytes += run.size_bytes

    def finish(self, run: Run, done: int) -> None:
        """The first ``done`` records of a run that was started are done. Its memory is free when all are."""
        self.records -= done - self._done[run]
        self._done[run] = done
        if done == len(run):
            del self._done[run]
            self.bytes -= run.size_bytes

    def _first(self) -> tuple[Run | None, int]:
        return next(iter(self._done.items()), (None, 0))
