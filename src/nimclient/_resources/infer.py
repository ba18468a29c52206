"""client.infer, infer_raw and request: plain JSON for routes without their own method; public through AsyncClient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nimclient._api.call import Call
from nimclient._api.infer import infer_call, request_call, value_of
from nimclient._base.types import Json
from nimclient._base.values import ResponseMeta
from nimclient._engine.engine import Engine
from nimclient._streams.event_stream import EventStream
from nimclient._streams.response import Response
from nimclient.records.files import Blob


async def infer(engine: Engine, path_or_url: str, json: Json, assets: object, options: Mapping[str, Any]) -> Json:
    """See AsyncClient.infer. A response that is not JSON is kept on the error and not retried."""
    call = infer_call("infer", path_or_url, json, assets, options, "application/json")
    return (await _blob(engine, call, options)).json()


async def infer_raw(engine: Engine, path_or_url: str, json: Json, assets: object, options: Mapping[str, Any]) -> Blob:
    """See AsyncClient.infer_raw."""
    return await _blob(engine, infer_call("infer_raw", path_or_url, json, assets, options, "*/*"), options)


async def request(engine: Engine, method: str, path_or_url: str, json: Json, options: Mapping[str, Any]) -> Json:
    """See AsyncClient.request."""
    call = request_call(method, path_or_url, json, options, stream=False)
    return value_of(await _blob(engine, call, options))


async def request_stream(
    engine: Engine, method: str, path_or_url: str, json: Json, options: Mapping[str, Any]
) -> EventStream:
    """The same with `stream=True`."""
    return await engine.open(request_call(method, path_or_url, json, options, stream=True), options, _event_stream)


async def _blob(engine: Engine, call: Call[Blob], options: Mapping[str, Any]) -> Blob:
    data, meta = await engine.open(call, options, _read_bytes)
    return call.decode(data, meta)


async def _read_bytes(response: Response) -> tuple[bytes, ResponseMeta]:
    data = await response.body.read_all(response.limits.max_body)
    return data, response.meta()


async def _event_stream(response: Response) -> EventStream:
    return EventStream(response)
