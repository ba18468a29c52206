"""One SSL context per (verify, cert) and process: creating one takes 10–16 ms."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path
from typing import Any

from nimclient._base.types import is_array
from nimclient.errors import ConfigurationError


def ssl_setting(verify: Any, cert: Any) -> ssl.SSLContext | bool:
    """The setting for aiohttp: True for its default context, False for no verification, or our own context."""
    if isinstance(verify, ssl.SSLContext):
        if cert is not None:
            raise ConfigurationError("cert goes into the SSLContext that was passed as verify")
        return verify
    if cert is None and verify in (True, False):
        return bool(verify)
    if not isinstance(verify, (bool, str, Path)):
        raise ConfigurationError(f"verify takes a bool, a path or an SSLContext, not {type(verify).__name__}")
    chain: tuple[Any, ...] = tuple(cert or ()) if is_array(cert) else () if cert is None else (cert,)
    try:
        return _context(verify if isinstance(verify, bool) else str(verify), tuple(map(str, chain)))
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"verify or cert cannot be loaded: {error}") from None


def unauthenticated_setting(verify: Any, cert: Any) -> ssl.SSLContext | bool:
    """The setting for unauthenticated requests: True for the same as all others, or a context without the client's
    certificate.
    """
    if cert is None:
        return True
    return _context(verify if isinstance(verify, bool) else str(verify), ())


@lru_cache(maxsize=32)
def _context(verify: bool | str, chain: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif verify is not True:
        is_folder = Path(verify).is_dir()
        context.load_verify_locations(cafile=None if is_folder else verify, capath=verify if is_folder else None)
    if chain:
        context.load_cert_chain(*chain)
    return context
