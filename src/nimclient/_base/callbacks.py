"""Runs the caller's code: a callable API key, callbacks, constructors of the caller's types.

With AsyncClient it runs on the event loop and must not block. The loop of a Client is private to the library: there the
code runs in another thread, where it may block and use the client.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from queue import SimpleQueue
from threading import get_ident
from typing import TypeAlias, TypeVar

R = TypeVar("R")

Inbox: TypeAlias = "SimpleQueue[Callable[[], object] | None]"
"""Work for a thread while it waits for the loop; None ends the wait."""


async def call_user(function: Callable[[], R]) -> R:
    """Call a function for its result. In Client it runs in a worker thread, since there may be no waiting thread."""
    if _callback_queue() is None:
        return function()
    from anyio import CapacityLimiter, to_thread

    return await to_thread.run_sync(function, abandon_on_cancel=True, limiter=CapacityLimiter(1))


def run_callback(function: Callable[..., object], *args: object) -> None:
    """Call a function for its effect. In Client the waiting thread runs it, before its own call returns or raises."""
    queue = _callback_queue()
    if queue is None:
        function(*args)
    else:
        queue.leave(partial(function, *args))


class CallbackQueue:
    """Work that the loop hands to a blocking caller: to the thread that is waiting, else to the next one that waits.

    All methods must be called in the loop's thread.
    """

    __slots__ = ("_inbox", "_left", "_thread")

    def __init__(self) -> None:
        self._inbox: Inbox | None = None
        self._left: list[Callable[[], object]] = []
        self._thread = 0

    def open(self, inbox: Inbox) -> None:
        """Register a waiting thread for this context and what is started in it."""
        self._thread = get_ident()
        self._inbox = inbox
        for work in self._left:
            inbox.put(work)
        self._left.clear()
        _current.set(self)

    def shut(self, inbox: Inbox) -> None:
        """Remove a thread that no longer waits."""
        if self._inbox is inbox:
            self._inbox = None

    def leave(self, work: Callable[[], object]) -> None:
        """Queue work for the waiting thread."""
        if self._inbox is None:
            self._left.append(work)
        else:
            self._inbox.put(work)

    @property
    def is_here(self) -> bool:
        """Whether this is the loop's thread. Contexts are copied into worker threads, which may run other loops."""
        return self._thread == get_ident()


_current: ContextVar[CallbackQueue | None] = ContextVar("nimclient_callbacks", default=None)


def _callback_queue() -> CallbackQueue | None:
    """The callback queue of the blocking call in progress; None in the caller's own loop."""
    queue = _current.get()
    return queue if queue is not None and queue.is_here else None
