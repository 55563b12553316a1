"""The command line of `demo`. Imports little: it is read at the start of every command."""

from __future__ import annotations

import argparse

GUARANTEES = ("at-most-once", "at-least-once", "exactly-once")


def add_arguments(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--seconds", type=_positive, help="how long records fall due (default 20, with --crash 6)")
    demo.add_argument("--rate", type=_positive, help="records a second (default 20, with --crash 200)")
    demo.add_argument("--delay", type=_positive, help="the delay in seconds (default 6, with --crash 10)")
    demo.add_argument("--crash", action="store_true", help="kill the service in the middle: what is repeated and lost")
    demo.add_argument("--delivery", choices=GUARANTEES, help="with --crash: this guarantee and no other")
    demo.add_argument(
        "--bootstrap",
        metavar="HOST:PORT",
        help="with --crash: on this Kafka, which exactly-once needs, and on topics that are deleted again; "
        "KAFKA_SECURITY_PROTOCOL and the like are taken from the environment",
    )
    demo.set_defaults(refuse=demo.error)


def check(options: argparse.Namespace) -> None:
    """Ends the program with 2 when the options do not go together."""
    if options.crash:
        return
    for name in ("delivery", "bootstrap"):
        if getattr(options, name) is not None:
            options.refuse(f"--{name} is an option of --crash")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value
