"""Everyone in every case, in turns; what breaks is reported and the others go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hdrh.histogram import HdrHistogram

from load.cluster import Cluster
from load.compare.cases import Case
from load.compare.contender import BARE, Contender
from load.compare.figures import Figures, Spread, judged, lateness_histogram, spreads
from load.compare.log import Log, write_log
from load.compare.run import run
from load.progress import say


@dataclass
class Entry:
    """One contender in one case, over all rounds."""

    rounds: list[Figures] = field(default_factory=list)
    lateness: HdrHistogram = field(default_factory=lambda: lateness_histogram(()))
    failures: list[str] = field(default_factory=list)

    def spreads(self) -> dict[str, Spread]:
        """Empty when no round succeeded."""
        return spreads(self.rounds) if self.rounds else {}


Results = dict[Case, dict[str, Entry]]


def contest(
    cluster: Cluster, cases: Sequence[Case], takers: Mapping[str, Contender], rounds: int, limit_seconds: float
) -> Results:
    """Every case's topic is written first; then each round goes through all cases, and each case through all who take
    part in it, so that whatever else the machine does meets all alike."""
    logs = []
    for case in cases:
        say(f"writing {case.records:,} records: {case.name} ...")
        logs.append(write_log(cluster, case))
    results: Results = {case: {name: Entry() for name in _takers_of(case, takers)} for case in cases}
    for number in range(1, rounds + 1):
        for log in logs:
            say(f"round {number} of {rounds}: {log.case.name}")
            _round(cluster, log, takers, results[log.case], limit_seconds)
    return results


def _takers_of(case: Case, takers: Mapping[str, Contender]) -> list[str]:
    """The bare loop knows no due times."""
    return [name for name, contender in takers.items() if contender.waits or case.is_catch_up]


def _round(
    cluster: Cluster, log: Log, takers: Mapping[str, Contender], entries: dict[str, Entry], limit_seconds: float
) -> None:
    ran: dict[str, Figures] = {}
    for name, entry in entries.items():
        try:
            ran[name], lateness = judged(run(takers[name], log, cluster, limit_seconds), log)
        except Exception as error:
            entry.failures.append(f"{type(error).__name__}: {error}")
            say(f"  {name}: failed: {error}")
        else:
            entry.lateness.add(lateness)
            say(f"  {name}: {_in_short(ran[name], log.case)}")
    for name, figures in ran.items():
        entries[name].rounds.append(_beside_bare(figures, ran.get(BARE)))


def _beside_bare(figures: Figures, bare: Figures | None) -> Figures:
    if bare is None:
        return figures
    return replace(figures, of_bare=figures.records_per_second / bare.records_per_second)


def _in_short(figures: Figures, case: Case) -> str:
    if case.is_catch_up:
        return f"{figures.records_per_second:,.0f} records/s"
    return f"p50 {figures.lateness_p50_ms:.2f} ms, p99 {figures.lateness_p99_ms:.2f} ms late"
