"""How much memory a backlog costs that is far larger than what may be held."""

from __future__ import annotations

import time

from load.backlog import DELAY_SECONDS, backlog
from load.checks import Check, Section, at_most
from load.cluster import Cluster
from load.oracle import judge
from load.progress import say
from load.service import ServiceProcess
from load.verdicts import MIB, RSS_ABOVE_HOLD_BYTES, promises
from load.wait import wait_until

RECORDS = 1_000_000
SIZE_BYTES = 1000
PARTITIONS = 4
_HOLD_MAX_BYTES = 64 * MIB
_DUE_IN_SECONDS = 60.0  # filling the topic, starting, and a while to watch the hold full
_WATCHED_SECONDS = 10.0
_DELIVERED_WITHIN_SECONDS = 180.0
# Everything lies within the look-ahead, so that the bound of the hold, not the horizon, ends the reading.
_LOOKAHEAD_SECONDS = 600


def memory(cluster: Cluster) -> Section:
    """The backlog waits with the hold as full as it may be, then all of it falls due at once."""
    say(f"memory: writing {RECORDS:,} records of {SIZE_BYTES} B ...")
    due_ms = time.time() * 1000 + _DUE_IN_SECONDS * 1000
    topic, writer = backlog(cluster, "memory", RECORDS, SIZE_BYTES, PARTITIONS, _DUE_IN_SECONDS * 1000)
    settings = {
        **cluster.environment(topic, DELAY_SECONDS),
        "HOLD_MAX_BYTES": str(_HOLD_MAX_BYTES),
        "LOOKAHEAD_SECONDS": str(_LOOKAHEAD_SECONDS),
    }
    with ServiceProcess(settings) as service:
        service.wait_ready()
        begun = time.time() * 1000
        say("memory: the backlog waits ...")
        time.sleep(max(_WATCHED_SECONDS, due_ms / 1000 - time.time() - 1))
        waiting_bytes = service.usage.peak_rss_bytes
        cpu = service.usage.cpu(begun, due_ms)
        held = sum(one["held_bytes"] for one in service.status()["partitions"])
        say("memory: and is delivered ...")
        wait_until(lambda: service.deliveries.count >= RECORDS, _DELIVERED_WITHIN_SECONDS, service)
        peak_bytes = service.usage.peak_rss_bytes
        service.stop()
    verdict = judge(writer.written, service.deliveries.by_partition, round(DELAY_SECONDS * 1000))
    bound_mib = (_HOLD_MAX_BYTES + RSS_ABOVE_HOLD_BYTES) / MIB
    return Section(
        f"memory: {RECORDS * SIZE_BYTES / 1e9:g} GB waiting, HOLD_MAX_BYTES {_HOLD_MAX_BYTES // MIB} MiB",
        [
            at_most("held while it waits", held / MIB, _HOLD_MAX_BYTES / MIB, "MiB"),
            at_most("peak RSS while it waits", waiting_bytes / MIB, bound_mib, "MiB"),
            at_most("peak RSS while it is delivered", peak_bytes / MIB, bound_mib, "MiB"),
            Check("CPU of a core while it waits", cpu.process, "%"),
            *promises(verdict),
        ],
    )
