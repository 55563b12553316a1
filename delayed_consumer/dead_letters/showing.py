"""`dead-letters show`: everything of one dead letter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

import orjson

from delayed_consumer.dead_letters.letters import DeadLetter
from delayed_consumer.dead_letters.text import escaped, hex_dump, moment, size
from delayed_consumer.logs import on_one_line

SHOWN_CHARACTERS = 4_000
SHOWN_BYTES = 512
_WIDTH = 14


def show_letter(letter: DeadLetter, *, as_json: bool, full: bool, out: TextIO) -> None:
    """``full``: the whole value, however large; as JSON it always is."""
    if as_json:
        out.write(orjson.dumps(letter.as_document(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        out.writelines(f"{line}\n" for line in _lines(letter, full))


def _lines(letter: DeadLetter, full: bool) -> Iterator[str]:
    yield _field("id", str(letter.id))
    yield _field("dead-lettered", moment(letter.timestamp_ms))
    origin = letter.origin
    if origin is None:
        yield _field("origin", "none: not a dead letter of this service, so it cannot be replayed")
    else:
        yield _field("origin", f"{origin.topic}[{origin.partition}] offset {origin.offset}")
        yield _field("timestamp", moment(origin.timestamp_ms))
        yield _field("attempts", str(origin.attempts))
        yield _field("error", on_one_line(letter.error or ""))
    yield _field("key", escaped(letter.key))
    yield from _headers(letter)
    yield from _value(letter.value, full)


def _field(name: str, text: str) -> str:
    return f"{name:{_WIDTH}} {text}"


def _headers(letter: DeadLetter) -> Iterator[str]:
    headers = letter.own_headers
    if headers is None:
        yield _field("headers", "cannot be read: one has a name that is not UTF-8")
        return
    yield _field("headers", str(len(headers)))
    for name, value in headers:
        yield f"  {on_one_line(name)}: {escaped(value)}"


def _value(value: bytes | None, full: bool) -> Iterator[str]:
    if value is None:
        yield _field("value", "- (a tombstone)")
        return
    yield _field("value", size(len(value)))
    lines, left_out = _text(value, full)
    yield from (f"  {line}" for line in lines)
    if left_out:
        yield f"  … {left_out} more; --full shows all"


def _text(value: bytes, full: bool) -> tuple[list[str], str]:
    """Its lines, indented so that none can be taken for a field of ours, and what is left out of them."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        shown = value if full else value[:SHOWN_BYTES]
        return hex_dump(shown), _count(len(value) - len(shown), "bytes")
    shown_text = text if full else text[:SHOWN_CHARACTERS]
    lines = shown_text.removesuffix("\n").split("\n") if shown_text else []
    return [on_one_line(line) for line in lines], _count(len(text) - len(shown_text), "characters")


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number else ""
