"""Public names that are on their way out: they work, and say so at the caller's line. The policy is in docs/versioning.md."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def deprecated(instead: str, *, until: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Mark a function or method as deprecated: each call gives a DeprecationWarning that names what takes its place.

    `until` is the version that removes it; tests/base/test_deprecation.py fails once that version is reached.
    """

    def mark(function: Callable[P, T]) -> Callable[P, T]:
        words = f"{function.__qualname__} is deprecated and goes away in nimclient {until}; use {instead}"

        @wraps(function)
        def warned(*args: P.args, **kwargs: P.kwargs) -> T:
            warnings.warn(words, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return warned

    return mark
