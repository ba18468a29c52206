"""The seam between the engine and whatever carries its requests: two protocols, public in nimclient.testing.

All deadlines are absolute, in seconds of `time.monotonic()`; None means that there is none.
"""

from __future__ import annotations

from typing import Any, Protocol

from attrs import field, frozen

from nimclient._base.config import Limits, Timeouts
from nimclient._base.values import BodyPhase, HttpHead, HttpRequest


class Body(Protocol):
    """The body of one response, and the connection under it, which is held until `finish` or `abort`.

    Bytes come decompressed. Once it is over, however it ends, `request.on_end` is called, once.
    """

    async def read(self, phase: BodyPhase, deadline: float | None) -> bytes:
        """Whatever has arrived, at least one byte; b"" at the end.

        Raises RequestTimeoutError(phase) when `deadline` passes, RequestTimeoutError("total") when that of the call does,
        ConnectionLostError for a body that is cut off, ProtocolError for one that is malformed.
        """
        ...

    async def read_all(self, max_bytes: int | None) -> bytes:
        """The whole body, then `finish`. Raises what `read` raises, BodyTooLargeError above `max_bytes`."""
        ...

    async def read_some(self, max_bytes: int, seconds: float) -> bytes:
        """What arrives within `seconds`, at most `max_bytes`; then `finish` or `abort`. Raises nothing."""
        ...

    async def finish(self) -> None:
        """Give the connection back for the next request: what is left of the body is read for a moment, else dropped."""
        ...

    def abort(self) -> None:
        """Close the connection now. May be called at any time, also again; a waiting reader ends with an error."""
        ...

    def abandon(self) -> None:
        """`abort` for finalizers: from any thread, whether or not the loop still runs."""
        ...


class Transport(Protocol):
    """Carries single requests: no retries, no redirects, no cookies. It works in whatever event loop is running.

    A client takes one as `transport=`, shares it with its `with_options` copies, and closes it. Time limits,
    `Limits.concurrency`, `verify` and `cert` are the transport's to keep. A client pickles where its transport does.

    One more method is optional: `async def warm(requests, timeouts) -> int` opens a connection for each of these requests,
    sends nothing, raises nothing, and returns how many are open.
    """

    async def open(self, request: HttpRequest, timeouts: Timeouts, total: float | None) -> tuple[HttpHead, Body]:
        """Send the request and read the head of the response. `total` is the deadline of the whole call.

        Raises TransportError (ConnectError, ConnectionLostError, ProtocolError, RequestTimeoutError) where there is no
        response, ClientClosedError after `aclose`. A status of any kind is a response.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections, in all loops. Whatever is in flight ends with ClientClosedError. May be called again."""
        ...


@frozen
class TransportSettings:
    """What a transport is made of."""

    limits: Limits
    verify: Any
    cert: Any = field(repr=False)
