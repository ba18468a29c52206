"""Sends requests built by another client through the engine, and returns the raw response."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from attrs import define, frozen

from nimclient._api.call import Call
from nimclient._base import json as _json
from nimclient._base.config import Timeouts
from nimclient._base.types import Json, is_object
from nimclient._base.values import Headers, ResponseMeta
from nimclient._engine.engine import Engine
from nimclient._http.base import Body
from nimclient._retry.policy import Replay
from nimclient._streams.response import Response
from nimclient.errors import ConfigurationError, DecodeError, NimError

PURE_ROUTES = ("/embeddings", "/ranking", "/rerank", "/reranking", "/score", "/tokenize", "/detokenize")
"""POST routes that are replay-safe: pure functions at low cost."""


@frozen
class RawRequest:
    """A request of another client. `headers` are those that it set itself; `body` is None without a body."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    timeouts: Timeouts | None = None


@define
class RawResponse:
    """An open response: `read` until it is b"", then `finish`; or `abort`. Time limits and key hygiene are the engine's."""

    status: int
    headers: Headers
    _response: Response

    @property
    def _body(self) -> Body:
        return self._response.body

    async def read(self) -> bytes:
        """What has arrived, decompressed, at least one byte; b"" at the end. Raises TransportError."""
        idle = self._response.timeouts.idle
        try:
            return await self._body.read("idle", None if idle is None else self._response.clock() + idle)
        except NimError as error:
            self._response.annotate(error)
            raise

    async def read_all(self) -> bytes:
        """The whole body. Raises TransportError, BodyTooLargeError."""
        try:
            return await self._body.read_all(self._response.limits.max_body)
        except NimError as error:
            self._response.annotate(error)
            raise

    async def finish(self) -> None:
        """Release the connection."""
        await self._body.finish()

    def abort(self) -> None:
        """Close the connection."""
        self._body.abort()


async def send_raw(engine: Engine, request: RawRequest) -> RawResponse:
    """Send through the client's connections, replicas, retries and key rules; a success is returned open.

    Raises ConfigurationError for a URL that is not below the client's base URLs, APIStatusError for a status of 400 and
    above once the retries are spent, else what every call raises.
    """
    options = {} if request.timeouts is None else {"timeout": request.timeouts}
    return await engine.open(_call(engine, request), options, _open)


async def _open(response: Response) -> RawResponse:
    return RawResponse(response.head.status, response.head.headers, response)


def _call(engine: Engine, request: RawRequest) -> Call[None]:
    path = path_below(engine.config.base_urls, request.url)
    model, stream = _facts(request.body)
    safe = request.method != "POST" or path.partition("?")[0] in PURE_ROUTES
    return Call(
        request.method,
        path,
        _no_record,
        model=model,
        headers=request.headers,
        raw=request.body,
        stream=stream,
        accept="*/*",
        replay=Replay.SAFE if safe else Replay.ONCE,
        allow_plain_202=True,
    )


def _no_record(data: Json, meta: ResponseMeta) -> None:
    """Raw responses are not decoded."""


def path_below(base_urls: tuple[str, ...], url: str) -> str:
    """The path of a URL below one of the client's API roots. ConfigurationError for any other URL."""
    for base in base_urls:
        if url.startswith(base) and url[len(base) : len(base) + 1] in ("/", "?", ""):
            return url[len(base) :] or "/"
    parts = urlsplit(url)
    there = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    raise ConfigurationError(
        f"{there} is not below the client's base URL: give the other client base_url={base_urls[0]!r}"
    )


def _facts(body: bytes | None) -> tuple[str | None, bool]:
    """The model in a JSON body, and whether it requests a stream."""
    if body is None or body[:1] != b"{":
        return None, False
    try:
        fields = _json.loads(body)
    except DecodeError:
        return None, False
    if not is_object(fields):
        return None, False
    model = fields.get("model")
    return (model if isinstance(model, str) else None), fields.get("stream") is True
