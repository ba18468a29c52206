"""The doctor's findings: one line per check, the remedy for a problem, and everything as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from attrs import field, frozen

from nimclient import Model, NimError
from nimclient.errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    DecodeError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RedirectError,
    RequestTimeoutError,
    ServerError,
    ServiceUnavailableError,
)

State = Literal["ok", "note", "failed"]
"""ok; note: not a problem; failed."""


@frozen
class Finding:
    """One check: its name, result and remedy. `facts` are additional fields of the JSON form."""

    name: str
    state: State
    text: str
    remedy: str = ""
    facts: dict[str, Any] = field(factory=dict[str, Any])

    def to_dict(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return {"name": self.name, "state": self.state, "text": self.text, "remedy": self.remedy or None, **self.facts}


def failed(name: str, error: NimError, remedy: str = "", **facts: Any) -> Finding:
    """The finding of a check that failed with an error."""
    return Finding(name, "failed", str(error), remedy or remedy_for(error), {"error": type(error).__name__, **facts})


def summary(findings: Iterable[Finding]) -> dict[str, Any]:
    """Everything as a JSON object; `ok`: nothing failed."""
    found = list(findings)
    return {"ok": all(one.state != "failed" for one in found), "findings": [one.to_dict() for one in found]}


_CONNECTING = {
    "dns": "check the host name in --base-url; the name server does not know it",
    "refused": "nothing listens there: start the server, or correct the host and port in --base-url",
    "unreachable": "check the host in --base-url, and the network or firewall on the way to it",
    "proxy": "check the proxy (https_proxy, http_proxy), or exclude the host with no_proxy",
    "resources": "this machine is out of sockets or files; raise the limit with ulimit -n",
}

_REMEDIES: tuple[tuple[type[NimError], str], ...] = (
    (
        PermissionDeniedError,
        "the key is wrong, or may not do this: check it, or get one at https://build.nvidia.com",
    ),
    (AuthenticationError, "the key is wrong or missing: check it, or pass another with --api-key-file"),
    (ModelNotFoundError, "name a model that this server and this key may use with --model"),
    (NotFoundError, "check the path in --base-url: it is the root of the server, with or without /v1"),
    (RateLimitError, "the server works and throttles: wait a minute and try again"),
    (ServiceUnavailableError, "the server is starting or overloaded: wait, and look at its log"),
    (ServerError, "the server failed: look at its log"),
    (RequestTimeoutError, "the server does not answer in time: look at its log, or allow more time with --timeout"),
    (RedirectError, "set --base-url to the address that it redirects to"),
    (ConnectionLostError, "the connection was closed: look at the log of the server, or of the proxy in front of it"),
    (ProtocolError, "no HTTP server answers there: check the port, and whether it is http or https"),
    (DecodeError, "what responds is not an inference server: check host, port and path in --base-url"),
)


def remedy_for(error: NimError) -> str:
    """What to do about an error."""
    if isinstance(error, ConnectError):
        return _tls_remedy(str(error)) if error.kind == "tls" else _CONNECTING[error.kind]
    return next((step for kind, step in _REMEDIES if isinstance(error, kind)), "")


def _tls_remedy(problem: str) -> str:
    words = problem.lower()
    if any(sign in words for sign in ("wrong version number", "record layer", "packet length")):
        return "the server does not speak TLS on this port: write http:// instead of https://"
    if "expired" in words:
        return "the server's certificate has expired: renew it, and check the clock of this machine"
    if "hostname mismatch" in words or "ip address mismatch" in words:
        return "the certificate is for another name: use that name in --base-url"
    return "the certificate is not signed by a CA that this machine trusts: set SSL_CERT_FILE to the file of its CA"


def counted(models: Sequence[Model]) -> dict[str, int]:
    """The number of models of each kind."""
    counts: dict[str, int] = {}
    for model in models:
        counts[model.kind] = counts.get(model.kind, 0) + 1
    return counts


def milliseconds(seconds: float | None) -> str:
    """A duration as text."""
    return "–" if seconds is None else f"{seconds * 1000:,.1f} ms"
