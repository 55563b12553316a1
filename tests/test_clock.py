from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from delayed_consumer.clock import StepDetector, SystemClock
from tests.loop.clock import ManualClock

_LONG_MS = 60_000.0
_INTERRUPTIONS = """
import random
import signal
from delayed_consumer.clock import SystemClock

clock = SystemClock()
left = 5_000

def interrupt(*_):
    global left
    left -= 1
    clock.wake()
    if left:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00001, 0.0001))

signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.0001)
while left:
    clock.wait_ms(0.02)
"""


def elapsed_ms(clock: SystemClock, wait_ms: float) -> float:
    before_ms = clock.steady_ms()
    clock.wait_ms(wait_ms)
    return clock.steady_ms() - before_ms


def test_a_wait_ends_after_its_duration_and_not_before() -> None:
    assert elapsed_ms(SystemClock(), 3.5) >= 3.5


def test_a_wait_for_no_time_returns() -> None:
    clock = SystemClock()
    clock.wait_ms(0)
    clock.wait_ms(-5)


def test_a_wait_ends_when_another_thread_wakes_it() -> None:
    clock = SystemClock()
    waker = threading.Timer(0.01, clock.wake)
    waker.start()
    assert elapsed_ms(clock, _LONG_MS) < _LONG_MS / 2
    waker.join()


def test_a_wake_before_the_wait_is_not_forgotten_and_ends_one_wait_only() -> None:
    clock = SystemClock()
    clock.wake()
    clock.wake()
    assert elapsed_ms(clock, _LONG_MS) < _LONG_MS / 2
    assert elapsed_ms(clock, 5) >= 5


def test_a_signal_handler_may_wake_the_thread_that_it_interrupts() -> None:
    """Wherever in the wait that thread is: a lock that both take would end the process with a second signal only."""
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", _INTERRUPTIONS], cwd=root, check=True, timeout=20)


@given(st.integers(10**18, 4 * 10**18))
@example(1_795_000_000_000_999_999)
def test_a_reading_is_never_rounded_up_to_the_next_millisecond(now_ns: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: now_ns)
        assert int(SystemClock().now_ms()) == now_ns // 1_000_000


def test_a_step_of_the_wall_clock_is_noticed_once() -> None:
    clock = ManualClock()
    detector = StepDetector(clock)
    clock.advance(500)
    assert detector.step_ms() == 0
    clock.set_by(-7_200_000)
    assert detector.step_ms() == -7_200_000
    assert detector.step_ms() == 0


def test_what_is_within_the_tolerance_is_a_slew() -> None:
    clock = ManualClock()
    detector = StepDetector(clock, tolerance_ms=1_000)
    clock.set_by(999)
    assert detector.step_ms() == 0
    clock.set_by(999)
    assert detector.step_ms() == 0
