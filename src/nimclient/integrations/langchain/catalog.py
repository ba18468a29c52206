"""nimclient's model table: no I/O, so that constructors can use it."""

from __future__ import annotations

from nimclient import Model
from nimclient._api.catalog import catalog, hosted_default, lookup, lookup_weights

__all__ = ["Model", "hosted_default", "known_models", "lookup", "lookup_weights"]


def known_models() -> list[Model]:
    """All models of the table."""
    return list(catalog().values())
