"""The head of a request as bytes, and its destination. Both are cached for similar requests."""

from __future__ import annotations

import re
from asyncio import AbstractEventLoop
from collections.abc import Mapping
from contextlib import suppress
from ssl import SSLContext

import aiohttp
from attrs import field, frozen
from yarl import URL

from nimclient._base.values import HttpRequest
from nimclient._http.tls import context_of
from nimclient.errors import ConfigurationError

MAX_KEPT = 512
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_WITHOUT_LENGTH = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


@frozen
class Prepared:
    """The shared part of requests with the same method, URL, proxy and headers.

    `destination` is the target for aiohttp's connector, `head` the bytes up to the length of the body, `streams` whether a
    stream is asked for. The head contains the key: it appears in no repr, and in no variable of a frame that may raise.
    """

    destination: aiohttp.ClientRequest
    head: bytes = field(repr=False)
    has_length: bool
    streams: bool

    def head_for(self, body: bytes | None) -> bytes:
        """The complete head."""
        if body is None and not self.has_length:
            return self.head + b"\r\n"
        return b"%bContent-Length: %d\r\n\r\n" % (self.head, 0 if body is None else len(body))


class Heads:
    """The prepared heads of one pool."""

    def __init__(self, loop: AbstractEventLoop, ssl: SSLContext | bool, unauthenticated_ssl: SSLContext | bool) -> None:
        self._loop = loop
        self._ssl = ssl
        self._unauthenticated_ssl = unauthenticated_ssl
        self._prepared: dict[object, Prepared] = {}
        self._destinations: dict[object, aiohttp.ClientRequest] = {}

    def of(self, request: HttpRequest) -> Prepared:
        """The prepared head of a request. ConfigurationError for a request that cannot be sent."""
        key = (request.method, request.url, request.proxy, request.unauthenticated, tuple(request.headers.items()))
        found = self._prepared.get(key)
        if found is None:
            if len(self._prepared) >= MAX_KEPT:
                self._prepared.clear()
            try:
                found = self._prepared[key] = self._prepare(request)
            finally:
                del key  # it has the headers: trackers of errors may walk through the variables of a frame that raises
        return found

    def _prepare(self, request: HttpRequest) -> Prepared:
        url = _checked(request.url, "the URL", encoded=True)
        destination = self.destination(url, request.proxy, unauthenticated=request.unauthenticated)
        host = url.host_port_subcomponent or ""
        target = url.raw_path_qs
        if request.proxy is not None and url.scheme == "http":
            target = f"http://{host}{target}"
        head = request_head(request.method, target, host, _sent_headers(request, url))
        streams = request.headers.get("Accept") == "text/event-stream"
        return Prepared(destination, head, request.method not in _WITHOUT_LENGTH, streams)

    def destination(self, url: URL, proxy: str | None, *, unauthenticated: bool) -> aiohttp.ClientRequest:
        """A request that is never sent, which aiohttp's connector needs as its target."""
        key = (url.origin(), proxy, unauthenticated)
        if key not in self._destinations:
            if len(self._destinations) >= MAX_KEPT:
                self._destinations.clear()
            is_plain = url.scheme == "http" and (proxy is None or _proxy_url(proxy).scheme == "http")
            ssl = True if is_plain else context_of(self._unauthenticated_ssl if unauthenticated else self._ssl)
            through = None if proxy is None else _proxy_url(proxy)
            self._destinations[key] = aiohttp.ClientRequest(
                "GET", url.origin(), loop=self._loop, proxy=through, ssl=ssl
            )
        return self._destinations[key]


def request_head(method: str, target: str, host: str, headers: Mapping[str, str]) -> bytes:
    """Request line and headers, without the length of the body and the empty line at the end.

    The last of several headers with the same name (ignoring case) is used. Raises ConfigurationError for control characters,
    which could inject headers or requests.
    """
    bad = any(map(_CONTROL.search, (method, target, host, *headers, *headers.values())))
    if bad or " " in method or " " in target:
        del headers
        raise ConfigurationError(
            "the method, URL or a header of the request has a line break or control character in it"
        )
    last = {name.lower(): f"{name}: {value}\r\n" for name, value in {"Host": host, **headers}.items()}
    return f"{method} {target} HTTP/1.1\r\n{''.join(last.values())}".encode()


def _sent_headers(request: HttpRequest, url: URL) -> Mapping[str, str]:
    """Those of the request, and for a proxy that reads them the credentials of its URL."""
    if request.proxy is None or url.scheme != "http":
        return request.headers
    return {**request.headers, **_proxy_authorization(request.proxy)}


def _proxy_authorization(proxy: str) -> dict[str, str]:
    url = _proxy_url(proxy)
    if url.user is None and url.password is None:
        return {}
    return {"Proxy-Authorization": aiohttp.encode_basic_auth(url.user or "", url.password or "")}


def _proxy_url(text: str) -> URL:
    url = _checked(text, "the proxy", encoded=False)
    if ":" in (url.user or ""):
        del url  # its repr has the password
        raise ConfigurationError("the user name of the proxy has a colon in it")
    return url


def _checked(text: str, what: str, *, encoded: bool) -> URL:
    with suppress(ValueError):
        url = URL(text, encoded=encoded)
        if url.scheme in ("http", "https") and url.raw_host and url.port is not None:
            return url
        del url
    raise ConfigurationError(f"{what} cannot be used: it needs http:// or https://, a host, and a port that exists")
