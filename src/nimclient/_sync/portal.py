"""The portal: one daemon thread with an event loop, started at the first blocking call and shared by the whole process.

It is stopped at interpreter exit with whatever still runs in it; a forked child starts its own.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal
from attrs import frozen

P = ParamSpec("P")
R = TypeVar("R")


@frozen
class _Running:
    """A portal that runs, and where."""

    portal: BlockingPortal
    thread: int
    pid: int


class Portal:
    """Runs coroutine functions in the background loop and waits for them."""

    def __init__(self) -> None:
        self._running: _Running | None = None
        self._lock = threading.Lock()

    def run(self, function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call in the loop, wait, return its result or raise its error. Ctrl-C cancels it there at once."""
        running = self._start()
        if threading.get_ident() == running.thread:
            raise RuntimeError("a blocking call in the loop that it would wait for; use AsyncClient there")
        future = running.portal.start_task_soon(_call, function, args, kwargs)
        try:
            result: R = future.result()
        except BaseException:
            future.cancel()
            raise
        return result

    def _start(self) -> _Running:
        with self._lock:
            if self._running is None or self._running.pid != os.getpid():
                self._running = _start_portal()
            return self._running


def _start_portal() -> _Running:
    context = start_blocking_portal("asyncio", name="nimclient")
    portal = context.__enter__()
    pid = os.getpid()

    def stop() -> None:
        """Cancel what still runs, a stream that nobody reads above all: the interpreter would wait for it for ever."""
        if os.getpid() == pid:  # the thread of a parent process does not exist in its child
            context.__exit__(SystemExit, SystemExit(), None)

    atexit.register(stop)
    return _Running(portal, portal.call(threading.get_ident), pid)


async def _call(function: Callable[..., Awaitable[R]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    return await function(*args, **kwargs)


PORTAL = Portal()
