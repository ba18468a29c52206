"""The watchdog of a call: it fires for the phase that is armed, late rather than wrongly, and knows its own cancellations."""

import asyncio
import time
from math import inf
from typing import Any

import pytest

from nimclient import AsyncClient, Timeouts
from nimclient._http.watchdog import Alarm, Watchdog
from nimclient.errors import RequestTimeoutError
from nimclient.testing import HttpRequest
from support.leaks import shared_state
from support.server import FaultServer, Flood, Stall
from support.virtual_time import takes
from support.wire import chunk, head

pytestmark = pytest.mark.usefixtures("virtual_time")


def watch(total: float | None = None) -> Watchdog:
    deadline = inf if total is None else time.monotonic() + total
    return Watchdog(Alarm(asyncio.get_running_loop()), deadline, total)


async def wait(dog: Watchdog, seconds: float) -> None:
    """What the transport does around each wait."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError as error:
        raise dog.translate_cancellation(error) from None
    finally:
        dog.disarm()


def arm(dog: Watchdog, seconds: float, phase: Any = "idle") -> None:
    dog.enter(phase, seconds)


async def test_it_names_the_phase() -> None:
    """A wait that is too long is RequestTimeoutError with the phase and its limit; the task is not cancelled."""
    dog = watch()
    arm(dog, 0.02, "headers")
    with pytest.raises(RequestTimeoutError, match=r"the headers limit of 0\.02 s") as caught:
        await wait(dog, 1)
    assert (caught.value.phase, caught.value.seconds) == ("headers", 0.02)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    dog.disarm()


async def test_the_total_wins_when_it_is_earlier() -> None:
    """The deadline of the call is judged in every phase."""
    dog = watch(0.02)
    arm(dog, 5)
    with pytest.raises(RequestTimeoutError) as caught:
        await wait(dog, 1)
    assert (caught.value.phase, caught.value.seconds) == ("total", 0.02)
    dog = watch(0.02)
    dog.enter("pool", None)
    with pytest.raises(RequestTimeoutError) as caught:
        await wait(dog, 1)
    assert caught.value.phase == "total"


async def test_a_wait_without_a_limit() -> None:
    """Armed without a deadline it never fires, although an earlier wait had one."""
    dog = watch()
    arm(dog, 0.02)
    await wait(dog, 0)
    dog.enter("idle", None)
    await wait(dog, 0.05)
    dog.disarm()


async def test_waits_in_time_set_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred waits that end in time, of ten calls, arm the loop's timer once; a disarmed watchdog does not fire."""
    loop = asyncio.get_running_loop()
    alarm = Alarm(loop)
    timers: list[asyncio.TimerHandle] = []
    later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda *args: timers.append(later(*args)) or timers[-1])
    for dog in [Watchdog(alarm, inf, None) for _ in range(10)]:
        for _ in range(10):
            arm(dog, 5)
            assert alarm.waiting == {dog}
            dog.disarm()
    assert len(timers) == 1
    assert not alarm.waiting
    alarm.close()
    assert timers[0].cancelled()


async def test_an_earlier_deadline_moves_the_timer() -> None:
    """A phase with a shorter limit than the one before it is judged by its own."""
    dog = watch()
    arm(dog, 5, "headers")
    arm(dog, 0.02)
    with pytest.raises(RequestTimeoutError) as caught:
        await wait(dog, 1)
    assert caught.value.phase == "idle"


async def test_a_timer_that_rings_too_early_is_set_again() -> None:
    """A later phase with a longer limit is not ended by the timer of an earlier one."""
    dog = watch()
    arm(dog, 0.02)
    arm(dog, 0.08)
    with takes(0.08), pytest.raises(RequestTimeoutError):
        await wait(dog, 1)


async def test_disarmed_when_it_rings() -> None:
    """A timer that rings between two waits does nothing, and the next wait is judged again."""
    dog = watch()
    arm(dog, 0.01)
    dog.disarm()
    await asyncio.sleep(0.03)
    arm(dog, 0.02)
    with pytest.raises(RequestTimeoutError):
        await wait(dog, 1)


async def test_a_result_that_is_there_when_time_is_up_wins() -> None:
    """What arrived while the loop was blocked past the deadline is taken."""
    dog = watch()
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[str] = loop.create_future()
    arm(dog, 0.02)
    loop.call_later(0.01, arrived.set_result, "in time")
    loop.call_soon(time.sleep, 0.05)
    assert await arrived == "in time"
    dog.disarm()
    await asyncio.sleep(0)
    dog.disarm()


