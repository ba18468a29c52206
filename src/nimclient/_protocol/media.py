"""What messages with media ask of the hosted catalog: a header that names their assets, and a body its gateway takes.

An asset is an upload to NVIDIA's cloud functions. A message refers to it as `data:image/png;asset_id,<id>`, in a text, in
the `src` of a tag or as the URL of a part; the header must name it too (NVCF asset API).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from nimclient._types import is_array
from nimclient.errors import ConfigurationError

GATEWAY_LIMIT = 26_214_400
"""Bytes of a request body that the hosted catalog's gateway takes (25 MiB)."""

ASSETS_HEADER = "NVCF-INPUT-ASSET-REFERENCES"

_REFERENCE = re.compile(r"data:[\w.+-]+/[\w.+-]+;asset_id,([A-Za-z0-9_-]+)")


def asset_headers(messages: object, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The header for the assets that messages refer to; empty without any, or where the caller's headers have it."""
    if any(name.lower() == ASSETS_HEADER.lower() for name in extra or ()):
        return {}
    found = dict.fromkeys(_references(messages))
    return {ASSETS_HEADER: ",".join(found)} if found else {}


def check_body_size(body: bytes | None) -> None:
    """Raise ConfigurationError for a body that the hosted catalog's gateway would refuse."""
    if body is not None and len(body) > GATEWAY_LIMIT:
        raise ConfigurationError(
            f"the request has {len(body)} bytes; the hosted catalog takes at most {GATEWAY_LIMIT}. "
            f"Send smaller media, a URL, or a reference to an uploaded asset"
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
