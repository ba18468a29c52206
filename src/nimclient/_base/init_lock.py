"""One-time initialization: a lock of threads, what a fork waits for so that its child can initialize, too, and its error.

A forked child always starts with the lock released. A fork waits for a module that another thread is importing, and a step of
a TLS handshake: otherwise the child would inherit the lock of a module, or one of OpenSSL, that no thread of it releases.
"""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from typing import Any

from nimclient.errors import ConnectError

MAX_WAIT = 10.0
"""Seconds after which a fork no longer waits."""

LOOK = 0.001
"""Seconds between two looks at what is being imported."""

WAITED_FOR = sys.stdlib_module_names | {"nimclient", "aiohttp", "anyio", "attr", "attrs", "numpy", "orjson"}
"""The packages whose modules a fork waits for: ours, and what ours import, also in the middle of a call."""

_lock = threading.Lock()
_handshaking = threading.RLock()  # reentrant: a signal handler may fork
_held: list[threading.RLock] = []  # by a fork
_module_locks: dict[str, Any] = getattr(import_module("importlib._bootstrap"), "_module_locks", {})


def init_lock() -> threading.Lock:
    """The lock of this process: `with init_lock(): ...`, to be held briefly."""
    return _lock


def handshaking() -> threading.RLock:
    """`with handshaking(): ...` around what holds locks of OpenSSL without the GIL; for a millisecond, not for a wait."""
    return _handshaking


def out_of_resources(number: int) -> ConnectError:
    """The error where this machine has no descriptor, port or memory left for a connection, or for a first call."""
    remedy = "raise ulimit -n, or have less in flight at once: Limits(concurrency=…)"
    return ConnectError(f"no socket: {os.strerror(number)}; {remedy}", kind="resources")


def _others_import() -> bool:
    """Whether another thread imports a module that is waited for; this one may itself fork in the middle of an import."""
    references = [ref for name, ref in _module_locks.copy().items() if name.partition(".")[0] in WAITED_FOR]
    owners = {getattr(ref(), "owner", None) for ref in references}
    return not owners <= {None, threading.get_ident()}


def wait_for_imports() -> None:
    """Wait until no other thread is importing; before a fork."""
    never = threading.Event()
    for _ in range(int(MAX_WAIT / LOOK)):
        if not _others_import():
            break
        never.wait(LOOK)


def _before_fork() -> None:
    if _handshaking.acquire(timeout=MAX_WAIT):
        _held.append(_handshaking)
    wait_for_imports()


def _after_in_parent() -> None:
    mine = _held[::-1]
    _held.clear()  # before another thread that forks can take them
    for lock in mine:
        lock.release()


def _after_in_child() -> None:
    global _handshaking, _lock
    _lock = threading.Lock()
    _handshaking = threading.RLock()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
