"""Settings of a client: time limits, retries, capacity, the key and where it may go. The only module that reads the
environment. Settings are validated when they are set; nothing here does I/O."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from attrs import Attribute, evolve, field, frozen
from attrs.converters import optional

from nimclient._base.values import RedactedStr
from nimclient.errors import ConfigurationError

HOSTED_BASE_URL = "https://integrate.api.nvidia.com/v1"
HOW_TO_GET_A_KEY = "create one at https://build.nvidia.com and set NVIDIA_API_KEY (or pass api_key=)"

ApiKey: TypeAlias = str | Callable[[], str]
Dialect: TypeAlias = Literal["nim", "vllm", "dynamo", "hosted"]
MAX_NUMBER = 1e15
DIALECTS: tuple[Dialect, ...] = ("nim", "vllm", "dynamo", "hosted")


def _not_negative(instance: object, attribute: Attribute[Any], value: object) -> None:
    if value is None and attribute.metadata.get("off", True):
        return
    name = f"{type(instance).__name__}({attribute.name}=…)"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{name} takes a number, not {type(value).__name__}")
    minimum: float = attribute.metadata.get("minimum", 0)
    if not minimum <= value <= MAX_NUMBER:  # NaN is neither
        raise ConfigurationError(f"{name} must be a number of at least {minimum} and at most {MAX_NUMBER:g}")


def _whole(instance: object, attribute: Attribute[Any], value: object) -> None:
    _not_negative(instance, attribute, value)
    if value is not None and not isinstance(value, int):
        raise ConfigurationError(f"{type(instance).__name__}({attribute.name}=…) takes a whole number, not {value}")


def _folder(instance: object, attribute: Attribute[Any], value: object) -> None:
    name = f"{type(instance).__name__}({attribute.name}=…)"
    if value is not None and not isinstance(value, (str, os.PathLike)):
        raise ConfigurationError(f"{name} takes the path of a folder, not {type(value).__name__}")
    if value == "":
        raise ConfigurationError(f"{name} takes the path of a folder, and it is empty")


@frozen(kw_only=True)
class Timeouts:
    """Time limits in seconds; None disables one. Exceeding one raises RequestTimeoutError.

    `connect` name look-up, TCP and TLS; `pool` waiting for a free slot of the pool; `headers` from sending the request
    to the response headers; `first_event` from the headers to the first event with content; `idle` between two events
    of a stream (comments do not count), or between two reads of a plain body; `total` the whole call with all attempts
    and delays.
    """

    connect: float | None = field(default=5.0, validator=_not_negative)
    pool: float | None = field(default=None, validator=_not_negative)
    headers: float | None = field(default=600.0, validator=_not_negative)
    first_event: float | None = field(default=600.0, validator=_not_negative)
    idle: float | None = field(default=300.0, validator=_not_negative)
    total: float | None = field(default=None, validator=_not_negative)


@frozen(kw_only=True)
class RetryPolicy:
    """When a failed attempt is retried; durations in seconds.

    `attempts` is the maximum number of attempts: 1 never retries. The delay before retry n is drawn from 0 to
    min(max_delay, first_delay × 2^(n-1)). A Retry-After above `max_retry_after` raises at once. `patience` is how long
    one slice of a call over many items waits in total while the server throttles or is unreachable (None: 120 s, in
    durable jobs 900 s); without `wait_for_server` only while it throttles, and one that is unreachable costs attempts,
    as in a single call. `resume` is how often an interrupted chat stream is continued, if the call does not say.
    """

    attempts: int = field(default=3, validator=_whole, metadata={"off": False, "minimum": 1})
    first_delay: float = field(default=0.5, validator=_not_negative, metadata={"off": False})
    max_delay: float = field(default=8.0, validator=_not_negative, metadata={"off": False})
    max_retry_after: float = field(default=60.0, validator=_not_negative, metadata={"off": False})
    patience: float | None = field(default=None, validator=_not_negative)
    wait_for_server: bool = True
    resume: int = field(default=0, validator=_whole, metadata={"off": False})


@frozen(kw_only=True)
class Limits:
    """Limits on concurrency, sizes and request rate; None disables one.

    `concurrency` requests in flight in one event loop (an open stream counts as one), never more than `ulimit -n` less 32;
    `max_body` bytes of one response after decompression; `max_event` bytes of one event of a stream; `requests_per_minute`
    and `tokens_per_minute` at most, evenly spaced. Tokens are those of prompts and answers: expected when a request is sent,
    corrected by the usage in its answer.

    `share` is a folder: all clients that name it, in any process and on any machine that mounts it, have these two limits
    together, and calls over many items have one pace: what a server takes is found out once, and divided fairly.
    """

    concurrency: int | None = field(default=1000, validator=_whole, metadata={"minimum": 1})
    max_body: int | None = field(default=256 * 2**20, validator=_whole, metadata={"minimum": 1})
    max_event: int | None = field(default=16 * 2**20, validator=_whole, metadata={"minimum": 1})
    requests_per_minute: float | None = field(default=None, validator=_not_negative, metadata={"minimum": 0.001})
    tokens_per_minute: float | None = field(default=None, validator=_not_negative, metadata={"minimum": 0.001})
    share: str | os.PathLike[str] | None = field(default=None, validator=_folder)


def resolve_timeouts(base: Timeouts, timeout: float | Timeouts | None) -> Timeouts:
    """The limits of one call: `timeout=` is seconds in total, or a Timeouts that replaces the client's."""
    if timeout is None:
        return base
    if isinstance(timeout, Timeouts):
        return timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise ConfigurationError(f"timeout takes seconds or Timeouts, not {type(timeout).__name__}")
    return evolve(base, total=float(timeout))


