"""Requests that a server holds until it is released: how many are in flight is counted, not guessed from the time."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from support.server import FaultServer


class Held:
    """The requests that `hold`, a step of a script, keeps waiting; `most`: how many they were at once."""

    def __init__(self) -> None:
        self.most = 0
        self._waiting: deque[asyncio.Event] = deque()
        self._open = False

    async def hold(self) -> None:
        """Wait until it is this request's turn to be answered."""
        if self._open:
            return
        self._waiting.append(asyncio.Event())
        self.most = max(self.most, len(self._waiting))
        await self._waiting[-1].wait()

    def release_one(self) -> None:
        """Have the request that waits longest answered."""
        self._waiting.popleft().set()

    def release_all(self) -> None:
        """Have all requests answered, those that arrive from now on at once."""
        self._open = True
        while self._waiting:
            self.release_one()

    async def answer_each(
        self, server: FaultServer, call: Coroutine[Any, Any, Any], requests: int, in_flight: Callable[[int], int]
    ) -> Any:
        """Make a call of so many requests and answer them one after another, in the order of their arrival; after n answers
        the next one is given when `in_flight(n)` are there, or all that are left.
        """
        task = asyncio.create_task(call)
        for answered in range(requests):
            expected = min(in_flight(answered), requests - answered)
            await server.until(lambda expected=expected: task.done() or len(self._waiting) >= expected)
            if task.done():
                break
            self._waiting.popleft().set()
        return await task
