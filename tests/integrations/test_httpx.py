"""Clients that speak httpx send through nimclient: its connections, replicas, retries and key, and their own records."""

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from typing import Any

import openai
import pytest

from nimclient import AsyncClient, Client, RetryPolicy
from nimclient.errors import ConfigurationError, RequestTimeoutError
from nimclient.integrations.httpx import NimTransport, SyncNimTransport
from nimclient.simulator import Simulator
from support.server import FaultServer, Reset, Stall
from support.wire import MODEL, chat, chunk, error, head, sse

_BASES = (base.__module__ for base in openai.DefaultAsyncHttpxClient.__mro__)
httpx = import_module(next(name for name in _BASES if name.startswith("httpx")).partition(".")[0])
"""The library that the installed openai really uses."""

TOKEN = sse(
    {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": "a"}}],
    }
)
FAST = RetryPolicy(first_delay=0.01, max_delay=0.02)
CHAT = "meta/llama-3.1-8b-instruct"
MESSAGES: Any = [{"role": "user", "content": "Name a colour."}]


@contextlib.asynccontextmanager
async def openai_over(client: AsyncClient, **settings: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    """openai-python as its users set it up over the transport."""
    http = httpx.AsyncClient(transport=NimTransport(client))
    async with openai.AsyncOpenAI(
        base_url=client.base_url, api_key="unused", max_retries=0, http_client=http, **settings
    ) as made:
        yield made


@pytest.fixture
async def client(nim_simulator: Simulator) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=nim_simulator.base_url, retry=FAST) as client:
        yield client


async def test_openai_gets_its_own_records(client: AsyncClient) -> None:
    """A chat comes out as openai's class, with the text that nimclient gets for the same question."""
    async with openai_over(client) as over:
        reply = await over.chat.completions.create(model=CHAT, messages=MESSAGES, temperature=0)
    assert type(reply).__module__.startswith("openai.types")
    assert reply.choices[0].message.content == (await client.chat.create(MESSAGES, model=CHAT, temperature=0)).text


async def test_streams_pass_through_as_they_come(client: AsyncClient) -> None:
    """Chunks are openai's, the last one has the usage, and the connection serves the next call."""
    async with openai_over(client) as over:
        pieces, usage = [], None
        stream = await over.chat.completions.create(
            model=CHAT, messages=MESSAGES, temperature=0, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            usage = chunk.usage or usage
            pieces += [choice.delta.content or "" for choice in chunk.choices]
        again = await over.chat.completions.create(model=CHAT, messages=MESSAGES, temperature=0)
    assert "".join(pieces) == again.choices[0].message.content
    assert usage is not None
    assert len(pieces) > 2


async def test_embeddings_and_models_work(client: AsyncClient) -> None:
    """What openai asks for as base64 comes back as its floats; lists are its pages."""
    async with openai_over(client) as over:
        answer = await over.embeddings.create(
            model="nvidia/nv-embedqa-e5-v5", input=["a", "b"], extra_body={"input_type": "query"}
        )
        models = [model.id async for model in over.models.list()]
    assert len(answer.data) == 2
    assert CHAT in models


async def test_an_error_status_is_openais_error(client: AsyncClient) -> None:
    """A 404 is its NotFoundError, with the server's own words."""
    async with openai_over(client) as over:
        with pytest.raises(openai.NotFoundError, match="no/such"):
            await over.chat.completions.create(model="no/such-model", messages=MESSAGES)


async def test_throttled_requests_are_retried_by_the_client(server: FaultServer) -> None:
    """A 429 costs an attempt of the client's policy, and openai never sees it."""
    server.script(error(429, "slow down"), chat("blue"))
    async with AsyncClient(base_url=server.url, retry=FAST) as client, openai_over(client) as over:
        reply = await over.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert reply.choices[0].message.content == "blue"
    assert len(server.requests) == 2


async def test_what_is_left_of_the_retries_is_openais_rate_limit_error(server: FaultServer) -> None:
    """After the last attempt the status, the body and Retry-After are there for the library above."""
    server.script(error(429, "slow down", "Retry-After: 0.01", "x-request-id: r-1"))
    async with AsyncClient(base_url=server.url, retry=FAST) as client, openai_over(client) as over:
        with pytest.raises(openai.RateLimitError, match="slow down") as caught:
            await over.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert caught.value.request_id == "r-1"
    assert caught.value.response.headers["retry-after"] == "0.01"
    assert len(server.requests) == 3


@pytest.mark.no_key
@pytest.mark.parametrize(("key", "sent"), [("nvapi-0123456789", "Bearer nvapi-0123456789"), (None, "Bearer theirs")])
async def test_the_clients_key_goes_before_the_librarys(server: FaultServer, key: str | None, sent: str) -> None:
    """Where the client has a key for the origin it is the one that is sent; else the other client's own is."""
    server.script(chat())
    async with AsyncClient(key, base_url=server.url) as client:
        http = httpx.AsyncClient(transport=NimTransport(client))
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key="theirs", http_client=http) as over:
            await over.chat.completions.create(model=MODEL, messages=MESSAGES)
    (request,) = server.requests
    assert request.headers["authorization"] == sent
    assert request.raw_head.lower().count(b"authorization:") == 1
    assert request.raw_head.lower().count(b"content-type:") == 1
    assert request.headers["x-stainless-lang"] == "python"


