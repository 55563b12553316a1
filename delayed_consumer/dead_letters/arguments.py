"""The command line of `dead-letters`. Imports little: it is read at the start of every command."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AGE = re.compile(r"(\d{1,9})([smhd])")
_ID = re.compile(r"(\d{1,10}):(\d{1,19})")

_SELECTED = """
TIME is an age such as 30m, 12h or 7d, or a date and time such as 2026-11-21, 2026-11-21T14:30 or
2026-11-21T14:30:00Z; without an offset it is a time of this machine. It is compared with the moment at which a
record became a dead letter.
"""

_LIST = f"""
The table has the newest first, and no more than 100 without --limit. The JSON object has `dead_letters`, in the
order of their ids, and `total`, which counts those that a limit leaves out too. A key, value or header that is not
UTF-8 is {{"base64": "..."}}.
{_SELECTED}
examples:
  delayed-consumer dead-letters list
  delayed-consumer dead-letters list --topic orders --since 2h --error timeout
  delayed-consumer dead-letters list --json | jq -r '.dead_letters[] | [.id, .error] | @tsv'
"""

_SHOW = """
examples:
  delayed-consumer dead-letters show 0:123
  delayed-consumer dead-letters show 0:123 --json | jq .value
"""

_REPLAY = f"""
A record goes to the topic and the partition that it came from (by its key where that partition does not exist),
with its key, value, own headers and timestamp. So it is due at once, but never before what is ahead of it in its
partition. With --new-timestamp it waits the delay anew. A record so old that its topic would delete it before it is
read gets the youngest timestamp that is due at once: now minus the delay.

Nothing is deleted from the dead-letter topic: a replay that is repeated repeats its records. What is dead-lettered
while it runs is not taken in. When it is interrupted (Ctrl-C, brokers out of reach) it prints the command that
carries on behind what was acknowledged; after a SIGKILL, the last --after that it showed does so, or the same
command from the start. A record that its topic does not take is reported with its id, the others go on, and the exit
code is 1. A record without our headers came from somebody else and is left out.
{_SELECTED}
examples:
  delayed-consumer dead-letters replay --all --dry-run
  delayed-consumer dead-letters replay --topic orders --error "connection refused" --since 12h
  delayed-consumer dead-letters replay 0:123 0:124 2:7
  delayed-consumer dead-letters replay --all --to orders-by-hand
  delayed-consumer dead-letters replay --all --after 0:123,1:55
"""


@dataclass(frozen=True, slots=True)
class Time:
    """A moment, or an age."""

    ms: int
    is_age: bool = False

    def at_ms(self, now_ms: float) -> int:
        """Milliseconds since the epoch."""
        return max(0, int(now_ms) - self.ms) if self.is_age else self.ms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``list``, ``show`` and ``replay``; the parsed options have it as ``action``."""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)

    def action(name: str, words: str, more: str) -> argparse.ArgumentParser:
        return actions.add_parser(
            name, help=words, description=words, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    shown = action("list", "what is in DEAD_LETTER_TOPIC, a line each", _LIST)
    _add_selection(shown)
    shown.add_argument("--limit", type=_count, metavar="N", help="only the newest N")
    one = action("show", "everything of one dead letter", _SHOW)
    one.add_argument("id", type=_id, metavar="PARTITION:OFFSET", help="as list shows it")
    one.add_argument("--full", action="store_true", help="a large value whole")
    for reading in (shown, one):
        reading.add_argument("--json", action="store_true", help="JSON instead of text")
    _add_replay(action("replay", "writes dead letters to where they came from", _REPLAY))


def check(options: argparse.Namespace) -> None:
    """Ends the program with the code of a wrong usage where options do not go together."""
    if options.action != "replay":
        return
    selected = bool(options.ids or any(_given(options).values()))
    if selected == options.all:
        options.wrong_usage(
            "--all and a selection exclude each other"
            if selected
            else "say which ones: PARTITION:OFFSET, --topic, --since, --until, --error, or --all"
        )


def continuation(options: argparse.Namespace, now_ms: float, after: Mapping[int, int]) -> str:
    """The command that does what is left of a replay; an age has become the moment that it meant at ``now_ms``."""
    words = ["delayed-consumer", "dead-letters", "replay", *(f"{partition}:{at}" for partition, at in options.ids)]
    for name, value in _given(options).items():
        if value is not None:
            # Glued: a text that starts with a dash would be taken for an option.
            words.append(f"--{name}={_iso(value.at_ms(now_ms)) if isinstance(value, Time) else value}")
    words += [f"--{name.replace('_', '-')}" for name in ("all", "dry_run", "new_timestamp") if getattr(options, name)]
    words += [f"--to={options.to}"] if options.to else []
    words += ["--after", as_ids(after.items())] if after else []
    return shlex.join(words)


def as_ids(ids: Iterable[tuple[int, int]]) -> str:
    """As ``--after`` takes them."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(ids))


def parse_time(text: str) -> Time:
    """Raises ArgumentTypeError for what is neither an age nor a date."""
    age = _AGE.fullmatch(text)
    if age:
        return Time(int(age[1]) * _UNITS_MS[age[2]], is_age=True)
    try:
        return Time(round(datetime.fromisoformat(text).astimezone().timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither an age such as 12h nor a time: 2026-11-21T14:30"
        ) from None


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topic", metavar="T", help="only those that came from this topic")
    parser.add_argument("--since", type=parse_time, metavar="TIME", help="only those dead-lettered then or later")
    parser.add_argument("--until", type=parse_time, metavar="TIME", help="only those dead-lettered before")
    parser.add_argument("--error", metavar="TEXT", help="only those whose error contains it, in capitals or not")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument("ids", nargs="*", type=_id, metavar="PARTITION:OFFSET", help="these, as list shows them")
    _add_selection(parser)
    parser.add_argument("--all", action="store_true", help="all there are; needed when nothing is selected")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    parser.add_argument("--to", metavar="TOPIC", help="another topic than the one that they came from")
    parser.add_argument("--new-timestamp", action="store_true", help="of now, so that they wait the delay anew")
    parser.add_argument(
        "--after",
        type=_after,
        default={},
        metavar="P:O,P:O",
        help="pass over everything up to these offsets, one for each partition of the dead-letter topic",
    )


def _given(options: argparse.Namespace) -> dict[str, str | Time | None]:
    return {name: getattr(options, name) for name in ("topic", "since", "until", "error")}


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _id(text: str) -> tuple[int, int]:
    found = _ID.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not PARTITION:OFFSET, such as 0:123")
    return int(found[1]), int(found[2])


def _after(text: str) -> dict[int, int]:
    ids = [_id(one) for one in text.split(",")]
    if len(dict(ids)) < len(ids):
        raise argparse.ArgumentTypeError(f"{text!r} names a partition twice")
    return dict(ids)


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
