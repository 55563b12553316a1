"""Bytes and moments as a terminal may show them: whatever a record holds, it moves no cursor and sets no colour."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from delayed_consumer.logs import on_one_line


def escaped(data: bytes | None) -> str:
    """On one line: what is not UTF-8 as ``\\xff``, what is not printable as ``\\x1b``; null as ``-``."""
    return "-" if data is None else on_one_line(data.decode(errors="backslashreplace"))


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def moment(timestamp_ms: int, zone: tzinfo | None = None) -> str:
    """A date and time of ``zone``; None: of this machine's. ``-`` for a record without one."""
    if timestamp_ms < 0:
        return "-"
    try:
        at = datetime.fromtimestamp(timestamp_ms / 1000, UTC).astimezone(zone)
    except (OverflowError, ValueError, OSError):  # a timestamp may be any 64-bit number
        return f"{timestamp_ms} ms"
    return f"{at:%Y-%m-%d %H:%M:%S}"


def size(size_bytes: int) -> str:
    """``812 B``, ``4.2 kB``, ``5.0 MB``."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    return f"{size_bytes / 1000:.1f} kB" if size_bytes < 1_000_000 else f"{size_bytes / 1_000_000:.1f} MB"


def hex_dump(data: bytes) -> list[str]:
    """Sixteen bytes a line: where, in hexadecimal, and those that are printable ASCII."""
    lines = []
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        ascii_text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {ascii_text}")
    return lines