async def test_other_hosts_are_never_contacted(server: FaultServer, client: AsyncClient) -> None:
    """A request that is not below the client's base URL is an error that names the right one, and nothing is sent."""
    http = httpx.AsyncClient(transport=NimTransport(client))
    async with openai.AsyncOpenAI(base_url=server.url, api_key="x", max_retries=0, http_client=http) as over:
        with pytest.raises(openai.APIConnectionError) as caught:
            await over.chat.completions.create(model=CHAT, messages=MESSAGES)
    assert client.base_url in str(caught.value.__cause__)
    assert server.requests == []


async def test_a_time_limit_of_the_library_holds(server: FaultServer) -> None:
    """`timeout=` of openai ends a silent call, as its own error, ours behind it."""
    server.script([Stall()])
    retry = RetryPolicy(attempts=1)
    async with AsyncClient(base_url=server.url, retry=retry) as client, openai_over(client, timeout=0.05) as over:
        with pytest.raises(openai.APITimeoutError) as caught:
            await over.chat.completions.create(model=MODEL, messages=MESSAGES)
    cause = caught.value.__cause__
    assert cause is not None
    assert isinstance(cause.__cause__, RequestTimeoutError)


async def test_a_stream_that_breaks_is_the_librarys_error(server: FaultServer) -> None:
    """What had arrived was handed on; the break is an error and no quiet end."""
    server.script([head(), chunk(TOKEN), Reset()])
    pieces = []
    async with AsyncClient(base_url=server.url, retry=FAST) as client, openai_over(client) as over:
        stream = await over.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        with pytest.raises((openai.APIConnectionError, httpx.ReadError)):  # openai translated none before 3
            async for part in stream:
                pieces.append(part.choices[0].delta.content)
    assert pieces == ["a"]


async def test_leaving_a_stream_early_closes_its_connection(server: FaultServer) -> None:
    """The server sees the end; the client has nothing left open."""
    server.script([head(), chunk(TOKEN), Stall()])
    async with AsyncClient(base_url=server.url, retry=FAST) as client, openai_over(client) as over:
        async with await over.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream:
            async for part in stream:
                assert part.choices[0].delta.content == "a"
                break
        await server.until(lambda: server.open == 0)


async def test_with_one_of_four_replicas_dead_no_call_fails() -> None:
    """Requests go to the replicas that answer; openai needs no retry of its own."""
    async with contextlib.AsyncExitStack() as stack:
        alive = [await stack.enter_async_context(Simulator(models=[CHAT])) for _ in range(3)]
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            dead = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        urls = [alive[0].base_url, dead, *(sim.base_url for sim in alive[1:])]
        client = await stack.enter_async_context(AsyncClient(base_url=urls, retry=FAST))
        over = await stack.enter_async_context(openai_over(client))
        for _ in range(40):
            assert (await over.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=2)).choices
        assert sum(len(sim.requests) for sim in alive) == 40


@pytest.fixture
def blocking_openai(nim_simulator_url: str) -> Iterator[openai.OpenAI]:
    with Client(base_url=nim_simulator_url, retry=FAST) as client:
        http = httpx.Client(transport=SyncNimTransport(client))
        with openai.OpenAI(base_url=client.base_url, api_key="unused", max_retries=0, http_client=http) as made:
            yield made


def test_blocking_calls_and_streams(blocking_openai: openai.OpenAI) -> None:
    """The blocking client gets the same records, whole and streamed."""
    reply = blocking_openai.chat.completions.create(model=CHAT, messages=MESSAGES, temperature=0)
    stream = blocking_openai.chat.completions.create(model=CHAT, messages=MESSAGES, temperature=0, stream=True)
    text = "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
    assert text == reply.choices[0].message.content


def test_a_blocking_stream_may_be_left_early(blocking_openai: openai.OpenAI) -> None:
    """Its connection is closed, and the next call works."""
    with blocking_openai.chat.completions.create(model=CHAT, messages=MESSAGES, stream=True) as stream:
        next(iter(stream))
    with pytest.raises(openai.NotFoundError):
        blocking_openai.chat.completions.create(model="no/such-model", messages=MESSAGES)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
async def test_a_response_is_of_the_library_that_asked(client: AsyncClient, library: str) -> None:
    """Both libraries get their own Response, with the body decompressed."""
    module = pytest.importorskip(library)
    async with module.AsyncClient(transport=NimTransport(client)) as http:
        response = await http.get(f"{client.base_url}/models")
    assert type(response) is module.Response
    assert response.json()["object"] == "list"
    assert "content-length" not in response.headers


def test_a_transport_takes_the_client_of_its_kind(client: AsyncClient) -> None:
    """Mixing blocking and asynchronous is an error when it is set up."""
    with pytest.raises(ConfigurationError, match="takes an AsyncClient"):
        NimTransport(Client(base_url="http://127.0.0.1:9"))  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ConfigurationError, match="takes a Client"):
        SyncNimTransport(client)  # type: ignore[arg-type]  # on purpose
