"""Raw bytes: a response body as received, and files uploaded as assets."""

from __future__ import annotations

from base64 import b64encode

from attrs import field, frozen

from nimclient._base import json as _json
from nimclient._base.types import Json, JsonDict
from nimclient._base.values import ResponseMeta
from nimclient.errors import DecodeError
from nimclient.records._decode import as_object, text_or_none, wrong
from nimclient.records._record import Record, TopRecord


@frozen(repr=False)
class Blob(Record):
    """A response body as received. `content_type` is its media type without parameters, "" if unknown."""

    data: bytes = field(repr=lambda data: f"<{len(data)} bytes>")
    content_type: str = ""
    meta: ResponseMeta | None = field(default=None, eq=False, repr=False)

    @property
    def extra(self) -> JsonDict:
        """Always empty: a body without fields has no unknown ones."""
        return {}

    def json(self) -> Json:
        """The body decoded as JSON. Raises DecodeError with this object as `.blob` if it is not JSON."""
        try:
            return _json.loads(self.data)
        except DecodeError as error:
            kind = (
                "a zip archive"
                if self.data.startswith(b"PK\x03\x04")
                else f"not JSON ({self.content_type or 'unnamed'})"
            )
            problem = f"the response is {kind}, {len(self.data)} bytes; use infer_raw to get it, or .blob of this error"
            status, request_id = (self.meta.status, self.meta.request_id) if self.meta else (None, None)
            failure = DecodeError(problem, path="body", excerpt=error.excerpt, status=status, request_id=request_id)
            failure.blob = self
            raise failure from None

    def to_dict(self) -> JsonDict:
        """The media type, and the bytes as base64."""
        return {"content_type": self.content_type, "data": b64encode(self.data).decode()}


@frozen(repr=False)
class Asset(TopRecord):
    """A file uploaded to the hosted platform. Messages and bodies refer to it by `reference`."""

    id: str
    content_type: str
    description: str = ""
    created: str | None = None
    """When it was made, in ISO 8601; only where the platform is asked about it."""

    @property
    def reference(self) -> str:
        """The URL that refers to the asset: `data:image/png;asset_id,<id>`."""
        return f"data:{self.content_type};asset_id,{self.id}"

    def to_dict(self) -> JsonDict:
        """The asset as a JSON object of the platform."""
        created = {} if self.created is None else {"createdAt": self.created}
        known = {"assetId": self.id, "contentType": self.content_type, "description": self.description}
        return {**known, **created, **self.extra}


@frozen(repr=False)
class Upload(Record):
    """An asset whose bytes have not been sent yet, and the signed URL to send them to, which the repr hides."""

    asset: Asset
    url: str = field(repr=False)


def decode_upload(value: Json, meta: ResponseMeta | None = None) -> Upload:
    """The response to `POST /v2/nvcf/assets`."""
    data = dict(as_object(value, "body", meta))
    url = text_or_none(data.pop("uploadUrl", None))
    asset = decode_asset(data, meta)
    if not url:
        raise wrong("it is missing", "uploadUrl", meta)
    return Upload(asset, url)


def decode_asset(value: Json, meta: ResponseMeta | None = None) -> Asset:
    """An asset as the platform describes it."""
    data = dict(as_object(value, "asset", meta))
    texts = [text_or_none(data.pop(name, None)) for name in ("assetId", "contentType", "description", "createdAt")]
    if not texts[0]:
        raise wrong("it is missing", "assetId", meta)
    return Asset(texts[0], texts[1] or "", texts[2] or "", texts[3], extra=data, meta=meta)
