"""Bytes that are no records of ours: an answer taken as it came, and what was uploaded for a model to read."""

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
    """An answer as it came. `content_type` is the media type that the server says, without parameters, "" if none."""

    data: bytes = field(repr=lambda data: f"<{len(data)} bytes>")
    content_type: str = ""
    meta: ResponseMeta | None = field(default=None, eq=False, repr=False)

    @property
    def extra(self) -> JsonDict:
        """Nothing: an answer without fields has no unknown ones."""
        return {}

    def json(self) -> Json:
        """The answer as JSON. Raises DecodeError, whose `.blob` is this answer, where it is something else."""
        try:
            return _json.loads(self.data)
        except DecodeError as error:
            kind = (
                "a zip archive"
                if self.data.startswith(b"PK\x03\x04")
                else f"no JSON ({self.content_type or 'unnamed'})"
            )
            problem = (
                f"the answer is {kind}, {len(self.data)} bytes; infer_raw gives it as it is, .blob of this error too"
            )
            status, request_id = (self.meta.status, self.meta.request_id) if self.meta else (None, None)
            failure = DecodeError(problem, path="body", excerpt=error.excerpt, status=status, request_id=request_id)
            failure.blob = self
            raise failure from None

    def to_dict(self) -> JsonDict:
        """The media type, and the bytes as base64."""
        return {"content_type": self.content_type, "data": b64encode(self.data).decode()}


@frozen(repr=False)
class Asset(TopRecord):
    """A file that was uploaded to the hosted platform. `reference` is how a message or a body refers to it."""

    id: str
    content_type: str
    description: str = ""

    @property
    def reference(self) -> str:
        """The URL that stands for it: `data:image/png;asset_id,<id>`."""
        return f"data:{self.content_type};asset_id,{self.id}"

    def to_dict(self) -> JsonDict:
        """The asset as the platform describes it."""
        return {"assetId": self.id, "contentType": self.content_type, "description": self.description, **self.extra}


@frozen(repr=False)
class Upload(Record):
    """An asset whose bytes have not been sent yet, and where they go. The address is signed: it does not show."""

    asset: Asset
    url: str = field(repr=False)


def decode_upload(value: Json, meta: ResponseMeta | None = None) -> Upload:
    """The answer of `POST /v2/nvcf/assets`."""
    data = dict(as_object(value, "body", meta))
    asset_id, url = text_or_none(data.pop("assetId", None)), text_or_none(data.pop("uploadUrl", None))
    if not asset_id:
        raise wrong("there is none", "assetId", meta)
    if not url:
        raise wrong("there is none", "uploadUrl", meta)
    kind, description = text_or_none(data.pop("contentType", None)), text_or_none(data.pop("description", None))
    return Upload(Asset(asset_id, kind or "", description or "", extra=data, meta=meta), url)
