"""What a call sends, as a transport sees it: `sent("chat.create", "hi", model="m", seed=1).fields`. Without a socket."""

import asyncio
import inspect
import warnings
from operator import attrgetter
from typing import Any

from attrs import frozen

from nimclient import AsyncClient
from nimclient.testing import FakeRequest, FakeTransport
from support.wire import MODEL, chat_body

BASE = "http://nim:8000"
TOKENS = [{"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]}]


@frozen
class Sent:
    """The last request of a call, how many there were, and what was warned of meanwhile."""

    request: FakeRequest
    requests: int
    warnings: tuple[str, ...]

    @property
    def fields(self) -> dict[str, Any]:
        """The decoded body."""
        return dict(self.request.json)


def sent(method: str, *args: Any, dialect: Any = None, **options: Any) -> Sent:
    """Make a chat call and return what it sent; a server of that type with one model, MODEL, answers it."""
    transport = FakeTransport(_answer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(_call(AsyncClient("k", BASE, dialect=dialect, transport=transport), method, *args, **options))
    return Sent(transport.requests[-1], len(transport.requests), tuple(str(warning.message) for warning in caught))


async def _call(client: AsyncClient, method: str, *args: Any, **options: Any) -> Any:
    made = attrgetter(method)(client)(*args, **options)
    return await (made if inspect.isawaitable(made) else made.final())


def _answer(request: FakeRequest) -> Any:
    if request.method == "GET":
        return {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
    return TOKENS if request.json.get("stream") else chat_body()
