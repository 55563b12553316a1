"""Carries transactions out on a thread of its own, so that the loop never waits for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Any

from delayed_consumer.clock import Clock
from delayed_consumer.sinks.transactional_client import Result, Transaction, TransactionalClient

# Before a producer is made again. Long enough for the group to tell a process that was frozen that its place is taken:
# it ends by that, before its new producer would fence its successor.
AGAIN_MS = 1_000.0
CLOSE_SECONDS = 2.0

Task = Callable[[], Transaction | None]


class TransactionThread:
    """One transaction at a time. All methods are called on the loop's thread, and none but `close` waits."""

    def __init__(self, client: TransactionalClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._transaction: Transaction | None = None
        self._busy = False
        self._begun_ms = 0.0
        self._again_ms = 0.0
        self._new_thread()

    @property
    def ready(self) -> bool:
        """Whether a transaction may begin. The fate of the one before can be asked for: it will not change any more."""
        return not self._busy and self._client.prepared

    def begin(self, transaction: Transaction, membership: object) -> None:
        client = self._client

        def carry_out() -> Transaction:
            client.carry_out(transaction, membership)
            return transaction

        self._transaction = transaction
        self._start(carry_out)

    def replace_producer(self, properties: Mapping[str, Any]) -> None:
        """Before the next transaction, by one with these properties. To be called when one has ended."""
        self._start(partial(self._client.replace, properties))

    def ended(self) -> Transaction | None:
        """The transaction when it has ended. A producer that was lost is made again.

        Raises the ServiceError that ends the service; nothing may begin after that.
        """
        if self._busy:
            if self._results.empty():
                return self._leave_behind() if self._is_stuck() else None
            self._busy = False
            self._transaction = None
            result = self._results.get()
            if isinstance(result, Exception):
                self._again_ms = float("inf")
                raise result
            if result is None or result.result is not Result.COMMITTED:
                self._again_ms = self._clock.steady_ms() + AGAIN_MS
            return result
        if not self._client.prepared and self._clock.steady_ms() >= self._again_ms:
            self._start(self._client.prepare)
        return None

    def close(self) -> None:
        """What is open is aborted: by whoever has the id next, or by the brokers."""
        self._tasks.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _is_stuck(self) -> bool:
        return self._clock.steady_ms() - self._begun_ms >= self._client.longest_ms

    def _leave_behind(self) -> Transaction | None:
        """A call of the client's has not returned, long after its time-out: `send_offsets_to_transaction` when a broker
        stops meanwhile (librdkafka 2.16, seldom). Goes on with another producer, whose `init_transactions` ends what
        the former has open and fences it, so what that may still do is refused."""
        transaction, self._transaction = self._transaction, None
        self._tasks.put(None)  # should the call return after all, its thread lets go of the producer and ends
        self._client = self._client.successor()
        self._new_thread()
        self._busy = False
        self._again_ms = self._clock.steady_ms() + AGAIN_MS
        if transaction is None:
            return None
        return Transaction(
            transaction.offsets, transaction.write, result=Result.UNKNOWN, reason="the client's call does not return"
        )

    def _new_thread(self) -> None:
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._results: SimpleQueue[Transaction | Exception | None] = SimpleQueue()
        work = partial(self._work, self._client, self._tasks, self._results)
        self._thread = threading.Thread(target=work, name="transactions", daemon=True)
        self._thread.start()

    def _start(self, task: Task) -> None:
        self._busy = True
        self._begun_ms = self._clock.steady_ms()
        self._tasks.put(task)

    def _work(
        self,
        client: TransactionalClient,
        tasks: SimpleQueue[Task | None],
        results: SimpleQueue[Transaction | Exception | None],
    ) -> None:
        while (task := tasks.get()) is not None:
            try:
                results.put(task())
            except Exception as error:  # the loop is told: it would wait for ever
                results.put(error)
            self._clock.wake()
        client.drop()
