"""A streamed answer of any route, as `client.request(..., stream=True)` gives it: nothing is known of what it means."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, Self

from nimclient._base import json as _json
from nimclient._base.types import AsyncClosing, Json, unpicklable
from nimclient._base.values import ResponseMeta
from nimclient._retry.faults import stream_fault
from nimclient._streams.events import DONE
from nimclient._streams.response import Response
from nimclient._streams.sse import Event, SSEDecoder
from nimclient.errors import (
    BodyTooLargeError,
    DecodeError,
    NimError,
    RequestTimeoutError,
    StreamInterruptedError,
    TransportError,
)
from nimclient.records._decode import object_or_empty


class EventStream(AsyncIterator[Json], AsyncClosing):
    """An open stream of events: iterate over it, or enter it with `async with`, which closes it at the end of the block.

    Of server-sent events each one's decoded data (a str where it is no JSON), up to `[DONE]` or the end of the body: whether
    an answer is complete only its route can tell. Of a JSON body the one value, of anything else bytes as they come. An
    event that is an error raises StreamFaultError, a connection that breaks StreamInterruptedError.
    """

    __reduce__ = unpicklable

    def __init__(self, response: Response) -> None:
        self._response = response
        self._body = response.body
        self._max_event = response.limits.max_event
        kind = response.head.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._events = SSEDecoder(response.limits.max_event) if kind == "text/event-stream" else None
        self._json = bytearray() if kind.endswith(("/json", "+json")) else None
        self._phase: Literal["first_event", "idle"] = "first_event"
        self._failure: NimError | None = None
        self._reading = False
        self._closed = False
        self._ended = False
        self.ready: deque[Json] = deque()

    @property
    def meta(self) -> ResponseMeta:
        """The exchange with its timings so far."""
        return self._response.meta()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Json:
        if not self.ready and not await self.wait():
            raise StopAsyncIteration
        return self.ready.popleft()

    async def wait(self) -> bool:
        """Read until something is ready, or the stream has ended: then False. An error waits for what came before it."""
        if self._reading:
            raise RuntimeError("the stream is being read by another task")
        limit = getattr(self._response.timeouts, self._phase)
        deadline = None if limit is None else self._response.clock() + limit
        self._reading = True
        try:
            while not self.ready and not self._ended:
                await self._read(deadline)
        except BaseException as error:
            self._give_up()
            if not isinstance(error, NimError):
                raise
            self._response.annotate(error)
            self._failure = error
        finally:
            self._reading = False
        if self.ready:
            self._phase = "idle"
        elif self._failure is not None:
            raise self._failure
        return bool(self.ready)

    async def _read(self, deadline: float | None) -> None:
        try:
            data = await self._body.read(self._phase, deadline)
        except RequestTimeoutError:
            raise
        except TransportError as error:
            problem = (
                "the stream was closed while it was being read" if self._closed else f"the stream broke off: {error}"
            )
            raise StreamInterruptedError(problem) from error
        self._take(data)
        if not data:
            self._ended = True
        if self._ended:
            await self._body.finish()

    def _take(self, data: bytes) -> None:
        if self._json is not None:
            self._json += data
            if self._max_event is not None and len(self._json) > self._max_event:
                problem = f"the answer, in one piece, exceeds {self._max_event} bytes (Limits.max_event)"
                raise BodyTooLargeError(problem, limit=self._max_event)
            if not data and self._json:
                self.ready.append(_json.loads(bytes(self._json)))
        elif self._events is not None:
            for event in self._events.feed(data) if data else self._events.flush():
                if not self._ended:
                    self._add(event)
        elif data:
            self.ready.append(data)

    def _add(self, event: bytes | Event) -> None:
        data, name, comment = (event, "", "") if isinstance(event, bytes) else (event.data, event.name, event.comment)
        if data.strip() == DONE:
            self._ended = True
            return
        try:
            value = _json.loads(data) if data.strip() else None
        except DecodeError:
            value = data.decode("utf-8", "replace")
        if name == "error" or object_or_empty(value).get("error"):
            raise stream_fault(value, comment)
        if value is not None:
            self.ready.append(value)

    def _give_up(self) -> None:
        self._ended = True
        self._body.abort()

    async def aclose(self) -> None:
        """Close the stream, from any task; a waiting reader ends with StreamInterruptedError. May be called again."""
        self._closed = True
        self._give_up()

    def __del__(self, _warn: Callable[..., Any] = warnings.warn) -> None:
        if not getattr(self, "_ended", True):
            _warn(f"a stream from {self._response.url} was not closed", ResourceWarning, source=self)
            self._body.abandon()
