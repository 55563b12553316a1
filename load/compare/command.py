"""``python -m load compare``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from load.cluster import Cluster
from load.compare.about import About, about
from load.compare.cases import PARTITIONS, SIZES_BYTES, chosen_cases
from load.compare.contender import BY_DEFAULT, SERVICES, Contender, contenders
from load.compare.contest import Entry, Results, contest
from load.compare.pictures import draw
from load.compare.postgres_server import PostgresQueue
from load.compare.table import markdown
from load.progress import say

WORDS = "the service beside what else is used for it: sleeping, pausing, aiokafka, Java, Spring, PostgreSQL"
_ROUNDS = 2
_SECONDS = 3.0
_LIMIT_SECONDS = 15.0
_CODECS = ("none", "lz4", "zstd")


def add_options(command: argparse.ArgumentParser) -> None:
    names = list(contenders(PostgresQueue()))
    command.add_argument(
        "--contenders", nargs="+", choices=names, default=BY_DEFAULT, metavar="NAME", help=f"of {', '.join(names)}"
    )
    command.add_argument(
        "--rates", nargs="*", type=float, metavar="RATE", help="records a second (default 4 100 1000 10000)"
    )
    command.add_argument("--seconds", type=float, default=_SECONDS, help="measured at each rate, 20 records at least")
    command.add_argument("--rounds", type=int, default=_ROUNDS, help="turns that everyone gets")
    command.add_argument(
        "--partitions", nargs="+", type=int, default=PARTITIONS, help="the first everywhere, others at 1000/s"
    )
    command.add_argument("--sizes", nargs="+", type=int, default=SIZES_BYTES, help="of values; the first everywhere")
    command.add_argument("--catch-up", type=int, help="due records (default 1,000,000, none if --rates is given)")
    command.add_argument("--limit", type=float, default=_LIMIT_SECONDS, help="seconds to catch up, at most")
    command.add_argument(
        "--batch-records", type=int, help="of the log's batches (default: 20 ms of records; of a backlog 100)"
    )
    command.add_argument("--codec", choices=_CODECS, default="none", help="compression of the log")


def compare(cluster: Cluster, options: argparse.Namespace) -> int:
    """Measures, writes compare.json, compare.md and pictures to ``--out``; 1 if the service failed or was early."""
    with closing(PostgresQueue()) as queue:
        everyone = contenders(queue)
        chosen = {name: one for name, one in everyone.items() if name in options.contenders}
        left_out = {name: reason for name, one in chosen.items() if (reason := one.missing()) is not None}
        for name, reason in left_out.items():
            say(f"LEFT OUT: {name}: {reason}")
        takers = {name: one for name, one in chosen.items() if name not in left_out}
        described = about(options.rounds, left_out)
        results = contest(cluster, chosen_cases(options), takers, options.rounds, options.limit)
    _write(options.out, results, takers, described)
    return 0 if _service_kept_its_promises(results) else 1


def _write(directory: Path, results: Results, takers: dict[str, Contender], described: About) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    report = markdown(results, takers, described)
    (directory / "compare.md").write_text(report)
    (directory / "compare.json").write_text(json.dumps(_plain(results, described), indent=2) + "\n")
    for picture in draw(results, directory):
        say(f"picture: {picture}")
    sys.stdout.write(report)


def _plain(results: Results, described: About) -> dict[str, object]:
    return {
        **asdict(described),
        "cases": [
            {**_known(asdict(case)), "contenders": {name: _entry(entry) for name, entry in entries.items()}}
            for case, entries in results.items()
        ],
    }


def _entry(entry: Entry) -> dict[str, object]:
    """``lateness`` is an HdrHistogram (V2, base64) of all rounds, in microseconds."""
    return {
        "spread": {name: _known(asdict(one)) for name, one in entry.spreads().items()},
        "rounds": [_known(asdict(one)) for one in entry.rounds],
        "lateness_us": entry.lateness.encode().decode(),
        "failures": entry.failures,
    }


def _known(figures: dict[str, object]) -> dict[str, object]:
    """JSON has neither nan nor an infinite rate."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }


def _service_kept_its_promises(results: Results) -> bool:
    entries = [entries[name] for entries in results.values() for name in SERVICES if name in entries]
    return not any(entry.failures or any(one.early for one in entry.rounds) for entry in entries)
