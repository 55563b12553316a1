"""The log on stderr: JSON objects, or text for a terminal."""

from __future__ import annotations

import logging
import math
import re
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

LOGGER = "delayed_consumer"
REPEAT_AFTER_SECONDS = 60.0
DIGITS = re.compile(r"\d+")
CLIENT_LOGGER = f"{LOGGER}.client"  # what librdkafka says


def configure(level: str, style: Literal["auto", "json", "text"], stream: TextIO) -> None:
    """Sends our log, the client's and the scheduler's to ``stream``. Only the command line calls this.

    ``auto`` is text on a terminal and JSON elsewhere.
    """
    text = style == "text" or (style == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_TextFormatter() if text else _JsonFormatter())
    for name, at_level in ((LOGGER, level.upper()), ("apscheduler", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(at_level)
        logger.propagate = False
    logging.getLogger(CLIENT_LOGGER).filters = [_OnceAMinute()]


class _OnceAMinute(logging.Filter):
    """Lets a line through once a minute, whatever numbers are in it.

    The client says twenty times a second that a broker refuses its connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last_seconds: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        line = DIGITS.sub("", record.getMessage())
        if record.created - self._last_seconds.get(line, -math.inf) < REPEAT_AFTER_SECONDS:
            return False
        self._last_seconds[line] = record.created
        return True


class _JsonFormatter(logging.Formatter):
    """``ts``, ``level``, ``event``, ``message`` and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": _event(record),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str).decode()


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        line = f"{when} {record.levelname.lower():7} {_event(record):15} {on_one_line(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _event(record: logging.LogRecord) -> str:
    return str(getattr(record, "event", "client" if record.name == CLIENT_LOGGER else "log"))


def on_one_line(text: str) -> str:
    """Control characters escaped: a topic's name or a broker's text must not move the cursor."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
