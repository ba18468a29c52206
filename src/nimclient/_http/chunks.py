"""Receives a body of many small HTTP chunks: vLLM writes the raw bytes of each vector as a chunk of its own.

aiohttp's parser takes 5 µs for a chunk, and a loop that wakes up for each of them several times as long. So the connection's
protocol stands back while such a body arrives, and gets its chunks as one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from nimclient._http.connection import Protocol

MAX_SIZE = 2**26  # bytes of a body; beyond, the protocol reads on, at the pace of whoever takes its data
SMALL_READ = 2**16  # bytes of a read; after a smaller one, wait for more
MIN_WAIT, MAX_WAIT = 0.0005, 0.008  # seconds
_HEAD = re.compile(rb"HTTP/1\.1 200[^\n]*\r\n(?:(?!content-encoding)[^\n]+\r\n)*\r\n", re.IGNORECASE)
_RAW = re.compile(rb"\ncontent-type: *application/octet-stream *\r", re.IGNORECASE)
_CHUNKED = re.compile(rb"\ntransfer-encoding: *chunked *\r", re.IGNORECASE)
_FIRST_SIZE = re.compile(rb"([1-9a-f][0-9a-f]{0,6})\r\n", re.IGNORECASE)
_NEXT_SIZE = re.compile(rb"\r\n([1-9a-f][0-9a-f]{0,6})\r\n", re.IGNORECASE)
_MAX_LINE = 11  # bytes of the latter


class ChunkReceiver(asyncio.Protocol):
    """Takes the place of a connection's protocol for one response; `on_data` is called for each read.

    Whatever else arrives is left to the protocol: another response, a chunk with an extension, the end, what is malformed.
    """

    def __init__(self, protocol: Protocol, loop: asyncio.AbstractEventLoop, on_data: Callable[[], None]) -> None:
        self._protocol = protocol
        self._loop = loop
        self._transport = cast(Any, protocol.transport)
        self._on_data = on_data
        self._chunks: Chunks | None = None
        self._wait = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._on_data()
        at = 0
        if self._chunks is None:
            head = _HEAD.match(data)
            if head is None or _RAW.search(head[0]) is None or _CHUNKED.search(head[0]) is None:
                self._return(data)
                return
            self._chunks = Chunks()
            self._protocol.data_received(head[0])
            at = head.end()
        rest = self._chunks.take(data, at)
        if rest is not None:
            self._return(rest)
        elif len(data) < SMALL_READ:
            self._let_more_arrive()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._return(b"")
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

    def _return(self, rest: bytes) -> None:
        """Give the connection, what the chunks contained, as one, and what follows it to the protocol."""
        if self._timer is not None:
            self._timer.cancel()
        protocol = self._protocol
        self._transport.set_protocol(protocol)
        content = b"" if self._chunks is None else self._chunks.content()
        if content and rest.startswith(b"\r\n") and protocol.takes_chunk(content):
            rest = rest[2:]
        elif content:  # nobody reads yet, or it is incomplete or malformed: the parser says what it is
            protocol.data_received(b"%x\r\n" % len(content))
            protocol.data_received(content)
        if rest:
            protocol.data_received(rest)

    def _let_more_arrive(self) -> None:
        """Read nothing for a moment, which is longer from time to time."""
        if self._wait and not self._transport.is_closing():
            self._transport.pause_reading()
            self._timer = self._loop.call_later(self._wait, self._resume)
        self._wait = min(2 * self._wait, MAX_WAIT) or MIN_WAIT

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


class Chunks:
    """What the chunks of a body contain."""

    def __init__(self) -> None:
        self._parts: list[memoryview] = []
        self._size = 0
        self._left = 0  # bytes of the current chunk
        self._cut = b""  # what arrived of the next chunk's size

    def content(self) -> bytes:
        """The contents of all chunks, the last of which may be incomplete."""
        return b"".join(self._parts)

    def take(self, data: bytes, at: int) -> bytes | None:
        """Take the chunks in `data` from this position on. Returns what is none, to its end, or None if all are."""
        data, self._cut = self._cut + data, b""
        view = memoryview(data)
        while at < len(data):
            if not self._left:
                line = (_NEXT_SIZE if self._parts else _FIRST_SIZE).match(data, at)
                if line is None or self._size + int(line[1], 16) > MAX_SIZE:
                    rest = data[at:]
                    if b"\n" in rest[2:] or len(rest) >= _MAX_LINE:
                        return rest
                    self._cut = rest
                    break
                size, at = int(line[1], 16), line.end()
                step = len(line[0]) + size
                alike = whole_chunks(data, line.start(), line[0], size)
                self._parts += [view[start : start + size] for start in range(at, at + alike * step, step)]
                self._size += alike * size
                if alike:
                    at += alike * step - len(line[0])
                    continue
                self._left = size
            part = view[at : at + self._left]
            self._parts.append(part)
            self._size += len(part)
            self._left -= len(part)
            at += len(part)
        return None


def whole_chunks(data: bytes, at: int, line: bytes, size: int) -> int:
    """How many whole chunks of this size follow one another from here on, each after the same line."""
    step = len(line) + size
    count = (len(data) - at) // step
    for offset, byte in enumerate(line):
        column = data[at + offset : at + count * step : step]
        count = len(column) - len(column.lstrip(bytes((byte,))))
    return count
