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

    @property
    def reference(self) -> str:
        """The URL that refers to the asset: `data:image/png;asset_id,<id>`."""
        return f"data:{self.content_type};asset_id,{self.id}"

    def to_dict(self) -> JsonDict:
        """The asset as a JSON object of the platform."""
        return {"assetId": self.id, "contentType": self.content_type, "description": self.description, **self.extra}


@frozen(repr=False)
class Upload(Record):
    """An asset whose bytes have not been sent yet, and the signed URL to send them to, which the repr hides."""

    asset: Asset
    url: str = field(repr=False)


def decode_upload(value: Json, meta: ResponseMeta | None = None) -> Upload:
    """The response to `POST /v2/nvcf/assets`."""
    data = dict(as_object(value, "body", meta))
    asset_id, url = text_or_none(data.pop("assetId", None)), text_or_none(data.pop("uploadUrl", None))
    if not asset_id:
        raise wrong("it is missing", "assetId", meta)
    if not url:
        raise wrong("it is missing", "uploadUrl", meta)
    kind, description = text_or_none(data.pop("contentType", None)), text_or_none(data.pop("description", None))
    return Upload(Asset(asset_id, kind or "", description or "", extra=data, meta=meta), url)
