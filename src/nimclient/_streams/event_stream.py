"""A streamed answer of any route, as `client.request(..., stream=True)` gives it: nothing is known of what it means."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from nimclient._base.types import AsyncClosing, Json, unpicklable
from nimclient._base.values import ResponseMeta
from nimclient._streams.reader import UntypedReader
from nimclient._streams.response import Response


class EventStream(AsyncIterator[Json], AsyncClosing):
    """An open stream of events: iterate over it, or enter it with `async with`, which closes it at the end of the block.

    Of server-sent events each one's decoded data (a str where it is no JSON), up to `[DONE]` or the end of the body: whether
    an answer is complete only its route can tell. Of a JSON body the one value, of anything else bytes as they come. An
    event that is an error raises StreamFaultError, a connection that breaks StreamInterruptedError.
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
        """What has been read and not handed out; always the same queue."""
        return self._reader.ready

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Json:
        reader = self._reader
        if (reader.ready and reader.clock() < reader.next_check) or await self.wait():
            return reader.ready.popleft()
        raise StopAsyncIteration

    async def wait(self) -> bool:
        """Read until something is ready, or the stream has ended: then False. An error waits for what came before it."""
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
        """Close the stream, from any task; a waiting reader ends with StreamInterruptedError. May be called again."""
        await self._reader.close()

    def __del__(self, _warn: Callable[..., Any] = warnings.warn) -> None:
        reader = getattr(self, "_reader", None)
        if reader is not None and not reader.ended:
            _warn(f"a stream from {reader.url} was not closed", ResourceWarning, source=self)
            reader.abandon()