class Secret:
    """An API key that never appears in repr, str or pickle. A callable is called for each request."""

    __slots__ = ("_source", "origin")

    def __init__(self, source: ApiKey, origin: str = "api_key") -> None:
        if isinstance(source, str):
            check_key(source, origin)
        elif not callable(source):
            raise ConfigurationError(f"api_key takes a str or a callable, not {type(source).__name__}")
        self._source = source
        self.origin = origin
        """Where the key comes from: "api_key", or the name of an environment variable."""

    @property
    def is_literal(self) -> bool:
        """Whether this holds the key itself rather than a callable or an environment variable."""
        return isinstance(self._source, str)

    def reveal(self) -> str:
        """The key in plain text."""
        return self._source if isinstance(self._source, str) else check_key(self._source())

    def bearer(self) -> str:
        """The value of the Authorization header, hidden from repr."""
        return RedactedStr(f"Bearer {self.reveal()}")

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.is_literal:
            raise TypeError("a literal key is not pickled")
        return Secret, (self._source, self.origin)


_QUOTES = "\"'`\u2018\u2019\u201c\u201d"


def check_key(key: object, where: str = "api_key") -> str:
    """Return `key` if it can stand in a header; otherwise a ConfigurationError that shows only its length."""
    if not isinstance(key, str):
        raise ConfigurationError(f"{where} must be a str, not {type(key).__name__}")
    if not key:
        raise ConfigurationError(f"{where} is empty; leave it out to send no key")
    if len(key) > 8192:
        raise ConfigurationError(f"{where} has {len(key)} characters, too many for a header")
    if key[0] in "\ufeff\ufffe" or key.startswith("\u00ef\u00bb\u00bf"):
        raise ConfigurationError(f"{where} begins with a byte-order mark; save the file it comes from without one")
    if key[0] in _QUOTES or key[-1] in _QUOTES:
        raise ConfigurationError(f"{where} has quotes around it; remove them (env files of containers keep them)")
    if key.lower().startswith("bearer "):
        raise ConfigurationError(f'{where} begins with "Bearer "; pass the key alone')
    if not all("!" <= c <= "~" for c in key):
        raise ConfigurationError(
            f"{where} ({len(key)} characters) has a space, a line break or a character outside ASCII; strip it first"
        )
    return key


def environment_key(name: str) -> Secret | None:
    """The key in this environment variable, stripped; None if it is unset or blank."""
    value = os.environ.get(name, "").strip()
    return Secret(value, name) if value else None


def environment_base_url() -> str | None:
    """NVIDIA_BASE_URL, stripped; None if it is unset or blank. ConfigurationError if it has quotes around it."""
    value = os.environ.get("NVIDIA_BASE_URL", "").strip().removeprefix("\ufeff")
    if value and (value[0] in _QUOTES or value[-1] in _QUOTES):
        raise ConfigurationError(
            "NVIDIA_BASE_URL has quotes around it; remove them (env files of containers keep them)"
        )
    return value or None


