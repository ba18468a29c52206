"""`priority=` goes to each server type in its own place and with its own sign, and to none that has no priorities."""

import warnings
from typing import Any

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError
from nimclient.testing import FakeTransport

CHAT = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
TEXT = {"choices": [{"text": "Hello", "finish_reason": "stop"}]}


async def sent(dialect: Any, priority: Any, **options: Any) -> dict[str, Any]:
    """The body of a chat; that of a text completion has the same fields for it."""
    transport = FakeTransport([CHAT, TEXT])
    async with AsyncClient(base_url="http://fake", model="m", dialect=dialect, transport=transport) as client:
        await client.chat.create("hi", priority=priority, **options)
        await client.completions.create("hi", priority=priority, **options)
    chat, text = (request.json for request in transport.requests)
    names = ("priority", "nvext")
    assert [chat.get(name) for name in names] == [text.get(name) for name in names]
    return {name: chat[name] for name in names if name in chat}


@pytest.mark.filterwarnings("ignore:.* ignores priority")
async def test_the_sign_is_that_of_the_server_type() -> None:
    """vLLM serves low numbers first, Dynamo high ones, and reads them elsewhere."""
    high, normal, low = [(await sent("vllm", word))["priority"] for word in ("high", "normal", "low")]
    assert high < normal == 0 < low
    assert (await sent("nim", "high"))["priority"] == high
    found = [(await sent("dynamo", word))["nvext"]["agent_hints"]["priority"] for word in ("high", "normal", "low")]
    assert found == [-high, 0, -low]


@pytest.mark.parametrize("dialect", [None, "vllm", "nim", "hosted"])
async def test_a_number_goes_as_it_is(dialect: Any) -> None:
    """Unchanged, where the server type reads it, and without a warning."""
    assert await sent(dialect, 7) == {"priority": 7}
    assert await sent("dynamo", -7) == {"nvext": {"agent_hints": {"priority": -7}}}


@pytest.mark.filterwarnings("ignore:.* ignores priority")
async def test_what_the_caller_wrote_himself_stays() -> None:
    """Other hints are kept, and a priority among them."""
    hints = {"agent_hints": {"osl": 64}, "annotations": ["timing"]}
    assert await sent("dynamo", 3, nvext=hints) == {
        "nvext": {"agent_hints": {"priority": 3, "osl": 64}, "annotations": ["timing"]}
    }
    assert hints == {"agent_hints": {"osl": 64}, "annotations": ["timing"]}
    own = {"agent_hints": {"priority": 9}}
    assert await sent("dynamo", "low", nvext=own) == {"nvext": own}
    assert await sent("vllm", "high", extra_body={"priority": 5}) == {"priority": 5}


@pytest.mark.parametrize(
    ("dialect", "said"),
    [(None, "is not sent: the server type is not known"), ("hosted", "is not sent: hosted has none")]
    + [("vllm", "vllm ignores .* without --scheduling-policy"), ("dynamo", "dynamo ignores .* without")],
)
async def test_what_may_be_without_effect_is_said_once(dialect: Any, said: str) -> None:
    """One warning a client, where it is not sent and where the server may ignore it in silence."""
    transport = FakeTransport([CHAT] * 3)
    async with AsyncClient(base_url="http://fake", model="m", dialect=dialect, transport=transport) as client:
        with pytest.warns(UserWarning, match=said):
            await client.chat.create("hi", priority="high")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await client.chat.create("hi", priority="high")
            await client.chat.create("hi", priority="normal" if dialect in ("vllm", "dynamo") else None)
    bodies = [request.json for request in transport.requests[:2]]
    assert all(("priority" in body or "nvext" in body) == (dialect in ("vllm", "dynamo")) for body in bodies)


@pytest.mark.filterwarnings("ignore:.*priority")
async def test_the_sign_follows_the_detected_server_type() -> None:
    """A server is unknown before its first response, and known after it."""
    models = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "sglang"}]}
    transport = FakeTransport([CHAT, models, CHAT])
    async with AsyncClient(base_url="http://fake", model="m", transport=transport) as client:
        await client.chat.create("hi", priority="high")
        await client.models.list()
        await client.chat.create("hi", priority="high")
    assert [request.json.get("priority") for request in (transport.requests[0], transport.requests[2])] == [None, 10]


@pytest.mark.filterwarnings("ignore:.* ignores priority")
async def test_a_server_that_rejects_it_is_asked_without_it() -> None:
    """As with every field that the client has chosen, and remembered."""
    rejected = (400, {}, {"error": {"message": "priority: Extra inputs are not permitted", "code": 400}})
    transport = FakeTransport([rejected, CHAT, CHAT])
    async with AsyncClient(base_url="http://fake", model="m", dialect="nim", transport=transport) as client:
        await client.chat.create("hi", priority="low")
        await client.chat.create("hi", priority="low")
    assert ["priority" in request.json for request in transport.requests] == [True, False, False]


@pytest.mark.parametrize("wrong", ["urgent", 1.5, True, [1]])
async def test_anything_else_is_an_error(wrong: Any) -> None:
    """ConfigurationError, before anything is sent."""
    transport = FakeTransport([])
    async with AsyncClient(base_url="http://fake", model="m", dialect="vllm", transport=transport) as client:
        with pytest.raises(ConfigurationError, match="priority"):
            await client.chat.create("hi", priority=wrong)
