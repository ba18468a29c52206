"""One SSL context per (verify, cert) and process: creating one takes 10–16 ms.

OpenSSL holds locks of its own during a handshake, without the GIL. A process forked by another thread at that moment would
wait for them forever in its own first handshake, so a fork waits for the end of the step.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Any

from nimclient._base.init_lock import handshaking
from nimclient._base.types import is_array
from nimclient.errors import ConfigurationError


def ssl_setting(verify: Any, cert: Any) -> ssl.SSLContext | bool:
    """The setting for aiohttp: True for its default context, False for no verification, or our own context."""
    if isinstance(verify, ssl.SSLContext):
        if cert is not None:
            raise ConfigurationError("cert goes into the SSLContext that was passed as verify")
        if verify.sslobject_class is ssl.SSLObject:
            verify.sslobject_class = _Handshake
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


def unauthenticated_setting(verify: Any, cert: Any, setting: ssl.SSLContext | bool) -> ssl.SSLContext | bool:
    """The setting for unauthenticated requests: that of all others, or a context without the client's certificate."""
    if cert is None:
        return setting
    return _context(verify if isinstance(verify, bool) else str(verify), ())


def context_of(setting: ssl.SSLContext | bool) -> ssl.SSLContext:
    """The context of a setting, for a connection that needs one."""
    return _context(setting, ()) if isinstance(setting, bool) else setting


class _Handshake(ssl.SSLObject):
    def do_handshake(self) -> None:
        with handshaking():
            super().do_handshake()


@lru_cache(maxsize=32)
def _context(verify: bool | str, chain: tuple[str, ...]) -> ssl.SSLContext:
    with handshaking():
        return _new_context(verify, chain)


def _new_context(verify: bool | str, chain: tuple[str, ...]) -> ssl.SSLContext:
    # With no descriptor left this raises; OpenSSL would go without its authorities, for good.
    os.close(os.open(os.devnull, os.O_RDONLY))
    context = ssl.create_default_context()
    context.sslobject_class = _Handshake
    context.set_alpn_protocols(["http/1.1"])
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif verify is not True:
        is_folder = Path(verify).is_dir()
        context.load_verify_locations(cafile=None if is_folder else verify, capath=verify if is_folder else None)
    if chain:
        context.load_cert_chain(*chain)
    return context
