"""Details of a connection for the doctor: the proxy, and the server's certificate."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen

from nimclient._base.config import proxy_for

DAY = 86_400


@frozen
class Tls:
    """The result of a handshake: TLS version, issuer of the certificate, and its remaining days."""

    version: str
    issuer: str
    days: int


def proxy_of(base_url: str) -> str | None:
    """The proxy that the environment names for a URL, without user name and password."""
    proxy = proxy_for(base_url)
    return None if proxy is None else f"{urlsplit(proxy).scheme}://{urlsplit(proxy).netloc.rpartition('@')[2]}"


def tls_handshake(base_url: str, seconds: float) -> Tls | None:
    """Perform a TLS handshake and close the connection; None if it fails (a real request reports it better)."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    try:
        with (
            socket.create_connection((host, parts.port or 443), timeout=seconds) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secured,
        ):
            certificate: dict[str, Any] = secured.getpeercert() or {}
            until = ssl.cert_time_to_seconds(certificate["notAfter"])
            return Tls(secured.version() or "TLS", _issuer(certificate), int((until - time.time()) // DAY))
    except (OSError, KeyError, ValueError):
        return None


def _issuer(certificate: dict[str, Any]) -> str:
    names = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    return str(names.get("organizationName") or names.get("commonName") or "an unnamed issuer")
