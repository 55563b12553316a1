"""Where somebody is ahead of the service, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from load.compare.cases import Case
from load.compare.contender import BARE, SERVICES
from load.compare.contest import Entry, Results
from load.compare.figures import Spread

_MARGIN = 0.05  # less than that is no difference
_MORE_IS_BETTER = {"records_per_second"}

_LATE = "it does less between waking up and the delivery: no commit is kept back, nothing is counted"
WHY: Mapping[str, str] = {
    "lateness_p50_ms": _LATE,
    "lateness_p99_ms": _LATE,
    "lateness_p999_ms": _LATE,
    "bytes_per_log_byte": (
        "the service reads LOOKAHEAD_SECONDS ahead in the log, which is counted although it is not delivered within the"
        " measurement; it is fetched once"
    ),
    "cpu_us_per_record": "see CPU, % of a core; in catch-up a record is also made into JSON or a typed object",
    "cpu_percent": (
        "the service wakes up at each millisecond in which something is due, makes JSON or a typed record, counts"
        " lateness and keeps the offsets of what is in flight; who is ahead delivers whole fetches, notes nothing, or"
        " commits nothing while it waits"
    ),
    "rss_mib": (
        "the imports of the service alone are 47 MiB (settings, metrics, status server, scheduler, the client), and it"
        " holds LOOKAHEAD_SECONDS of records"
    ),
    "records_per_second": "it hands over what it read as it is; see CPU per record",
}


@dataclass(frozen=True)
class Ahead:
    """``name`` is better than both of the service's contenders by this figure, in every round."""

    figure: str
    case: Case
    name: str
    theirs: float
    ours: float


def ahead(results: Results) -> Iterator[Ahead]:
    """Those who were never early and delivered all. The bare loop is the limit and not a contender."""
    for case, entries in results.items():
        spreads = {name: entry.spreads() for name, entry in entries.items() if _keeps_promises(entry)}
        for figure in WHY:
            own = [spreads[name][figure] for name in SERVICES if name in spreads]
            if not own:
                continue
            best = min(own, key=lambda one: _cost(figure, one.median))
            for name, one in spreads.items():
                if name not in SERVICES and name != BARE and _is_ahead(figure, one[figure], best):
                    yield Ahead(figure, case, name, one[figure].median, best.median)


def _keeps_promises(entry: Entry) -> bool:
    return bool(entry.rounds) and all(one.early == 0 and one.delivered_percent == 100 for one in entry.rounds)


def _cost(figure: str, value: float) -> float:
    return -value if figure in _MORE_IS_BETTER else value


def _is_ahead(figure: str, theirs: Spread, ours: Spread) -> bool:
    if figure in _MORE_IS_BETTER:
        return theirs.least > ours.most * (1 + _MARGIN)
    return theirs.most < ours.least * (1 - _MARGIN)
