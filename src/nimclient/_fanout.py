"""Many requests side by side: a bounded number of workers over a list of jobs, results in the order of the jobs.

The first real error ends it: siblings are cancelled and awaited, what is finished is kept on the error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import anyio

J = TypeVar("J")
R = TypeVar("R")


async def run_all(
    jobs: Sequence[J], work: Callable[[J], Awaitable[R]], concurrency: int, done: Callable[[int, R], None]
) -> None:
    """Run `work` over all jobs, at most `concurrency` at once; `done(position, result)` is called as each finishes.

    Raises the first error of `work` or `done` (never an ExceptionGroup) after all other workers have ended.
    """
    positions = iter(range(len(jobs)))
    failures: list[Exception] = []

    async def worker(scope: anyio.CancelScope) -> None:
        for position in positions:
            try:
                done(position, await work(jobs[position]))
            except Exception as error:  # noqa: BLE001  # kept, and raised below without the group around it
                failures.append(error)
                scope.cancel()
                return

    async with anyio.create_task_group() as group:
        for _ in range(min(concurrency, len(jobs))):
            group.start_soon(worker, group.cancel_scope)
    if failures:
        raise failures[0]


def finished(results: Sequence[Any]) -> tuple[Any, ...]:
    """The results that are there."""
    return tuple(result for result in results if result is not None)
