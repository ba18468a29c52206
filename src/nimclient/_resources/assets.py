"""client.assets: files on the hosted platform, and uploads of large images for the duration of a call."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar, Unpack, cast

from anyio import move_on_after, to_thread
from attrs import evolve, field, frozen

from nimclient._api.assets import delete_call, get_call, make_call, send_call, with_assets
from nimclient._api.call import Call
from nimclient._base.log import log
from nimclient._bulk.workers import run_all
from nimclient._engine.engine import Engine
from nimclient._nvcf.media import asset_id
from nimclient._resources.base import Resource
from nimclient._streams.response import Response
from nimclient.errors import ConfigurationError, NimError
from nimclient.records.files import Asset, Upload
from nimclient.records.media import Image
from nimclient.records.params import CallOptions

T = TypeVar("T")

AT_ONCE = 4
DELETE_SECONDS = 5.0


class AsyncAssets(Resource):
    """Files too large for a message, stored on the hosted platform until they are deleted."""

    async def upload(
        self,
        data: bytes | bytearray | memoryview | os.PathLike[str],
        content_type: str | None = None,
        description: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Asset:
        """Upload bytes, or the file of a Path, and return its record: `.id`, and `.reference` for messages and bodies.

        `content_type`: None for images, audio and video, which are recognized. The bytes go to the signed URL that the
        platform returns, without the key. `timeout` applies to each of the two requests. Pass the asset in `assets=` of
        `infer`; chat messages find their assets automatically.

        Raises ConfigurationError for input that cannot be sent, OSError for a file that cannot be read, DecodeError if the
        platform returns no usable URL, else what every call raises.
        """
        held = await _held(data)
        url = self._engine.assets_url()
        call = make_call(url, held, content_type, description, options)
        return await self._upload(call, held, url, options, [])

    async def get(self, asset: Asset | str, **options: Unpack[CallOptions]) -> Asset:
        """What the platform says of an asset, given as its record or its id. Raises NotFoundError if it does not exist."""
        return await self._engine.send(get_call(self._engine.assets_url(), asset_id(asset), options), options)

    async def delete(self, asset: Asset | str, **options: Unpack[CallOptions]) -> None:
        """Delete an asset, given as its record or its id. Raises NotFoundError if it does not exist."""
        call = delete_call(self._engine.assets_url(), asset_id(asset), options)
        await self._engine.open(call, options, _finish)

    async def _upload(
        self, call: Call[Upload], data: bytes, source: str, options: Mapping[str, Any], made: list[Asset]
    ) -> Asset:
        """Create and send; the asset is added to `made` as soon as it has to be deleted."""
        upload = await self._engine.send(call, options)
        described = call.fields or {}
        asset = evolve(upload.asset, content_type=upload.asset.content_type or described["contentType"])
        made.append(asset)
        sending = send_call(upload, data, described, source)
        await self._engine.open(sending, {"timeout": options.get("timeout")}, _finish)
        return asset


@asynccontextmanager
async def uploaded(engine: Engine, call: Call[T], options: Mapping[str, Any]) -> AsyncGenerator[Call[T]]:
    """The call with its large images as assets, which are deleted at the end, also on failure and cancellation.

    The platform passes assets to a worker when it starts: a stream does not need them once it is open.
    """
    url = engine.assets_url(engine.url_of(call))
    uploads = _Uploads(engine, url, {name: options.get(name) for name in ("timeout", "extra_headers")})
    try:
        await run_all(call.uploads, uploads.upload, uploads.width, uploads.assets.__setitem__)
        yield with_assets(call, [uploads.assets[place] for place in sorted(uploads.assets)])
    finally:
        with move_on_after(DELETE_SECONDS, shield=True):
            for asset in uploads.made:
                await _delete(engine, url, asset)


@frozen
class _Uploads:
    """The uploads of one call: the assets by the position of their image, and all assets to delete."""

    engine: Engine
    url: str
    options: Mapping[str, Any]
    assets: dict[int, Asset] = field(factory=dict[int, Asset])
    made: list[Asset] = field(factory=list[Asset])

    def width(self) -> int:
        return AT_ONCE

    async def upload(self, image: Image) -> Asset:
        assert isinstance(image.source, bytes)
        creation = make_call(self.url, image.source, image.media_type, None, {})
        return await AsyncAssets(self.engine)._upload(creation, image.source, self.url, self.options, self.made)


async def _delete(engine: Engine, url: str, asset: Asset) -> None:
    """Delete an asset, best effort: a failure must not change the result of the call."""
    try:
        await engine.open(delete_call(url, asset.id, {}), {}, _finish)
    except NimError as error:
        log.warning("asset %s was not deleted: %s", asset.id, error)


async def _finish(response: Response) -> None:
    await response.body.finish()


async def _held(data: object) -> bytes:
    """The bytes; a file is read in a worker thread."""
    if isinstance(data, os.PathLike):
        return await to_thread.run_sync(_read, cast("os.PathLike[str]", data))
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(cast(bytes, data))
    raise ConfigurationError(f"data must be bytes or a Path, not {type(data).__name__}")


def _read(path: os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()
