"""The command line: which command, which exit code, what a signal does."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import NoReturn

from delayed_consumer.dead_letters import arguments as dead_letters_arguments
from delayed_consumer.demo import arguments as demo_arguments
from delayed_consumer.errors import ConfigError, ExitCode, ServiceError
from delayed_consumer.logs import LOGGER, configure


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and ends the process with its exit code."""
    if sys.stdout is None:  # closed by whoever started us; the next file or socket would take its place
        _say(["stdout is closed; send it somewhere, to /dev/null at least"], ExitCode.GAVE_UP)
        _leave(ExitCode.GAVE_UP)
    options = _parser().parse_args(arguments)
    try:
        code = COMMANDS[options.command](options)
    except ServiceError as error:
        code = error.exit_code
        _say(error.problems if isinstance(error, ConfigError) else [str(error)], code)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        code = ExitCode.GAVE_UP
    except Exception as error:
        code = ExitCode.BUG
        traceback.print_exc()
        _say([f"a bug, please report it: {type(error).__name__}: {error}"], code)
    _leave(code)


def _run(_: argparse.Namespace) -> int:
    stop = _StopOnSignal()  # first: a stop may come while the rest is imported
    from delayed_consumer.app import Service
    from delayed_consumer.settings import Settings

    settings = Settings()
    configure(settings.log_level, settings.log_format, sys.stderr)
    service = Service(settings)
    stop.calls(service.stop)
    favour_the_loop()
    service.run()
    return ExitCode.OK


def _demo(options: argparse.Namespace) -> int:
    demo_arguments.check(options)
    if options.crash:
        return _demo_crash(options)
    from delayed_consumer.demo.live import demo

    return demo(
        seconds=options.seconds or 20, rate=options.rate or 20, delay_seconds=options.delay or 6, out=sys.stdout
    )


def _demo_crash(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what it made on a cluster is to be deleted
    from delayed_consumer.demo.crash import demo_crash

    return demo_crash(
        guarantees=[options.delivery] if options.delivery else demo_arguments.GUARANTEES,
        bootstrap=options.bootstrap,
        seconds=options.seconds or 6,
        rate=options.rate or 200,
        delay_seconds=options.delay or 10,
        out=sys.stdout,
    )


def _lag(options: argparse.Namespace) -> int:
    from delayed_consumer.lag import lag
    from delayed_consumer.settings import Settings

    return lag(Settings(), as_json=options.json, out=sys.stdout)


def _dead_letters(options: argparse.Namespace) -> int:
    dead_letters_arguments.check(options)
    from delayed_consumer.dead_letters.command import dead_letters
    from delayed_consumer.settings import Settings

    return dead_letters(Settings(), options, out=sys.stdout, err=sys.stderr)


def _check_config(options: argparse.Namespace) -> int:
    from delayed_consumer.check_config import check_config
    from delayed_consumer.settings import Settings

    return check_config(Settings(), as_json=options.json, connect=options.connect, out=sys.stdout)


def _healthcheck(options: argparse.Namespace) -> int:
    from delayed_consumer.healthcheck import healthcheck
    from delayed_consumer.settings import Settings

    return healthcheck(*Settings.status_address(), "/livez" if options.live else "/readyz")


def _version(_: argparse.Namespace) -> int:
    from delayed_consumer.versions import versions

    names = {"version": "delayed-consumer", "confluent_kafka": "confluent-kafka", "python": "Python"}
    sys.stdout.writelines(f"{names.get(name, name)} {number}\n" for name, number in versions().items())
    return ExitCode.OK


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "demo": _demo,
    "lag": _lag,
    "dead-letters": _dead_letters,
    "check-config": _check_config,
    "healthcheck": _healthcheck,
    "version": _version,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="delayed-consumer",
        description="Reads a Kafka topic N seconds late. Settings come from the environment: DELAY_SECONDS, "
        "KAFKA_BOOTSTRAP_SERVERS, KAFKA_TOPICS and those that check-config lists.",
    )
    parser.set_defaults(command="run")
    commands = parser.add_subparsers(metavar="command")

    def command(name: str, words: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=words, description=words)
        one.set_defaults(command=name)
        return one

    command("run", "the service (also without a command)")
    demo_arguments.add_arguments(
        command("demo", "messages arriving late on purpose, on an embedded broker; ends by itself")
    )
    lag = command("lag", "what waits and what is overdue, per partition")
    dead_letters_arguments.add_arguments(command("dead-letters", "what was given up: list, show, replay"))
    check = command("check-config", "every setting, its source, and every problem")
    check.add_argument("--connect", action="store_true", help="also ask the brokers")
    for one in (lag, check):
        one.add_argument("--json", action="store_true", help="JSON instead of a table")
    health = command("healthcheck", "asks the service on this machine: exit 0 or 1")
    health.add_argument("--live", action="store_true", help="ask /livez instead of /readyz")
    command("version", "of this program, its Kafka client and Python")
    return parser


class _StopOnSignal:
    """SIGTERM and SIGINT stop cleanly; a second one ends the process at once."""

    def __init__(self) -> None:
        self._stop: Callable[[], None] | None = None
        self._came = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def calls(self, stop: Callable[[], None]) -> None:
        """What a signal does from now on; at once when it has come already."""
        self._stop = stop
        if self._came:
            stop()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._came:
            os._exit(128 + number)
        self._came = True
        if self._stop is not None:
            self._stop()


def favour_the_loop() -> None:
    """Keeps Python's own work away from records that are due.

    The collector walks every held record: 35 ms of lateness at 160,000 of them with its defaults. Nothing on the
    hot path makes cycles, so it may run rarely, and need not look at what was there at the start.
    A thread that computes, such as a scrape of /metrics, keeps the loop waiting for up to one switch interval.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
    sys.setswitchinterval(0.0005)


def _say(reasons: Sequence[str], code: int) -> None:
    """Each reason on one line of stderr: in the log's format once there is a log."""
    logger = logging.getLogger(LOGGER)
    for reason in reasons:
        if logger.handlers:
            logger.critical(reason, extra={"event": "failed", "fields": {"exit_code": int(code)}})
        else:
            sys.stderr.write(f"delayed-consumer: {reason}\n")


def _leave(code: int) -> NoReturn:
    """Ends the process without waiting for a scheduler's thread that may still ask a silent broker."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            code = code or ExitCode.GAVE_UP
    os._exit(code)
