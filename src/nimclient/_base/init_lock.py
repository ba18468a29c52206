"""The lock under which threads make what they share, once. A forked child finds it open, whoever held it in the parent."""

from __future__ import annotations

import os
import threading

_lock = threading.Lock()


def init_lock() -> threading.Lock:
    """The lock of this process: `with init_lock(): ...`, for moments only."""
    return _lock


def _renew() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
