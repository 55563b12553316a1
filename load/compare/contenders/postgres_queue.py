"""A table as a queue: takes what is due with SKIP LOCKED, and sleeps until the next row is."""

from __future__ import annotations

import os
import time
from datetime import timedelta

import psycopg

from load.compare.contenders.task import DELAY_SECONDS, exit_on_sigterm
from load.compare.notes import Notes, assigned

_LONGEST_SLEEP_SECONDS = 0.1  # another process may put in a row that is due sooner
_TAKE = """
    DELETE FROM queue WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM queue WHERE stamped <= now() - %s ORDER BY stamped LIMIT 100
        FOR UPDATE SKIP LOCKED
    )) RETURNING partition, "offset", value, stamped
"""
_NEXT = "SELECT extract(epoch FROM min(stamped) + %s - clock_timestamp())::float8 FROM queue"
_DELAY = timedelta(seconds=DELAY_SECONDS)


def main() -> None:
    notes = Notes()
    exit_on_sigterm()
    with psycopg.connect(os.environ["COMPARE_POSTGRES"], autocommit=True) as connection:
        assigned()
        try:
            while True:
                work(connection, notes)
        finally:
            notes.flush()


def work(connection: psycopg.Connection, notes: Notes) -> None:
    """The rows that are due, or a rest."""
    rows = connection.execute(_TAKE, (_DELAY,), binary=True).fetchall()
    if rows:
        rows.sort(key=lambda row: row[1])  # RETURNING keeps no order
        notes.delivered_together((partition, offset) for partition, offset, *_ in rows)
        return
    ((wait_seconds,),) = connection.execute(_NEXT, (_DELAY,)).fetchall()
    time.sleep(max(0.0, min(_LONGEST_SLEEP_SECONDS, _LONGEST_SLEEP_SECONDS if wait_seconds is None else wait_seconds)))


if __name__ == "__main__":
    main()
