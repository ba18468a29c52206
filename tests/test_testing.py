"""FakeTransport: what users test their own programs with."""

import pickle
import subprocess
import sys
from typing import Any

import pytest

from nimclient import AsyncClient, Client, RetryPolicy
from nimclient.errors import (
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    NotFoundError,
    ServerError,
    StreamInterruptedError,
)
from nimclient.testing import Body, FakeRequest, FakeTransport, HttpHead, HttpRequest, Transport

REPLY = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
FAST = RetryPolicy(first_delay=0.001, max_delay=0.002)


def client_over(answers: Any, **options: Any) -> tuple[AsyncClient, FakeTransport]:
    transport = FakeTransport(answers)
    return AsyncClient("k-1", "http://fake", model="m", retry=FAST, transport=transport, **options), transport


def token(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


async def test_answers_come_in_order_and_requests_are_kept() -> None:
    """A status and a reply from a list: the call is retried, and both requests are there to be looked at."""
    client, transport = client_over([429, REPLY])
    async with client:
        reply = await client.chat.create("hi", temperature=0.5)
    assert (reply.text, reply.meta.attempts if reply.meta else 0) == ("Hello", 2)
    first, second = transport.requests
    assert (first.method, first.url) == ("POST", "http://fake/v1/chat/completions")
    assert first.headers["authorization"] == "Bearer k-1"
    assert first.json["temperature"] == second.json["temperature"] == 0.5
    assert "k-1" not in repr(first)
    assert transport.closed


async def test_a_function_answers() -> None:
    """A function sees the request and answers; it may be async."""

    async def answer(request: FakeRequest) -> Any:
        return 404 if request.method == "GET" else {**REPLY, "model": request.json["model"]}

    client, _ = client_over(answer)
    assert (await client.chat.create("hi", model="other")).model == "other"
    with pytest.raises(NotFoundError):
        await client.request("GET", "/v1/nothing")
    client, _ = client_over(lambda request: REPLY)
    assert (await client.chat.create("hi")).text == "Hello"


async def test_a_list_is_a_stream() -> None:
    """Events given one by one come in a read of their own each; [DONE] need not be written."""
    client, _ = client_over([[token("Hel"), token("lo", "stop")]])
    stream = client.chat.stream("hi")
    assert [chunk.text async for chunk in stream] == ["Hel", "lo"]
    client, _ = client_over([[token("a", "stop"), "[DONE]"], b'data: {"choices": []}\n\ndata: [DONE]\n\n'])
    assert (await client.chat.stream("hi").final()).text == "a"


async def test_a_stream_breaks_where_it_says() -> None:
    """An exception among the events is raised there; what came before is the error's partial answer."""
    client, _ = client_over([[token("Hel"), ConnectionLostError("gone", phase="body")]])
    with pytest.raises(StreamInterruptedError) as caught:
        await client.chat.stream("hi").final()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"


async def test_errors_and_whole_responses() -> None:
    """An exception stands for no response; a tuple gives status, headers and body."""
    client, _ = client_over(
        [
            ConnectError("nobody is there", kind="refused"),
            (503, {"Retry-After": "0"}, None),
            (200, {"X-Request-Id": "r-2"}, REPLY),
        ]
    )
    reply = await client.chat.create("hi")
    assert reply.meta is not None
    assert (reply.meta.attempts, reply.meta.request_id) == (3, "r-2")
    client, _ = client_over(lambda request: (500, {"X-Request-Id": "r-1"}, {"error": {"message": "broken"}}))
    with pytest.raises(ServerError, match="broken") as caught:
        await client.chat.create("hi")
    assert caught.value.request_id == "r-1"


async def test_a_list_that_is_used_up_fails_the_test() -> None:
    """One request more than there are answers is an AssertionError that says which; it is not retried."""
    client, transport = client_over([REPLY])
    await client.chat.create("hi")
    with pytest.raises(AssertionError, match="request 2: POST http://fake/v1/chat/completions"):
        await client.chat.create("hi")
    assert len(transport.requests) == 2


async def test_with_replicas() -> None:
    """A failure moves the call to the other replica; every request is accounted for at its end."""
    client, transport = client_over([500, [token("a", "stop")]])
    client = AsyncClient(base_url=["http://a", "http://b"], model="m", retry=FAST, transport=transport)
    assert (await client.chat.stream("hi").final()).text == "a"
    assert {request.url.split("/")[2] for request in transport.requests} == {"a", "b"}


async def test_large_answers_are_refused_as_ever() -> None:
    """Limits.max_body holds for a fake answer, too."""
    from nimclient import Limits
    from nimclient.errors import BodyTooLargeError

    client, _ = client_over([REPLY], limits=Limits(max_body=10))
    with pytest.raises(BodyTooLargeError):
        await client.chat.create("hi")


def test_without_await() -> None:
    """The blocking client takes the same transport."""
    transport = FakeTransport([REPLY, [token("a"), token("b", "stop")]])
    with Client(base_url="http://fake", model="m", transport=transport) as client:
        assert client.chat.create("hi").text == "Hello"
        assert [chunk.text for chunk in client.chat.stream("hi")] == ["a", "b"]
    with pytest.raises(ClientClosedError):
        client.chat.create("hi")


async def test_copies_share_it() -> None:
    """A with_options copy sends through the same transport and does not close it."""
    client, transport = client_over([REPLY, REPLY])
    async with client.with_options(headers={"X-A": "b"}) as copy:
        await copy.chat.create("hi")
    await client.chat.create("hi")
    assert transport.requests[0].headers["x-a"] == "b"


class Portable:
    """A transport of somebody's own: only the two methods of the protocol, and it pickles."""

    async def open(self, request: HttpRequest, timeouts: Any, total: float | None) -> tuple[HttpHead, Body]:
        return await FakeTransport([REPLY]).open(request, timeouts, total)

    async def aclose(self) -> None:
        pass


async def test_a_client_pickles_with_its_transport() -> None:
    """A copy out of a pickle has the transport; one that cannot be pickled says so itself."""
    transport: Transport = Portable()
    client = AsyncClient(base_url="http://fake", model="m", transport=transport)
    twin = pickle.loads(pickle.dumps(client))
    assert (await twin.chat.create("hi")).text == "Hello"
    client, _ = client_over(lambda request: REPLY)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(client)


def test_what_is_no_transport_is_refused() -> None:
    """An object without the methods is a ConfigurationError that names the protocol."""
    with pytest.raises(ConfigurationError, match=r"nimclient\.testing\.Transport; str lacks them"):
        AsyncClient(base_url="http://fake", transport="aiohttp")  # type: ignore[arg-type]  # that is the point


def test_it_is_light() -> None:
    """A program's tests need neither aiohttp nor pytest for a fake transport; the simulator is loaded when asked for."""
    code = (
        "import asyncio, sys\n"
        "from nimclient import AsyncClient\n"
        "from nimclient.testing import FakeTransport\n"
        "client = AsyncClient(base_url='http://x', model='m', transport=FakeTransport([{'choices': []}, [], 404]))\n"
        "asyncio.run(client.infer('/v1/infer', {}))\n"
        "assert not {'aiohttp', 'pytest', 'pytest_asyncio'} & set(sys.modules), sys.modules\n"
        "from nimclient.testing import Simulator\n"
        "assert 'aiohttp' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The module rejects what it has not got."""
    import nimclient.testing

    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = nimclient.testing.Nonsense
