"""Who makes a sink's blocking calls: threads, or coroutines on an event loop in a thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Protocol

from delayed_consumer.errors import FatalError, GaveUpError
from delayed_consumer.sinks.lanes import Turn

YIELD_AFTER_SECONDS = 0.005  # what one lane's coroutines may keep the others of an event loop from


class Crew(Protocol):
    """Works turns side by side, at most so many at once. Called on the loop's thread, and never blocks.

    Attributes:
        notes: each turn when it is begun and when it is over, for the loop to take.
    """

    notes: deque[Turn]

    @property
    def waiting(self) -> bool:
        """Whether turns wait for a worker."""

    @property
    def answers(self) -> bool:
        """Whether its workers have heard of every turn."""

    @property
    def left_behind(self) -> int:
        """How many calls that were given up have not ended."""

    def submit(self, turn: Turn) -> None:
        """The next worker that is free works it."""

    def took_back(self) -> None:
        """The loop has seen that a turn is over."""

    def give_up(self, turn: Turn) -> None:
        """Its call takes too long: its worker is replaced, and whatever comes of the call is ignored."""

    def close(self) -> None:
        """Workers end after the call that they make."""


class _Staff:
    """How many workers there are, and how many there should be."""

    def __init__(self, most: int | None) -> None:
        """``most``: at once; None: as many as there is work for."""
        self.notes: deque[Turn] = deque()
        self._most = most
        self._workers = 0
        self._unfinished = 0
        self._given_up: list[Turn] = []

    @property
    def left_behind(self) -> int:
        self._given_up = [turn for turn in self._given_up if not turn.over]
        return len(self._given_up)

    def has_more(self) -> bool:
        """There is one more turn. Returns whether it needs one more worker."""
        self._unfinished += 1
        return self._grows()

    def took_back(self) -> None:
        self._unfinished -= 1

    def leaves(self, turn: Turn) -> bool:
        """The worker of this turn is left behind. Returns whether it is to be replaced at once."""
        turn.left_behind = True
        self._given_up.append(turn)
        self._workers -= 1
        self._unfinished -= 1
        return self._grows()

    def _grows(self) -> bool:
        grows = self._workers < self._unfinished and (self._most is None or self._workers < self._most)
        self._workers += grows
        return grows


class Threads(_Staff):
    """Daemons: one that hangs must not keep the process from ending."""

    answers = True

    def __init__(self, handle: Callable[[Any], object], most: int | None) -> None:
        super().__init__(most)
        self._handle = handle
        self._turns: SimpleQueue[Turn | None] = SimpleQueue()

    @property
    def waiting(self) -> bool:
        return not self._turns.empty()

    def submit(self, turn: Turn) -> None:
        self._turns.put(turn)
        if self.has_more():
            self._hire()

    def give_up(self, turn: Turn) -> None:
        if self.leaves(turn):
            self._hire()

    def close(self) -> None:
        for _ in range(self._workers):
            self._turns.put(None)

    def _hire(self) -> None:
        """Raises GaveUpError when not one thread can be started; else fewer have to do."""
        try:
            threading.Thread(target=self._work, name="sink worker", daemon=True).start()
        except RuntimeError as error:
            self._workers -= 1
            if not self._workers:
                raise GaveUpError(f"cannot start a thread for the handler: {error}") from error

    def _work(self) -> None:
        turn = self._turns.get()
        while turn is not None:
            self._call(turn)
            following = None if turn.left_behind else self._turns.get()
            if following is not None and turn.left_behind:  # it was replaced in the moment that its call ended
                self._turns.put(following)
                return
            turn = following

    def _call(self, turn: Turn) -> None:
        self.notes.append(turn)
        handle = self._handle
        try:
            for argument in turn.arguments():
                if (result := handle(argument)) is not None:
                    refuse_what_never_ran(result)
        except BaseException as error:  # SystemExit too: the handler has failed, and only the loop stops the service
            turn.error = error.with_traceback(None)  # its frames would keep the records
        turn.over = True
        self.notes.append(turn)


class Coroutines(_Staff):
    """Tasks of one event loop, which turns in a thread of its own."""

    def __init__(self, handle: Callable[[Any], Awaitable[object]], most: int | None) -> None:
        super().__init__(most)
        self._handle = handle
        self._loop = asyncio.new_event_loop()
        self._turns: asyncio.Queue[Turn] = asyncio.Queue()
        self._calls: dict[Turn, asyncio.Task[None] | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself would let them be collected
        self._closing = False
        self._sent = self._heard = 0
        threading.Thread(target=self._run, name="sink event loop", daemon=True).start()

    @property
    def waiting(self) -> bool:
        return not self._turns.empty()

    @property
    def answers(self) -> bool:
        return self._sent == self._heard

    def submit(self, turn: Turn) -> None:
        self._sent += 1
        self._loop.call_soon_threadsafe(self._arrived, turn, self.has_more())

    def give_up(self, turn: Turn) -> None:
        self._loop.call_soon_threadsafe(self._cancel, turn, self.leaves(turn))

    def close(self) -> None:
        self._closing = True
        with suppress(RuntimeError):  # it is closed already
            self._loop.call_soon_threadsafe(self._loop.stop)

    # In the event loop's thread

    def _run(self) -> None:
        while not self._closing:
            with suppress(BaseException):  # SystemExit in a task that a handler has started ends `run_forever`
                self._loop.run_forever()
        try:
            self._loop.run_until_complete(self._wind_up())
        finally:
            self._loop.close()

    async def _wind_up(self) -> None:
        """Cancels what still runs. A coroutine that goes on all the same keeps this thread, and nothing else."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _arrived(self, turn: Turn, hires: bool) -> None:
        self._heard += 1
        self._turns.put_nowait(turn)
        if hires:
            self._hire()

    def _cancel(self, turn: Turn, hires: bool) -> None:
        task = self._calls.get(turn)
        if task is not None:
            task.cancel()
        if hires:
            self._hire()

    def _hire(self) -> None:
        task = self._loop.create_task(self._work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        turn: Turn | None = await self._turns.get()
        while turn is not None:
            await self._call(turn)
            # Closing: the call was cancelled, and nobody would cancel the wait for the next turn.
            following = None if turn.left_behind or self._closing else await self._turns.get()
            if following is not None and turn.left_behind:  # it was replaced in the moment that its call ended
                self._turns.put_nowait(following)
                return
            turn = following

    async def _call(self, turn: Turn) -> None:
        self.notes.append(turn)
        self._calls[turn] = asyncio.current_task()
        yielded_seconds = self._loop.time()
        try:
            for argument in turn.arguments():
                await self._handle(argument)
                if self._loop.time() - yielded_seconds > YIELD_AFTER_SECONDS:  # it may have had nothing to wait for
                    await asyncio.sleep(0)
                    yielded_seconds = self._loop.time()
        except BaseException as error:  # CancelledError and SystemExit too
            turn.error = error.with_traceback(None)
        del self._calls[turn]
        turn.over = True
        self.notes.append(turn)


def refuse_what_never_ran(result: object) -> None:
    """A handler's result is ignored, but not a coroutine or a generator: what the handler should do was not done.

    Raises:
        FatalError: every record would come to nothing.
    """
    if inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
        if inspect.iscoroutine(result):
            result.close()  # or Python warns that it was never awaited
        kind = type(result).__name__
        raise FatalError(f"the handler returned a {kind}, which nobody runs: write it as `async def`, without `yield`")
