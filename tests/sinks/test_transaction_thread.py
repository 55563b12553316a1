"""The thread of the transactions, with a client whose calls may not return."""

from __future__ import annotations

import threading
from typing import Any, cast

from delayed_consumer.sinks.transaction_thread import AGAIN_MS, TransactionThread
from delayed_consumer.sinks.transactional_client import Result, Transaction, TransactionalClient
from tests.loop.clock import ManualClock
from tests.support.wait import wait_until

LONGEST_MS = 30_000.0


class Client:
    """Its first life hangs in `carry_out`; its successor does not."""

    longest_ms = LONGEST_MS

    def __init__(self, hangs: threading.Event | None) -> None:
        self._hangs = hangs
        self.prepared = hangs is not None
        self.dropped = False

    def carry_out(self, transaction: Transaction, _: object) -> None:
        if self._hangs is not None:
            self._hangs.wait(60)
        transaction.result = Result.COMMITTED

    def prepare(self) -> None:
        self.prepared = True

    def successor(self) -> Client:
        return Client(None)

    def drop(self) -> None:
        self.prepared = False
        self.dropped = True


def transaction() -> Transaction:
    return Transaction({}, lambda *_: None)


def ended(thread: TransactionThread) -> Transaction:
    found: Any = wait_until(thread.ended)
    return cast("Transaction", found)


def test_a_call_that_does_not_return_is_left_behind_and_its_outcome_unknown() -> None:
    returns = threading.Event()
    clock = ManualClock()
    stuck = Client(returns)
    thread = TransactionThread(cast("TransactionalClient", stuck), clock)
    thread.begin(transaction(), None)
    clock.wait_ms(LONGEST_MS - 1)
    assert thread.ended() is None
    clock.wait_ms(1)
    assert ended(thread).result is Result.UNKNOWN
    assert not thread.ready, "its fate may be asked for once another producer has fenced it"
    clock.wait_ms(AGAIN_MS)
    thread.ended()
    wait_until(lambda: thread.ended() is None and thread.ready)
    assert not stuck.dropped
    returns.set()
    wait_until(lambda: stuck.dropped)
    thread.begin(transaction(), None)
    assert ended(thread).result is Result.COMMITTED
    thread.close()
