"""NVIDIA's cloud functions, the platform in front of the hosted catalog: where and how often to poll an accepted request, and
which result addresses may be followed.

A request that is not finished in time returns 202 with an id in `NVCF-REQID`; polling that id returns 202 again, the
result, or 302 to a large result. The platform drops a request that is not polled (NVCF invocation API).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, urljoin, urlsplit

from nimclient._retry.classify import classify_status
from nimclient.errors import DecodeError

POLL_HEADER = "NVCF-POLL-SECONDS"
POLL_SECONDS = 30
"""Default seconds that a poll waits for the result at the platform, which accepts 1 to 3600."""

MAX_POLL_SECONDS = 3600
MIN_POLL_TTL = 10.0
MAX_POLL_INTERVAL = MIN_POLL_TTL / 2

_PLATFORM = "https://api.nvcf.nvidia.com/v2/nvcf"
_STATUS_HOSTS = frozenset(f"https://{name}.api.nvidia.com" for name in ("ai", "health", "climate", "optimize"))
_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,200}")
_URL = re.compile(r"[!-~]+")


def accepted_id(headers: Mapping[str, str]) -> str | None:
    """The id to poll an accepted request; None if it is missing or invalid in a path."""
    given = headers.get("nvcf-reqid", "").strip()
    return given if _ID.fullmatch(given) else None


def no_id(where: str) -> DecodeError:
    """The error for a 202 that cannot be polled."""
    problem = "accepted the request (202) but sent no NVCF-REQID to poll for its result"
    return DecodeError(f"the server {problem} ({where})", path="headers.nvcf-reqid", status=202)


def status_url(url: str, origin: str, root: str, request_id: str, *, nvidia: bool) -> str:
    """The URL to poll for the result of a request.

    NVIDIA's per-model hosts have a route for it, integrate.api.nvidia.com leaves it to api.nvcf.nvidia.com. A
    self-hosted server is polled below its own API root only.

    Args:
        url: The URL of the request.
        origin: Its scheme://host:port.
        root: The base URL without /v1.
        request_id: The id from the 202.
        nvidia: Whether it is one of NVIDIA's own hosts.
    """
    if nvidia:
        return (
            f"{origin}/v1/status/{request_id}" if origin in _STATUS_HOSTS else f"{_PLATFORM}/pexec/status/{request_id}"
        )
    if url.startswith(f"{root}/"):
        return f"{root}/v1/status/{request_id}"
    prefix, found, _ = url.removeprefix(origin).partition("/v1/")
    return f"{origin}{prefix if found else ''}/v1/status/{request_id}"


def assets_url(origin: str, root: str, *, nvidia: bool) -> str:
    """The assets route for this origin; `root`, the base URL without /v1, is used if it has the same origin."""
    if nvidia:
        return f"{_PLATFORM}/assets"
    own = f"{root}/".startswith(f"{origin}/")
    return f"{root if own else origin}/v2/nvcf/assets"


def poll_seconds(headers: Mapping[str, str]) -> int:
    """Seconds that a poll may take: from the caller's headers, else POLL_SECONDS."""
    given = next((value for name, value in headers.items() if name.lower() == POLL_HEADER.lower()), "").strip()
    return min(max(int(given), 1), MAX_POLL_SECONDS) if given.isascii() and given.isdecimal() else POLL_SECONDS


def poll_ttl(seconds: int) -> float:
    """Seconds without a poll after which the platform drops a request whose polls take up to `seconds`."""
    return max(2.0 * seconds, MIN_POLL_TTL)


def poll_intervals() -> Iterator[float]:
    """Seconds between polls: doubling, and short enough that the platform does not drop the request."""
    interval = 0.1
    while True:
        yield min(interval, MAX_POLL_INTERVAL)
        interval *= 2


def is_transient(status: int, headers: Mapping[str, str]) -> bool:
    """Whether this status of a poll is a transient failure of the polling, not the result.

    A 504 marked `errored` is: the work was cancelled.
    """
    if status == 504:
        return headers.get("nvcf-status") != "errored"
    return classify_status(status).outage


def deprecation(model: str | None, path: str, value: str) -> str:
    """The text of a warning for a `Deprecation` header: a date (hosted), `@` and a Unix time, or true (RFC 9745)."""
    subject = f"model {model!r}" if model is not None else path
    when = f" (Deprecation: {value[:60]})" if value.isprintable() else ""
    return f"the server will stop serving {subject}{when}; choose another one"


def safe_redirect_target(source: str, location: str | None) -> str | None:
    """The address given by a server at `source` for a result or an upload, None if unsafe.

    It must be https. Plain http is followed from plain http only, to the same origin or within this machine.
    """
    if not location or not _URL.fullmatch(location):
        return None
    try:
        target = urljoin(source, location)
        there, here = urlsplit(target), urlsplit(source)
        same = _origin(there) == _origin(here)
    except ValueError:
        return None
    if not there.hostname or "@" in there.netloc:
        return None
    local = _is_loopback(there.hostname) and _is_loopback(here.hostname or "")
    plain = there.scheme == here.scheme == "http" and (same or local)
    return target if there.scheme == "https" or plain else None


def origin_elsewhere(url: str) -> str:
    """scheme://host:port of an address that `safe_redirect_target` accepted."""
    scheme, host, port = _origin(urlsplit(url))
    name = f"[{host}]" if host and ":" in host else host
    return f"{scheme}://{name}" + (f":{port}" if port else "")


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, parts.hostname, None if parts.port == default else parts.port


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None
