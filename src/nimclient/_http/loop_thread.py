"""An event loop in a daemon thread, for blocking callers. A call costs a third of one through anyio's portal."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from nimclient._base.init_lock import out_of_resources

R = TypeVar("R")


class LoopThread:
    """Runs until `stop`; the interpreter does not wait for it at exit. ConnectError where no descriptors are left for one."""

    def __init__(self, name: str) -> None:
        try:
            self._loop = asyncio.new_event_loop()
        except OSError as error:
            raise out_of_resources(error.errno or 0) from None
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.stopping = False
        self._thread.start()

    @property
    def is_here(self) -> bool:
        """Whether the running thread is this one."""
        return threading.current_thread() is self._thread

    def submit(self, function: Callable[[], None]) -> bool:
        """Schedule a call in the loop, in a copy of the caller's context; False if the loop has ended."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True

    def stop(self, seconds: float) -> None:
        """End the loop with all its tasks, and wait up to `seconds`. Threads waiting for a call are not woken."""
        self.stopping = True
        self.submit(self._end.set)
        self._thread.join(seconds)

    def _run(self) -> None:
        loop = self._loop
        end = loop.create_task(self._end.wait())
        while not end.done():
            with contextlib.suppress(BaseException):  # a task's SystemExit must not end the others
                loop.run_until_complete(end)
        loop.run_until_complete(_cancel_the_others())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _cancel_the_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class LoopCall(Generic[R]):
    """A coroutine that runs in a LoopThread; `ended` is called there at its end."""

    __slots__ = ("_coroutine", "_ended", "_task", "_thread")

    def __init__(self, thread: LoopThread, coroutine: Coroutine[Any, Any, R], ended: Callable[[], None]) -> None:
        self._thread = thread
        self._coroutine = coroutine
        self._ended = ended
        self._task: asyncio.Task[R] | None = None

    def start(self) -> None:
        """Schedule the start. At interpreter exit: RuntimeError, but a daemon thread just stops."""
        if self._thread.stopping or not self._thread.submit(self._start):
            self._coroutine.close()
            if threading.current_thread().daemon:
                threading.Event().wait()
            raise RuntimeError("the interpreter is shutting down; blocking calls are no longer possible")

    def cancel(self) -> None:
        """Schedule its cancellation, from any thread."""
        self._thread.submit(self._cancel)

    def result(self) -> R:
        """What it returned, or raises what it raised. Once only: the traceback of an error must not refer to it."""
        task, self._task = self._task, None
        assert task is not None
        try:
            return task.result()
        finally:
            del task

    def _start(self) -> None:
        if "sniffio" in sys.modules:  # the context is that of the caller, who may be in a trio loop
            sys.modules["sniffio"].current_async_library_cvar.set("asyncio")
        self._task = asyncio.get_running_loop().create_task(self._coroutine)
        self._task.add_done_callback(self._end)

    def _cancel(self) -> None:
        if self._task is None:  # interrupted before it was started
            self._coroutine.close()
        else:
            self._task.cancel()

    def _end(self, task: asyncio.Task[R]) -> None:
        if not task.cancelled():
            task.exception()  # mark as retrieved: there may be no waiter
        if not self._thread.stopping:
            self._ended()
