"""A sample program that type checkers read in strict mode: every public form must infer, and wrong ones must not pass."""

from collections.abc import Sequence
from typing import assert_type

from nimclient import (
    AsyncClient,
    ChatChunk,
    ChatCompletion,
    ChatStream,
    Client,
    Embeddings,
    Limits,
    Message,
    Model,
    RankedDocument,
    Ranking,
    RetryPolicy,
    SyncChatStream,
    Timeouts,
    ToolCall,
    Usage,
    Vector,
    Vectors,
)
from nimclient.errors import APIStatusError, NimError, RequestTimeoutError


async def chat(client: AsyncClient) -> str:
    reply = await client.chat.create("hi", temperature=0.2, max_tokens=64, stop=["\n"])
    assert_type(reply, ChatCompletion)
    assert_type(reply.text, str)
    assert_type(reply.reasoning, str | None)
    assert_type(reply.tool_calls, tuple[ToolCall, ...])
    assert_type(reply.usage, Usage | None)
    again = await client.chat.create(
        [Message("system", "be brief"), {"role": "user", "content": "hi"}, ("user", "and?"), reply.choices[0].message],
        model="m",
        timeout=5,
    )
    return again.text


async def stream(client: AsyncClient) -> list[str]:
    pieces: list[str] = []
    async with client.chat.stream("hi", stream_usage=False) as opened:
        assert_type(opened, ChatStream)
        async for chunk in opened:
            assert_type(chunk, ChatChunk)
            pieces.append(chunk.text)
    async for text in (await client.chat.stream("hi")).text_stream:
        assert_type(text, str)
        pieces.append(text)
    assert_type(await client.chat.stream("hi").final(), ChatCompletion)
    return pieces


async def embed(client: AsyncClient) -> list[float]:
    assert_type(await client.embeddings.create(["a"], input_type="query", dimensions=8), Embeddings)
    query = await client.embeddings.embed_query("a")
    assert_type(query, Vector)
    assert_type(query[0], float)
    vectors = await client.embeddings.embed_documents(["a", "b"], concurrency=4, truncate="END")
    assert_type(vectors, Vectors)
    assert_type(vectors[0], Vector)
    assert_type(vectors[:1], Vectors)
    return query.tolist()


async def rank(client: AsyncClient) -> Sequence[RankedDocument]:
    ranking = await client.rerank("q", ["a", "b"], top_n=1)
    assert_type(ranking, Ranking)
    return ranking.results


async def serve(client: AsyncClient) -> tuple[Model, bool]:
    return await client.models.get("m"), await client.health.ready()


def configure() -> AsyncClient:
    return AsyncClient(
        "key",
        "http://127.0.0.1:8000",
        model={"chat": "m"},
        timeouts=Timeouts(connect=1, total=None),
        retry=RetryPolicy(attempts=2),
        limits=Limits(concurrency=8),
    ).with_options(timeouts=3, model="n")


def blocking(client: Client) -> str:
    reply = client.chat.create("hi", temperature=0.2)
    assert_type(reply, ChatCompletion)
    with client.chat.stream("hi") as opened:
        assert_type(opened, SyncChatStream)
        for chunk in opened:
            assert_type(chunk, ChatChunk)
    assert_type(client.embeddings.embed_documents(["a"]), Vectors)
    assert_type(client.rerank("q", ["a"]), Ranking)
    return reply.text


async def fail(client: AsyncClient) -> int:
    try:
        await client.chat.create("hi", temperatur=0.2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        await client.chat.create(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    except RequestTimeoutError as error:
        assert_type(error.seconds, float | None)
    except APIStatusError as error:
        return error.status
    except NimError:
        raise
    return 0
