"""What a call may leave behind: nothing. Looks at tasks, file descriptors and what a client keeps to itself.

This is the one place where tests look inside a client: at its pools, its replicas, its settings and its retry budget.
"""

import asyncio
import gc
import os
from typing import Any

from nimclient import AsyncClient, Client


def open_files() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def settings_of(client: AsyncClient) -> Any:
    """The settings of a client, as it keeps them."""
    return client._config


def shared_state(client: AsyncClient | Client) -> Any:
    """What the copies of a client share: the transport, the replicas, the retry budget."""
    return _asynchronous(client)._core


def is_untouched(client: AsyncClient) -> bool:
    """Whether nothing was made for the client yet that a call needs."""
    return client._shared is None


def replicas(client: AsyncClient | Client) -> Any:
    """What the client knows of each of its replicas."""
    return shared_state(client).replicas.members


def retry_tokens(client: AsyncClient) -> float:
    """What is left of the budget for retries."""
    tokens: float = shared_state(client).budget.tokens
    return tokens


def pools(client: AsyncClient | Client) -> list[Any]:
    """The pools of a client, over all loops."""
    core = _asynchronous(client)._shared
    return [] if core is None or core.ready is None else core.ready.pools()


def _asynchronous(client: AsyncClient | Client) -> AsyncClient:
    return client._async if isinstance(client, Client) else client


def assert_idle(client: AsyncClient | Client) -> None:
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
