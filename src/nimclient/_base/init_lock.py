"""One-time initialization shared by threads: a lock, and imports in a worker thread.

A forked child always starts with the lock released. A fork waits for a running import and for a step of a TLS handshake:
otherwise the child would inherit the import lock, or a lock of OpenSSL, in a state that no thread of it releases.
"""

from __future__ import annotations

import os
import threading
from importlib import import_module

MAX_IMPORT_SECONDS = 10.0
"""Seconds after which a fork no longer waits."""

_lock = threading.Lock()
_importing = threading.RLock()  # reentrant: an imported module may fork
_handshaking = threading.RLock()  # and so may a signal handler
_held: list[threading.RLock] = []  # by a fork


def init_lock() -> threading.Lock:
    """The lock of this process: `with init_lock(): ...`, to be held briefly."""
    return _lock


def handshaking() -> threading.RLock:
    """`with handshaking(): ...` around what holds locks of OpenSSL without the GIL; for a millisecond, not for a wait."""
    return _handshaking


def load(module: str) -> None:
    """Import a module, usually in a worker thread; a fork waits until it is done."""
    with _importing:
        import_module(module)


def _before_fork() -> None:
    _held.extend(lock for lock in (_importing, _handshaking) if lock.acquire(timeout=MAX_IMPORT_SECONDS))


def _after_in_parent() -> None:
    mine = _held[::-1]
    _held.clear()  # before another thread that forks can take them
    for lock in mine:
        lock.release()


def _after_in_child() -> None:
    global _importing, _handshaking, _lock
    _lock = threading.Lock()
    _importing = threading.RLock()
    _handshaking = threading.RLock()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
