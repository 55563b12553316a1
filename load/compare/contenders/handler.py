"""What SINK_HANDLER names: keeps in memory what it was handed."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Sequence

from delayed_consumer import batch
from delayed_consumer.record import Record
from load.compare.notes import Notes

_notes = Notes()
_lock = threading.Lock()  # partitions are handled side by side
atexit.register(_notes.flush)


@batch
def take(records: Sequence[Record]) -> None:
    with _lock:
        _notes.delivered_together((record.partition, record.offset) for record in records)
