"""Media in messages for the hosted catalog: the header that names assets, and the size limit of its gateway.

An asset is an upload to NVIDIA's cloud functions. A message refers to it as `data:image/png;asset_id,<id>`, in a text, in
the `src` of a tag or as the URL of a part; the header must name it too (NVCF asset API).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from nimclient._base.types import is_array, is_items
from nimclient.errors import ConfigurationError

GATEWAY_LIMIT = 26_214_400
"""Maximum bytes of a request body for the hosted catalog's gateway (25 MiB)."""

ASSETS_HEADER = "NVCF-INPUT-ASSET-REFERENCES"
OLD_ASSETS_HEADER = "NVCF-FUNCTION-ASSET-IDS"
MAX_ASSETS_HEADER = 370
"""Maximum characters of the header: nine or ten ids."""

_ID = re.compile(r"[A-Za-z0-9_-]+")
_REFERENCE = re.compile(r"data:[\w.+-]+/[\w.+-]+;asset_id,([A-Za-z0-9_-]+)")


def asset_headers(messages: object, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The header for the assets that messages refer to; empty without any, or if the caller's headers have it."""
    if any(name.lower() == ASSETS_HEADER.lower() for name in extra or ()):
        return {}
    found = dict.fromkeys(_references(messages))
    return {ASSETS_HEADER: _named(found)} if found else {}


def named_assets(assets: object, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The current header and that of older models, for assets given as records or ids."""
    if not is_items(assets):
        raise TypeError(f"assets takes a list of Asset records or ids, not {type(assets).__name__}")
    found = dict.fromkeys(asset_id(asset, f"assets[{index}]") for index, asset in enumerate(assets))
    if not found:
        return {}
    theirs = {name.lower() for name in extra or ()}
    return {name: _named(found) for name in (ASSETS_HEADER, OLD_ASSETS_HEADER) if name.lower() not in theirs}


def asset_id(asset: object, where: str = "asset") -> str:
    """The id of an asset, given as its record or as the id."""
    from nimclient.records.files import Asset

    found = asset.id if isinstance(asset, Asset) else asset
    if not isinstance(found, str):
        raise ConfigurationError(f"{where} must be an Asset or its id, not {type(found).__name__}")
    if not _ID.fullmatch(found):
        raise ConfigurationError(f"{where} is {found!r:.80}, which is not an asset id")
    return found


def _named(ids: Iterable[str]) -> str:
    value = ",".join(ids)
    if len(value) > MAX_ASSETS_HEADER:
        raise ConfigurationError(
            f"the ids of the assets take {len(value)} characters; the platform accepts {MAX_ASSETS_HEADER}, nine or ten ids"
        )
    return value


def check_body_size(body: bytes | None) -> None:
    """Raise ConfigurationError for a body that the hosted catalog's gateway would reject."""
    if body is not None and len(body) > GATEWAY_LIMIT:
        raise ConfigurationError(
            f"the request has {len(body)} bytes; the hosted catalog accepts at most {GATEWAY_LIMIT}. "
            f"Send smaller media, a URL, or a reference to an uploaded asset",
            path="body",
        )


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if ";asset_id," in value:
            yield from _REFERENCE.findall(value)
    elif isinstance(value, Mapping):
        for item in cast(Mapping[str, Any], value).values():
            yield from _references(item)
    elif is_array(value):
        for item in value:
            yield from _references(item)
