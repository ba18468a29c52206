"""Builds requests: URL, key, headers, proxy. Only this module decides where the client's credentials and headers are sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from attrs import field, frozen

from nimclient import __version__
from nimclient._api.call import Call
from nimclient._api.catalog import Catalog
from nimclient._api.server_types import ServerRecord, ServerType
from nimclient._api.urls import BaseURL, origin_of, parse_base_url
from nimclient._base.callbacks import call_user
from nimclient._base.config import ClientConfig, Secret, is_credential_header, is_nvidia, proxy_for
from nimclient._base.values import HttpRequest
from nimclient._bulk.ticket import Users
from nimclient._engine.replicas import LOAD_FORMAT_HEADER, Lease, SingleEndpoint
from nimclient._nvcf.media import ASSETS_HEADER, OLD_ASSETS_HEADER
from nimclient._nvcf.platform import POLL_HEADER, assets_url, origin_elsewhere, status_url

USER_AGENT = f"nimclient/{__version__}"
MAX_TARGETS = 256
_OF_THE_CALL = frozenset(map(str.lower, (POLL_HEADER, ASSETS_HEADER, OLD_ASSETS_HEADER, "Content-Type")))
"""Headers that a poll for the result of a call does not send, or sends with another value."""


@frozen
class Target:
    """Where calls of a kind go, and what their requests share: looked up for each attempt, never changed.

    `base_url` is what the history of a call names: the base URL, or the whole URL if the model or route has its own.
    `shown_url` is without the query, which may hold a signature. `secret`: a callable key, to be called for each request.
    """

    url: str
    base_url: str
    shown_url: str
    server: ServerRecord
    headers: Mapping[str, str] = field(repr=False)
    secret: Secret | None
    origin: str


class Requests:
    """Builds the requests of one client; `proxies` caches the environment's proxy for each origin, `server` is what is
    known of the server behind a URL, `users` counts the plain calls.
    """

    def __init__(
        self,
        config: ClientConfig,
        catalog: Catalog,
        proxies: dict[str, str | None],
        server: Callable[[str], ServerRecord],
        users: Users,
    ) -> None:
        self.bases = tuple(map(parse_base_url, config.base_urls))
        self.is_hosted = is_nvidia(self.bases[0].origin)
        """Whether the base URL is one of NVIDIA's own hosts."""
        self._config = config
        self._catalog = catalog
        self._has_endpoints = self.is_hosted or bool(catalog.own)
        self._proxies = proxies
        self._server = server
        self._users = users
        own = (origin_of(model.endpoint) for model in catalog.own.values() if model.endpoint is not None)
        self._origins = frozenset({*(base.origin for base in self.bases), *own})
        self._secrets: dict[str, Secret | None] = {}
        self._targets: dict[object, Target] = {}

    @property
    def has_key(self) -> bool:
        """Whether a key is sent to the base URL."""
        return self._secret(self.bases[0].origin) is not None

    def is_nvidias(self, url: str) -> bool:
        """Whether a URL is on one of NVIDIA's own hosts."""
        return is_nvidia(self.origin(url))

    def url_of(self, call: Call[Any], base: BaseURL | None = None) -> str:
        """The URL of a call: the model's own endpoint if it has one, else below the API root or the root of this replica."""
        base = base or self.bases[0]
        return self.own_url(call) or (base.root if call.at_root else base.api) + call.path

    def own_url(self, call: Call[Any]) -> str | None:
        """The URL of a call that cannot go to another replica."""
        if not call.path.startswith("/"):
            return call.path
        if self._has_endpoints and call.model is not None and call.method == "POST" and not call.at_root:
            return self.endpoint_of(call.model)
        return None

    def endpoint_of(self, model: str) -> str | None:
        """The model's own URL: from `endpoints=`, or in the hosted catalog from the model table."""
        known = self._catalog.own.get(model) or (self._catalog.get(model) if self.is_hosted else None)
        return None if known is None else known.endpoint

    def assets_url(self, url: str | None = None) -> str:
        """The assets URL for a call to this URL, or for the base URL."""
        base = self.bases[0] if url is None else self.base_of(url) or self.bases[0]
        origin = base.origin if url is None else self.origin(url)
        return assets_url(origin, base.root, nvidia=is_nvidia(origin))

    def target(self, call: Call[Any], base: BaseURL) -> Target:
        """Where a call goes at this replica."""
        kind = (call.method, call.accept, call.stream, call.at_root, call.unauthenticated, call.body is None)
        key = (base.root, call.path, call.model, kind)
        return self._targets.get(key) or self._find_target(key, call, base)

    def make(
        self,
        call: Call[Any],
        target: Target,
        extra: Mapping[str, str],
        bearer: str | None,
        lease: Lease | SingleEndpoint,
        sent: float | None,
    ) -> HttpRequest:
        """The request of an attempt.

        Args:
            call: What is sent.
            target: Where it goes.
            extra: The caller's headers for this call, which override others, as all do the key.
            bearer: The value of a callable key.
            lease: The lease of the replica, which ends with a stream.
            sent: The time, for a plain call; None for one of many, which leave room for plain ones.
        """
        headers = target.headers
        if bearer is not None:
            headers = {"Authorization": bearer, **headers}
        if call.headers or extra:
            headers = {**headers, **call.headers, **extra}
        proxy = self._proxy(target.origin)
        request = HttpRequest(call.method, target.url, headers, call.body, proxy, call.unauthenticated, sent is None)
        request.raw = call.decode_raw is not None
        if call.kind and sent is not None:
            users = self._users
            users.last = sent
            users.open.add(id(request))
            request.on_end = partial(users.open.discard, id(request))
        if call.stream and isinstance(lease, Lease):
            request.on_end = lease.end if request.on_end is None else partial(_end, lease, request.on_end)
        return request

    def _find_target(self, key: object, call: Call[Any], base: BaseURL) -> Target:
        """The target, cached: URLs may contain ids, so only so many."""
        url = self.url_of(call, base)
        shown_url = url.partition("?")[0]
        base_url = base.api if url.startswith(base.root) else shown_url
        headers: dict[str, str] = {}
        if call.unauthenticated:
            secret, origin = None, origin_elsewhere(url)
        else:
            origin = self.origin(url)
            secret = self._secret(origin)
            headers = _headers(call.accept, stream=call.stream)
            if secret is not None and secret.is_literal:
                headers["Authorization"] = secret.bearer()
                secret = None
            if call.body is not None:
                headers["Content-Type"] = "application/json"
            reports = call.path.endswith("/completions") and not call.stream and self.server_type(base) != "hosted"
            if reports and len(self.bases) > 1:
                headers[LOAD_FORMAT_HEADER] = "TEXT"
            if self._is_ours(origin):
                headers.update(self._config.headers)
        made = Target(url, base_url, shown_url, self._server(url), MappingProxyType(headers), secret, origin)
        if len(self._targets) >= MAX_TARGETS:
            self._targets.clear()
        self._targets[key] = made
        return made

    async def poll(
        self, call: Call[Any], url: str, extra: Mapping[str, str], request_id: str, seconds: int
    ) -> HttpRequest:
        """The request that polls for the result of an accepted request. The caller's headers go to the call's origin only."""
        origin = self.origin(url)
        base = self.base_of(url) or self.bases[0]
        status = status_url(url, origin, base.root, request_id, nvidia=is_nvidia(origin))
        there = self.origin(status)
        headers = _headers(call.accept, stream=call.stream)
        if (secret := self._secret(there)) is not None:
            headers["Authorization"] = secret.bearer() if secret.is_literal else await call_user(secret.bearer)
        if there == origin:
            own = {**(self._config.headers if self._is_ours(origin) else {}), **extra}
            headers.update((name, value) for name, value in own.items() if name.lower() not in _OF_THE_CALL)
        headers[POLL_HEADER] = str(seconds)
        return HttpRequest("GET", status, headers, None, self._proxy(there))

    def fetch(self, address: str) -> HttpRequest:
        """The request that fetches a result from the address given in a response."""
        return self.unauthenticated("GET", address, {"Accept": "*/*", "User-Agent": USER_AGENT}, None)

    def unauthenticated(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> HttpRequest:
        """A request without credentials and headers of the client, for an address given by a server."""
        return HttpRequest(method, url, headers, body, self._proxy(origin_elsewhere(url)), unauthenticated=True)

    def server_type(self, base: BaseURL) -> ServerType | None:
        """The server type of a replica: as stated, else as detected."""
        return self._config.dialect or ("hosted" if is_nvidia(base.origin) else self._server(base.api).type)

    def opening(self, base: BaseURL) -> HttpRequest:
        """A request that is never sent: it specifies the target of a connection."""
        return HttpRequest("GET", base.api, {}, None, self._proxy(base.origin))

    def key_note(self, request: HttpRequest, extra: Mapping[str, str]) -> str:
        """Which key a request was sent with, or why without, for the message of a 401."""
        if request.unauthenticated:
            return ""
        own = next((name for name in (*extra, *self._config.headers) if is_credential_header(name)), None)
        if own is not None and request.headers.get(own):
            return f"the header {own} that you set was sent"
        return self._config.credentials.note(self.origin(request.url), self.bases[0].origin, self._origins)

    def base_of(self, url: str) -> BaseURL | None:
        """The base URL that this URL is below."""
        found = [base for base in self.bases if url.startswith(base.root + "/")]
        if len(found) > 1:
            return max(found, key=lambda base: len(base.root))
        return found[0] if found else None

    def origin(self, url: str) -> str:
        """scheme://host:port of a URL."""
        base = self.base_of(url)
        return base.origin if base is not None else origin_elsewhere(url)

    def _is_ours(self, origin: str) -> bool:
        """Whether this origin is a configured one, to which the client's headers may be sent."""
        return origin in self._origins or (self.is_hosted and is_nvidia(origin))

    def _proxy(self, origin: str) -> str | None:
        """The configured proxy, else the environment's for this origin, cached."""
        if self._config.proxy is not None or not self._config.trust_env:
            return self._config.proxy
        if origin not in self._proxies:
            self._proxies[origin] = proxy_for(origin)
        return self._proxies[origin]

    def _secret(self, origin: str) -> Secret | None:
        """The key that may be sent to this origin."""
        if origin not in self._secrets:
            self._secrets[origin] = self._config.credentials.for_origin(origin, self.bases[0].origin, self._origins)
        return self._secrets[origin]


def _end(lease: Lease, counted: Callable[[], object]) -> None:
    counted()
    lease.end()


def _headers(accept: str, *, stream: bool) -> dict[str, str]:
    """The headers of every request."""
    return {
        "Accept": "text/event-stream" if stream else accept,
        "Accept-Encoding": "identity" if stream else "gzip, deflate",
        "User-Agent": USER_AGENT,
    }
