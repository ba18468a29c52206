"""A clock that stands while the loop works and jumps when it would wait, for tests of limits, delays and retries.

Client and server share the loop and the clock, so a limit of 0.3 seconds ends before a pause of 0.31 however busy the
machine is, and neither takes its time. Bytes between the two are on their way in the kernel: before it jumps, the loop
waits for them for a fiftieth of the time.
"""

import asyncio
import contextlib
import selectors
import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest

SPEED = 50
LEAST = 0.001  # seconds
LATE = 1e-6  # as every clock is, so that a wait is never a rounding error too short
EXACT = 0.01  # seconds


class _Clock:
    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """What blocks the loop, takes no time either."""
        self.now += seconds


class _JumpingSelector:
    """A selector that moves the clock on instead of waiting; while other threads run it waits as long as it takes."""

    def __init__(self, selector: selectors.BaseSelector, clock: _Clock) -> None:
        self._selector = selector
        self._clock = clock
        self._threads = threading.active_count()

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return self._selector.select(timeout)
        if threading.active_count() > self._threads:
            began = time.perf_counter()
            events = self._selector.select(timeout)
            self._clock.now += min(timeout, time.perf_counter() - began) if events else timeout
            return events
        events = self._selector.select(max(LEAST, timeout / SPEED))
        if not events:
            self._clock.now += timeout + LATE
        return events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


@contextlib.contextmanager
def jumping(loop: Any) -> Iterator[None]:
    """Let the loop and `time.monotonic` have such a clock. uvloop, whose clock is libuv's, keeps its own."""
    if not isinstance(loop, asyncio.SelectorEventLoop):
        yield
        return
    clock = _Clock()
    with (
        patch.object(loop, "_selector", _JumpingSelector(loop._selector, clock)),
        patch.object(loop, "time", clock),
        patch.object(time, "monotonic", clock),
        patch.object(time, "sleep", clock.sleep),
    ):
        yield


@contextlib.contextmanager
def takes(seconds: float, *, at_most: bool = False) -> Iterator[None]:
    """Hold that the block takes so long by the jumping clock. On uvloop nothing is held: no real clock is ever judged."""
    began = time.monotonic()
    yield
    if not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
        return
    assert isinstance(time.monotonic, _Clock), "the test is not in virtual time"
    took = time.monotonic() - began
    assert took == pytest.approx(seconds, abs=EXACT) or (at_most and took < seconds), f"{took:.3f} s"
