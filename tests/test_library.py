"""The service as a library: what it exports, what it leaves alone, how it ends."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import delayed_consumer
from delayed_consumer import DelayedConsumer, Record, Settings
from delayed_consumer.consumer import stopped_by_signals
from delayed_consumer.embedded import EmbeddedCluster
from delayed_consumer.errors import ConfigError, UnreachableError
from load.broker import free_ports
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[1]
HEAVY = {"apscheduler", "asyncio", "confluent_kafka", "orjson", "prometheus_client", "pydantic", "rich"}


def nobody(**arguments: object) -> Settings:
    """Settings for brokers that are not there: port 1 of this machine."""
    return Settings({}, kafka_bootstrap_servers="127.0.0.1:1", kafka_topics=["orders"], **arguments)


def ignore(_: Record) -> None:
    pass


@contextmanager
def running(consumer: DelayedConsumer, handle: Callable[[Record], object] = ignore) -> Iterator[threading.Thread]:
    """The consumer on a thread, which is waited for at the end."""
    thread = threading.Thread(target=consumer.run, args=(handle,))
    thread.start()
    try:
        yield thread
    finally:
        consumer.stop()
        thread.join()


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return ended.stdout


# What is exported


def test_the_import_of_the_package_imports_nothing_that_takes_time() -> None:
    loaded = set(python("import sys, delayed_consumer; print(*sys.modules)").split())
    assert "delayed_consumer" in loaded
    assert not loaded & HEAVY


def test_every_name_that_is_exported_can_be_imported() -> None:
    for name in delayed_consumer.__all__:
        assert getattr(delayed_consumer, name).__name__ == name


def test_a_name_that_is_not_exported_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="Consumer"):
        delayed_consumer.Consumer  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("first", ["batch", "DelayedConsumer"])
def test_batch_is_the_decorator_whatever_was_imported_before(first: str) -> None:
    """Importing a submodule sets the package's attribute of its name."""
    code = (
        f"import delayed_consumer; delayed_consumer.{first}; from delayed_consumer import batch; print(batch.__name__)"
    )
    assert python(code).split() == ["batch"]


# What a caller can do wrong


def test_settings_that_a_function_cannot_keep_are_refused_before_anything_runs() -> None:
    settings = nobody(delivery="exactly-once", sink="topic", sink_topic="target")
    with pytest.raises(ConfigError, match="DELIVERY=exactly-once needs SINK=topic"):
        DelayedConsumer(settings)


def test_what_is_said_about_handlers_needs_no_sink_to_be_named(caplog: pytest.LogCaptureFixture) -> None:
    handlers = {"sink_concurrency": 16, "sink_timeout_seconds": 3, "ordering": "key", "max_attempts": 5}
    settings = nobody(**handlers, on_failure="skip", sink_http_format="raw", start_timeout_seconds=0.1)
    with DelayedConsumer(settings) as consumer, pytest.raises(UnreachableError):
        consumer.run(ignore)
    warnings = [record.getMessage() for record in caplog.records if getattr(record, "event", "") == "setting_warning"]
    assert warnings == ["SINK_HTTP_FORMAT without effect: SINK is python"]


@pytest.mark.parametrize("handle", [17, lambda: None])
def test_what_cannot_be_called_with_a_record_is_refused_before_anything_is_connected(handle: Any) -> None:
    with (
        DelayedConsumer(nobody(start_timeout_seconds=0.1)) as consumer,
        pytest.raises(ConfigError, match="the handler"),
    ):
        consumer.run(handle)


def test_brokers_that_are_not_there_end_the_run_within_the_start_limit() -> None:
    with DelayedConsumer(nobody(start_timeout_seconds=0.2)) as consumer, pytest.raises(UnreachableError):
        consumer.run(ignore)


def test_a_consumer_runs_once() -> None:
    consumer = DelayedConsumer(nobody())
    consumer.stop()
    consumer.run(ignore)
    with pytest.raises(RuntimeError, match="has run already"):
        consumer.run(ignore)


# How it ends


def test_a_stop_before_the_run_ends_it_at_once() -> None:
    with DelayedConsumer(nobody(start_timeout_seconds=600)) as consumer:
        consumer.stop()
        begun = time.monotonic()
        consumer.run(ignore)
    assert time.monotonic() - begun < 10


def test_the_end_of_the_with_block_waits_for_the_end_of_a_run_on_another_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with DelayedConsumer(nobody(start_timeout_seconds=600)) as consumer:
        thread = threading.Thread(target=consumer.run, args=(ignore,))
        thread.start()
        wait_until(lambda: events(caplog, "waiting_for_brokers"))
    thread.join(0.1)  # it has only its last instructions left
    assert not thread.is_alive()


