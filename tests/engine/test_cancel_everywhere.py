"""Every kind of call, cancelled wherever it waits, once and twice, on a cold pool and a warm one: all invariants hold."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from nimclient import AsyncClient, Limits, RetryPolicy
from nimclient.jobs import BatchJob, EmbedJob
from support.cancelling import cancelled_at
from support.invariants import CANARY, PROMPT, Invariants
from support.jobs import table_of
from support.polling import poll_every
from support.server import FaultServer, Pause, Request
from support.slow import mostly_slow
from support.wire import DONE, END, ROLE, answer, chat, chat_body, chunk, embedded, error, head, http, sse, token

MakeClient = Callable[..., AsyncClient]
Call = Callable[[AsyncClient, Path], Any]
SLOTS = 2
TEXTS = [str(number) for number in range(6)]
DOCUMENTS = ["one", "two", "three", "four"]
CHAT, RANKING, STATUS = "/v1/chat/completions", "/v1/ranking", "/v1/status/req-1"
SLOW = Pause(0.001)


def slowly(raw: bytes) -> list[Any]:
    """An answer that takes its time, so that every await of the client suspends."""
    return [SLOW, raw[:30], SLOW, raw[30:-5], SLOW, raw[-5:]]


def reply(request: Request) -> Any:
    """A good server."""
    body = request.json
    if request.path.endswith("embeddings"):
        return slowly(answer(embedded(body["input"])))
    if request.path == RANKING:
        count = len(body["passages"])
        return slowly(answer({"rankings": [{"index": index, "logit": -float(index)} for index in range(count)]}))
    if body.get("stream"):
        pieces = [chunk(ROLE), chunk(token("Hel")), chunk(token("lo", "stop")), chunk(DONE), END]
        return [SLOW, head(), *(step for piece in pieces for step in (SLOW, piece))]
    return slowly(chat())


# the calls, and how many requests each makes --------------------------------------------------------------------------


async def create(client: AsyncClient, folder: Path) -> Any:
    return (await client.chat.create(PROMPT)).text


async def stream_in_a_block(client: AsyncClient, folder: Path) -> Any:
    async with client.chat.stream(PROMPT) as stream:
        return "".join([piece async for piece in stream.text_stream])


async def stream_to_its_end(client: AsyncClient, folder: Path) -> Any:
    return (await client.chat.stream(PROMPT).final()).text


async def stream_left_early(client: AsyncClient, folder: Path) -> Any:
    async with client.chat.stream(PROMPT) as stream:
        async for piece in stream.text_stream:
            return piece + "lo"
    return None


async def batch(client: AsyncClient, folder: Path) -> Any:
    replies = await client.chat.batch([PROMPT] * 4, concurrency=3)
    return {reply.text for reply in replies}.pop() if len(replies) == 4 else replies


async def as_completed(client: AsyncClient, folder: Path) -> Any:
    async with client.chat.as_completed([PROMPT] * 4, concurrency=2) as replies:
        return {reply.text async for _, reply in replies}.pop()


async def embed_documents(client: AsyncClient, folder: Path) -> Any:
    vectors = await client.embeddings.embed_documents(TEXTS, batch_size=2, concurrency=3)
    return "Hello" if [int(vector[0]) for vector in vectors] == list(range(6)) else vectors


async def embed_stream(client: AsyncClient, folder: Path) -> Any:
    async with client.embeddings.embed_stream(TEXTS, batch_size=2, concurrency=2) as stream:
        count = 0
        async for embedded_batch in stream:
            count += len(embedded_batch.vectors)
    return "Hello" if count == 6 else count


async def rerank(client: AsyncClient, folder: Path) -> Any:
    ranking = await client.rerank(PROMPT, DOCUMENTS, batch_size=2, concurrency=2)
    return "Hello" if len(ranking.results) == 4 else ranking


async def completions(client: AsyncClient, folder: Path) -> Any:
    stream = client.completions.stream(PROMPT)
    return "".join([piece async for piece in stream.text_stream])


async def tools(client: AsyncClient, folder: Path) -> Any:
    """Two rounds, the tools of the first one concurrently: a coroutine function and a plain one, in a thread."""

    async def look(at: str) -> str:
        await asyncio.sleep(0.001)
        return at

    def blink(times: int) -> str:
        return "x" * times

    run = await client.chat.run_tools(PROMPT, [look, blink])
    return run.completion.text


async def conversation(client: AsyncClient, folder: Path) -> Any:
    """A turn that was cancelled leaves the conversation as it was, and free for the next one."""
    talk = client.chat.conversation("Be brief.")
    try:
        reply = await talk.send(PROMPT)
    except asyncio.CancelledError:
        assert [message.role for message in talk.messages] == ["system"]
        with talk._history.turn("again"):
            pass
        raise
    return reply.text


async def own_route(client: AsyncClient, folder: Path) -> Any:
    text = ""
    body = {"model": "m", "messages": [], "stream": True}
    async with await client.request("POST", f"{client.base_url}/chat/completions", json=body, stream=True) as events:
        async for event in events:
            text += event["choices"][0]["delta"].get("content") or ""
    return text


async def ready(client: AsyncClient, folder: Path) -> Any:
    await client.health.wait_ready(timeout=5)
    return "Hello"


async def embed_job(client: AsyncClient, folder: Path) -> Any:
    """A job that was cancelled is run again to its end after each: see `resumed`."""
    report = await EmbedJob(TEXTS, folder / "vectors", format="npy", batch_size=2, concurrency=2).run(client)
    return "Hello" if report.status == "complete" else report


async def batch_job(client: AsyncClient, folder: Path) -> Any:
    bodies = [{"messages": [{"role": "user", "content": PROMPT}]}] * 3
    lines = [
        json.dumps({"custom_id": str(i), "method": "POST", "url": CHAT, "body": body}) for i, body in enumerate(bodies)
    ]
    source = folder / "requests.jsonl"
    source.write_text("".join(line + "\n" for line in lines))
    report = await BatchJob(source, folder / "answers.jsonl", concurrency=2).run(client)
    return "Hello" if report.status == "complete" else report


def backing_off(server: FaultServer) -> None:
    server.script(error(503), reply)


def told_to_wait(server: FaultServer) -> None:
    server.script(error(503, "busy", "Retry-After: 0.003"), reply)


def polled(server: FaultServer) -> None:
    accepted = http(b"", 202, "NVCF-REQID: req-1", type=None)
    server.script(accepted, path=CHAT).script([SLOW, accepted], lambda request: slowly(chat()), path=STATUS)


def good(server: FaultServer) -> None:
    server.script(reply)


def busy_at_first(server: FaultServer) -> None:
    """Throttling: the slices wait at their gate."""
    server.script(error(429, "busy", "Retry-After: 0.003"), reply)


def calling_tools(server: FaultServer) -> None:
    calls = [("look", {"at": "it"}), ("blink", {"times": 3})]
    asked = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for name, arguments in calls
    ]
    body = chat_body()
    body["choices"][0] |= {
        "message": {"role": "assistant", "content": None, "tool_calls": asked},
        "finish_reason": "tool_calls",
    }
    server.script(slowly(answer(body)), reply)


def writing_text(server: FaultServer) -> None:
    pieces = [sse({"choices": [{"index": 0, "text": text, "finish_reason": end}]}) for text, end in TEXT]
    server.script([SLOW, head(), *(step for piece in [*pieces, DONE] for step in (SLOW, chunk(piece))), SLOW, END])


def starting_up(server: FaultServer) -> None:
    server.script([SLOW, error(503)], [SLOW, answer({"message": "ready"})])


TEXT = [("Hel", None), ("lo", "stop")]
CALLS: dict[str, tuple[Call, Callable[[FaultServer], None], int]] = {
    "create": (create, good, 1),
    "stream in a block": (stream_in_a_block, good, 1),
    "stream to its end": (stream_to_its_end, good, 1),
    "stream left early": (stream_left_early, good, 1),
    "batch": (batch, good, 4),
    "as_completed": (as_completed, good, 4),
    "embed_documents": (embed_documents, good, 3),
    "embed_stream": (embed_stream, good, 3),
    "rerank": (rerank, good, 2),
    "back-off": (create, backing_off, 2),
    "back-off of a stream": (stream_to_its_end, backing_off, 2),
    "Retry-After": (create, told_to_wait, 2),
    "refused batch": (batch, busy_at_first, 5),
    "refused embed_documents": (embed_documents, busy_at_first, 4),
    "completions": (completions, writing_text, 1),
    "run_tools": (tools, calling_tools, 2),
    "conversation": (conversation, good, 1),
    "a route of one's own": (own_route, good, 1),
    "wait_ready": (ready, starting_up, 2),
    "replicas": (batch, good, 4),
    "stream from replicas": (stream_left_early, good, 1),
    "create under TLS": (create, good, 1),
    "stream under TLS": (stream_left_early, good, 1),
    "202": (create, polled, 3),
    "EmbedJob": (embed_job, good, 3),
    "BatchJob": (batch_job, good, 3),
}


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls follow each other after 3 ms."""
    poll_every(monkeypatch, 0.003)


