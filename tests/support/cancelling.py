"""Cancel a coroutine at its k-th suspension: the way to prove that no await of a call leaks anything."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any


class _Counted:
    """Awaits a coroutine, cancelling the running task when it suspends for the k-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], k: int) -> None:
        self._coroutine = coroutine
        self._left = k
        self.struck = False

    def __await__(self) -> Generator[Any, Any, Any]:
        iterator = self._coroutine.__await__()
        value: Any = None
        failure: BaseException | None = None
        while True:
            try:
                waiting = iterator.send(value) if failure is None else iterator.throw(failure)
            except StopIteration as end:
                return end.value
            self._left -= 1
            if self._left == 0:
                task = asyncio.current_task()
                assert task is not None
                self.struck = True
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                value, failure = (yield waiting), None
            except BaseException as error:
                value, failure = None, error


async def cancelled_at(k: int, call: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[str, Any]:
    """Run `call` in a task of its own, cancelled at its k-th suspension.

    ("cancelled", None) when CancelledError came out, ("survived", result) when it returned although it was cancelled (the
    cancellation came when there was nothing left to wait for), ("completed", result) when it has fewer suspensions.
    """
    counted = _Counted(call(), k)

    async def run() -> Any:
        return await counted

    task = asyncio.get_running_loop().create_task(run())
    try:
        result = await asyncio.shield(_settled(task))
    except asyncio.CancelledError:
        assert task.cancelled()
        return "cancelled", None
    return ("survived" if counted.struck else "completed"), result


async def _settled(task: "asyncio.Task[Any]") -> Any:
    await asyncio.wait([task])
    return task.result()


async def cancel_everywhere(
    call: Callable[[], Coroutine[Any, Any, Any]], after_each: Callable[[], Awaitable[None]], most: int = 200
) -> int:
    """Cancel `call` at k = 1, 2, … until it completes; returns at how many suspensions it was cancelled."""
    for k in range(1, most):
        outcome, _ = await cancelled_at(k, call)
        await after_each()
        if outcome == "completed":
            return k - 1
    raise AssertionError(f"the call did not complete in {most} suspensions")
