"""NimTransport and SyncNimTransport: nimclient as a transport for httpx-based clients, such as openai-python.

Requests use the client's connections, replicas, retries and key; responses are returned unchanged, streams as they arrive.
A request of httpx gets a response of httpx, one of httpx2 a response of httpx2.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from nimclient import AsyncClient, Client, Timeouts
from nimclient._resources.passthrough import RawRequest, RawResponse, send_raw
from nimclient._sync.portal import PORTAL
from nimclient.errors import (
    APIStatusError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    NimError,
    RequestTimeoutError,
)

Library: TypeAlias = Any
"""The module that a request comes from: httpx or httpx2."""

NOT_FORWARDED = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "te", "transfer-encoding", "upgrade", "user-agent"}
)
"""Request headers that belong to the connection."""

NOT_RETURNED = frozenset({"connection", "content-encoding", "content-length", "transfer-encoding"})
"""Response headers that no longer describe the body, which is decompressed."""

CANONICAL = {"accept": "Accept", "authorization": "Authorization", "content-type": "Content-Type"}
"""Headers that the engine sets itself, by its spelling: the other client's override them."""

if TYPE_CHECKING:
    from httpx import AsyncBaseTransport, BaseTransport
else:
    INSTALLED = [import_module(name) for name in ("httpx", "httpx2") if find_spec(name)]
    if not INSTALLED:
        raise ImportError("nimclient.integrations.httpx needs httpx or httpx2: pip install httpx")

    class AsyncBaseTransport(*(library.AsyncBaseTransport for library in INSTALLED)):
        """The base class for clients of every installed library."""

    class BaseTransport(*(library.BaseTransport for library in INSTALLED)):
        """The same for blocking clients."""


class NimTransport(AsyncBaseTransport):
    """Sends the requests of an httpx client through an AsyncClient.

    ``AsyncOpenAI(base_url=client.base_url, api_key="unused", max_retries=0,
    http_client=httpx.AsyncClient(transport=NimTransport(client)))``

    Requests must go below the client's base URL; of several replicas each goes to the best one, and a retry to another one.
    The client's key replaces an Authorization header if it has one for that origin. Retries are the client's: disable those
    of the library above it. A limit that the httpx client sets (`timeout=`) applies in addition to those of the AsyncClient:
    connect, pool, and read for the response head and between two reads. A status of 400 and above is a response like any
    other; time limits, failed and lost connections raise httpx's errors, with nimclient's as their cause.

    Closing the transport closes nothing: the AsyncClient is closed by its owner.
    """

    def __init__(self, client: AsyncClient) -> None:
        if not isinstance(client, AsyncClient):
            raise ConfigurationError(f"NimTransport takes an AsyncClient, not {type(client).__name__}")
        self._client = client

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request. Raises the library's ConnectError, TimeoutException, ReadError."""
        library = _library_of(request)
        raw = _raw_request(request, await request.aread(), self._client)
        with _translated(library, request):
            try:
                response = await send_raw(self._client._engine, raw)
            except APIStatusError as error:
                return _rejected(library, error)
        return _response(library, response, _async_stream_class(library)(response, library, request))


class SyncNimTransport(BaseTransport):
    """The same for blocking clients, over a Client."""

    def __init__(self, client: Client) -> None:
        if not isinstance(client, Client):
            raise ConfigurationError(f"SyncNimTransport takes a Client, not {type(client).__name__}")
        self._client = client._async

    def handle_request(self, request: Any) -> Any:
        """Send one request. Raises the library's ConnectError, TimeoutException, ReadError."""
        library = _library_of(request)
        raw = _raw_request(request, request.read(), self._client)
        with _translated(library, request):
            try:
                response = PORTAL.run(send_raw, self._client._engine, raw)
            except APIStatusError as error:
                return _rejected(library, error)
        return _response(library, response, _sync_stream_class(library)(response, library, request))


def _library_of(request: object) -> Library:
    """The library that the request belongs to."""
    return sys.modules[type(request).__module__.partition(".")[0]]


