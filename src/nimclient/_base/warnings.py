"""Warnings that point at the caller's line, wherever in this package they are issued."""

from __future__ import annotations

import sys
import warnings

_NOT_THE_CALLER = frozenset({"nimclient", "asyncio", "anyio"})


def warn_caller(message: str, category: type[Warning], libraries: frozenset[str] = _NOT_THE_CALLER) -> None:
    """Warn at the nearest line outside these libraries: where the call is awaited, or the loop is started."""
    level = 1
    frame = sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in libraries:
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)


def deprecated(name: str, *, until: str, instead: str) -> None:
    """Say at the caller's line that a public name is on its way out: the first line of what is deprecated.

    `until` is the version that takes it away; a test fails once that version is reached. The policy is docs/versioning.md.
    """
    warn_caller(f"{name} is deprecated and will be removed in nimclient {until}; use {instead}", DeprecationWarning)