@frozen
class Credentials:
    """Which key is sent to which origin (scheme://host:port); no key is sent to any other origin.

    `everywhere` an explicit key or NVIDIA_NIM_API_KEY, for every configured origin; `catalog` NVIDIA_API_KEY, for
    NVIDIA's own hosts and for a base URL that itself comes from NVIDIA_BASE_URL.
    """

    everywhere: Secret | None = None
    catalog: Secret | None = None
    trusted_base: bool = False

    @classmethod
    def gather(cls, api_key: ApiKey | None, *, base_from_environment: bool) -> Credentials:
        """Take the key from the argument, else from the environment."""
        if api_key is not None:
            return cls(everywhere=Secret(api_key), trusted_base=base_from_environment)
        return cls(
            everywhere=environment_key("NVIDIA_NIM_API_KEY"),
            catalog=environment_key("NVIDIA_API_KEY"),
            trusted_base=base_from_environment,
        )

    def portable(self) -> Credentials:
        """The credentials without literal keys, for a pickle."""
        return evolve(self, everywhere=_by_reference(self.everywhere), catalog=_by_reference(self.catalog))

    def completed(self) -> Credentials:
        """The credentials with missing keys filled in from this process's environment."""
        if self.everywhere is not None:
            return self
        return Credentials.gather(None, base_from_environment=self.trusted_base)

    def note(self, origin: str, base: str, configured: frozenset[str] = frozenset()) -> str:
        """Which key `for_origin` returns, or why it returns none, as text for an error message."""
        key = self.for_origin(origin, base, configured)
        if key is not None:
            return f"that of {key.origin} was sent"
        held = self.everywhere or self.catalog
        if held is None:
            return "none was sent, since neither api_key= nor NVIDIA_NIM_API_KEY or NVIDIA_API_KEY is set"
        if held is self.catalog:
            return (
                "none was sent: NVIDIA_API_KEY goes to NVIDIA's own hosts only; pass api_key= or set NVIDIA_NIM_API_KEY"
            )
        return f"none was sent: that of {held.origin} goes to the origins of base_url and endpoints only"

    def for_origin(self, origin: str, base: str, configured: frozenset[str] = frozenset()) -> Secret | None:
        """The key for this origin, or None. `base` is the origin of base_url, `configured` are those of endpoints."""
        nvidia = is_nvidia(origin)
        if nvidia and self.catalog is not None:  # the key issued for these hosts
            return self.catalog
        if self.everywhere is not None and (origin == base or origin in configured or (nvidia and is_nvidia(base))):
            return self.everywhere
        return self.catalog if self.trusted_base and origin == base else None


def _by_reference(key: Secret | None) -> Secret | None:
    return None if key is None or key.is_literal else key


def is_nvidia(origin: str) -> bool:
    """Whether an origin is one of NVIDIA's own API hosts: https and *.api.nvidia.com, or api.nvcf.nvidia.com."""
    if not origin.startswith("https://"):
        return False
    host = origin.removeprefix("https://").partition(":")[0]
    return host.endswith(".api.nvidia.com") or host == "api.nvcf.nvidia.com"


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for this URL (http_proxy, https_proxy, all_proxy, no_proxy), or None.

    ConfigurationError for a proxy other than HTTP: SOCKS proxies are not supported.
    """
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxies = getproxies()
    proxy = (proxies.get(parts.scheme) or proxies.get("all") or "").strip()
    if not proxy or goes_direct(parts.hostname or "", parts.port, proxies.get("no", "")) or proxy_bypass(parts.netloc):
        return None
    scheme, mark, _ = proxy.partition("://")
    if mark and scheme.lower() not in ("http", "https"):
        raise ConfigurationError(
            f"the environment names a {scheme[:10]} proxy for {parts.scheme}://{parts.hostname}, and only HTTP proxies are "
            "supported, no SOCKS: set https_proxy to one, add the host to no_proxy, or pass trust_env=False"
        )
    return RedactedStr(proxy if mark else f"http://{proxy}")


_SEPARATORS = dict.fromkeys(map(ord, ",\"'"), " ")
"""Of the entries of no_proxy, with the quotes that env files of containers keep."""


def goes_direct(host: str, port: int | None, no_proxy: str) -> bool:
    """Whether `no_proxy` matches a host: by name, parent domain, host:port, network (10.0.0.0/8), or * for all."""
    return any(_names(entry, host.lower(), port) for entry in no_proxy.lower().translate(_SEPARATORS).split())


def _names(entry: str, host: str, port: int | None) -> bool:
    from ipaddress import ip_address, ip_network

    with contextlib.suppress(ValueError):
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    name, mark, number = entry.rpartition(":")
    if mark and number.isdigit():
        return port == int(number) and _names(name, host, port)
    domain = entry.lstrip("*").lstrip(".")
    return not domain or host == domain or host.endswith(f".{domain}")


@frozen(kw_only=True)
class ClientConfig:
    """All settings of a client: what `with_options` copies and what a pickle carries.

    `catalog` holds the Model records of `endpoints=`, and `transport` a nimclient.testing.Transport to use in place of
    aiohttp; this layer knows neither type. `defaults` holds the options of every call, by its kind.
    """

    base_urls: tuple[str, ...]
    credentials: Credentials
    models: Mapping[str, str]
    timeouts: Timeouts
    retry: RetryPolicy
    limits: Limits
    dialect: Dialect | None
    headers: Mapping[str, str] = field(repr=False)
    verify: Any
    cert: Any
    proxy: str | None = field(repr=False, converter=optional(RedactedStr))
    trust_env: bool
    catalog: Mapping[str, object]
    strict: bool
    on_attempt: Callable[[Any], object] | None
    transport: object = None
    defaults: Mapping[str, Mapping[str, Any]] = field(factory=dict[str, Mapping[str, Any]], repr=False)
    affinity: Literal["prefix"] | None = None

    def portable(self) -> ClientConfig:
        """The settings for a pickle: without literal keys, credential headers and proxy passwords.

        Raises TypeError if `verify` is an SSLContext, which cannot be pickled.
        """
        if not isinstance(self.verify, (bool, str, os.PathLike)):
            raise TypeError("a client whose verify is an SSLContext cannot be pickled; give it the path of a CA file")
        return evolve(
            self,
            credentials=self.credentials.portable(),
            headers=_without_credentials(self.headers),
            proxy=None if self.proxy is None else _without_password(self.proxy),
            defaults={kind: _portable_options(options) for kind, options in self.defaults.items()},
        )

    def completed(self) -> ClientConfig:
        """Unpickled settings with keys from this process's environment."""
        return evolve(self, credentials=self.credentials.completed())


