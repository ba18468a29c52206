"""The gate that slices of one call pass: who waits, in which order they continue, and what ends a wait."""

import asyncio
from math import inf

import pytest

from nimclient import RetryPolicy
from nimclient._bulk.gate import Gate
from nimclient.errors import RateLimitError
from support.capacity import Pacer, Ticket
from support.virtual_time import takes

pytestmark = pytest.mark.usefixtures("virtual_time")

LATER = RateLimitError("later", status=429, retry_after=0.05)


def make_gate(concurrency: int) -> Gate:
    return Gate(Pacer(RetryPolicy(), concurrency), lambda: asyncio.get_running_loop().time(), lambda: 0.0)


async def in_line(gate: Gate, name: str, order: list[str], *, again: bool = False) -> "asyncio.Task[None]":
    """A task that stands in the line by the time this returns."""

    async def pass_gate() -> None:
        assert await gate.acquire(Ticket(seq=1 if again else 0), None) == 0.0
        order.append(name)

    task = asyncio.create_task(pass_gate())
    await asyncio.sleep(0)
    return task


async def test_refused_slices_go_first_each_line_in_its_order() -> None:
    """Who was sent before goes before who was not; a place that is given back lets exactly one in."""
    gate = make_gate(1)
    order: list[str] = []
    assert await gate.acquire(Ticket(), None) == 0.0
    tasks = [await in_line(gate, "new 1", order), await in_line(gate, "new 2", order)]
    tasks += [await in_line(gate, "refused 1", order, again=True), await in_line(gate, "refused 2", order, again=True)]
    for expected in (["refused 1"], ["refused 2"], ["new 1"], ["new 2"]):
        order.clear()
        gate.left()
        await asyncio.sleep(0.01)
        assert order == expected
    await asyncio.gather(*tasks)


async def test_a_refused_slice_holds_no_place() -> None:
    """While a throttled slice waits for the gate to open, its place is free; when it opens both continue."""
    gate = make_gate(2)
    order: list[str] = []
    turn = Ticket()
    await gate.acquire(turn, None)
    assert gate.throttled(turn, LATER) == pytest.approx(0.05, abs=0.01)
    assert gate.pacer.in_flight == 0
    tasks = [await in_line(gate, "new", order), await in_line(gate, "refused", order, again=True)]
    assert order == []
    await asyncio.gather(*tasks)
    assert order == ["refused", "new"]
    assert gate.pacer.in_flight == 2


async def test_a_cancelled_wait_leaves_the_line() -> None:
    """The head of the line that is cancelled hands the turn on."""
    gate = make_gate(1)
    order: list[str] = []
    await gate.acquire(Ticket(), None)
    first, second = await in_line(gate, "first", order), await in_line(gate, "second", order)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.succeeded(Ticket(), None)
    await second
    assert order == ["second"]


async def test_a_wait_ends_with_the_deadline() -> None:
    """A pause that is known to be too long is reported at once; a wait for a place when the time is over."""
    gate = make_gate(1)
    loop = asyncio.get_running_loop()
    turn = Ticket()
    await gate.acquire(turn, None)
    with takes(0.05):
        assert await gate.acquire(Ticket(), loop.time() + 0.05) == inf
    gate.throttled(turn, RateLimitError("later", status=429, retry_after=5))
    with takes(0):
        assert await gate.acquire(turn, loop.time() + 0.2) == pytest.approx(5, abs=0.1)


async def test_the_gate_tells_the_pacer_how_much_was_done() -> None:
    """`work` of the result is what the pacer counts; the width is its limit."""
    told: list[float] = []

    class Listening(Pacer):
        def succeeded(self, now: float, turn: Ticket, work: float) -> None:
            told.append(work)
            super().succeeded(now, turn, work)

    gate = Gate(Listening(RetryPolicy(), 3), lambda: 0.0, lambda: 0.0, work=len)
    turn = Ticket()
    await gate.acquire(turn, None)
    gate.succeeded(turn, "four")
    assert told == [4]
    assert gate.width() == 3
