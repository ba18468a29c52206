"""Warnings that point at the user's line, wherever in LangChain, pydantic or this package they are issued."""

from __future__ import annotations

from nimclient._base.warnings import warn_caller

_NOT_THE_USER = frozenset({"nimclient", "pydantic", "langchain_core"})


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the nearest line of the user's code."""
    warn_caller(message, category, _NOT_THE_USER)
