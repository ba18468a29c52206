"""client.health: is the server alive, is it ready."""

from __future__ import annotations

from nimclient._engine import Exchange
from nimclient._protocol.call import Call
from nimclient._resources.base import Resource
from nimclient.errors import APIStatusError, ConnectError, ConnectionLostError, RequestTimeoutError


class AsyncHealth(Resource):
    """Health of a NIM container (GET /v1/health/…); of vLLM, which has none there, `/health` below the root."""

    async def ready(self, *, timeout: float | None = 5.0) -> bool:
        """Whether the model is loaded and takes requests. A server that cannot be reached, or not in time, is not ready."""
        return await self._probe("/health/ready", timeout)

    async def live(self, *, timeout: float | None = 5.0) -> bool:
        """Whether the server process answers."""
        return await self._probe("/health/live", timeout)

    async def _probe(self, path: str, timeout: float | None) -> bool:
        status = await self._status(path, timeout)
        if status == 404:  # not a NIM: vLLM answers 200 with an empty body, 503 when its engine is dead
            status = await self._status(self._engine.root + "/health", timeout)
        return status is not None and 200 <= status < 300

    async def _status(self, path: str, timeout: float | None) -> int | None:
        """The status of one try; the body says nothing that the status does not (NIMs differ in it)."""

        async def receive(exchange: Exchange) -> int:
            exchange.body.abort()
            return exchange.head.status

        call = Call("GET", path, _nothing)
        try:
            return await self._engine.once(call, {"timeout": timeout}, receive)
        except APIStatusError as error:
            return error.status
        except (ConnectError, ConnectionLostError, RequestTimeoutError):
            return None


def _nothing(value: object, meta: object) -> None:
    return None
