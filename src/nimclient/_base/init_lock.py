"""One-time initialization shared by threads: a lock, and imports in a worker thread.

A forked child always starts with the lock released. A fork waits for a running import: otherwise the child would inherit
the import lock in a state that no thread of it releases.
"""

from __future__ import annotations

import os
import threading
from importlib import import_module

MAX_IMPORT_SECONDS = 10.0
"""Seconds after which a fork no longer waits for an import."""

_lock = threading.Lock()
_importing = threading.RLock()  # reentrant: an imported module may fork
_is_held = False


def init_lock() -> threading.Lock:
    """The lock of this process: `with init_lock(): ...`, to be held briefly."""
    return _lock


def importing() -> threading.RLock:
    """`with importing(): ...` around imports that other threads may fork during: a fork waits for its end."""
    return _importing


def load(module: str) -> None:
    """Import a module, usually in a worker thread; a fork waits until it is done."""
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
