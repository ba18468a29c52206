"""The load model: concurrent requests, requests per minute, and when each token is due.

Knows no HTTP and no content. Times are seconds.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager


class MinuteBucket:
    """A token bucket of one minute's size that refills evenly: `per_minute` requests at once, then one every 60/rpm s.

    `clock` returns monotonic seconds.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self._size = per_minute
        self._clock = clock
        self._level = per_minute
        self._at = clock()

    def take(self) -> bool:
        """Take a token; False if there is none."""
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._at) * self._size / 60.0)
        self._at = now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


class GenerationSlots:
    """At most `count` requests generate concurrently (None: no limit); the others wait in FIFO order."""

    def __init__(self, count: int | None) -> None:
        self._count = count
        self._gate = None if count is None else asyncio.Semaphore(count)
        self.running = 0
        self.waiting = 0

    @asynccontextmanager
    async def one(self) -> AsyncGenerator[None, None]:
        """Hold one slot for the length of the block."""
        if self._gate is not None:
            self.waiting += 1
            try:
                await self._gate.acquire()
            finally:
                self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            if self._gate is not None:
                self._gate.release()

    def report(self, form: str) -> str | None:
        """The value of vLLM's header `endpoint-load-metrics` in a form, TEXT or JSON; None for another one."""
        used = 0.0 if self._count is None else min(self.running / self._count, 1.0)
        waiting = float(self.waiting)
        match form.upper():
            case "TEXT":
                return f"TEXT named_metrics.num_requests_waiting={waiting}, named_metrics.kv_cache_usage_perc={used}"
            case "JSON":
                named = f'{{"num_requests_waiting": {waiting}, "kv_cache_usage_perc": {used}}}'
                return f'JSON {{"named_metrics": {named}}}'
            case _:
                return None


class TokenSchedule:
    """When the tokens of one request are due, counted from when it got its slot.

    The schedule is absolute: delays do not accumulate.
    """

    def __init__(self, ttft: float, itl: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._ttft = ttft
        self._itl = itl

    def is_due(self, step: int) -> bool:
        """Whether token number `step` (from 0) may be sent now."""
        return self._delay(step) <= 0.0

    def due(self, tokens: int) -> int:
        """How many of so many tokens may have been sent by now."""
        late = -self._delay(0)
        if late < 0.0:
            return 0
        return min(tokens, 1 + int(late / self._itl)) if self._itl else tokens

    async def until(self, step: int) -> None:
        """Wait until token number `step` (from 0) is due."""
        if (delay := self._delay(step)) > 0.0:
            await asyncio.sleep(delay)

    def _delay(self, step: int) -> float:
        due = self._ttft + step * self._itl
        return self._start + due - self._loop.time() if due else 0.0