async def test_expiry_belongs_to_its_own_wait() -> None:
    """Between ringing and expiring a new wait may begin: it is not ended in place of the old one."""
    dog = watch()
    arm(dog, 0.01)
    first = dog.waits
    time.sleep(0.02)  # noqa: ASYNC251 - the deadline passes while the loop is blocked
    dog.disarm()
    arm(dog, 0.05)
    dog.expire(first)
    await wait(dog, 0.01)
    arm(dog, 0.01)
    dog.expire(first)
    with pytest.raises(RequestTimeoutError):
        await wait(dog, 1)
    dog.expire(dog.waits)  # nothing is armed


async def test_one_alarm_for_many() -> None:
    """Each of many waits ends by its own limit, whichever was set first; those without one are left alone."""
    alarm = Alarm(asyncio.get_running_loop())
    order: list[float] = []

    async def work(seconds: float) -> None:
        dog = Watchdog(alarm, inf, None)
        arm(dog, seconds)
        with pytest.raises(RequestTimeoutError) as caught:
            await wait(dog, 5)
        order.append(caught.value.seconds or 0)

    async def unlimited() -> None:
        dog = Watchdog(alarm, inf, None)
        dog.enter("idle", None)
        await wait(dog, 0.3)

    await asyncio.gather(unlimited(), *map(work, [0.1, 0.05, 0.2, 0.15, 0.0501]))
    assert sorted(order) == [0.05, 0.0501, 0.1, 0.15, 0.2]
    assert not alarm.waiting


async def test_a_cancellation_of_somebody_else_passes() -> None:
    """CancelledError that the watchdog did not cause stays what it is."""
    dog = watch()

    async def work() -> None:
        arm(dog, 5)
        await wait(dog, 5)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    dog.disarm()


async def test_a_cancellation_at_the_same_moment_wins() -> None:
    """Where the task is cancelled from outside while time is up as well, it ends cancelled."""
    dog = watch()

    async def work() -> None:
        arm(dog, 0.02)
        await wait(dog, 5)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    time.sleep(0.03)  # noqa: ASYNC251 - the deadline passes while the loop is blocked
    dog.expire(dog.waits)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    dog.disarm()


async def test_inside_somebody_elses_timeout() -> None:
    """A timeout of the caller around the wait is the caller's: TimeoutError from there, not from here."""
    dog = watch()
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.02):
            arm(dog, 1)
            await wait(dog, 1)
    assert not isinstance(caught.value, RequestTimeoutError)
    with pytest.raises(RequestTimeoutError):
        async with asyncio.timeout(1):
            arm(dog, 0.02)
            await wait(dog, 1)
    dog.disarm()


async def test_a_limit_that_has_passed_is_seen_when_a_wait_begins() -> None:
    """Where the time is up already nothing is waited for, whether the phase's or the call's."""
    dog = watch()
    with pytest.raises(RequestTimeoutError) as caught:
        arm(dog, 0)
    assert (caught.value.phase, caught.value.seconds) == ("idle", 0)
    dog = watch(0)
    with pytest.raises(RequestTimeoutError) as caught:
        dog.enter("idle", None)
    assert caught.value.phase == "total"


@pytest.mark.real_time
@pytest.mark.parametrize("limit", ["total", "idle"])
async def test_data_that_keeps_coming_puts_no_limit_off(server: FaultServer, limit: str) -> None:
    """A body that floods in is read up to the limit, although no read of it ever waits long, and no further."""
    server.script([head(), Flood(chunk(b": comment\n\n" * 100), 1_000_000)])
    transport = await shared_state(AsyncClient(base_url=server.url)).transport()
    request = HttpRequest("GET", server.url, {})
    soon = time.monotonic() + 0.1
    _, body = await transport.open(request, Timeouts(idle=0.1, total=0.1), soon if limit == "total" else None)
    with pytest.raises(RequestTimeoutError) as caught:
        while await body.read("idle", soon if limit == "idle" else time.monotonic() + 60):
            pass
    assert caught.value.phase == limit
    await transport.aclose()


async def test_time_spent_between_reads_counts(server: FaultServer) -> None:
    """The limit of the call is judged when the next read begins, although its data is there."""
    server.script([head() + chunk(b"a"), chunk(b"b"), Stall()])
    transport = await shared_state(AsyncClient(base_url=server.url)).transport()
    deadline = time.monotonic() + 0.05
    _, body = await transport.open(HttpRequest("GET", server.url, {}), Timeouts(total=0.05), deadline)
    assert await body.read("idle", None)
    time.sleep(0.06)  # noqa: ASYNC251 - the user's code blocks the loop
    with pytest.raises(RequestTimeoutError) as caught:
        await body.read("idle", None)
    assert caught.value.phase == "total"
    await transport.aclose()
