"""The service as `demo --crash` runs it: a process of its own that ends with the demo, however the demo ends."""

from __future__ import annotations

import os
import threading
import time

from delayed_consumer.cli import main
from delayed_consumer.record import Record

HANDLER = "delayed_consumer.demo.service:handle"

_STDIN, _STDOUT = 0, 1
_HALF_SECONDS = 0.0075  # 15 ms a record: a kill finds some of them being handled


def handle(record: Record) -> None:
    """Writes where a record is from and when it was handled: an effect in the middle of some work."""
    time.sleep(_HALF_SECONDS)
    os.write(_STDOUT, b"%d %d %.3f\n" % (record.partition, record.offset, time.time_ns() // 1000 / 1000))
    time.sleep(_HALF_SECONDS)


def _end_with_the_demo() -> None:
    """Nothing is ever written to stdin: it ends when the demo is gone."""
    os.read(_STDIN, 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_demo, daemon=True).start()
    main(["run"])
