"""What the handlers of `handlers.py` were called with, as they noted it."""

from __future__ import annotations

import math
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from delayed_consumer import Record
from tests.support.handlers import CALLS, GATE


@dataclass(slots=True)
class Call:
    """One call of a handler. It has no end while it goes on, and never when it was cut off."""

    process: int
    records: Sequence[Record]
    begun_ms: float
    ended_ms: float = math.inf
    end: str | None = None  # "returned", or "raised" and what

    @property
    def record(self) -> Record:
        """Of a handler that gets one at a time."""
        [record] = self.records
        return record

    @property
    def offsets(self) -> list[int]:
        return [record.offset for record in self.records]

    @property
    def returned(self) -> bool:
        return self.end == "returned"


class Handled:
    """The file of calls and the gate of `hang`, in a directory of the test's own."""

    def __init__(self, directory: Path) -> None:
        self._calls = directory / "calls"
        self._gate = directory / "gate"

    def by(self, handler: str) -> Mapping[str, str]:
        """Settings for a service with this function of `handlers.py`."""
        return {
            "SINK": "python",
            "SINK_HANDLER": f"tests.support.handlers:{handler}",
            CALLS: str(self._calls),
            GATE: str(self._gate),
        }

    def open_gate(self) -> None:
        """What hangs returns."""
        self._gate.touch()

    def calls(self, wanted: Callable[[Call], bool] = lambda _: True) -> list[Call]:
        """All so far that are ``wanted``, in the order they began."""
        calls: dict[str, Call] = {}
        for line in self._lines():
            if line["what"] == "begun":
                records = [_record(one) for one in line["records"]]
                calls[line["call"]] = Call(line["process"], records, line["at_ms"])
            else:
                call = calls[line["call"]]
                call.ended_ms, call.end = line["at_ms"], line["what"]
        return [call for call in calls.values() if wanted(call)]

    def returned(self, partition: int | None = None) -> list[Call]:
        """The calls that returned, in the order they began."""
        return self.calls(lambda call: call.returned and partition in {None, call.records[0].partition})

    def offsets(self, partition: int = 0) -> list[int]:
        """What was done of a partition, in the order it was begun."""
        return [offset for call in self.returned(partition) for offset in call.offsets]

    def _lines(self) -> list[dict[str, Any]]:
        """A last line without its end is still being written."""
        if not self._calls.exists():
            return []
        *lines, _ = self._calls.read_bytes().split(b"\n")
        return [orjson.loads(line) for line in lines]


def _record(fields: dict[str, Any]) -> Record:
    headers = [(name, _bytes(value)) for name, value in fields["headers"]]
    return Record(**{**fields, "key": _bytes(fields["key"]), "value": _bytes(fields["value"]), "headers": headers})


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
