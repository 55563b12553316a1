"""What SINK_HANDLER names: takes its time with each record."""

from __future__ import annotations

import os
import threading
import time

from delayed_consumer.record import Record
from load.compare.notes import Notes

_SECONDS = float(os.environ["GROWTH_HANDLER_SECONDS"])
_notes = Notes()
_lock = threading.Lock()  # partitions are handled side by side


def take(record: Record) -> None:
    with _lock:
        _notes.delivered(record.partition, record.offset)
    if _SECONDS:
        time.sleep(_SECONDS)
