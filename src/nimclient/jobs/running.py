"""Shared by both job types: the client with a job's patience, threads for disk access, and blocking calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeAlias, TypeVar

import anyio
from anyio import to_thread
from anyio.from_thread import start_blocking_portal
from attrs import evolve

from nimclient import AsyncClient, Client
from nimclient._resources.bulk import BulkClient, running_loop
from nimclient.records.progress import Progress

R = TypeVar("R")

OnProgress: TypeAlias = Callable[[Progress], object]
"""Called with a Progress after each write to disk."""

PATIENCE = 900.0
"""Total seconds that a request of a job waits while the server throttles or is unreachable."""


def patient(client: AsyncClient) -> AsyncClient:
    """The client with the patience of a job, unless the caller set one. Raises TypeError for anything but an AsyncClient."""
    if not isinstance(client, AsyncClient):
        hint = "; a Client goes to run_sync" if isinstance(client, Client) else ""
        raise TypeError(f"run takes an AsyncClient, not {type(client).__name__}{hint}")
    running_loop()  # says what to do without one
    policy = BulkClient(client._engine).retry
    return client if policy.patience is not None else client.with_options(retry=evolve(policy, patience=PATIENCE))


class SerialWorker:
    """Runs blocking functions in worker threads, one at a time."""

    def __init__(self) -> None:
        self._lock = anyio.Lock(fast_acquire=True)

    async def do(self, work: Callable[..., R], *args: Any) -> R:
        """Call in a thread and wait. On cancellation `work` has either not begun or is complete."""
        outcome: Future[R] = Future()
        async with self._lock:
            await _in_thread(outcome, work, args)
        return outcome.result()

    async def close(self, work: Callable[[], None]) -> None:
        """The last call. It is made whatever comes: where cancellation comes before the thread has begun, in this one."""
        outcome: Future[None] = Future()
        try:
            with anyio.CancelScope(shield=True):
                await _in_thread(outcome, work, ())
        finally:
            if outcome.cancelled():
                work()
        outcome.result()


async def _in_thread(outcome: Future[R], work: Callable[..., R], args: tuple[Any, ...]) -> None:
    """Call in a thread, and wait for it also on cancellation: asyncio does not, and it writes to disk."""
    try:
        await to_thread.run_sync(_settle, outcome, work, args)
    except BaseException:
        if not outcome.cancel():
            outcome.exception()
        raise


def _settle(outcome: Future[R], work: Callable[..., R], args: tuple[Any, ...]) -> None:
    """Call `work`, unless the future was cancelled, and set its result or error."""
    if outcome.set_running_or_notify_cancel():
        try:
            outcome.set_result(work(*args))
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            outcome.set_exception(error)


def run_blocking(run: Callable[..., Awaitable[R]], client: Client, on_progress: Any) -> R:
    """Run a job for blocking code: its source is advanced and `on_progress` called in the calling thread.

    If a loop already runs in this thread (Jupyter), both happen in another thread. Ctrl-C cancels the job, which keeps
    finished results. Raises TypeError for anything but a Client.
    """
    if not isinstance(client, Client):
        hint = "; an AsyncClient goes to run" if isinstance(client, AsyncClient) else ""
        raise TypeError(f"run_sync takes a Client, not {type(client).__name__}{hint}")
    if not _in_a_loop():
        return anyio.run(run, client._async, on_progress)
    with start_blocking_portal() as portal:
        future = portal.start_task_soon(run, client._async, on_progress)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _in_a_loop() -> bool:
    try:
        anyio.get_current_task()
    except RuntimeError:  # what all versions of anyio raise without a loop
        return False
    return True
