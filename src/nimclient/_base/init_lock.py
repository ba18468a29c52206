"""What threads make once and share: the lock for that, and modules that are imported in a worker thread.

A forked child finds the lock open, whoever held it in the parent. A fork waits for an import that is running: the child
would have the import's own lock, and nobody who ever opens it.
"""

from __future__ import annotations

import os
import threading
from importlib import import_module

MAX_IMPORT_SECONDS = 10.0
"""After that a fork no longer waits for an import."""

_lock = threading.Lock()
_importing = threading.RLock()  # what is imported may fork
_is_held = False


def init_lock() -> threading.Lock:
    """The lock of this process: `with init_lock(): ...`, for moments only."""
    return _lock


def load(module: str) -> None:
    """Import a module, for once in a worker thread; no process is forked meanwhile."""
    with _importing:
        import_module(module)


def _before_fork() -> None:
    global _is_held
    _is_held = _importing.acquire(timeout=MAX_IMPORT_SECONDS)


def _after_in_parent() -> None:
    global _is_held
    if _is_held:
        _is_held = False
        _importing.release()


def _after_in_child() -> None:
    global _importing, _is_held, _lock
    _lock = threading.Lock()
    _importing = threading.RLock()
    _is_held = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
