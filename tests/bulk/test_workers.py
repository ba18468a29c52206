"""Many requests concurrently: bounded, in order of their jobs, ended by the first real error."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from nimclient import AsCompleted
from nimclient._bulk.workers import run_all

pytestmark = pytest.mark.usefixtures("virtual_time")


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

    await run_all(range(20), work, lambda: 4, results.__setitem__)
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
        await run_all(range(5), work, lambda: 3, done)
    assert sorted(cancelled) == [0, 1]


async def test_an_error_ends_those_that_wait_for_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that wait for room end with the first error."""
    monkeypatch.setattr("nimclient._bulk.workers.HELD_BYTES", 1)

    async def work(_: str) -> None:
        await anyio.sleep(0.01)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_all(["text"] * 9, work, lambda: 8, lambda _, __: None, len)


async def test_cancellation_passes() -> None:
    """A fan-out that is cancelled cancels its jobs and ends cancelled, without a group around it."""
    task = asyncio.create_task(run_all(range(3), asyncio.sleep, lambda: 3, lambda position, result: None))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_jobs() -> None:
    """Nothing to do is done at once."""
    await run_all([], asyncio.sleep, lambda: 3, lambda position, result: None)


async def test_workers_follow_a_width_that_changes() -> None:
    """As many items are in flight as the width says at each moment: more at once when it grows, fewer when it shrinks."""
    width, now = 2, 0
    seen: dict[int, int] = {}

    async def work(job: int) -> None:
        nonlocal width, now
        now += 1
        await asyncio.sleep(0.002)
        seen[job] = now
        now -= 1
        width = 6 if 20 <= job < 60 else 2

    await run_all(range(100), work, lambda: width, lambda position, result: None)
    assert sorted(seen) == list(range(100))
    assert [max(seen[job] for job in span) for span in (range(20), range(40, 60), range(80, 100))] == [2, 6, 2]


async def test_no_worker_is_started_for_an_item_where_one_can_be_kept() -> None:
    """Workers live as long as the width stays: four do all the work."""
    workers = set()

    async def work(job: int) -> None:
        workers.add(asyncio.current_task())
        await asyncio.sleep(0)

    await run_all(range(200), work, lambda: 4, lambda position, result: None)
    assert len(workers) == 4


async def test_a_slow_source_keeps_the_workers() -> None:
    """Workers that wait while another one advances an async source are not lost to the work that comes."""
    now = most = 0

    async def source() -> AsyncIterator[int]:
        for number in range(12):
            await asyncio.sleep(0.001)
            yield number

    async def work(job: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1

    await run_all(source(), work, lambda: 3, lambda position, result: None)
    assert most == 3


async def test_results_that_wait_to_be_read_fill_the_width() -> None:
    """AsCompleted takes no more items than its width while nothing reads, and more when the width has grown."""
    width = 2
    started: list[int] = []

    async def work(index: int, job: int) -> int:
        started.append(job)
        return job

    async def prepare() -> None:
        return None

    results = AsCompleted(range(10), work, lambda: width, prepare)
    async with results:
        assert await anext(results) == (0, 0)
        await asyncio.sleep(0.01)
        assert len(started) == 3
        width = 5
        assert await anext(results) == (1, 1)
        await asyncio.sleep(0.01)
        assert len(started) == 7
        assert sorted([pair async for pair in results]) == [(job, job) for job in range(2, 10)]


@pytest.mark.parametrize("broken", [False, True])
async def test_more_workers_than_room_come_to_the_end(broken: bool) -> None:
    """Who detects that the source is at its end, or broken, gives its place to those who wait for one."""

    def source() -> Iterator[int]:
        yield from range(20)
        if broken:
            raise KeyError("gone")

    async def work(_: int, item: int) -> int:
        await asyncio.sleep(0)
        return item

    async def prepare() -> None:
        pass

    results = AsCompleted(source(), work, lambda: 8, prepare, room=lambda: 3)
    found: list[int] = []
    with pytest.raises(KeyError) if broken else contextlib.nullcontext(), anyio.fail_after(60):
        async for _, item in results:
            found.append(item)
    assert sorted(found) == list(range(20))
