"""Plain values that pass between the layers: a request, the head of a response, and what is told about an exchange.

Nothing here does I/O or knows a library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from attrs import define, field, frozen


class Headers(Mapping[str, str]):
    """Response headers: a mapping that ignores case, built when first looked at; repeats are joined by a comma."""

    __slots__ = ("_fields", "_raw")

    def __init__(self, raw: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._raw = raw
        self._fields: dict[str, str] | None = None

    def _load(self) -> dict[str, str]:
        fields = self._fields
        if fields is None:
            fields = {}
            for raw_name, raw_value in self._raw:
                name = raw_name.decode("latin-1").lower()
                value = raw_value.decode("utf-8", "replace")
                fields[name] = f"{fields[name]}, {value}" if name in fields else value
            self._fields = fields
        return fields

    def __getitem__(self, name: str) -> str:
        return self._load()[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._load()

    def find(self, name: bytes) -> str | None:
        """The value of a header that is hardly ever there, without building the mapping; `name` in lower case."""
        size = len(name)
        for raw_name, value in self._raw:
            if len(raw_name) == size and raw_name.lower() == name:
                return value.decode("utf-8", "replace")
        return None

    def with_missing(self, name: str, value: str) -> Headers:
        """The same with this header where it is not among them."""
        return self if name in self else Headers((*self._raw, (name.encode(), value.encode())))

    def __repr__(self) -> str:
        return f"Headers({self._load()!r})"

    def __reduce__(self) -> tuple[type[Headers], tuple[tuple[tuple[bytes, bytes], ...]]]:
        return Headers, (tuple(self._raw),)


@frozen
class Timings:
    """How long an exchange took, in seconds; None where it does not apply.

    `queue` waiting for a free slot of the pool; `connect` name look-up, TCP and TLS (None on a reused connection);
    `ttft` from sending the request to the first event with content (streams only); `total` from the call to the end of
    the answer; `inter_token` the gaps between events with content (streams only).
    """

    queue: float | None = None
    connect: float | None = None
    ttft: float | None = None
    total: float | None = None
    inter_token: Sequence[float] = ()


@frozen
class ResponseMeta:
    """What is known of the exchange behind a record: status, headers, request id, URL, number of attempts, timings."""

    status: int
    headers: Headers = field(repr=False)
    url: str
    attempts: int = 1
    timings: Timings = Timings()

    @property
    def request_id(self) -> str | None:
        """The server's id of the request: NVCF-REQID (hosted), X-Request-Id (NIM, vLLM), x-litellm-call-id and others."""
        return request_id_of(self.headers)


_REQUEST_ID_HEADERS = (
    "nvcf-reqid",
    "x-request-id",
    "x-dynamo-request-id",
    "x-litellm-call-id",
    "request-id",
    "x-correlation-id",
    "apim-request-id",
    "x-ms-request-id",
    "x-amzn-requestid",
    "cf-ray",
)
"""The hosted catalog's, NIM's and vLLM's, Dynamo's, LiteLLM's; then those of gateways, the outermost last."""


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The request id in response headers, without anything that could break a line of a log."""
    for name in _REQUEST_ID_HEADERS:
        if value := headers.get(name):
            return printable_id(value)
    return None


def printable_id(value: str) -> str:
    """An id without anything that could break a line of a log, 200 characters at most."""
    return "".join(c for c in value if c.isprintable())[:200]


def path_of(url: str) -> str:
    """The path of a URL, for people: without its query, which may hold a signature."""
    return "/" + url.partition("://")[2].partition("?")[0].partition("/")[2]


def _without_query(url: str) -> str:
    return repr(url.partition("?")[0])


@define
class HttpRequest:
    """One request as the transport sends it: these headers and no others, beside Host and Content-Length.

    Header values that are secrets do not show in its repr, nor does the query of a URL.

    `anonymous`: nothing of the client's may be shown, its TLS certificate included.
    `on_end` is called when the exchange is over, however it ends: the body is finished, aborted or was never there.
    """

    method: str
    url: str = field(repr=_without_query)
    headers: Mapping[str, str]
    body: bytes | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    anonymous: bool = False
    on_end: Callable[[], object] | None = field(default=None, repr=False)

    @property
    def shown_url(self) -> str:
        """The URL for people: without its query, which may hold a signature."""
        return self.url.partition("?")[0]


@define
class HttpHead:
    """The head of a response; `queue` and `connect` are seconds; `reused`: the connection came out of the pool.

    `keyless`: it answers a request that carried nothing of the client's.
    """

    status: int
    headers: Headers
    queue: float
    connect: float | None
    reused: bool
    keyless: bool = False


BodyPhase = Literal["first_event", "idle", "body"]


class RedactedStr(str):
    """A str that does its work everywhere but never shows in a repr: for header values that are secrets."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"
