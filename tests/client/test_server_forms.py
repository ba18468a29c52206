"""Messages take the form that the server behind the call wants: roles, asset headers and the size of the body."""

from typing import Any

import pytest

from conftest import MakeClient
from nimclient import AsyncClient, Image, Message
from nimclient.errors import ConfigurationError
from support.server import FaultServer
from support.wire import HELLO, MODEL, answer, chat, chat_body

HOSTED = "https://integrate.api.nvidia.com/v1"
ASSET = "data:image/png;asset_id,f1a2"
DEVELOPERS: list[Any] = [
    ("developer", "a"),
    {"role": "developer", "content": "b"},
    Message("developer", "c"),
    ("user", "hi"),
]


async def ask(client: AsyncClient, streamed: bool, messages: Any, **options: Any) -> None:
    """On one of the two paths."""
    if streamed:
        await client.chat.stream(messages, **options).final()
    else:
        await client.chat.create(messages, **options)


def roles(messages: Any) -> list[str]:
    return [message["role"] for message in messages]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("dialect", "role"),
    [(None, "developer"), ("nim", "developer"), ("vllm", "developer"), ("dynamo", "system"), ("hosted", "system")],
)
async def test_developer_is_sent_to_those_who_know_it(
    server: FaultServer, make_client: MakeClient, dialect: Any, role: str, streamed: bool
) -> None:
    """vLLM and NIM take the role, Dynamo and the hosted catalog get `system`; other roles pass everywhere."""
    server.script(HELLO if streamed else chat())
    await ask(make_client(dialect=dialect), streamed, [*DEVELOPERS, ("context", "x")])
    assert roles(server.requests[0].json["messages"]) == [role] * 3 + ["user", "context"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("dialect", [None, "hosted", "vllm"])
async def test_assets_are_named_to_the_hosted_catalog_only(
    server: FaultServer, make_client: MakeClient, dialect: Any, streamed: bool
) -> None:
    """The header is for hosted URLs, and for one that the caller says is like them."""
    server.script(HELLO if streamed else chat())
    await ask(make_client(dialect=dialect), streamed, [("user", ["?", Image(ASSET)])])
    assert server.requests[0].headers.get("nvcf-input-asset-references") == ("f1a2" if dialect == "hosted" else None)


async def test_the_hosted_catalog_is_known_by_its_url(canned: Any) -> None:
    """Without a dialect the base URL tells: `system`, the header, and 25 MiB at most."""
    canned.post(HOSTED + "/chat/completions", payload=chat_body("Hi"))
    async with AsyncClient("k", HOSTED, model=MODEL, transport=canned.transport) as client:
        await client.chat.create([*DEVELOPERS, ("user", f'<img src="{ASSET}" />')])
        large = Image(b"\x89PNG\r\n\x1a\n" + bytes(20_000_000))
        with pytest.raises(
            ConfigurationError, match=r"has 2666\d{4} bytes; the hosted catalog accepts at most 26214400"
        ):
            client.chat.stream([("user", [large])])
    ((call,),) = canned.requests.values()
    assert call.kwargs["headers"]["NVCF-INPUT-ASSET-REFERENCES"] == "f1a2"
    assert b"developer" not in call.kwargs["data"]


async def test_a_models_own_endpoint_decides(server: FaultServer, canned: Any) -> None:
    """A model of a hosted client that is served here gets what a server here takes, and the other way round."""
    here, there = "http://nim.test:8000/chat", "https://ai.api.nvidia.com/v1/vlm/x"
    canned.post(here, payload=chat_body("Hi"))
    canned.post(there, payload=chat_body("Hi"))
    async with AsyncClient("k", HOSTED, endpoints={"mine": here}, transport=canned.transport) as client:
        await client.chat.create([("developer", ASSET)], model="mine")
    async with AsyncClient(
        "k", "http://nim.test:8000", endpoints={"theirs": there}, transport=canned.transport
    ) as client:
        await client.chat.create([("developer", ASSET)], model="theirs")
    (mine,), (theirs,) = canned.requests.values()
    assert b'"developer"' in mine.kwargs["data"]
    assert "NVCF-INPUT-ASSET-REFERENCES" not in mine.kwargs["headers"]
    assert b'"system"' in theirs.kwargs["data"]
    assert theirs.kwargs["headers"]["NVCF-INPUT-ASSET-REFERENCES"] == "f1a2"


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_unknown_model_is_warned_of_once_per_call(
    server: FaultServer, make_client: MakeClient, streamed: bool
) -> None:
    """The body of a stream is built once, so that its warning comes once."""
    server.script(HELLO if streamed else chat())
    with pytest.warns(UserWarning, match="not in the catalog") as caught:
        await ask(make_client(), streamed, "hi", thinking=True)
    assert len(caught) == 1
    assert server.requests[0].json["chat_template_kwargs"] == {"enable_thinking": True}


async def test_a_stream_sends_what_it_was_given(server: FaultServer, client: AsyncClient) -> None:
    """What happens to the list between the call and the opening changes nothing."""
    server.script(HELLO)
    messages = [("user", "hi")]
    stream = client.chat.stream(messages)
    messages.append(("user", "later"))
    await stream.final()
    assert len(server.requests[0].json["messages"]) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_iterator_of_messages_is_read_once(
    server: FaultServer, make_client: MakeClient, streamed: bool
) -> None:
    """A generator works also where the server is asked for its models first."""
    server.script(answer({"object": "list", "data": [{"id": "found"}]}), path="/v1/models")
    server.script(HELLO if streamed else chat())
    messages: Any = (message for message in [("user", "hi")])
    await ask(make_client(model=None), streamed, messages)
    assert server.requests[-1].json["messages"] == [{"role": "user", "content": "hi"}]
    assert server.requests[-1].json["model"] == "found"
