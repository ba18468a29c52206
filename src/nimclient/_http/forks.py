"""Closes connections without a loop: their loop was closed manually, or they were inherited by a forked child.

Their sockets are closed without involving the loop, its selector (which a child shares with its parent) or TLS.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable
from typing import Any


def close_transport(transport: Any) -> None:
    """Close the socket of a transport whose loop is closed. It will not warn when it is garbage-collected."""
    with contextlib.suppress(RuntimeError):  # it calls the loop, but only after marking itself closed
        transport.abort()
    made = forget_socket(transport)
    if made is not None:
        made.close()


def forget_socket(transport: Any) -> socket.socket | None:
    """Remove the socket from an asyncio transport, with or without TLS, so that it does not warn when it is collected."""
    while (tls := getattr(transport, "_ssl_protocol", None)) is not None:
        transport._closed = True
        transport = tls._transport
    made: socket.socket | None = getattr(transport, "_sock", None)
    if made is not None:
        transport._sock = None
    return made


def detach_inherited(sockets: Iterable[socket.socket]) -> None:
    """Close a forked child's copies, which would keep a connection open that the parent closes.

    /dev/null replaces them: a released file descriptor would be reused, and then closed when objects of the parent's loop
    are collected here.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        for made in sockets:
            if made.fileno() >= 0:
                os.dup2(nothing, made.fileno(), inheritable=False)
    finally:
        os.close(nothing)
