"""Which model a call goes to when the caller names none, and where it goes then."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError, ModelNotFoundError, NimError, RequestTimeoutError, ServerError
from support.server import FaultServer, Pause, Request, Stall
from support.virtual_time import takes
from support.wire import HELLO, answer, chat, embedded, error

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
CHAT = "meta/llama-3.1-8b-instruct"
EMBED = "nvidia/nv-embedqa-e5-v5"
RANK = "nvidia/llama-nemotron-rerank-1b-v2"


def models(*ids: str, **extra: Any) -> bytes:
    """The answer of GET /v1/models."""
    return answer({"object": "list", "data": [{"id": id, "object": "model", **extra} for id in ids]})


def serves(known: str) -> Any:
    """A server that answers for one model only."""

    def script(request: Request) -> bytes:
        if request.json["model"] != known:
            return error(404, f"The model `{request.json['model']}` does not exist.")
        if request.path.endswith("embeddings"):
            return answer(embedded(request.json["input"]))
        if request.path.endswith("ranking"):
            return answer({"rankings": [{"index": 0, "logit": 1.5}]})
        return HELLO if request.json.get("stream") else chat()

    return script


async def chat_create(client: AsyncClient) -> Any:
    return await client.chat.create("hi")


async def chat_stream(client: AsyncClient) -> Any:
    return await client.chat.stream("hi").final()


async def embed(client: AsyncClient) -> Any:
    return await client.embeddings.create(["1"])


async def embed_documents(client: AsyncClient) -> Any:
    return await client.embeddings.embed_documents(["1", "2", "3"], batch_size=1)


async def rerank(client: AsyncClient) -> Any:
    return await client.rerank("q", ["a"])


CALLS = [(chat_create, CHAT), (chat_stream, CHAT), (embed, EMBED), (embed_documents, EMBED), (rerank, RANK)]


@pytest.mark.parametrize(("call", "model"), CALLS, ids=lambda value: getattr(value, "__name__", None))
async def test_the_first_fitting_model_is_found_once(
    server: FaultServer, make_client: MakeClient, call: Callable[[AsyncClient], Any], model: str
) -> None:
    """Without a model the server is asked for its models once, also by copies; the first of the kind is used."""
    server.script(models(EMBED, RANK, CHAT), path="/v1/models")
    server.script(serves(model))
    client = make_client(model=None)
    await call(client)
    await call(client)
    await call(client.with_options(timeouts=5))
    assert server.count("/v1/models") == 1


@pytest.mark.parametrize(("call", "model"), CALLS, ids=lambda value: getattr(value, "__name__", None))
async def test_a_default_that_is_gone_is_looked_up_again(
    server: FaultServer, make_client: MakeClient, call: Callable[[AsyncClient], Any], model: str
) -> None:
    """When the server no longer knows the default it is listed once more, and the call goes to the new one."""
    server.script(models(model), models("new/" + model), path="/v1/models")
    server.script(serves(model))
    client = make_client(model=None)
    await call(client)
    server.script(serves("new/" + model))
    await call(client)
    lookups = server.count("/v1/models")
    assert lookups >= 2
    await call(client)
    assert server.count("/v1/models") == lookups


async def test_a_default_that_stays_unknown(server: FaultServer, make_client: MakeClient) -> None:
    """When the list still names the model that the server does not know, its rejection is raised."""
    server.script(models(CHAT), path="/v1/models")
    server.script(serves(CHAT))
    client = make_client(model=None)
    await client.chat.create("hi")
    server.script(serves("none"))
    with pytest.raises(ModelNotFoundError):
        await client.chat.create("hi")
    assert (server.count("/v1/models"), server.count("/v1/chat/completions")) == (2, 2)


async def test_a_named_model_is_not_looked_up(server: FaultServer, client: AsyncClient) -> None:
    """ModelNotFoundError for a model that the caller named is the caller's."""
    server.script(serves("none"))
    with pytest.raises(ModelNotFoundError):
        await client.chat.create("hi")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("listed", "used"),
    [
        ([{"id": "unknown/one"}], "unknown/one"),
        ([{"id": EMBED}, {"id": "unknown/one"}], "unknown/one"),
        ([{"id": "unknown/one"}, {"id": CHAT}], CHAT),
        ([{"id": "adapter", "parent": "base"}, {"id": "base"}], "base"),
        ([{"id": "rooted", "root": "/models/rooted"}], "rooted"),
        ([{"no": "id"}, {"id": 5}, {"id": "a"}, {"id": "a"}], "a"),
    ],
)
async def test_which_model_is_the_default(
    server: FaultServer, make_client: MakeClient, listed: list[dict[str, Any]], used: str
) -> None:
    """Known kinds come before unknown ones, and adapters never."""
    server.script(answer({"data": listed}), path="/v1/models")
    server.script(chat())
    await make_client(model=None).chat.create("hi")
    assert server.requests[-1].json["model"] == used


@pytest.mark.parametrize("listed", [(), (EMBED, RANK)])
async def test_a_server_without_a_fitting_model(
    server: FaultServer, make_client: MakeClient, listed: tuple[str, ...]
) -> None:
    """When nothing fits, the ConfigurationError says what the server lists."""
    server.script(models(*listed), path="/v1/models")
    with pytest.raises(ConfigurationError, match=listed[0] if listed else "nothing"):
        await make_client(model=None).chat.create("hi")
    assert len(server.requests) == 1


