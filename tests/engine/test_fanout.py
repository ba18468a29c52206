"""Many requests side by side: bounded, in order of their jobs, ended by the first real error."""

import asyncio
from typing import Any

import pytest

from nimclient._fanout import run_all


async def test_all_jobs_are_done() -> None:
    """Every job is worked on once, at most `concurrency` at a time; results come with their positions."""
    now = most = 0
    results: dict[int, int] = {}

    async def work(job: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001 * (job % 3))
        now -= 1
        return job * job

    await run_all(range(20), work, 4, results.__setitem__)
    assert results == {job: job * job for job in range(20)}
    assert most == 4


@pytest.mark.parametrize("where", ["work", "done"])
async def test_the_first_error_comes_out_alone(where: str) -> None:
    """What work or done raises ends all and comes out as it is, after the siblings were cancelled and awaited."""
    cancelled = []

    async def work(job: int) -> int:
        if job != 2:
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                cancelled.append(job)
                raise
        elif where == "work":
            raise ZeroDivisionError
        return job

    def done(position: int, result: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_all(range(5), work, 3, done)
    assert sorted(cancelled) == [0, 1]


async def test_cancellation_passes() -> None:
    """A fan-out that is cancelled cancels its jobs and ends cancelled, without a group around it."""
    task = asyncio.create_task(run_all(range(3), asyncio.sleep, 3, lambda position, result: None))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_jobs() -> None:
    """Nothing to do is done at once."""
    await run_all([], asyncio.sleep, 3, lambda position, result: None)
