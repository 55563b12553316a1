"""``python -m load high``: measures the service on a real Kafka and says whether it reaches what it must."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from load.checks import Section, exactly
from load.cluster import Cluster, NoBrokerError, cluster
from load.compare import command as comparison
from load.growth.growth import growth
from load.ladder import ladder
from load.limits.catchup import catchup
from load.limits.commits import commits
from load.limits.handlers import handlers
from load.limits.http import http
from load.limits.idle import idle
from load.limits.key_ordering import key_ordering
from load.limits.kills import kills
from load.limits.memory import memory
from load.limits.relay import relay
from load.limits.restart import restart
from load.measure import measure
from load.pictures import draw
from load.profile import missing as profile_missing
from load.report import show, write_json
from load.scenarios import SCENARIOS, Scenario
from load.verdicts import section

_OUT = Path(__file__).parent / "out"
_LIVE_DELAY_SECONDS = 10.0  # live, somebody waits for the delay; 900 s would be long
_NO_BROKER = 69
_INTERRUPTED = 130
COMPARE = "compare"

_Measurement = Callable[[Cluster], Section]

LIMITS: Mapping[str, tuple[str, Callable[[Cluster, argparse.Namespace], Section]]] = {
    "catchup": ("a due backlog of 1,000,000 records, against a bare client loop", lambda where, _: catchup(where)),
    "memory": ("memory while 1 GB waits and while it is delivered", lambda where, _: memory(where)),
    "idle": ("CPU with 100 waiting partitions; start to first delivery", lambda where, _: idle(where)),
    "kills": ("25 SIGKILLs in a minute", lambda where, options: kills(where, options.seed)),
    "restart": ("how soon due records are delivered after a broker was away", lambda _, __: restart()),
    "commits": ("what commits cost, per record, per hundred, periodic", lambda where, _: commits(where)),
    "relay": ("SINK=topic against bare loops; exactly-once against at-least-once", lambda where, _: relay(where)),
    "handlers": (
        "SINK=python: catch-up against a bare loop; lateness at the handler",
        lambda where, _: handlers(where),
    ),
    "http": ("SINK=http against its HTTP library alone", lambda where, _: http(where)),
    "key-ordering": (
        "ORDERING=key: whether the workers are kept busy",
        lambda where, options: key_ordering(where, options.seed),
    ),
    "growth": (
        "CPU and memory as delay, backlog, partitions, records or handler grow",
        lambda where, options: growth(where, options.out),
    ),
}


_ALONE = {"growth"}  # it writes some 6 GB, for half an hour


def main() -> int:
    """Runs what was asked for; 1 if anything failed."""
    parser = _parser()
    options = parser.parse_args()
    try:
        measurements = _measurements(options)
    except ValueError as error:
        parser.error(str(error))
    try:
        with cluster(options.bootstrap) as where:
            if options.what == COMPARE:
                return comparison.compare(where, options)
            sections = [_attempt(name, one, where) for name, one in measurements]
    except NoBrokerError as error:
        sys.stderr.write(f"{error}\n")
        return _NO_BROKER
    except KeyboardInterrupt:
        return _INTERRUPTED
    show(sections, Console())
    write_json(sections, options.out / f"{options.what}.json")
    return 0 if all(one.passed for one in sections) else 1


def _attempt(name: str, measurement: _Measurement, where: Cluster) -> Section:
    """A measurement that breaks is a failed one, and the others go on."""
    try:
        return measurement(where)
    except Exception as error:
        return Section(name, [exactly("ran to its end", 0, 1)], [f"{type(error).__name__}: {error}"])


def _measurements(options: argparse.Namespace) -> list[tuple[str, _Measurement]]:
    """What to run, by name. Raises ValueError if the options do not fit together."""
    if options.what == COMPARE:
        return []
    if options.what == "all":
        return _everything(options)
    if options.what in LIMITS:
        return [(options.what, partial(_limit, options.what, options))]
    scenario = _scenario(options)
    chosen: list[tuple[str, _Measurement]] = [(options.what, partial(_one, scenario, options))]
    if options.what == "high" and options.rate is None and not options.live:
        chosen.append(("ladder", partial(_ladder, scenario, options)))
    return chosen


def _everything(options: argparse.Namespace) -> list[tuple[str, _Measurement]]:
    high = SCENARIOS["high"]
    scenarios = [
        high,
        replace(high, name="high-one-empty", empty_partitions=1),
        SCENARIOS["medium"],
        replace(SCENARIOS["sparse"], seed=options.seed),
    ]
    return [
        *((scenario.name, partial(_one, scenario, options)) for scenario in scenarios),
        ("ladder", partial(_ladder, high, options)),
        *((name, partial(_limit, name, options)) for name in LIMITS if name not in _ALONE),
    ]


def _one(scenario: Scenario, options: argparse.Namespace, where: Cluster) -> Section:
    picture = options.out / f"{scenario.name}-profile.svg" if options.profile else None
    run = measure(scenario, where, options.sink, options.live, profile=picture)
    return section(run, [*draw(run, options.out), *([picture] if picture else [])])


def _ladder(scenario: Scenario, options: argparse.Namespace, where: Cluster) -> Section:
    return ladder(scenario, where, options.sink)


def _limit(name: str, options: argparse.Namespace, where: Cluster) -> Section:
    return LIMITS[name][1](where, options)


def _scenario(options: argparse.Namespace) -> Scenario:
    """The scenario as the options change it. Raises ValueError if it cannot be."""
    if options.profile and (reason := profile_missing()) is not None:
        raise ValueError(reason)
    named = {
        "seconds": options.seconds,
        "rate": options.rate,
        "delay_seconds": _LIVE_DELAY_SECONDS if options.live and options.delay is None else options.delay,
        "partitions": options.partitions,
        "empty_partitions": options.empty,
        "size_bytes": options.size,
        "seed": options.seed,
    }
    return replace(SCENARIOS[options.what], **{name: value for name, value in named.items() if value is not None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load",
        description="Measures the service on a real Kafka: the one named by --bootstrap, or one that is started here "
        "(Java 17 and Maven). Settings of the service may be given in the environment, e.g. LOOKAHEAD_SECONDS=8.",
    )
    commands = parser.add_subparsers(dest="what", metavar="what", required=True)
    for name, scenario in SCENARIOS.items():
        words = f"{scenario.rate_text} for {scenario.seconds:g} s in {scenario.partitions} partitions"
        _add_scenario_options(_command(commands, name, words))
    for name, (words, _) in LIMITS.items():
        _command(commands, name, words)
    _command(commands, "all", "everything above but growth, in one report")
    comparison.add_options(_command(commands, COMPARE, comparison.WORDS))
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, words: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=words, description=words)
    command.set_defaults(sink="log", live=False, profile=False)
    command.add_argument("--bootstrap", help="an existing cluster; without it a broker is started")
    command.add_argument("--seed", type=int, default=1, help="of what is random (default 1)")
    command.add_argument("--out", type=Path, default=_OUT, help="directory of the report and the pictures")
    return command


def _add_scenario_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seconds", type=_positive, help="how long is measured")
    command.add_argument("--rate", type=_positive, help="records a second, over all partitions")
    command.add_argument("--delay", type=_positive, help="DELAY_SECONDS (900, live 10)")
    command.add_argument("--partitions", type=int, help="partitions of the topic")
    command.add_argument("--empty", type=int, help="how many of them stay empty")
    command.add_argument("--size", type=int, help="bytes of a record's value (default 200)")
    command.add_argument("--sink", choices=("log", "topic"), default="log", help="SINK (default log)")
    command.add_argument("--profile", action="store_true", help="a flame picture of the service, taken by py-spy")
    command.add_argument("--live", action="store_true", help="produce in real time instead of back-dating timestamps")


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError
    return value


if __name__ == "__main__":
    sys.exit(main())
