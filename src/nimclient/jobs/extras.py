"""Modules of optional packages, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from nimclient.errors import ConfigurationError


def module_of_extra(name: str, missing: str) -> Any:
    """The module of this name; ConfigurationError with the text `missing` if it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        raise ConfigurationError(missing) from None
