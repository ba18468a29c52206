"""What a call may leave behind: nothing. Looks at tasks, file descriptors and the slots of a client's pools."""

import asyncio
import gc
import os
from typing import Any

from nimclient import AsyncClient


def open_files() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def pools(client: AsyncClient) -> list[Any]:
    """The pools of a client, over all loops."""
    core = client._shared
    return [] if core is None or core._transport is None else core._transport.pools()


def assert_idle(client: AsyncClient) -> None:
    """No slot is taken or waited for, no connection is handed out."""
    assert all(pool.is_idle() for pool in pools(client))


def stray_tasks() -> list[asyncio.Task[Any]]:
    """Tasks beside the running one and those of the fault server."""
    here = asyncio.current_task()
    return [t for t in asyncio.all_tasks() if t is not here and t.get_name() != "fault server" and not t.done()]


async def assert_no_strays() -> None:
    """No task is left after a few turns of the loop, and collecting garbage warns of nothing."""
    for _ in range(50):
        if not stray_tasks():
            break
        await asyncio.sleep(0.002)
    assert not stray_tasks()
    gc.collect()


def set_heap_aside() -> None:
    """Collect garbage; what is left is not looked at again by any later collection, which makes those short."""
    gc.collect()
    gc.freeze()