def test_an_error_in_the_with_block_ends_a_run_on_another_thread_too() -> None:
    def fail(consumer: DelayedConsumer) -> None:
        with consumer:
            thread.start()
            raise ZeroDivisionError

    consumer = DelayedConsumer(nobody(start_timeout_seconds=600))
    thread = threading.Thread(target=consumer.run, args=(ignore,))
    with pytest.raises(ZeroDivisionError):
        fail(consumer)
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_on_the_main_thread_and_former_handlers_come_back(number: signal.Signals) -> None:
    calls: list[int] = []
    with handled_by(lambda which, _: calls.append(which)):
        former = handlers()
        consumer = DelayedConsumer(nobody(start_timeout_seconds=600))
        sender = threading.Thread(target=send_when, args=(number, lambda: handlers() != former))
        sender.start()
        consumer.run(ignore)
        sender.join()
        assert handlers() == former
    assert calls == []


def test_handlers_come_back_when_the_run_fails() -> None:
    former = handlers()
    with pytest.raises(UnreachableError):
        DelayedConsumer(nobody(start_timeout_seconds=0.1)).run(ignore)
    assert handlers() == former


def test_a_second_signal_does_what_it_does_to_any_program() -> None:
    stopped: list[list[object]] = []
    with stopped_by_signals(lambda: stopped.append(handlers())):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped == [[signal.SIG_DFL, signal.default_int_handler]]


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


@contextmanager
def handled_by(handler: Callable[[int, object], None]) -> Iterator[None]:
    former = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, one in former.items():
            signal.signal(number, one)


def send_when(number: signal.Signals, condition: Callable[[], bool]) -> None:
    wait_until(condition)
    os.kill(os.getpid(), number)


# What it leaves alone


def process_state() -> dict[str, object]:
    loggers = [logging.getLogger(name) for name in (None, "delayed_consumer", "delayed_consumer.client", "apscheduler")]
    return {
        "collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "switches": sys.getswitchinterval(),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "loggers": [(one.level, one.propagate, list(one.handlers), list(one.filters)) for one in loggers],
        "environment": dict(os.environ),
        "directory": Path.cwd(),
    }


def test_a_run_on_another_thread_changes_nothing_of_the_process(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "delayed_consumer")
    before = process_state()
    with DelayedConsumer(nobody(start_timeout_seconds=600)) as consumer, running(consumer):
        wait_until(lambda: events(caplog, "waiting_for_brokers"))
        assert process_state() == before
    assert process_state() == before


def test_there_is_a_status_server_only_where_a_port_is_given(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "delayed_consumer")
    [port] = free_ports(1)
    with (
        DelayedConsumer(nobody(start_timeout_seconds=600)) as without,
        DelayedConsumer(nobody(start_timeout_seconds=600, http_port=port)) as given,
        running(without),
        running(given),
    ):
        wait_until(lambda: len(events(caplog, "waiting_for_brokers")) == 2)
        assert sum(thread.name == "status-server" for thread in threading.enumerate()) == 1
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
            assert answer.status == 200


def test_http_port_of_the_environment_starts_the_status_server_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "delayed_consumer")
    [port] = free_ports(1)
    variables = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "KAFKA_TOPICS": "orders", "HTTP_PORT": str(port)}
    with DelayedConsumer(Settings(variables)) as consumer, running(consumer):
        wait_until(lambda: events(caplog, "waiting_for_brokers"))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5) as answer:
            assert answer.status == 200


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "event", None) == name]


# What it does


def test_two_consumers_in_one_process_each_call_their_own_function() -> None:
    cluster = EmbeddedCluster()
    handled: dict[str, list[Record]] = {"orders": [], "payments": []}
    consumers = {
        topic: DelayedConsumer(
            Settings(
                {},
                kafka_bootstrap_servers=cluster.bootstrap_servers,
                kafka_topics=[topic],
                kafka_group_id=topic,
                delay_seconds=1,
            )
        )
        for topic in handled
    }
    at_ms = int(time.time() * 1000)
    for topic in handled:
        cluster.create_topic(topic)
        for number in range(3):
            cluster.produce(topic, b"%d" % number, partition=0, timestamp_ms=at_ms)
    cluster.flush()
    with ExitStack() as stack:
        for topic, consumer in consumers.items():
            stack.enter_context(consumer)
            stack.enter_context(running(consumer, handled[topic].append))
        wait_until(lambda: [len(records) for records in handled.values()] == [3, 3])
    for topic, records in handled.items():
        assert [(one.topic, one.offset, one.value) for one in records] == [(topic, n, b"%d" % n) for n in range(3)]
        assert all(one.lateness_ms >= 0 and one.due_ms == at_ms + 1000 for one in records)
