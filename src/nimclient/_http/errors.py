"""Translates aiohttp's exceptions to the error tree. The messages contain no names of aiohttp and no bytes of the peer."""

from __future__ import annotations

import errno

import aiohttp
from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError, TransferEncodingError

from nimclient._base.init_lock import out_of_resources
from nimclient.errors import (
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    Phase,
    ProtocolError,
    TransportError,
)

_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


def translate(error: BaseException, phase: Phase, reused: bool) -> BaseException:
    """Translate an exception of aiohttp. Order matters: its classes overlap."""
    match error:
        case TransportError():
            return error
        case OSError(errno=number) if number in _RESOURCES and phase in ("pool", "connect"):
            return out_of_resources(number)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return ConnectError("no connection through the proxy", kind="proxy")
        case aiohttp.ClientConnectorDNSError():
            return ConnectError(f"the name {error.host!r} could not be resolved", kind="dns")
        case aiohttp.ClientConnectorCertificateError():
            return ConnectError(f"the certificate of {error.host!r} is not valid: {_reason(error)}", kind="tls")
        case aiohttp.ClientSSLError():
            return ConnectError(f"TLS with {error.host!r} failed: {_reason(error)}", kind="tls")
        case aiohttp.ClientConnectorError(host=host, port=port, os_error=cause):
            return _connect_error(f"{host}:{port}", cause)
        case HttpProcessingError() | aiohttp.ClientError() | OSError() if phase == "connect":  # before any request
            return ConnectError(f"the proxy made no tunnel: {_reason(error)}", kind="proxy")
        case HttpProcessingError():
            return ProtocolError(f"the response is not HTTP: {_reason(error)}", phase=phase)
        case aiohttp.ClientPayloadError() if _is_malformed(error):
            return ProtocolError(f"the body is malformed: {_reason(error)}", phase="body")
        case aiohttp.ClientError() | OSError():
            lost = "before the response began" if phase != "body" else "before the response was complete"
            return ConnectionLostError(f"the connection was lost {lost}", phase=phase, reused=reused)
        case _:
            return error


def _connect_error(where: str, cause: OSError) -> ConnectError:
    number = cause.errno
    if number == errno.ECONNREFUSED:
        return ConnectError(f"{where} refused the connection; is the server running?", kind="refused")
    return ConnectError(f"{where} is unreachable: {cause.strerror or type(cause).__name__}", kind="unreachable")


def _is_malformed(error: BaseException) -> bool:
    """Whether a body is malformed; a truncated one (these two errors are raised at its end only) is not."""
    cause = error.__cause__
    return isinstance(cause, HttpProcessingError) and not isinstance(cause, (TransferEncodingError, ContentLengthError))


def _reason(error: BaseException) -> str:
    """The innermost message, without data of the peer."""
    cause = error.__cause__ or error
    words = getattr(cause, "message", "") or getattr(error, "strerror", "") or str(cause)
    return str(words).partition("\n")[0][:200]


def closed_during_the_call() -> ClientClosedError:
    """The error that ends a request in flight."""
    return ClientClosedError("the client was closed during the call")
