"""Which runs are in flight, and so the first offset that is not done."""

from __future__ import annotations

from delayed_consumer.core.records import Run


class InFlight:
    """The runs of one partition that were handed to the sink and are not done.

    Runs start in offset order and finish in any. A dict keeps insertion order, so its first key is
    the first offset not done, whatever has finished behind it.
    """

    def __init__(self) -> None:
        self._runs: dict[int, Run] = {}
        self.records = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def first_unfinished(self) -> Run | None:
        return next(iter(self._runs.values()), None)

    def start(self, run: Run) -> None:
        self._runs[run.first_offset] = run
        self.records += len(run)
        self.bytes += run.size_bytes

    def finish(self, run: Run) -> None:
        """``run`` as it was started, or its first part when only that is done."""
        started = self._runs.pop(run.first_offset)
        self.records -= len(run)
        self.bytes -= run.size_bytes
        if len(run) < len(started):
            _, rest = started.split(len(run))
            self._runs = dict(sorted({**self._runs, rest.first_offset: rest}.items()))
