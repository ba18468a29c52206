import asyncio

import pytest

from nimclient.simulator.load import GenerationSlots, MinuteBucket, TokenSchedule
from support.virtual_time import takes


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_bucket_holds_one_minute_and_refills_evenly() -> None:
    """A full bucket lets a minute's requests through at once, then one every 60/rpm seconds."""
    clock = Clock()
    bucket = MinuteBucket(40, clock)
    assert [bucket.take() for _ in range(41)] == [True] * 40 + [False]
    clock.now += 1.4
    assert not bucket.take()
    clock.now += 0.11
    assert bucket.take()
    assert not bucket.take()


def test_the_bucket_never_holds_more_than_a_minute() -> None:
    """An hour of rest does not add up to more than one minute's size."""
    clock = Clock()
    bucket = MinuteBucket(2, clock)
    clock.now += 3600
    assert [bucket.take() for _ in range(3)] == [True, True, False]


async def test_slots_are_given_in_order() -> None:
    """With one slot the waiting ones come in first come, first served."""
    slots = GenerationSlots(1)
    order: list[int] = []

    async def work(number: int) -> None:
        async with slots.one():
            await asyncio.sleep(0)
            order.append(number)

    await asyncio.gather(*(work(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert (slots.running, slots.waiting) == (0, 0)


async def test_a_cancelled_waiter_gives_its_place_up() -> None:
    """A request that leaves while it waits for a slot does not keep the slot from the next."""
    slots = GenerationSlots(1)
    gate = asyncio.Event()

    async def hold() -> None:
        async with slots.one():
            await gate.wait()

    tasks = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.sleep(0)
    assert (slots.running, slots.waiting) == (1, 2)
    tasks[1].cancel()
    gate.set()
    await asyncio.wait(tasks)
    assert tasks[1].cancelled()
    assert not tasks[2].cancelled()
    assert (slots.running, slots.waiting) == (0, 0)


async def test_without_slots_nobody_waits() -> None:
    """No number of slots means no limit."""
    slots = GenerationSlots(None)
    async with slots.one(), slots.one():
        assert (slots.running, slots.waiting) == (2, 0)


@pytest.mark.usefixtures("virtual_time")
async def test_the_pace_is_kept_from_the_start() -> None:
    """Token k is due at ttft + k x itl after the start, however the waits before it went."""
    pace = TokenSchedule(0.02, 0.01)
    with takes(0.05):
        assert not pace.is_due(0)
        await pace.until(3)
    assert pace.is_due(3)
    await pace.until(1)


async def test_no_delays_means_due_at_once() -> None:
    """With ttft and itl of zero every token is due."""
    assert TokenSchedule(0.0, 0.0).is_due(10_000)


async def test_a_report_in_either_form() -> None:
    """Who waits and how much is used, as vLLM says it; another form is no report."""
    slots = GenerationSlots(2)
    slots.running, slots.waiting = 1, 3
    assert slots.report("text") == "TEXT named_metrics.num_requests_waiting=3.0, named_metrics.kv_cache_usage_perc=0.5"
    json = 'JSON {"named_metrics": {"num_requests_waiting": 3.0, "kv_cache_usage_perc": 0.5}}'
    assert slots.report("JSON") == json
    assert slots.report("YAML") is slots.report("") is None
