"""The portal: one daemon thread with an event loop, started at the first blocking call and shared by the whole process.

It is stopped at interpreter exit with all that still runs in it; a forked child starts its own.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import ParamSpec, TypeVar

from nimclient._base.callbacks import CallbackQueue, Inbox
from nimclient._http.loop_thread import LoopCall, LoopThread

P = ParamSpec("P")
R = TypeVar("R")

CANCELLING = 0.2  # seconds for an interrupted call to end, so that its connection is closed when Ctrl-C is raised
EXITING = 0.5  # seconds for all calls at interpreter exit


class Portal:
    """Runs coroutine functions in the background loop and waits for them."""

    def __init__(self) -> None:
        self._thread: LoopThread | None = None
        self._of_parent: LoopThread | None = None
        self._lock = threading.Lock()

    def run(self, function: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call in the loop and wait for the result or error. Ctrl-C cancels the call at once."""
        return self.run_at(CallbackQueue(), partial(function, *args, **kwargs))

    def run_at(self, queue: CallbackQueue, function: Callable[[], Awaitable[R]]) -> R:
        """`run` for an owner whose tasks outlive the call: their queued callbacks are run by its next call."""
        thread = self._running()
        if thread.is_here:
            raise RuntimeError("a blocking call in the client's own event loop would deadlock; use AsyncClient there")
        inbox: Inbox = SimpleQueue()
        job = LoopCall(thread, _call(queue, inbox, function), partial(inbox.put, None))
        try:
            job.start()
            while (work := inbox.get()) is not None:
                work()
        except BaseException:
            job.cancel()
            with suppress(Empty):
                while inbox.get(timeout=CANCELLING) is not None:
                    pass
            raise
        return job.result()

    def stop(self) -> None:
        """Stop at interpreter exit: an unread stream, for example, would block it forever."""
        if self._thread is not None:
            self._thread.stop(EXITING)

    def forget(self) -> None:
        """Reset in a forked child, which lacks the thread. The loop is kept: closing it would affect the parent's."""
        self._of_parent, self._thread = self._thread or self._of_parent, None
        self._lock = threading.Lock()

    def _running(self) -> LoopThread:
        thread = self._thread
        if thread is None:
            with self._lock:
                thread = self._thread
                if thread is None:
                    thread = self._thread = LoopThread("nimclient")
        return thread


async def _call(queue: CallbackQueue, inbox: Inbox, function: Callable[[], Awaitable[R]]) -> R:
    queue.open(inbox)
    try:
        return await function()
    finally:
        queue.shut(inbox)


PORTAL = Portal()
atexit.register(PORTAL.stop)  # at import, so that the caller's exit handlers run before it and may use their clients
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PORTAL.forget)
