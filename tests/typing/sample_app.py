"""A sample program that type checkers read in strict mode: every public form must infer, and wrong ones must not pass."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypedDict, assert_type

from nimclient import (
    AsCompleted,
    Asset,
    AsyncClient,
    Blob,
    ChatChunk,
    ChatCompletion,
    ChatPrompt,
    ChatStream,
    Client,
    Completion,
    CompletionChunk,
    CompletionStream,
    Conversation,
    Detokenization,
    EmbeddedBatch,
    Embeddings,
    EventStream,
    Failure,
    Image,
    Limits,
    Message,
    Metadata,
    Model,
    ModelList,
    Parsed,
    ParseStream,
    RankedDocument,
    Ranking,
    RetryPolicy,
    SyncAsCompleted,
    SyncChatStream,
    SyncConversation,
    SyncEmbedStream,
    SyncEventStream,
    SyncParseStream,
    Timeouts,
    Tokenization,
    ToolCall,
    ToolRun,
    Usage,
    Vector,
    Vectors,
    tool,
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


class Color(Enum):
    RED = "red"


class Movie(TypedDict):
    title: str


@tool
def add(a: int, b: int = 1) -> int:
    return a + b


@tool(name="later")
async def add_later(a: int) -> int:
    return a


async def parse(client: AsyncClient, sync: Client) -> Color:
    parsed = await client.chat.parse("red?", Color, retries=1, via="json_schema", temperature=0)
    assert_type(parsed, Parsed[Color])
    assert_type(await client.chat.parse("?", Movie), Parsed[Movie])
    assert_type(await client.chat.parse("?", list[Movie]), Parsed[list[Movie]])
    assert_type(await client.chat.parse("?", Literal["a", "b"]), Parsed[Any])
    assert_type(await client.chat.parse("?", Color | Movie), Parsed[Any])
    assert_type(await client.chat.parse("?", {"type": "object"}), Parsed[Any])
    assert_type(sync.chat.parse("?", Color), Parsed[Color])
    assert_type(sync.chat.parse("?", {"type": "object"}), Parsed[Any])
    assert_type(client.chat.parse_stream("?", {"type": "object"}), ParseStream[Any])
    async with client.chat.parse_stream("?", Movie, temperature=0) as growing:
        assert_type(growing, ParseStream[Movie])
        async for movie in growing:
            assert_type(movie, Movie)
        assert_type(await growing.final(), Parsed[Movie])
        assert_type(growing.partial, ChatCompletion | None)
    client.chat.parse_stream("?", Movie, retries=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await client.chat.parse("?", Color, via="xml")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    return parsed.value


async def use_tools(client: AsyncClient, sync: Client) -> tuple[Message, ...]:
    assert_type(add(1), int)
    await client.chat.create("?", tools=[add, add_later, {"type": "function"}], tool_choice="later")
    run = await client.chat.run_tools("?", [add, add_later], max_rounds=2, on_tool_error="raise", temperature=0)
    assert_type(run, ToolRun)
    assert_type(run.rounds, int)
    assert_type(sync.chat.run_tools("?", tools=[add]), ToolRun)
    return run.messages


async def many(client: AsyncClient) -> list[str]:
    assert_type(await client.chat.batch(["a", [("user", "b")]]), list[ChatCompletion])
    assert_type(await client.chat.batch(["a"], on_error="return"), list[ChatCompletion | NimError])
    assert_type(client.chat.as_completed(["a"], concurrency=2), AsCompleted[ChatCompletion])
    texts: list[str] = []
    async with client.chat.as_completed((f"{n}" for n in range(3)), on_error="return", seed=1) as replies:
        async for index, reply in replies:
            assert_type(index, int)
            texts.append(str(reply) if isinstance(reply, NimError) else reply.text)
    return texts


async def remember(client: AsyncClient) -> tuple[Message, ...]:
    store: dict[str, list[dict[str, Any]]] = {}
    talk = client.chat.conversation("be brief", store, session_id="x", temperature=0.1)
    assert_type(talk, Conversation)
    assert_type(await talk.send("a", seed=1), ChatCompletion)
    assert_type(await talk.stream(Message("user", "b")).final(), ChatCompletion)
    copy = Conversation.from_json(talk.to_json(), client)
    assert_type(copy, Conversation)
    prompt = ChatPrompt([("system", "{a}"), "{b}"]) + [("user", "{c}")]  # + is its own
    assert_type(prompt, ChatPrompt)
    await client.chat.create(prompt.format(a=1, b=2, c=3))
    return copy.messages


async def complete(client: AsyncClient) -> str:
    completion = await client.completions.create([[1, 2], [3]], logprobs=1, echo=True, suffix="z")
    assert_type(completion, Completion)
    async with client.completions.stream(["a", "b"], n=2) as opened:
        assert_type(opened, CompletionStream)
        async for chunk in opened:
            assert_type(chunk, CompletionChunk)
        assert_type(await opened.final(), Completion)
    return completion.text


async def embed(client: AsyncClient) -> list[float]:
    assert_type(await client.embeddings.create(["a"], input_type="query", dimensions=8), Embeddings)
    query = await client.embeddings.embed_query("a")
    assert_type(query, Vector)
    assert_type(query[0], float)
    vectors = await client.embeddings.embed_documents(["a", "b"], concurrency=4, truncate="END")
    async with client.embeddings.embed_stream(iter(["a"]), on_error="collect", ordered=False) as batches:
        async for batch in batches:
            assert_type(batch, EmbeddedBatch)
            assert_type(batch.failures, tuple[Failure, ...])
    assert_type(batches.progress.eta, float | None)
    assert_type(vectors, Vectors)
    assert_type(vectors[0], Vector)
    assert_type(vectors[:1], Vectors)
    return query.tolist()


async def rank(client: AsyncClient) -> Sequence[RankedDocument]:
    ranking = await client.rerank("q", ["a", "b"], top_n=1)
    assert_type(ranking, Ranking)
    page = Image(Path("page.png"))
    assert_type(await client.rerank("q", ["a", page, {"text": "b", "image": page}, {"image": "data:,"}]), Ranking)
    return ranking.results


def own_models() -> AsyncClient:
    urls = {"a/b": "http://far/v1/chat/completions"}
    AsyncClient(endpoints=urls)
    return AsyncClient(endpoints={"a/b": "http://far/x", "c/d": Model("c/d", "ranking", aliases=("d",))})


async def look(client: AsyncClient, sync: Client) -> int:
    assert_type(await client.models.list("ranking"), ModelList)
    assert_type(await client.health.wait_ready(timeout=None), None)
    assert_type(await client.metadata(timeout=3), Metadata)
    assert_type(await client.tokenize([("user", "hi")], add_generation_prompt=True), Tokenization)
    assert_type(client.dialect, Literal["nim", "vllm", "dynamo", "hosted"] | None)
    assert_type(sync.metadata(), Metadata)
    assert_type(sync.detokenize([1, 2]), Detokenization)
    return (await client.tokenize("hi", model="m", return_token_strs=True)).count


async def serve(client: AsyncClient) -> tuple[Model, bool]:
    return await client.models.get("m"), await client.health.ready()


async def anything(client: AsyncClient, sync: Client) -> bytes:
    asset = await client.assets.upload(b"...", content_type="image/png", description="d")
    assert_type(asset, Asset)
    assert_type(asset.reference, str)
    await client.infer("/v1/infer", {"input": []}, assets=[asset, "id"], timeout=3)
    blob = await client.infer_raw("/v1/infer", {"input": []})
    assert_type(blob, Blob)
    assert_type(await client.request("POST", "/v1/responses", json={}, stream=True), EventStream)
    assert_type(sync.request("POST", "/v1/responses", json={}, stream=True), SyncEventStream)
    assert_type(sync.infer_raw("/x", {}), Blob)
    assert_type(sync.assets.upload(Path("x.png")), Asset)
    await client.assets.delete(asset)
    sync.assets.delete(asset.id)
    await client.infer("/x", {}, assets=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return blob.data


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
    assert_type(client.chat.parse("?", list[Movie], retries=1), Parsed[list[Movie]])
    assert_type(client.chat.parse_stream("?", {"type": "object"}), SyncParseStream[Any])
    with client.chat.parse_stream("?", Movie) as growing:
        assert_type(growing, SyncParseStream[Movie])
        for movie in growing:
            assert_type(movie, Movie)
    assert_type(client.chat.batch(["a"], concurrency=3), list[ChatCompletion])
    assert_type(client.chat.batch(["a"], on_error="return"), list[ChatCompletion | NimError])
    with client.chat.as_completed(["a"], on_error="return") as replies:
        assert_type(replies, SyncAsCompleted[ChatCompletion | NimError])
        for index, answer in replies:
            assert_type(index, int)
            assert_type(answer, ChatCompletion | NimError)
    assert_type(client.chat.as_completed(["a"]), SyncAsCompleted[ChatCompletion])
    assert_type(client.completions.create("a"), Completion)
    assert_type(client.embeddings.create(["a"]), Embeddings)
    assert_type(client.embeddings.embed_query("a"), Vector)
    assert_type(client.embeddings.embed_documents(["a"], on_progress=print), Vectors)
    assert_type(client.embeddings.embed_stream(["a"]), SyncEmbedStream)
    assert_type(client.rerank("q", ["a"], top_n=1), Ranking)
    assert_type(client.models.get("m"), Model)
    assert_type(client.health.ready(), bool)
    assert_type(client.request("GET", "/v1/version"), Any)
    assert_type(client.with_options(timeouts=5), Client)
    assert_type(client.close(), None)
    return reply.text


def blocking_streams(client: Client) -> list[str]:
    with client.chat.stream("hi", max_tokens=5) as opened:
        assert_type(opened, SyncChatStream)
        for chunk in opened:
            assert_type(chunk, ChatChunk)
        assert_type(opened.final(), ChatCompletion)
        assert_type(opened.partial, ChatCompletion | None)
    assert_type(client.completions.stream("a").final(), Completion)
    talk = client.chat.conversation("be brief", temperature=0.1)
    assert_type(talk, SyncConversation)
    assert_type(talk.send("a", seed=1), ChatCompletion)
    assert_type(talk.stream("a"), SyncChatStream)
    assert_type(SyncConversation.from_json(talk.to_json(), client), SyncConversation)
    with client.request("POST", "/v1/responses", json={}, stream=True) as events:
        assert_type(events, SyncEventStream)
    return list(client.chat.stream("hi").text_stream)


def blocking_mistakes(client: Client) -> None:
    client.chat.create("hi", temperatur=0.2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.chat.stream(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.chat.batch(["a"], on_error="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    client.embeddings.embed_documents(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.chat.conversation(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


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
