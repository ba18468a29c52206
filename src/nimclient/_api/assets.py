"""Assets of the hosted platform: arguments → Call, and which images of a message become assets.

An asset is created (POST /v2/nvcf/assets), its bytes are sent to a signed URL with exactly two headers, a call names it in
a header and refers to it in its body, and it is deleted (NVCF asset API).
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from attrs import evolve

from nimclient._api.call import Call
from nimclient._api.options import check_names, merge_fields, names_of
from nimclient._base.types import Json, JsonDict, is_array, is_object
from nimclient._base.values import ResponseMeta
from nimclient._nvcf import platform as nvcf
from nimclient._nvcf.media import ASSETS_HEADER
from nimclient._nvcf.media import asset_id as check_asset_id
from nimclient._retry.policy import Replay
from nimclient.errors import ConfigurationError, DecodeError
from nimclient.records._decode import as_object
from nimclient.records.chat import Message
from nimclient.records.files import Asset, Upload, decode_asset, decode_upload
from nimclient.records.media import Image, media_type_of
from nimclient.records.params import CallOptions

DESCRIPTION = "nimclient"
INLINE_LIMIT = 180_000
"""Maximum characters of base64 inside a message, for models that accept assets."""

_OPTIONS = names_of(CallOptions)
_MAX_LENGTH = 256
_DATA_URL = re.compile(r"data:(image/[\w.+-]+);base64,")


def make_call(
    url: str, data: bytes, content_type: object, description: object, options: Mapping[str, Any]
) -> Call[Upload]:
    """The first step: create the asset, which gets an id and a signed URL.

    Args:
        url: The platform's assets route.
        data: The bytes, to recognize their format.
        content_type: None: recognized from the bytes.
        description: None: the default.
        options: CallOptions.
    """
    check_names("assets.upload", options, _OPTIONS)
    if not data:
        raise ConfigurationError("data is empty")
    if content_type is None and (content_type := media_type_of(data)) is None:
        raise ConfigurationError("the bytes have no known format; pass content_type=")
    fields: JsonDict = {
        "contentType": _header_value("content_type", content_type),
        "description": _header_value("description", DESCRIPTION if description is None else description),
    }
    return Call("POST", url, decode_upload, merge_fields(fields, options), replay=Replay.ONCE)


def send_call(upload: Upload, data: bytes, described: Mapping[str, str], source: str) -> Call[None]:
    """The second step: send the bytes to the signed URL. DecodeError for a URL that may not be used."""
    address = nvcf.safe_redirect_target(source, upload.url)
    if address is None:
        problem = "is not https (plain http only on the same origin or within this machine)"
        raise DecodeError(f"the response's uploadUrl {problem}; nothing was sent there", path="uploadUrl")
    headers = {
        "Content-Type": described["contentType"],
        "x-amz-meta-nvcf-asset-description": described["description"],
    }
    return Call("PUT", address, _nothing, raw=data, headers=headers, unauthenticated=True)


def get_call(url: str, asset_id: str, options: Mapping[str, Any]) -> Call[Asset]:
    """Look an asset up: `{"asset": {…}}`."""
    check_names("assets.get", options, _OPTIONS)
    return Call("GET", f"{url}/{check_asset_id(asset_id)}", _asset)


def _asset(value: Json, meta: ResponseMeta) -> Asset:
    return decode_asset(as_object(value, "body", meta).get("asset"), meta)


def delete_call(url: str, asset_id: str, options: Mapping[str, Any]) -> Call[None]:
    """The last step: delete the asset. ConfigurationError for an invalid id, including one from a server."""
    check_names("assets.delete", options, _OPTIONS)
    return Call("DELETE", f"{url}/{check_asset_id(asset_id)}", _nothing)


def _nothing(value: Json, meta: ResponseMeta) -> None:
    return None


def _header_value(name: str, value: object) -> str:
    """A text that the signature of the URL can cover."""
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_LENGTH:
        raise ConfigurationError(f"{name} must be a str of 1 to {_MAX_LENGTH} characters, not {value!r:.80}")
    if not all(" " <= c <= "~" for c in value):
        raise ConfigurationError(f"{name} is sent as a header; it has a character that is not printable ASCII")
    return value.strip()


# images of messages ------------------------------------------------------------------------------------------------


def with_pending(messages: Any) -> tuple[Any, tuple[Image, ...]]:
    """The messages with placeholders for oversized images, and these images without duplicates."""
    if not is_array(messages):
        return messages, ()
    found: dict[Image, int] = {}
    replaced = [_replaced(message, found) for message in messages]
    return (replaced, tuple(found)) if found else (messages, ())


def with_assets(call: Call[Any], assets: Sequence[Asset]) -> Call[Any]:
    """The call with its placeholders replaced by uploaded assets."""
    known = {
        _pending(image, place): asset for place, (image, asset) in enumerate(zip(call.uploads, assets, strict=True))
    }
    names = call.headers.get(ASSETS_HEADER, "")
    for place, asset in enumerate(assets):
        names = names.replace(_pending_id(place), asset.id)
    messages = _named((call.fields or {}).get("messages"), known)
    headers = {**call.headers, **({ASSETS_HEADER: names} if names else {})}
    return evolve(call, fields={**(call.fields or {}), "messages": messages}, headers=headers, uploads=())


def _large_image(part: Any) -> Image | None:
    """The image of a part, an Image or a wire part, if it exceeds the limit."""
    if isinstance(part, Image):
        if isinstance(part.source, bytes):
            return part if (len(part.source) + 2) // 3 * 4 > INLINE_LIMIT else None
        return _decoded(part.source, part.detail)
    if not is_object(part) or part.get("type") != "image_url":
        return None
    image = part.get("image_url")
    fields = image if is_object(image) else {"url": image}
    return _decoded(fields.get("url"), fields.get("detail"))


def _decoded(url: Any, detail: str | None) -> Image | None:
    """The image of a large data URL."""
    if not isinstance(url, str) or len(url) <= INLINE_LIMIT or (found := _DATA_URL.match(url)) is None:
        return None
    if len(url) - found.end() <= INLINE_LIMIT:
        return None
    try:
        return Image(b64decode(url[found.end() :], validate=True), detail=detail, media_type=found[1])
    except ValueError:  # not base64: left to the server to reject
        return None


def _pending_id(place: int) -> str:
    """As long as a real id, so that the length of the header can be checked before the uploads."""
    return f"pending-{place:028d}"


def _pending(image: Image, place: int) -> str:
    return f"data:{image.media_type};asset_id,{_pending_id(place)}"


def _content(message: Any) -> Any:
    if isinstance(message, Message):
        return message.content
    if isinstance(message, Mapping):
        return cast(Mapping[str, Any], message).get("content")
    pair = cast(tuple[Any, ...], message) if isinstance(message, tuple) else ()
    return pair[1] if len(pair) == 2 else None


def _parts(content: Any) -> Iterable[Any]:
    return content if is_array(content) else (content,)


def _replaced(message: Any, found: dict[Image, int]) -> Any:
    """The message with a reference for each large image, which is added to `found`."""
    given = list(_parts(_content(message)))
    images = [_large_image(part) for part in given]
    if not any(images):
        return message
    parts = [
        part if image is None else Image(_pending(image, found.setdefault(image, len(found))), detail=image.detail)
        for part, image in zip(given, images, strict=True)
    ]
    if isinstance(message, Message):
        return evolve(message, content=parts)
    return (message[0], parts) if isinstance(message, tuple) else {**message, "content": parts}


def _named(value: Any, known: Mapping[str, Asset]) -> Any:
    """A JSON value with its placeholders replaced by references to assets."""
    if isinstance(value, str):
        return known[value].reference if value in known else value
    if is_object(value):
        return {name: _named(item, known) for name, item in value.items()}
    return [_named(item, known) for item in value] if is_array(value) else value
