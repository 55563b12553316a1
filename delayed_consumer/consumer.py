"""The service as a library: on a thread of the caller's, with a function of the caller's as its sink."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from delayed_consumer.app import Service
from delayed_consumer.assembly import Surroundings, python_sink
from delayed_consumer.batch import Handler
from delayed_consumer.errors import ConfigError
from delayed_consumer.settings import Settings
from delayed_consumer.sinks import Sink
from delayed_consumer.sinks.python import check_handler

# A second signal does what it does to any Python program.
_SECOND_SIGNAL: dict[signal.Signals, Callable[[int, FrameType | None], object] | signal.Handlers] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


class DelayedConsumer:
    """Calls a function with every record when it is due.

        from delayed_consumer import DelayedConsumer, Record, Settings

        def handle(record: Record) -> None:
            print(record.topic, record.value)

        with DelayedConsumer(Settings(kafka_topics=["orders"], delay_seconds=900)) as consumer:
            consumer.run(handle)

    Return means done, an exception means failed; see RetryableError, MessageError and FatalError. A function marked
    with `batch` gets lists of records, and either may be ``async``. It is called on other threads than `run`'s.

    Nothing outside of the object is touched: several may run in one process, each on a thread of its own. What
    happens is logged to the logger ``delayed_consumer``. SINK and SINK_HANDLER mean nothing here, and there is a
    status server only where HTTP_PORT is given.
    """

    def __init__(self, settings: Settings) -> None:
        """Connects to nothing yet. Raises ConfigError where no function can keep what the settings promise."""
        if settings.delivery == "exactly-once":
            raise ConfigError(["DELIVERY=exactly-once needs SINK=topic: what a function does is in no transaction"])
        settings = settings.model_copy(update={"sink": "python"})
        if "http_port" not in settings.model_fields_set:
            settings = settings.model_copy(update={"http_port": 0})
        self._service = Service(settings, sink=self._sink)
        self._handle: Handler
        self._unused = threading.Lock()
        self._ended = threading.Event()

    def run(self, handle: Handler) -> None:
        """Delivers until `stop`, at once when that was called already.

        On the main thread SIGTERM and SIGINT stop it as well; meanwhile their handlers are replaced. A second signal
        does what it does to any Python program.

        Raises:
            ConfigError: ``handle`` cannot be called with one argument, or the brokers do not know the topics.
            ServiceError: whatever else ended it; GaveUpError for a record that failed under ON_FAILURE=stop.
            RuntimeError: this object has run before; make another one.
        """
        if not self._unused.acquire(blocking=False):
            raise RuntimeError("this DelayedConsumer has run already; make another one")
        self._handle = handle
        try:
            check_handler(handle)
            with stopped_by_signals(self.stop):
                self._service.run()
        finally:
            self._ended.set()

    def stop(self) -> None:
        """From any thread or signal handler: `run` lets what is in flight end, commits what is done and returns.

        What is in flight gets SHUTDOWN_GRACE_SECONDS; what waits needs nothing, it is still in Kafka.
        """
        self._service.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops it, and waits for the end of a `run` on another thread."""
        self.stop()
        if self._unused.locked():
            self._ended.wait()

    def _sink(self, around: Surroundings) -> Sink:
        return python_sink(around, self._handle)


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first SIGTERM or SIGINT calls ``stop``. Only the main thread may set handlers; others change nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # None: somebody has set it from C, and Python could not put it back.
    former = {number: handler for number in _SECOND_SIGNAL if (handler := signal.getsignal(number)) is not None}

    def on_signal(_: int, __: FrameType | None) -> None:
        for number in former:
            signal.signal(number, _SECOND_SIGNAL[number])
        stop()

    for number in former:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
