"""The tools that make blocking methods, and the loop's thread, where ordinary calls do not lead."""

import asyncio
import threading
from typing import Any

import pytest

from nimclient._http.loop_thread import LoopCall, LoopThread
from nimclient._sync.mirror import run_inline
from support.portal import portal, run_in_portal


class Greeter:
    async def greet(self, pause: float | None) -> str:
        """Say hello."""
        if pause is not None:
            await asyncio.sleep(pause)
        return "hello"

    greet_at_once = run_inline(greet)


def test_a_body_that_awaits_nothing_runs_at_once() -> None:
    """at_once runs an async method in the caller's thread; one that would have to wait is a RuntimeError."""
    assert Greeter().greet_at_once(None) == "hello"
    with pytest.raises(RuntimeError, match=r"Greeter\.greet waits"):
        Greeter().greet_at_once(0)


async def never() -> None:
    raise AssertionError("it was started")


def test_a_job_that_is_cancelled_before_it_began() -> None:
    """An interrupt between making a job and starting it leaves no coroutine behind, and nothing runs."""
    thread = LoopThread("test")
    job = LoopCall(thread, never(), lambda: None)
    job.cancel()
    thread.stop(2)
    assert not [t for t in threading.enumerate() if t.name == "test"]


def test_stopping_twice_does_nothing() -> None:
    """A loop that has ended stays so; a job is rejected there."""
    thread = LoopThread("test")
    thread.stop(2)
    thread.stop(2)
    with pytest.raises(RuntimeError, match="shutting down"):
        LoopCall(thread, never(), lambda: None).start()


def test_the_loop_goes_on_after_somebody_stopped_it() -> None:
    """loop.stop() called by a task of the caller's ends nobody's call."""

    async def stop() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return "still there"

    assert run_in_portal(stop) == "still there"


def test_an_error_that_nobody_waits_for_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A call that fails after its caller was interrupted says nothing."""
    ended = threading.Event()

    async def fail() -> Any:
        raise KeyError("nobody is there")

    job = LoopCall(portal.PORTAL._running(), fail(), ended.set)
    job.start()
    assert ended.wait(60)
    del job
    assert run_in_portal(asyncio.sleep, 0, "done") == "done"
    assert caplog.records == []
