"""Validates base URLs and builds URLs below them.

Inference routes hang below `/v1`, management routes of vLLM (/tokenize, /health) below the root; both keep the path
prefix of a reverse proxy.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from attrs import frozen

from nimclient._base.config import is_nvidia
from nimclient._base.types import is_array
from nimclient.errors import ConfigurationError

_INFERENCE_PATHS = (
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/models",
    "/ranking",
    "/rankings",
    "/reranking",
    "/rerank",
    "/infer",
)


@frozen
class BaseURL:
    """A parsed base URL: `root` without /v1, `api` with it, `origin` scheme://host:port, all without a trailing slash."""

    root: str
    api: str
    origin: str


def parse_base_url(url: object, where: str = "base_url") -> BaseURL:
    """Accepts http(s)://host[:port][/prefix][/v1][/]; anything else raises ConfigurationError."""
    whole, origin = _split(url, where)
    path = whole.removeprefix(origin)
    for tail in _INFERENCE_PATHS:
        if path.endswith(tail):
            raise ConfigurationError(
                f"{where} is an inference URL (it ends in {tail}); pass the root or its /v1, "
                f"or give one model its own URL with endpoints={{...}}"
            )
    root = origin + path.removesuffix("/v1")
    return BaseURL(root, f"{root}/v1", origin)


def parse_base_urls(urls: object, where: str = "base_url") -> tuple[BaseURL, ...]:
    """One base URL, or a list of replicas: all different, and without the hosted catalog among several."""
    if not is_array(urls):
        return (parse_base_url(urls, where),)
    if len(urls) == 1:
        return (parse_base_url(urls[0], where),)
    bases = tuple(parse_base_url(url, f"{where}[{index}]") for index, url in enumerate(urls))
    if not bases:
        raise ConfigurationError("base_url is an empty list; leave it out for the hosted catalog")
    if twice := next((base.api for index, base in enumerate(bases) if base in bases[:index]), None):
        raise ConfigurationError(f"base_url names {twice} twice; replicas must be different servers")
    if len({is_nvidia(base.origin) for base in bases}) > 1:
        raise ConfigurationError(
            "base_url names the hosted catalog together with other servers, which are not replicas of it"
        )
    return bases


def parse_endpoint(url: object, where: str) -> tuple[str, str]:
    """A model's own URL and its origin, validated like a base URL but used unchanged."""
    return _split(url, where)


def origin_of(url: str) -> str:
    """scheme://host:port of a validated URL; default ports are omitted."""
    return _split(url, "url")[1]


def _split(url: object, where: str) -> tuple[str, str]:
    if not isinstance(url, str):
        raise ConfigurationError(f"{where} must be a str, not {type(url).__name__}")
    text = url.strip()
    parts = http_parts(text, where, "must look like http://host:8000/v1 or https://host/v1", "headers=")
    host, port = parts.hostname or "", parts.port
    if "?" in text or "#" in text or ";" in parts.path:
        raise ConfigurationError(f"{where} must not have a query, parameters or a fragment")
    if any(c.isspace() or not c.isprintable() or c in '\\<>"{}|^`' for c in text):
        raise ConfigurationError(f"{where} has white space or another character that is invalid in a URL")
    name = f"[{host}]" if ":" in host else host
    default = 443 if parts.scheme == "https" else 80
    origin = f"{parts.scheme}://{name}" + (f":{port}" if port is not None and port != default else "")
    return origin + parts.path.rstrip("/"), origin


def http_parts(url: str, where: str, form: str, headers: str) -> SplitResult:
    """The parts of an absolute URL. ConfigurationError for another scheme, a malformed host or port, and credentials."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{where} is not a URL (its host or port is malformed)") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"{where} {form}")
    if "@" in parts.netloc:
        raise ConfigurationError(f"{where} must not hold a user name or password; pass api_key= or {headers}")
    return parts