@pytest.mark.parametrize("script", [error(500), answer([]), answer({"data": 5})], ids=["500", "list", "no list"])
async def test_a_server_that_cannot_list(server: FaultServer, make_client: MakeClient, script: bytes) -> None:
    """What goes wrong with the list is the call's error."""
    server.script(script, path="/v1/models")
    with pytest.raises(NimError):
        await make_client(model=None).chat.create("hi")
    assert server.count("/v1/chat/completions") == 0


async def test_the_limits_and_headers_of_a_call_hold_for_its_list(server: FaultServer, make_client: MakeClient) -> None:
    """timeout= and extra_headers= of a call are those of the look-up that it makes."""
    server.script([Stall()], path="/v1/models")
    client = make_client(model=None)
    for call in (
        client.chat.create("hi", timeout=0.05, extra_headers={"X-Tenant": "a"}),
        client.chat.stream("hi", timeout=0.05, extra_headers={"X-Tenant": "a"}).final(),
        client.embeddings.embed_documents(["a"], timeout=0.05, extra_headers={"X-Tenant": "a"}),
        client.rerank("q", ["a"], timeout=0.05, extra_headers={"X-Tenant": "a"}),
    ):
        with takes(0.05), pytest.raises(RequestTimeoutError):
            await call
    assert {request.headers["x-tenant"] for request in server.requests} == {"a"}


async def test_calls_at_once_find_one_default(server: FaultServer, make_client: MakeClient) -> None:
    """Many calls that start together end up at the same model."""
    server.script([Pause(0.02), models(CHAT)], path="/v1/models")
    server.script(serves(CHAT))
    client = make_client(model=None)
    replies = await asyncio.gather(*(client.chat.create("hi") for _ in range(5)))
    assert [reply.text for reply in replies] == ["Hello"] * 5


@pytest.mark.parametrize(
    ("setting", "call", "used"),
    [
        ({"chat": "a", "embedding": "b"}, chat_create, "a"),
        ({"chat": "a", "embedding": "b"}, embed, "b"),
        ("a", chat_create, "a"),
        ("a", embed, "a"),
    ],
)
async def test_models_of_the_client(
    server: FaultServer, make_client: MakeClient, setting: Any, call: Callable[[AsyncClient], Any], used: str
) -> None:
    """model= of a client is one for all kinds, or one per kind."""
    server.script(serves(used))
    await call(make_client(model=setting))
    assert [request.json["model"] for request in server.requests] == [used]


async def test_a_kind_that_has_no_model_of_its_own(server: FaultServer, make_client: MakeClient) -> None:
    """With a model per kind the others are found by listing."""
    server.script(models(EMBED), path="/v1/models")
    server.script(serves(EMBED))
    await embed(make_client(model={"chat": "a"}))
    assert server.count("/v1/models") == 1


@pytest.mark.parametrize(("call", "model"), [(chat_create, EMBED), (chat_stream, RANK), (embed, CHAT), (rerank, EMBED)])
async def test_a_model_of_another_kind(
    server: FaultServer, make_client: MakeClient, call: Callable[[AsyncClient], Any], model: str
) -> None:
    """A model that is known to be of another kind than the call needs is a ConfigurationError, and nothing is sent."""
    with pytest.raises(ConfigurationError, match="of kind"):
        await call(make_client(model=model))
    assert server.connections == 0


async def test_an_endpoint_of_its_own(server: FaultServer, make_client: MakeClient) -> None:
    """endpoints= gives a model its own URL for all calls that name it."""
    server.script(chat())
    client = make_client("http://127.0.0.1:1", model="m", endpoints={"m": f"http://127.0.0.1:{server.port}/a/b"})
    reply = await client.chat.create("hi")
    assert server.requests[0].path == "/a/b"
    assert reply.meta is not None
    assert reply.meta.url == f"http://127.0.0.1:{server.port}/a/b"


async def test_a_prefix_in_the_base_url(server: FaultServer, make_client: MakeClient) -> None:
    """The path of a reverse proxy is kept."""
    server.script(chat())
    await make_client(f"http://127.0.0.1:{server.port}/proxy/nim/").chat.create("hi")
    assert server.requests[0].path == "/proxy/nim/v1/chat/completions"


async def test_a_kind_without_a_hosted_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the hosted catalog has no default the caller must name a model."""
    monkeypatch.setattr("nimclient._api.catalog.hosted_default", lambda kind: None)
    with pytest.raises(ConfigurationError, match="no default model"):
        AsyncClient("some-key").chat.stream("hi")


async def test_a_list_that_fails_later(server: FaultServer, make_client: MakeClient) -> None:
    """When the second look-up fails its error is raised."""
    server.script(models(CHAT), error(501), path="/v1/models")
    server.script(serves(CHAT))
    client = make_client(model=None)
    await client.chat.create("hi")
    server.script(serves("none"))
    with pytest.raises(ServerError):
        await client.chat.create("hi")
