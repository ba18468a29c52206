"""The interface between the engine and the transport: two protocols, public in nimclient.testing.

All deadlines are absolute, in seconds of `time.monotonic()`; None means no deadline.
"""

from __future__ import annotations

from typing import Any, Protocol

from attrs import field, frozen

from nimclient._base.config import Limits, Timeouts
from nimclient._base.values import BodyPhase, HttpHead, HttpRequest


class Body(Protocol):
    """The body of one response, and the connection under it, which is held until `finish` or `abort`.

    Bytes are decompressed. When the body ends for any reason, `request.on_end` is called once.
    """

    async def read(self, phase: BodyPhase, deadline: float | None) -> bytes:
        """The data received so far, at least one byte; b"" at the end.

        Raises RequestTimeoutError(phase) at `deadline`, RequestTimeoutError("total") at that of the call, ConnectionLostError
        for a truncated body, ProtocolError for a malformed one.
        """
        ...

    async def read_all(self, max_bytes: int | None) -> bytes:
        """The whole body, then `finish`. Raises what `read` raises, BodyTooLargeError above `max_bytes`."""
        ...

    async def read_some(self, max_bytes: int, seconds: float) -> bytes:
        """The data received within `seconds`, at most `max_bytes`; then `finish` or `abort`. Never raises."""
        ...

    async def finish(self) -> None:
        """Release the connection for reuse: a short rest of the body is read, else the connection is closed."""
        ...

    def abort(self) -> None:
        """Close the connection at once. Idempotent; a waiting reader gets an error."""
        ...

    def abandon(self) -> None:
        """`abort` for finalizers: from any thread, even if the loop no longer runs."""
        ...


class Transport(Protocol):
    """Sends single requests: no retries, no redirects, no cookies. It works in any running event loop.

    A client takes one as `transport=`, shares it with its `with_options` copies, and closes it. Time limits,
    `Limits.concurrency`, `verify` and `cert` are enforced by the transport. A client is picklable if its transport is.

    Optional method: `async def warm(requests, timeouts) -> int` opens a connection for each of these requests,
    sends nothing, raises nothing, and returns how many are open.
    """

    async def open(self, request: HttpRequest, timeouts: Timeouts, total: float | None) -> tuple[HttpHead, Body]:
        """Send the request and read the head of the response. `total` is the deadline of the whole call.

        Raises TransportError (ConnectError, ConnectionLostError, ProtocolError, RequestTimeoutError) if there is no
        response, ClientClosedError after `aclose`. Any status is a response.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections, in all loops. Requests in flight end with ClientClosedError. Idempotent."""
        ...


@frozen
class TransportSettings:
    """The settings of a transport."""

    limits: Limits
    verify: Any
    cert: Any = field(repr=False)
