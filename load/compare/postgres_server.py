"""A PostgreSQL of our own for the queue in a table: on a free port, with its defaults, gone when we are."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from load.broker import free_ports
from load.compare.log import Log
from load.guard import KILL, REMOVE, DeathWatch

if TYPE_CHECKING:
    import psycopg

_USER = "postgres"  # a server refuses to run as root
_START_SECONDS = 30.0
_PUT_IN = """
    INSERT INTO queue SELECT partition, "offset", to_timestamp(timestamp_ms / 1000.0), value FROM written
"""


def missing() -> str | None:
    """Why the queue cannot run here, or None."""
    if _programs() is None:
        return "no PostgreSQL server is installed (initdb and postgres)"
    if os.geteuid() == 0 and not _has_user():
        return f"PostgreSQL refuses to run as root, and there is no user {_USER}"
    if find_spec("psycopg") is None:
        return "the package psycopg is not installed"
    return None


class PostgresQueue:
    """The server, started when it is first needed, and its one queue. `close` stops it and removes its data."""

    def __init__(self) -> None:
        self._server: _Server | None = None
        self._in_queue = ""

    @contextmanager
    def filled(self, log: Log) -> Iterator[tuple[int, Mapping[str, str]]]:
        """The queue full of the records of ``log``; yields the port and the contender's setting."""
        import psycopg

        self._server = self._server or _Server()
        with psycopg.connect(self._server.address, autocommit=True) as connection:
            if self._in_queue != log.topic:
                _write(connection, log)
                self._in_queue = log.topic
            connection.execute("DROP TABLE IF EXISTS queue")
            connection.execute('CREATE TABLE queue (partition int, "offset" bigint, stamped timestamptz, value bytea)')
            connection.execute(_PUT_IN)
            connection.execute("CREATE INDEX ON queue (stamped)")
            connection.execute("ANALYZE queue")
        yield self._server.port, {"COMPARE_POSTGRES": self._server.address}

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


def _write(connection: psycopg.Connection, log: Log) -> None:
    """The same partitions, offsets, timestamps and sizes as in the topic."""
    connection.execute("DROP TABLE IF EXISTS written")
    connection.execute('CREATE TABLE written (partition int, "offset" bigint, timestamp_ms bigint, value bytea)')
    value = b"x" * log.case.size_bytes
    with connection.cursor().copy("COPY written FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int4", "int8", "int8", "bytea"])
        for (_, partition), records in log.written.items():
            for offset, timestamp_ms in zip(records.offsets, records.timestamps_ms, strict=True):
                copy.write_row((partition, offset, timestamp_ms, value))


class _Server:
    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        programs = _programs()
        assert programs is not None
        self._directory = Path(tempfile.mkdtemp(prefix="delayed-consumer-postgres-"))
        self._remove_at_death = DeathWatch(REMOVE, self._directory)
        owner = _USER if os.geteuid() == 0 else None
        if owner is not None:
            shutil.chown(self._directory, owner)
        data = self._directory / "data"
        initialise = [str(programs / "initdb"), "--username", _USER, "--auth", "trust", "--pgdata", str(data)]
        subprocess.run(initialise, user=owner, stdout=subprocess.DEVNULL, check=True)
        listening = ["-p", str(self.port), "-h", "127.0.0.1", "-c", "unix_socket_directories="]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [programs / "postgres", "-D", data, *listening],
                user=owner,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._kill_at_death = DeathWatch(KILL, str(self._process.pid))
        self._wait_until_it_serves()

    @property
    def address(self) -> str:
        return f"host=127.0.0.1 port={self.port} user={_USER} dbname=postgres"

    def close(self) -> None:
        """Its children end when they see that it is gone."""
        self._process.kill()
        self._process.wait()
        self._kill_at_death.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._remove_at_death.close()

    def _wait_until_it_serves(self) -> None:
        import psycopg

        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                psycopg.connect(self.address).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        tail = (self._directory / "log").read_text(errors="replace")[-2000:]
        self.close()
        raise RuntimeError(f"PostgreSQL did not start:\n{tail}")


def _has_user() -> bool:
    try:
        pwd.getpwnam(_USER)
    except KeyError:
        return False
    return True


def _programs() -> Path | None:
    """Where the server is: on the PATH, or where Debian puts it."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((one for one in places if (one / "initdb").exists() and (one / "postgres").exists()), None)
