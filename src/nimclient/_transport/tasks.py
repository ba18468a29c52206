"""A task that outlives the call that started it, for an owner that ends it: an iterator cannot hold a task group open
between two of its steps, so the group lives in a task of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from anyio import CancelScope

from nimclient.errors import ConfigurationError


class Background:
    """Runs a coroutine in the running loop. The owner must `stop` it; a finalizer may `abandon` it."""

    def __init__(self, main: Coroutine[Any, Any, None]) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            main.close()
            raise ConfigurationError(
                "nimclient runs on asyncio loops; under trio use the sync Client in a thread"
            ) from None
        self._task = self._loop.create_task(main)

    async def stop(self) -> None:
        """Cancel it and wait for its end, also where the caller is being cancelled."""
        self._task.cancel()
        if not self._task.done():
            with CancelScope(shield=True):
                await asyncio.wait([self._task])

    def abandon(self) -> None:
        """Cancel it from wherever this is called; a closed loop has ended it already."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)
