"""What the engine asks of a transport, and nothing about how it is done.

All deadlines are absolute, in seconds of `time.monotonic()`; None means that there is none.
"""

from __future__ import annotations

from typing import Any, Protocol

from attrs import field, frozen

from nimclient._base.config import Limits, Timeouts
from nimclient._base.values import BodyPhase, HttpHead, HttpRequest


class Body(Protocol):
    """The body of one response, and the slot of the pool that it holds until `finish` or `abort`."""

    async def read(self, phase: BodyPhase, deadline: float | None) -> bytes:
        """Whatever is there, at least one byte; b"" at the end. RequestTimeoutError(phase) when the deadline passes."""
        ...

    async def read_all(self, most: int | None) -> bytes:
        """The whole body, then `finish`. Above `most` bytes: BodyTooLargeError."""
        ...

    async def read_some(self, most: int, seconds: float) -> bytes:
        """What arrives of the body within `seconds`, at most `most` bytes; then `finish` or `abort`. Never fails."""
        ...

    async def finish(self) -> None:
        """Give the connection back: drain what is left for at most 50 ms, else close it."""
        ...

    def abort(self) -> None:
        """Close the connection now. May be called at any time, also again; a waiting reader ends with an error."""
        ...

    def abandon(self) -> None:
        """`abort` for finalizers: from any thread, whether or not the loop still runs."""
        ...


class Transport(Protocol):
    """Opens requests in whatever event loop is running."""

    async def open(self, request: HttpRequest, timeouts: Timeouts, total: float | None) -> tuple[HttpHead, Body]:
        """Send the request and read the head of the response. `total` is the deadline of the whole call.

        Raises TransportError (ConnectError, ConnectionLostError, ProtocolError, RequestTimeoutError) and nothing else.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait so long. ClientClosedError as soon as the transport is closed."""
        ...

    async def aclose(self) -> None:
        """Close the pools of all loops. Whatever is under way ends with ClientClosedError."""
        ...


@frozen
class TransportSettings:
    """What a transport is made of."""

    limits: Limits
    verify: Any
    cert: Any = field(repr=False)
