"""Warnings that point at the user's line, wherever in LangChain, pydantic or this package they are issued."""

from __future__ import annotations

import sys
import warnings

_NOT_THE_USER = frozenset({"nimclient", "pydantic", "langchain_core"})


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the nearest line of the user's code."""
    level = 1
    frame = sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _NOT_THE_USER:
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)
