"""The caller's own code, where the library runs it: a callable key, callbacks, types that are built.

With AsyncClient it runs on the loop, and must not block there. The loop of a blocking Client is not the caller's: there
it runs in another thread, and may do what it likes, also use the client.
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
"""What a thread that waits for the loop has to do meanwhile; None: the wait is over."""


async def call_user(function: Callable[[], R]) -> R:
    """Call for a result. In Client a worker thread does: nobody may be waiting, and no other work waits for its turn."""
    if _callback_queue() is None:
        return function()
    from anyio import CapacityLimiter, to_thread

    return await to_thread.run_sync(function, abandon_on_cancel=True, limiter=CapacityLimiter(1))


def run_callback(function: Callable[..., object], *args: object) -> None:
    """Call for the effect. In Client the thread that waits does, before its own call returns or raises."""
    queue = _callback_queue()
    if queue is None:
        function(*args)
    else:
        queue.leave(partial(function, *args))


class CallbackQueue:
    """Where the loop leaves work for a blocking caller: for the thread that waits, else for the next that will.

    All methods are for the loop's thread.
    """

    __slots__ = ("_inbox", "_left", "_thread")

    def __init__(self) -> None:
        self._inbox: Inbox | None = None
        self._left: list[Callable[[], object]] = []
        self._thread = 0

    def open(self, inbox: Inbox) -> None:
        """A thread waits, and so does what is started in this context."""
        self._thread = get_ident()
        self._inbox = inbox
        for work in self._left:
            inbox.put(work)
        self._left.clear()
        _current.set(self)

    def shut(self, inbox: Inbox) -> None:
        """This thread no longer waits."""
        if self._inbox is inbox:
            self._inbox = None

    def leave(self, work: Callable[[], object]) -> None:
        """Have this done."""
        if self._inbox is None:
            self._left.append(work)
        else:
            self._inbox.put(work)

    @property
    def is_here(self) -> bool:
        """Whether this is the loop's thread. Contexts are copied into worker threads, and may come to other loops there."""
        return self._thread == get_ident()


_current: ContextVar[CallbackQueue | None] = ContextVar("nimclient_callbacks", default=None)


def _callback_queue() -> CallbackQueue | None:
    """The callback queue of the blocking call that is being served; None in a loop of the caller's."""
    queue = _current.get()
    return queue if queue is not None and queue.is_here else None
