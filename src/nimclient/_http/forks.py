"""Connections that no loop serves any more: their loop was closed by hand, or they came along into a forked child.

Their sockets are closed here without a word to the loop, to its selector (which a child shares with its parent) or to the
peer's TLS.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable
from typing import Any


def close_transport(transport: Any) -> None:
    """Close the socket of a transport whose loop is closed. It will not complain when it is collected."""
    with contextlib.suppress(RuntimeError):  # it tells the loop, too, but only after it has noted that it is closed
        transport.abort()
    made = forget_socket(transport)
    if made is not None:
        made.close()


def forget_socket(transport: Any) -> socket.socket | None:
    """Take the socket out of an asyncio transport, under TLS or not: it would warn when it is collected. uvloop's do not."""
    while (tls := getattr(transport, "_ssl_protocol", None)) is not None:
        transport._closed = True
        transport = tls._transport
    made: socket.socket | None = getattr(transport, "_sock", None)
    if made is not None:
        transport._sock = None
    return made


def detach_inherited(sockets: Iterable[socket.socket]) -> None:
    """In a forked child: give up its copies, or a connection that the parent closes would stay open.

    /dev/null takes their place: a number that was given back would soon be another file's, and closed under it by whatever
    of the parent's loop is collected here.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        for made in sockets:
            if made.fileno() >= 0:
                os.dup2(nothing, made.fileno(), inheritable=False)
    finally:
        os.close(nothing)
