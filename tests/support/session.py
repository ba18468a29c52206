"""A transport over aiohttp.ClientSession, which aioresponses can answer for: `AsyncClient(transport=SessionTransport())`."""

from typing import Any

import aiohttp

from nimclient.testing import Body, FakeTransport, HttpHead, HttpRequest


class SessionTransport:
    """Each request has a session of its own; the whole response is read at once."""

    async def open(self, request: HttpRequest, timeouts: Any, total: float | None) -> tuple[HttpHead, Body]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, request.url, data=request.body, headers=request.headers, allow_redirects=False
            ) as response,
        ):
            whole = (response.status, dict(response.headers), await response.read())
        return await FakeTransport([whole]).open(request, timeouts, total)

    async def aclose(self) -> None:
        pass
