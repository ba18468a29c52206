"""The error where this machine has nothing left for a connection: imported in advance, since that takes a descriptor, too."""

from __future__ import annotations

import os

from nimclient.errors import ConnectError


def out_of_resources(number: int) -> ConnectError:
    """The error where this machine has no descriptor, port or memory left for a connection."""
    remedy = "raise ulimit -n, or have less in flight at once: Limits(concurrency=…)"
    return ConnectError(f"no socket: {os.strerror(number)}; {remedy}", kind="resources")
