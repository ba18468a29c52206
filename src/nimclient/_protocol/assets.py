"""Assets of the hosted platform: arguments → Call, and which images of a message become some.

An asset is made (POST /v2/nvcf/assets), its bytes are sent to a signed address with exactly two headers, a call names it in
a header and refers to it in its body, and it is deleted. (NVCF asset API.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from attrs import evolve

from nimclient._protocol import nvcf
from nimclient._protocol.call import Call, Replay
from nimclient._protocol.media import ASSETS_HEADER
from nimclient._protocol.options import check_names, merge_fields, names_of
from nimclient._types import Json, JsonDict, is_array, is_object
from nimclient._wire import ResponseMeta
from nimclient.errors import ConfigurationError, DecodeError
from nimclient.records.chat import Message
from nimclient.records.files import Asset, Upload, decode_upload
from nimclient.records.media import Image, media_type_of
from nimclient.records.params import CallOptions

DESCRIPTION = "nimclient"
INLINE_LIMIT = 180_000
"""Characters of base64 that models which take assets accept inside a message."""

_OPTIONS = names_of(CallOptions)
_LONGEST = 256


def make_call(
    url: str, data: bytes, content_type: object, description: object, options: Mapping[str, Any]
) -> Call[Upload]:
    """The first step: the asset is described, and gets an id and a signed address."""
    check_names("assets.upload", options, _OPTIONS)
    if not data:
        raise ConfigurationError("data is empty")
    if content_type is None and (content_type := media_type_of(data)) is None:
        raise ConfigurationError("the bytes are of no known format; say what they are with content_type=")
    fields: JsonDict = {
        "contentType": _header_value("content_type", content_type),
        "description": _header_value("description", DESCRIPTION if description is None else description),
    }
    return Call("POST", url, decode_upload, merge_fields(fields, options), replay=Replay.ONCE)


def send_call(upload: Upload, data: bytes, described: Mapping[str, str], source: str) -> Call[None]:
    """The second step: the bytes, to the signed address. DecodeError for an address that may not be used."""
    address = nvcf.elsewhere(source, upload.url)
    if address is None:
        problem = "is not https (plain http only on the same origin or within this machine)"
        raise DecodeError(f"the answer's uploadUrl {problem}; nothing was sent there", path="uploadUrl")
    headers = {
        "Content-Type": described["contentType"],
        "x-amz-meta-nvcf-asset-description": described["description"],
    }
    return Call("PUT", address, _nothing, raw=data, headers=headers, bare=True)


def delete_call(url: str, asset_id: str, options: Mapping[str, Any]) -> Call[None]:
    """The last step."""
    check_names("assets.delete", options, _OPTIONS)
    return Call("DELETE", f"{url}/{asset_id}", _nothing)


def _nothing(value: Json, meta: ResponseMeta) -> None:
    return None


def _header_value(name: str, value: object) -> str:
    """A text that the signature of the address can hold."""
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST:
        raise ConfigurationError(f"{name} must be a str of 1 to {_LONGEST} characters, not {value!r:.80}")
    if not all(" " <= c <= "~" for c in value):
        raise ConfigurationError(f"{name} is sent as a header; it has a character that is not printable ASCII")
    return value.strip()


# images of messages ------------------------------------------------------------------------------------------------


def with_pending(messages: Any) -> tuple[Any, tuple[Image, ...]]:
    """The messages with images that are too large for them taken out, and these images, each once."""
    if not is_array(messages):
        return messages, ()
    found: dict[Image, int] = {}
    for message in messages:
        for part in _parts(_content(message)):
            if isinstance(part, Image) and _is_large(part):
                found.setdefault(part, len(found))
    if not found:
        return messages, ()
    return [_replaced(message, found) for message in messages], tuple(found)


def with_assets(call: Call[Any], assets: Sequence[Asset]) -> Call[Any]:
    """The call with the assets that its images have become."""
    known = {
        _pending(image, place): asset for place, (image, asset) in enumerate(zip(call.uploads, assets, strict=True))
    }
    names = call.headers.get(ASSETS_HEADER, "")
    for place, asset in enumerate(assets):
        names = names.replace(_pending_id(place), asset.id)
    messages = _named((call.fields or {}).get("messages"), known)
    headers = {**call.headers, **({ASSETS_HEADER: names} if names else {})}
    return evolve(call, fields={**(call.fields or {}), "messages": messages}, headers=headers, uploads=())


def _is_large(image: Image) -> bool:
    return isinstance(image.source, bytes) and (len(image.source) + 2) // 3 * 4 > INLINE_LIMIT


def _pending_id(place: int) -> str:
    """As long as an id will be, so that the length of the header can be judged before there are any."""
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


def _replaced(message: Any, found: Mapping[Image, int]) -> Any:
    """The message with a reference in the place of each of these images."""
    content = _content(message)
    if not any(isinstance(part, Image) and part in found for part in _parts(content)):
        return message
    parts = [
        Image(_pending(part, found[part]), detail=part.detail) if isinstance(part, Image) and part in found else part
        for part in _parts(content)
    ]
    if isinstance(message, Message):
        return evolve(message, content=parts)
    return (message[0], parts) if isinstance(message, tuple) else {**message, "content": parts}


def _named(value: Any, known: Mapping[str, Asset]) -> Any:
    """A JSON value with the references of assets in the place of those that stood for them."""
    if isinstance(value, str):
        return known[value].reference if value in known else value
    if is_object(value):
        return {name: _named(item, known) for name, item in value.items()}
    return [_named(item, known) for item in value] if is_array(value) else value