def _raw_request(request: Any, body: bytes, client: AsyncClient) -> RawRequest:
    config = client._engine.config
    sent: dict[str, str] = dict(request.headers)
    headers = {CANONICAL.get(name, name): value for name, value in sent.items() if name not in NOT_FORWARDED}
    if client._engine.has_key:
        headers.pop("Authorization", None)
    return RawRequest(
        method=request.method,
        url=str(request.url),
        headers=headers,
        body=body or None,
        timeouts=_timeouts(config.timeouts, request.extensions.get("timeout")),
    )


def _timeouts(ours: Timeouts, theirs: dict[str, float | None] | None) -> Timeouts | None:
    """The tighter limits of both; None if the other client sets no limit."""
    if not theirs or all(seconds is None for seconds in theirs.values()):
        return None
    read = theirs.get("read")
    return Timeouts(
        connect=_tighter(ours.connect, theirs.get("connect")),
        pool=_tighter(ours.pool, theirs.get("pool")),
        headers=_tighter(ours.headers, read),
        first_event=_tighter(ours.first_event, read),
        idle=_tighter(ours.idle, read),
        total=ours.total,
    )


def _tighter(one: float | None, other: float | None) -> float | None:
    limits = [seconds for seconds in (one, other) if seconds is not None]
    return min(limits) if limits else None


def _response(library: Library, response: RawResponse, stream: Any) -> Any:
    return library.Response(
        status_code=response.status,
        headers=[(name, value) for name, value in response.headers.items() if name not in NOT_RETURNED],
        stream=stream,
        extensions={"http_version": b"HTTP/1.1"},
    )


def _rejected(library: Library, error: APIStatusError) -> Any:
    """The response behind an error, as far as the error keeps it: status, body, request id, Retry-After."""
    headers = {"content-type": "application/json" if error.body.lstrip()[:1] in ("{", "[") else "text/plain"}
    if error.request_id is not None:
        headers["x-request-id"] = error.request_id
    if error.retry_after is not None:
        headers["retry-after"] = f"{error.retry_after:g}"
    return library.Response(error.status, headers=headers, content=error.body.encode())


@contextmanager
def _translated(library: Library, request: Any) -> Generator[None]:
    """Raise the library's equivalent of our error."""
    try:
        yield
    except NimError as error:
        raise _error_class(library, error)(str(error), request=request) from error


def _error_class(library: Library, error: NimError) -> Any:
    match error:
        case RequestTimeoutError(phase="connect"):
            return library.ConnectTimeout
        case RequestTimeoutError(phase="pool"):
            return library.PoolTimeout
        case RequestTimeoutError():
            return library.ReadTimeout
        case ConnectError():
            return library.ConnectError
        case ConnectionLostError():
            return library.ReadError
        case ConfigurationError():
            return library.UnsupportedProtocol
        case _:
            return library.RemoteProtocolError


class _Body:
    """A streamed body."""

    def __init__(self, response: RawResponse, library: Library, request: Any) -> None:
        self._response = response
        self._library = library
        self._request = request
        self._is_over = False


@lru_cache
def _async_stream_class(library: Library) -> type[Any]:
    """The body class for asynchronous clients of this library, which check the class."""
    return type("NimStream", (_AsyncBody, library.AsyncByteStream), {})


@lru_cache
def _sync_stream_class(library: Library) -> type[Any]:
    return type("SyncNimStream", (_SyncBody, library.SyncByteStream), {})


class _AsyncBody(_Body):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated(self._library, self._request):
            while data := await self._response.read():
                yield data
            self._is_over = True
            await self._response.finish()

    async def aclose(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._response.abort()


class _SyncBody(_Body):
    def __iter__(self) -> Iterator[bytes]:
        with _translated(self._library, self._request):
            while data := PORTAL.run(self._response.read):
                yield data
            self._is_over = True
            PORTAL.run(self._response.finish)

    def close(self) -> None:
        if not self._is_over:
            self._is_over = True
            PORTAL.run(_abort, self._response)


async def _abort(response: RawResponse) -> None:
    """Close the connection, on its own loop."""
    response.abort()
