"""Cancel a coroutine at its k-th suspension: the way to prove that no await of a call leaks anything."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any


class _Count:
    """Suspensions so far, of a call's task and of those it starts; at the k-th its task is cancelled."""

    def __init__(self, k: int, twice: bool) -> None:
        self._left = k
        self._twice = twice
        self.struck = False
        self.task: asyncio.Task[Any] | None = None
        self.family: set[asyncio.Task[Any]] = set()

    def suspended(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.struck = True
            asyncio.get_running_loop().call_soon(self._strike)

    def _strike(self) -> None:
        assert self.task is not None
        self.task.cancel()
        if self._twice:
            asyncio.get_running_loop().call_soon(self.task.cancel)


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine whose suspensions are counted. What is asked about its frame is answered by the real one."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], count: _Count) -> None:
        self._coroutine = coroutine
        self._count = count

    def send(self, value: Any) -> Any:
        waiting = self._coroutine.send(value)
        self._count.suspended()
        return waiting

    def throw(self, *error: Any) -> Any:
        waiting = self._coroutine.throw(*error)
        self._count.suspended()
        return waiting

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError("a task's own coroutine is not awaited")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)


@contextlib.contextmanager
def _counting_tasks(count: _Count) -> Iterator[None]:
    """Tasks that the family of the call starts belong to it."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        try:
            related = asyncio.current_task() in count.family
        except RuntimeError:
            related = False
        task = asyncio.Task(_Counted(coroutine, count) if related else coroutine, loop=loop, **options)
        if related:
            count.family.add(task)
        return task

    loop.set_task_factory(factory)
    try:
        yield
    finally:
        loop.set_task_factory(before)


async def cancelled_at(
    k: int, call: Callable[[], Coroutine[Any, Any, Any]], *, twice: bool = False, deep: bool = False
) -> tuple[str, Any]:
    """Run `call` in a task of its own, cancelled at its k-th suspension; `twice`: again one turn of the loop later;
    `deep`: suspensions of the tasks that it starts count, too.

    ("cancelled", None) when CancelledError came out, ("survived", result) when it returned although it was cancelled (the
    cancellation came when there was nothing left to wait for), ("completed", result) when it has fewer suspensions.
    """
    count = _Count(k, twice)
    with _counting_tasks(count) if deep else contextlib.nullcontext():
        task: asyncio.Task[Any] = asyncio.Task(_Counted(call(), count))
        count.task = task
        count.family.add(task)
        await asyncio.wait([task])
    if task.cancelled():
        return "cancelled", None
    return ("survived" if count.struck else "completed"), task.result()


async def cancel_everywhere(
    call: Callable[[], Coroutine[Any, Any, Any]],
    after_each: Callable[[], Awaitable[None]],
    most: int = 200,
    *,
    twice: bool = False,
    deep: bool = False,
) -> int:
    """Cancel `call` at k = 1, 2, … until it completes; returns at how many suspensions it was cancelled."""
    for k in range(1, most):
        outcome, _ = await cancelled_at(k, call, twice=twice, deep=deep)
        await after_each()
        if outcome == "completed":
            return k - 1
    raise AssertionError(f"the call did not complete in {most} suspensions")