@pytest.fixture
async def tls_server(authority: Any) -> AsyncIterator[FaultServer]:
    """A server behind TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with FaultServer(ssl=context) as server:
        yield server


@pytest.mark.parametrize("twice", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["once", "twice"])
@pytest.mark.parametrize("pool", mostly_slow(["warm", "cold"], "warm"))
@pytest.mark.parametrize("name", mostly_slow(CALLS, "create", "stream left early", "embed_documents"))
async def test_all_invariants_hold(
    server: FaultServer,
    tls_server: FaultServer,
    ca_file: str,
    make_client: MakeClient,
    short_pauses: None,
    tmp_path: Path,
    name: str,
    pool: str,
    twice: bool,
) -> None:
    """At every suspension of the call and of each task that it starts: CancelledError, and nothing is left behind."""
    call, prepare, requests = CALLS[name]
    server = tls_server if name.endswith("TLS") else server

    def new_client() -> AsyncClient:
        return make_client(
            [server.url, server.url.replace("127.0.0.1", "localhost")] if "replicas" in name else server.url,
            api_key=CANARY,
            limits=Limits(concurrency=SLOTS),
            retry=RetryPolicy(first_delay=0.003, max_delay=0.003),
            verify=ca_file if name.endswith("TLS") else True,
        )

    cancelled = 0
    async with Invariants(server, slots=SLOTS) as all_hold:
        client = new_client()
        await all_hold(client)
        for k in range(1, 400):
            prepare(server)
            if pool == "cold":
                await client.aclose()
                client = new_client()
            folder = tmp_path / str(k)
            folder.mkdir()
            outcome, result = await cancelled_at(k, lambda: call(client, folder), twice=twice, deep=True)  # noqa: B023
            await all_hold(client, requests=(0 if outcome == "cancelled" else requests, requests))
            if outcome != "cancelled":
                assert result == "Hello"
            elif name.endswith("Job"):
                await resumed(server, client, call, folder)
            cancelled += outcome == "cancelled"
            if outcome == "completed":
                break
        else:
            raise AssertionError("it does not complete")
        assert cancelled > requests
        await client.aclose()


async def resumed(server: FaultServer, client: AsyncClient, call: Call, folder: Path) -> None:
    """I10: a job that was cancelled is at its end after another run, which sends only what is not on the disk."""
    assert await call(client, folder) == "Hello"
    if (vectors := folder / "vectors").exists():
        assert [index for index, _, _ in table_of(vectors)] == list(range(6))
    server.requests.clear()


async def test_waiting_for_a_place_in_the_pool(server: FaultServer, make_client: MakeClient) -> None:
    """A call that waits for a slot leaves its place to the next one, however often it is cancelled."""
    client = make_client(api_key=CANARY, limits=Limits(concurrency=SLOTS))
    async with Invariants(server, slots=SLOTS) as all_hold:
        await all_hold(client)
        for twice in (False, True):
            for k in range(1, 100):
                server.script(reply)
                others = [asyncio.create_task(create(client, Path())) for _ in range(SLOTS + 1)]
                await asyncio.sleep(0)
                outcome, _ = await cancelled_at(k, lambda: create(client, Path()), twice=twice)
                assert await asyncio.gather(*others) == ["Hello"] * (SLOTS + 1)
                await all_hold(client, requests=(SLOTS + 1, SLOTS + 2))
                if outcome == "completed":
                    break
            assert k > 2
        await client.aclose()


async def test_waiting_for_the_turn_of_a_rate_limit(server: FaultServer, make_client: MakeClient) -> None:
    """A call that waits for its turn under requests_per_minute is cancelled at once."""
    client = make_client(api_key=CANARY, limits=Limits(concurrency=SLOTS, requests_per_minute=60 * 400))
    server.script(reply)
    async with Invariants(server, slots=SLOTS) as all_hold:
        await all_hold(client)
        for k in range(1, 60):
            await asyncio.gather(create(client, Path()), create(client, Path()))
            outcome, _ = await cancelled_at(k, lambda: create(client, Path()))
            await all_hold(client, requests=(2, 3))
            if outcome == "completed":
                break
        assert k > 2
        await client.aclose()


@pytest.fixture
def failing() -> list[Any]:
    """Answers that end a call with an error."""
    return [
        error(400, f"the key {CANARY} is bad"),
        error(503, "busy", "X-Request-Id: r-1"),
        [head() + chunk(token("Hel"))],
        [chat()[:-5]],
        answer({"choices": 5}),
    ]


@pytest.mark.parametrize("number", mostly_slow(range(5), 1))
@pytest.mark.parametrize("call", mostly_slow([create, stream_to_its_end, batch, embed_documents], create, batch))
async def test_the_same_invariants_after_an_error(
    server: FaultServer, make_client: MakeClient, failing: list[Any], call: Call, number: int
) -> None:
    """A call that fails leaves as little behind as one that is cancelled; its error pickles and has no key in it."""
    from support.server import Close

    script = failing[number]
    client = make_client(
        api_key=CANARY,
        limits=Limits(concurrency=SLOTS),
        retry=RetryPolicy(attempts=2, first_delay=0.001, patience=0.01),
    )
    async with Invariants(server, slots=SLOTS) as all_hold:
        await all_hold(client)
        server.script([*script, Close()] if isinstance(script, list) else script)
        caught: Exception | None = None
        try:
            async with asyncio.timeout(60):
                await call(client, Path())
        except Exception as error_:
            caught = error_
        assert caught is not None
        assert not isinstance(caught, TimeoutError)
        await all_hold(client, caught)
        await client.aclose()


async def test_the_harness_finds_what_is_left_behind(server: FaultServer, make_client: MakeClient) -> None:
    """The checker is no rubber stamp: a slot that is kept, a task that continues, a key in a log are found."""
    client = make_client(api_key=CANARY, limits=Limits(concurrency=SLOTS))
    server.script(reply)
    async with Invariants(server, slots=SLOTS) as all_hold:
        await all_hold(client)
        stream = await client.chat.stream(PROMPT)
        with pytest.raises(AssertionError):
            await all_hold(client)
        await stream.aclose()
        sleeper = asyncio.create_task(asyncio.sleep(5))
        with pytest.raises(AssertionError, match="I3"):
            await all_hold(client)
        sleeper.cancel()
        with pytest.raises(AssertionError, match="I4"):
            await all_hold(client, requests=(7, 7))
        import logging

        logging.getLogger("nimclient").info("the key is %s", CANARY)
        with pytest.raises(AssertionError, match="I6"):
            await all_hold(client)
        all_hold._words.text.clear()
        await client.aclose()
