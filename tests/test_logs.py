from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import orjson
import pytest

from delayed_consumer.logs import CLIENT_LOGGER, LOGGER, configure


@pytest.fixture
def stderr() -> Iterator[io.StringIO]:
    """Where the log goes; the loggers are global, so they are given back as they were."""
    loggers = [logging.getLogger(name) for name in (LOGGER, "apscheduler")]
    before = [(one, one.handlers, one.level, one.propagate) for one in loggers]
    yield io.StringIO()
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_event_is_one_json_object_with_its_own_fields(stderr: io.StringIO) -> None:
    configure("info", "json", stderr)
    fields = {"partitions": ["orders[0]"], "held": 5}
    logging.getLogger(LOGGER).info("held 5", extra={"event": "status", "fields": fields})
    (line,) = stderr.getvalue().splitlines()
    entry = orjson.loads(line)
    assert entry.pop("ts").endswith("+00:00")
    assert entry == {"level": "info", "event": "status", "message": "held 5", "partitions": ["orders[0]"], "held": 5}


def test_what_the_client_says_goes_the_same_way(stderr: io.StringIO) -> None:
    configure("info", "json", stderr)
    logging.getLogger(CLIENT_LOGGER).warning("%s", "FAIL [thrd:broker]: refused")
    entry = orjson.loads(stderr.getvalue())
    assert (entry["level"], entry["event"]) == ("warning", "client")
    assert entry["message"] == "FAIL [thrd:broker]: refused"


def test_what_is_less_important_than_the_level_is_left_out(stderr: io.StringIO) -> None:
    configure("warning", "json", stderr)
    logging.getLogger(LOGGER).info("no")
    assert stderr.getvalue() == ""


def test_the_scheduler_says_only_what_is_wrong(stderr: io.StringIO) -> None:
    configure("debug", "json", stderr)
    logging.getLogger("apscheduler.executors").info("ran a job")
    assert stderr.getvalue() == ""


def test_a_bug_is_logged_with_where_it_came_from(stderr: io.StringIO) -> None:
    configure("info", "json", stderr)
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger(LOGGER).exception("a bug")
    (line,) = stderr.getvalue().splitlines()
    assert "ValueError: no" in orjson.loads(line)["exception"]


def test_text_is_one_line_whatever_it_contains(stderr: io.StringIO) -> None:
    """Control characters in a topic's name or a broker's answer must not move the cursor."""
    configure("info", "text", stderr)
    logging.getLogger(LOGGER).warning("a\nb\x1b[2J", extra={"event": "odd"})
    (line,) = stderr.getvalue().splitlines()
    assert line.split()[1:] == ["warning", "odd", "a\\nb\\x1b[2J"]


def test_auto_is_text_on_a_terminal_and_json_elsewhere(stderr: io.StringIO) -> None:
    configure("info", "auto", stderr)
    logging.getLogger(LOGGER).info("x")
    assert stderr.getvalue().startswith("{")
    terminal = Terminal()
    configure("info", "auto", terminal)
    logging.getLogger(LOGGER).info("x")
    assert not terminal.getvalue().startswith("{")


def test_a_second_configuration_replaces_the_first(stderr: io.StringIO) -> None:
    configure("info", "json", stderr)
    configure("info", "json", stderr)
    logging.getLogger(LOGGER).info("once")
    assert len(stderr.getvalue().splitlines()) == 1
