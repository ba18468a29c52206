"""The event stream of any route, as returned by `client.request(..., stream=True)`; the content is not interpreted."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from nimclient._base.types import AsyncClosing, Json, unpicklable
from nimclient._base.values import ResponseMeta
from nimclient._streams.response import Response
from nimclient._streams.untyped import UntypedReader


class EventStream(AsyncIterator[Json], AsyncClosing):
    """An open stream of events: iterate over it, or enter it with `async with`, which closes it at the end of the block.

    Server-sent events yield their decoded data (a str if it is not JSON), up to `[DONE]` or the end of the body; whether the
    response is complete is not checked. A JSON body yields its value, any other body its bytes. An error event raises
    StreamFaultError, a lost connection StreamInterruptedError.
    """

    __reduce__ = unpicklable

    def __init__(self, response: Response) -> None:
        self._reader = UntypedReader(response)
        self._reading = False

    @property
    def meta(self) -> ResponseMeta:
        """The exchange with its timings so far."""
        return self._reader.meta()

    @property
    def ready(self) -> deque[Json]:
        """Values that were read but not yet returned; always the same queue."""
        return self._reader.ready

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Json:
        reader = self._reader
        if (reader.ready and reader.clock() < reader.next_check) or await self.wait():
            return reader.ready.popleft()
        raise StopAsyncIteration

    async def wait(self) -> bool:
        """Read until a value is ready; False at the end of the stream. Earlier values precede an error."""
        if self._reading:
            raise RuntimeError("the stream is being read by another task")
        reader = self._reader
        self._reading = True
        try:
            if not (reader.ended and not reader.failed):
                await reader.refill()
        finally:
            self._reading = False
        return bool(reader.ready)

    async def aclose(self) -> None:
        """Close the stream, from any task; a waiting reader gets StreamInterruptedError. Idempotent."""
        await self._reader.close()

    def __del__(self, _warn: Callable[..., Any] = warnings.warn) -> None:
        reader = getattr(self, "_reader", None)
        if reader is not None and not reader.ended:
            _warn(f"a stream from {reader.url} was not closed", ResourceWarning, source=self)
            reader.abandon()
