"""client.infer, infer_raw and request: routes that have no method of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nimclient._api.call import Call
from nimclient._api.infer import infer_call, request_call, value_of
from nimclient._base.types import Json
from nimclient._engine.engine import Exchange
from nimclient._resources.base import Resource
from nimclient._streams.event_stream import EventStream
from nimclient.records.files import Blob


class AsyncInfer(Resource):
    """Plain JSON to any route. AsyncClient has the public faces."""

    async def infer(self, path_or_url: str, json: Json, assets: object, options: Mapping[str, Any]) -> Json:
        """See AsyncClient.infer. An answer that is no JSON is kept on the error, and is no reason to send the call again."""
        call = infer_call("infer", path_or_url, json, assets, options, "application/json")
        return (await self._blob(call, options)).json()

    async def infer_raw(self, path_or_url: str, json: Json, assets: object, options: Mapping[str, Any]) -> Blob:
        """See AsyncClient.infer_raw."""
        return await self._blob(infer_call("infer_raw", path_or_url, json, assets, options, "*/*"), options)

    async def request(self, method: str, path_or_url: str, json: Json, options: Mapping[str, Any]) -> Json:
        """See AsyncClient.request."""
        call = request_call(method, path_or_url, json, options, stream=False)
        return value_of(await self._blob(call, options))

    async def stream(self, method: str, path_or_url: str, json: Json, options: Mapping[str, Any]) -> EventStream:
        """The same with `stream=True`."""
        call = request_call(method, path_or_url, json, options, stream=True)

        async def receive(exchange: Exchange) -> EventStream:
            return EventStream(exchange, self._engine.config.limits.max_event)

        return await self._engine.run(call, options, receive)

    async def _blob(self, call: Call[Blob], options: Mapping[str, Any]) -> Blob:
        async def receive(exchange: Exchange) -> Blob:
            data = await exchange.body.read_all(self._engine.config.limits.max_body)
            return call.decode(data, exchange.meta())

        return await self._engine.run(call, options, receive)
