"""Background tasks and interruptible waits. An iterator cannot hold a task group open between two steps, so the group lives
in its own task; a wait between two attempts ends early when the client is closed, from any loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from nimclient.errors import ConfigurationError


def running_loop() -> asyncio.AbstractEventLoop:
    """The running loop. ConfigurationError without one, or for one other than asyncio's."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "nimclient runs on asyncio loops, and none is running here: await this in what asyncio.run(...) runs, "
            "or use the blocking Client; under trio use the sync Client in a thread"
        ) from None


async def in_thread(call: Callable[[], object]) -> None:
    """Run a call in a worker thread, or at interpreter exit here; it continues if the wait is cancelled."""
    try:
        done = running_loop().run_in_executor(None, call)
    except RuntimeError:  # no thread can be started any more
        call()
    else:
        await done


class LoopRef:
    """The running loop: `soon` schedules a call in it, from any thread."""

    def __init__(self) -> None:
        self._loop = running_loop()

    @property
    def is_here(self) -> bool:
        """Whether it is the running loop."""
        return asyncio.get_running_loop() is self._loop

    @property
    def is_closed(self) -> bool:
        """Whether it is closed."""
        return self._loop.is_closed()

    def soon(self, call: Callable[[], object]) -> None:
        """Schedule a call in the loop; ignored if it is closed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)


class Background:
    """Runs a coroutine in the running loop. The owner must `stop` it; a finalizer may `abandon` it."""

    def __init__(self, main: Coroutine[Any, Any, None]) -> None:
        try:
            self._here = LoopRef()
        except ConfigurationError:
            main.close()
            raise
        self._task = asyncio.get_running_loop().create_task(main)

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the running loop."""
        return self._here.is_here

    async def stop(self) -> None:
        """Cancel it and wait for its end, even if the caller is being cancelled. From another loop: only schedule that."""
        if not self.is_here:
            self.abandon()
            return
        self._task.cancel()
        if not self._task.done():
            from anyio import CancelScope

            with CancelScope(shield=True):
                await asyncio.wait([self._task])

    def abandon(self) -> None:
        """Cancel it, from any thread; a closed loop has already ended it."""
        self._here.soon(self._task.cancel)


class Sleeper:
    """The waits of one client in all loops: each ends after its time, or all with `interrupt`."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[bool]] = set()

    async def sleep(self, seconds: float) -> bool:
        """Wait; returns False if the wait was interrupted."""
        loop = running_loop()
        woken: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(seconds, _settle, woken, True)
        self._waiting.add(woken)
        try:
            return await woken
        finally:
            self._waiting.discard(woken)
            timer.cancel()

    def interrupt(self) -> None:
        """End all waits; those of other loops in their own threads."""
        for woken in list(self._waiting):
            with contextlib.suppress(RuntimeError):  # its loop was closed manually
                woken.get_loop().call_soon_threadsafe(_settle, woken, False)


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)
