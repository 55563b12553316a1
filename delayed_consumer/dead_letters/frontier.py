"""How far a replay has come, so that another one can carry on behind it."""

from __future__ import annotations

from collections.abc import Mapping

from delayed_consumer.dead_letters.letters import LetterId


class Frontier:
    """Up to where each partition of the dead-letter topic is dealt with, while answers come in any order."""

    def __init__(self, after: Mapping[int, int]) -> None:
        self._read = dict(after)
        self._unanswered: dict[int, dict[int, None]] = {}

    def sent(self, letter: LetterId) -> None:
        """Called in the order of the offsets; `answered` or `passed` follows."""
        self._unanswered.setdefault(letter.partition, {})[letter.offset] = None

    def answered(self, letter: LetterId) -> None:
        self._unanswered[letter.partition].pop(letter.offset, None)

    def read(self, letter: LetterId) -> None:
        """It was sent, or there is nothing to send of it."""
        self._read[letter.partition] = letter.offset

    def after(self) -> dict[int, int]:
        """The last offset of each partition that is done with everything before it."""
        done = {one: self._last_done(one, offset) for one, offset in self._read.items()}
        return {partition: offset for partition, offset in done.items() if offset >= 0}

    def _last_done(self, partition: int, read: int) -> int:
        """The first one without an answer is the lowest: they are sent in order."""
        return next((offset - 1 for offset in self._unanswered.get(partition, ())), read)