_CREDENTIAL_WORDS = frozenset(
    {
        "auth",
        "authentication",
        "authorization",
        "authtoken",
        "accesstoken",
        "bearer",
        "credentials",
        "csrf",
        "dpop",
        "hmac",
        "pass",
        "passwd",
        "session",
        "sessionid",
        "sso",
        "ticket",
        "xsrf",
        "token",
        "key",
        "apikey",
        "secret",
        "cookie",
        "password",
        "credential",
        "jwt",
        "signature",
    }
)
_NO_CREDENTIALS = frozenset({"idempotency-key", "x-session-affinity"})


def is_credential_header(name: str) -> bool:
    """Whether a header holds a credential, by name: Authorization, X-Auth-Token, X-Session, Ocp-Apim-Subscription-Key and
    similar.
    """
    name = name.lower()
    return name not in _NO_CREDENTIALS and not _CREDENTIAL_WORDS.isdisjoint(name.replace("_", "-").split("-"))


def _without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if not is_credential_header(name)}


def _portable_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options without headers that hold credentials."""
    headers = options.get("extra_headers")
    return {**options, "extra_headers": _without_credentials(headers)} if headers else options


def _without_password(proxy: str) -> str:
    scheme, _, rest = proxy.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_FRAMING = frozenset({"transfer-encoding", "content-length", "te", "trailer", "upgrade", "expect"})


def check_headers(headers: Mapping[str, str] | None, where: str = "headers") -> dict[str, str]:
    """A copy of the caller's headers; ConfigurationError for a name or value that is invalid in a request."""
    checked: dict[str, str] = {}
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise ConfigurationError(
                f"{where} takes str names and values, not {type(name).__name__}: {type(value).__name__}"
            )
        if not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError(f"{where} has an invalid header name {name!r}")
        if name.lower() in _FRAMING:
            raise ConfigurationError(f"{where} must not hold {name}: the client sets it")
        if any((c < " " and c != "\t") or c == "\x7f" for c in value):
            raise ConfigurationError(f"{where}[{name!r}] has a line break or another control character in its value")
        checked[name] = RedactedStr(value)
    return checked


def check_dialect(dialect: str | None) -> Dialect | None:
    """The dialect, validated."""
    for known in DIALECTS:
        if dialect == known:
            return known
    if dialect is not None:
        raise ConfigurationError(f"dialect is {dialect!r}; choose one of {', '.join(DIALECTS)} or None")
    return None


def check_affinity(affinity: object) -> Literal["prefix"] | None:
    """The affinity, validated."""
    if affinity is None or affinity == "prefix":
        return "prefix" if affinity else None
    raise ConfigurationError(f'affinity is {affinity!r}; choose "prefix" or None')


def check_models(model: str | Mapping[str, str] | None) -> dict[str, str]:
    """The default model for each kind; a plain str is the default for all kinds ("*")."""
    kinds: Sequence[str] = ("chat", "embedding", "ranking", "completions")
    if model is None:
        return {}
    if isinstance(model, str):
        model = {"*": model}
    elif not isinstance(model, Mapping):
        raise ConfigurationError(f"model takes a str or a mapping of kinds, not {type(model).__name__}")
    for kind, name in model.items():
        if kind not in kinds and kind != "*":
            raise ConfigurationError(f"model has the key {kind!r}; the kinds are {', '.join(kinds)}")
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"model[{kind!r}] must be a model id, not {name!r}")
    return dict(model)
