"""Bodies in HTTP chunks, read past aiohttp's parser, which takes 5 µs for one: a server sends each token of a stream as
a chunk, and vLLM each vector of raw bytes.

What is no ordinary chunk (the end, an extension, what is malformed) is left to the parser, and so is whether it is allowed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

MAX_SIZE = 2**26  # bytes of raw vectors; beyond, the parser reads on, at the pace of whoever takes its data
MAX_UNREAD = 2**19  # bytes of a stream, as much as aiohttp keeps
SMALL_READ = 2**16  # bytes of a read; after a smaller one, wait for more vectors
MIN_WAIT, MAX_WAIT = 0.0005, 0.008  # seconds
_HEAD = re.compile(rb"HTTP/1\.1 200[^\n]*\r\n(?:(?!content-encoding)[^\n]+\r\n)*\r\n", re.IGNORECASE)
_EVENTS = re.compile(rb"\ncontent-type: *text/event-stream *[;\r]", re.IGNORECASE)
_RAW = re.compile(rb"\ncontent-type: *application/octet-stream *\r", re.IGNORECASE)
_CHUNKED = re.compile(rb"\ntransfer-encoding: *chunked *\r", re.IGNORECASE)
_SIZE = re.compile(rb"([1-9a-f][0-9a-f]{0,6})\r\n", re.IGNORECASE)
_MAX_LINE = 9  # bytes of the latter
_LINE_END = 2  # bytes behind the content of a chunk


class ChunkedBody(asyncio.Protocol):
    """The body of the response to one request, if it comes in chunks. It is read like aiohttp's, `rest`, which follows it.

    It stands in for the protocol of the connection until then.

    With `on_data`, which is called for each read, it is one of raw vectors: they are kept until they are complete, to wake
    nobody for each.
    """

    __slots__ = (
        *("_begun", "_cut", "_is_over", "_left", "_loop", "_on_data", "_parts", "_paused", "_protocol", "_size", "_taken"),
        *("_timer", "_transport", "_wait", "_waiter", "rest"),
    )  # fmt: skip

    rest: aiohttp.StreamReader

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol: ResponseHandler, on_data: Callable[[], None] | None
    ) -> None:
        self._loop = loop
        self._protocol = protocol
        self._transport = cast(Any, protocol.transport)
        self._on_data = on_data
        self._begun = False
        self._is_over = False
        self._parts: list[bytes | memoryview] = []
        self._size = 0  # of the parts so far …
        self._taken = 0  # … and of those that were read
        self._left = 0  # bytes of the current chunk, with the line end behind it
        self._cut: bytes = b""  # what arrived of the next chunk's size
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._wait = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._transport.set_protocol(self)

    # what arrives ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._begun and not (self._left or self._cut or self._on_data):  # the whole chunk of a token, mostly
            line = _SIZE.match(data)
            if line is not None and int(line[1], 16) == len(data) - line.end() - _LINE_END and data.endswith(b"\r\n"):
                self._add(data[line.end() : -_LINE_END])
                self._wake(len(data))
                return
        if not self._begun and (head := self._head_of(data)):
            self._begun = True
            self._protocol.data_received(head)
            data = data[len(head) :]
        rest = self._take(data) if self._begun else data
        if rest is None:
            self._wake(len(data))
        else:
            self._leave()
            self._protocol.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._leave()
        self._protocol.connection_lost(exc)

    def eof_received(self) -> None:
        """See asyncio.Protocol."""
        self._protocol.eof_received()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._protocol.resume_writing()

    def _leave(self) -> None:
        """Leave all else to the protocol."""
        self._is_over = True
        self._transport.set_protocol(self._protocol)
        if self._timer is not None:
            self._timer.cancel()
        self._resume()
        self._wake_reader()

    def _head_of(self, data: bytes) -> bytes:
        """The head, if it is one of a body that is read here."""
        head = _HEAD.match(data)
        kind = _EVENTS if self._on_data is None else _RAW
        if head is None or kind.search(head[0]) is None or _CHUNKED.search(head[0]) is None:
            return b""
        return head[0]

    def _take(self, data: bytes) -> bytes | None:
        """Take the chunks in `data`. Returns what is none, to its end, or None if all are."""
        data, self._cut = self._cut + data, b""
        view = data if self._on_data is None else memoryview(data)  # a view of a token takes more memory than it
        at = 0
        while at < len(data):
            if self._left > _LINE_END:
                part = view[at : at + self._left - _LINE_END]
                self._add(part)
                self._left -= len(part)
                at += len(part)
            elif self._left:
                if not b"\r\n".startswith(data[at : at + 2]):
                    return b"?" + data[at:]  # the parser rejects that for sure, wherever it is
                if len(data) - at < _LINE_END:
                    self._cut = data[at:]
                    break
                self._left = 0
                at += _LINE_END
            else:
                line = _SIZE.match(data, at)
                if line is None or (self._on_data is not None and self._size + int(line[1], 16) > MAX_SIZE):
                    rest = data[at:]
                    if b"\n" in rest or len(rest) >= _MAX_LINE:
                        return rest
                    self._cut = rest
                    break
                size, start = int(line[1], 16), line.end()
                step = len(line[0]) + size + _LINE_END
                alike = 0 if self._on_data is None else whole_chunks(data, at, line[0], size)
                for begin in range(start, start + alike * step, step):
                    self._add(view[begin : begin + size])
                at += alike * step
                if not alike:
                    at, self._left = start, size + _LINE_END
        return None

    def _add(self, part: bytes | memoryview) -> None:
        self._parts.append(part)
        self._size += len(part)

    def _wake(self, size: int) -> None:
        """After a read of this size: wake the reader of a stream; let more vectors arrive."""
        if self._on_data is None:
            self._wake_reader()
            if self._size - self._taken > MAX_UNREAD:
                self._pause()
            return
        self._on_data()
        if size < SMALL_READ:  # read nothing for a moment, which is longer from time to time
            if self._wait and not self._transport.is_closing():
                self._pause()
                self._timer = self._loop.call_later(self._wait, self._resume)
            self._wait = min(2 * self._wait, MAX_WAIT) or MIN_WAIT

    def _wake_reader(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # what is read: as from aiohttp.StreamReader -------------------------------------------------------------------------

    def before(self, rest: aiohttp.StreamReader) -> Content:
        """The body, of which the parser's is the rest, or that one alone."""
        self.rest = rest
        return self if self._begun else rest

    async def readany(self) -> bytes:
        """The data received so far, at least one byte; b"" at the end."""
        while True:
            if (error := self.rest.exception()) is not None:
                raise error
            if self._parts and (self._is_over or self._on_data is None):
                return self._take_parts()
            if self._is_over:
                return await self.rest.readany()
            self._waiter = self._loop.create_future()
            await self._waiter

    def read_nowait(self) -> bytes:
        """The data received so far."""
        return self._take_parts() + self.rest.read_nowait()

    def _take_parts(self) -> bytes:
        parts, self._parts, self._taken = self._parts, [], self._size
        if self._paused:
            self._resume()
        return b"".join(parts)

    def is_eof(self) -> bool:
        """Whether all has arrived."""
        return self.rest.is_eof()

    def at_eof(self) -> bool:
        """Whether all was read."""
        return not self._parts and self.rest.at_eof()

    def exception(self) -> BaseException | None:
        """The error that ended the body."""
        return self.rest.exception()

    def set_exception(self, error: BaseException) -> None:
        """End the body with an error, which is raised to the reader."""
        self.rest.set_exception(error)
        self._wake_reader()

    @property
    def total_bytes(self) -> int:
        """How many bytes have arrived."""
        return self._size + self.rest.total_bytes

    @property
    def total_compressed_bytes(self) -> int | None:
        """None: there is no compression."""
        return self.rest.total_compressed_bytes


Content: TypeAlias = aiohttp.StreamReader | ChunkedBody
"""A body as it is read."""


def whole_chunks(data: bytes, at: int, line: bytes, size: int) -> int:
    """How many whole chunks of this size follow one another from here on, each after the same line."""
    step = len(line) + size + _LINE_END
    count = (len(data) - at) // step
    for offset, byte in (*enumerate(line), *enumerate(b"\r\n", len(line) + size)):
        column = data[at + offset : at + count * step : step]
        count = len(column) - len(column.lstrip(bytes((byte,))))
    return count
