"""Plain values shared by the layers: request, response head, timings and metadata of an exchange. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, SupportsIndex

from attrs import define, field, frozen


class Headers(Mapping[str, str]):
    """Response headers: a case-insensitive mapping, built on first use; repeated headers are joined by a comma."""

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
        """The value of a rare header, without building the mapping; `name` in lower case."""
        size = len(name)
        for raw_name, value in self._raw:
            if len(raw_name) == size and raw_name.lower() == name:
                return value.decode("utf-8", "replace")
        return None

    def with_missing(self, name: str, value: str) -> Headers:
        """A copy with this header added if it is missing."""
        return self if name in self else Headers((*self._raw, (name.encode(), value.encode())))

    def __repr__(self) -> str:
        return f"Headers({self._load()!r})"

    def __reduce__(self) -> tuple[type[Headers], tuple[tuple[tuple[bytes, bytes], ...]]]:
        return Headers, (tuple(self._raw),)


@frozen
class Timings:
    """How long an exchange took, in seconds; None if not applicable.

    `queue` waiting for a free slot of the pool; `connect` name look-up, TCP and TLS (None on a reused connection);
    `ttft` from sending the request to the first event with content (streams only); `total` from the call to the end of
    the response; `inter_token` the gaps between events with content (streams only); `gaps` from each break of a resumed
    stream to its next content.
    """

    queue: float | None = None
    connect: float | None = None
    ttft: float | None = None
    total: float | None = None
    inter_token: Sequence[float] = ()
    gaps: Sequence[float] = ()


@frozen
class ResponseMeta:
    """The exchange behind a record: status, headers, request id, URL, number of attempts, timings.

    `resumed` is how often a stream was resumed; status, headers and URL are those of its first response then.
    """

    status: int
    headers: Headers = field(repr=False)
    url: str
    attempts: int = 1
    timings: Timings = Timings()
    resumed: int = 0

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
"""Those of the hosted catalog, NIM and vLLM, Dynamo, LiteLLM; then those of gateways, the outermost last."""


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The request id in response headers, with unprintable characters removed."""
    for name in _REQUEST_ID_HEADERS:
        if value := headers.get(name):
            return printable_id(value)
    return None


def printable_id(value: str) -> str:
    """An id with unprintable characters removed, at most 200 characters."""
    return "".join(c for c in value if c.isprintable())[:200]


def path_of(url: str) -> str:
    """The path of a URL for display: without the query, which may hold a signature."""
    return "/" + url.partition("://")[2].partition("?")[0].partition("/")[2]


def _without_query(url: str) -> str:
    return repr(url.partition("?")[0])


@define
class HttpRequest:
    """One request as the transport sends it: with exactly these headers besides Host and Content-Length.

    The repr hides header values that are secrets and the query of the URL.

    `unauthenticated`: no credentials of the client may be sent, its TLS certificate included.
    `bulk`: it is one of many, which leave room for plain requests.
    `raw`: the response may be bytes in many small chunks.
    `on_end` is called when the exchange ends for any reason: the body is complete, aborted, or there is none.
    """

    method: str
    url: str = field(repr=_without_query)
    headers: Mapping[str, str]
    body: bytes | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    unauthenticated: bool = False
    bulk: bool = False
    on_end: Callable[[], object] | None = field(default=None, repr=False)
    raw: bool = False

    @property
    def shown_url(self) -> str:
        """The URL for display: without the query, which may hold a signature."""
        return self.url.partition("?")[0]


@define
class HttpHead:
    """The head of a response; `queue` and `connect` are seconds; `reused`: the connection came from the pool.

    `unauthenticated`: the request carried no credentials of the client.
    """

    status: int
    headers: Headers = field(repr=False)  # may repeat a key
    queue: float
    connect: float | None
    reused: bool
    unauthenticated: bool = False


BodyPhase = Literal["first_event", "idle", "body"]


class RedactedStr(str):
    """A str with a redacted repr, its parts too: for header values that are secrets, and proxies that may have a password."""

    __slots__ = ()

    def __getitem__(self, place: SupportsIndex | slice) -> RedactedStr:
        return RedactedStr(super().__getitem__(place))

    def __repr__(self) -> str:
        return "'***'"
