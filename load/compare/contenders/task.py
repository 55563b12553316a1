"""What a contender is told, and how it is stopped."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

BOOTSTRAP_SERVERS = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
TOPIC = os.environ["KAFKA_TOPICS"]
GROUP_ID = os.environ["KAFKA_GROUP_ID"]
DELAY_SECONDS = float(os.environ["DELAY_SECONDS"])


def exit_on_sigterm() -> None:
    """SIGTERM ends the program as sys.exit does: from wherever it is, by way of every `finally`."""
    signal.signal(signal.SIGTERM, _exit)


def _exit(_: int, __: FrameType | None) -> None:
    sys.exit()
