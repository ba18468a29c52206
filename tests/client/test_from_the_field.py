"""What people met in the field, sent as they sent it, where it concerns more than one room: see docs/from_the_field.md."""

import asyncio
import base64
import copy
import gzip
import json
import math
import pickle
import random
import struct
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from nimclient import AsyncClient, Client, RetryPolicy, ToolCall
from nimclient.errors import (
    BodyTooLargeError,
    ConfigurationError,
    ConnectError,
    DecodeError,
    EmbeddingMismatchError,
    NimError,
    RerankMismatchError,
)
from nimclient.jobs import BatchJob, EmbedJob
from nimclient.testing import FakeTransport
from support.server import Close, FaultServer, Request
from support.wire import DONE, answer, chat, chat_body, chunk, error, head, http, sse, stream, token

ONCE = RetryPolicy(attempts=1)
KEY = "nvapi-0123456789-abcdef"
PASSWORD = "pa55word-of-a-proxy"


def client_of(*answers: Any, **settings: Any) -> AsyncClient:
    return AsyncClient(base_url="http://nim", model="m", retry=ONCE, transport=FakeTransport(answers), **settings)


def everything_of(error: BaseException) -> str:
    """All that a traceback, a debugger or an error tracker would show."""
    chain = [error, error.__cause__, error.__context__]
    return "".join(traceback.format_exception(error)) + repr([(link, vars(link)) for link in chain if link is not None])


def variables_of(error: BaseException) -> str:
    """The local variables of our frames."""
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    return repr([frame.locals for frame in frames if "/nimclient/" in frame.filename])


# rankings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "score"), [("0", "0.25"), (0.0, 0.25), (0, "2.5e-1")])
async def test_a_ranking_in_texts_and_floats(index: object, score: object) -> None:
    """A server that writes its indexes and scores as texts, or indexes as floats, ranks all the same."""
    ranks = [{"index": index, "relevance_score": score}, {"index": 1, "relevance_score": "0.75"}]
    async with client_of({"results": ranks}, dialect="vllm") as client:
        results = (await client.rerank("q", ["a", "b"])).results
    assert [(rank.index, rank.score, rank.document) for rank in results] == [(1, 0.75, "b"), (0, 0.25, "a")]


@pytest.mark.parametrize(("index", "score"), [("x", 1.0), (0.5, 1.0), (0, "nan"), (0, "1_0"), (0, True), (0, None)])
async def test_a_rank_that_is_no_number(index: object, score: object) -> None:
    """What is no whole number is no index, and what is not finite no score."""
    bad = {"results": [{"index": index, "relevance_score": score}]}
    async with client_of(bad, bad, dialect="vllm") as client:  # it is asked for all by number, too
        with pytest.raises(RerankMismatchError):
            await client.rerank("q", ["a"])


async def test_a_rank_of_megabytes_makes_a_short_error(server: FaultServer) -> None:
    """An index or a score of five megabytes is shown in part only."""
    for rank in ({"index": "9" * 5_000_000, "relevance_score": 1.0}, {"index": 0, "relevance_score": "9" * 5_000_000}):
        server.script(answer({"results": [rank]}))
        async with AsyncClient(base_url=server.url, model="m", retry=ONCE, dialect="vllm") as client:
            with pytest.raises(RerankMismatchError) as caught:
                await client.rerank("q", ["a"])
        assert len(str(caught.value)) < 300


async def test_log_probabilities_in_texts() -> None:
    """Numbers are read as servers write them; null is no certainty: NaN in a chat, None in the columns of a completion."""
    tokens = [{"token": "a", "logprob": "-0.5"}, {"token": "b", "logprob": None}, {"token": "c"}]
    choice = {
        "message": {"role": "assistant", "content": "abc"},
        "finish_reason": "stop",
        "logprobs": {"content": tokens},
    }
    columns = {
        "tokens": ["a", "b"],
        "token_logprobs": ["-1.5", None],
        "top_logprobs": [{"a": "-1.5", "x": None}, None],
        "text_offset": [0.0, "1"],
    }
    text = {"text": "ab", "finish_reason": "stop", "logprobs": columns}
    async with client_of({"choices": [choice]}, {"choices": [text]}) as client:
        chat_logprobs = (await client.chat.create("hi")).logprobs
        logprobs = (await client.completions.create("hi")).logprobs
    assert chat_logprobs is not None
    assert logprobs is not None
    first, *others = [token.logprob for token in chat_logprobs.content]
    assert first == -0.5
    assert all(map(math.isnan, others))
    assert (logprobs.token_logprobs, logprobs.text_offset) == ((-1.5, None), (0, 1))
    assert logprobs.top_logprobs == ({"a": -1.5}, None)


# vectors -------------------------------------------------------------------------------------------------------------


def embeddings(*rows: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)]
    return {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}


def encoded(form: str, count: int) -> str:
    """Numbers as embedding models give them, packed as `form` says."""
    dice = random.Random(count)
    return base64.b64encode(struct.pack(f"<{count}{form}", *(dice.gauss(0, 0.1) for _ in range(count)))).decode()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "binary", "ubinary"])
@pytest.mark.parametrize("count", [8, 1024])
async def test_a_server_that_ignores_embedding_type(dtype: str, count: int) -> None:
    """float32 in base64, or floats in a list, where bytes were asked for: an error, in every method, few numbers or many."""
    for row in (encoded("f", count), [0.125] * count):
        client = client_of(*[embeddings(row)] * 3)
        with pytest.raises(EmbeddingMismatchError):
            await client.embeddings.create(["a"], embedding_type=dtype)
        with pytest.raises(EmbeddingMismatchError):
            await client.embeddings.embed_documents(["a"], embedding_type=dtype)
        with pytest.raises(EmbeddingMismatchError):
            await client.embeddings.embed_query("a", embedding_type=dtype)


@pytest.mark.parametrize("form", ["e", "d"])
async def test_a_server_that_sends_other_floats(form: str) -> None:
    """float16 and float64 in base64 are not handed out as float32."""
    with pytest.raises(EmbeddingMismatchError, match="float16 or float64"):
        await client_of(embeddings(encoded(form, 64))).embeddings.embed_documents(["a"])


async def test_vectors_of_zeros_are_told_once() -> None:
    """A vector of zeros causes one warning a client; `zeros` says which it is."""
    client = client_of(*[embeddings([0.5, 1.0], [0.0, 0.0])] * 3)
    with pytest.warns(UserWarning, match="vectors of zeros") as caught:
        vectors = await client.embeddings.embed_documents(["a", "b"])
    assert vectors.zeros == (1,)
    assert (await client.embeddings.create(["a", "b"])).vectors.zeros == (1,)
    assert [batch.vectors.zeros async for batch in client.embeddings.embed_stream(["a", "b"])] == [(1,)]
    assert len(caught) == 1


# the arguments of tool calls -----------------------------------------------------------------------------------------


def asked(arguments: Any) -> list[dict[str, Any]]:
    """A conversation as programs save it: with the answer's message as a dict."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "4"},
    ]


def sent_arguments(transport: FakeTransport) -> list[Any]:
    bodies: list[Any] = [request.json for request in transport.requests]
    return [body["messages"][1]["tool_calls"][0]["function"]["arguments"] for body in bodies]


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        *[(text, "{}") for text in ('{"path": "a', "{", "", "null", "[1]", '{"a": NaN}', '{"a":1}{"a":1}', None)],
        *[(text, text) for text in ('{"a":1}', ' {"a": 1}\n')],
        ('"{\\"a\\": 1}"', '{"a":1}'),
        ({"a": 1}, {"a": 1}),
    ],
)
async def test_unusable_arguments_in_a_saved_history(arguments: Any, sent: Any) -> None:
    """Messages as dicts and a store that holds them: what every server would reject goes as `{}`, the rest as it is."""
    messages = asked(arguments)
    before = copy.deepcopy(messages)
    answers = FakeTransport([chat_body(), chat_body(), [{"choices": [{"delta": {"content": "a"}}]}]])
    client = AsyncClient(base_url="http://nim", model="m", transport=answers)
    await client.chat.create(messages)
    await client.chat.conversation(store={"s": messages}, session_id="s").send("and now?")
    await client.chat.stream(messages).final()
    assert sent_arguments(answers) == [sent] * 3
    assert messages == before


# work and memory -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("piece", [b"{},", b"[],"])
async def test_a_small_body_that_becomes_millions_of_objects(server: FaultServer, piece: bytes) -> None:
    """44 kB of gzip would be 60 MB of `{}`, and these 1.4 GB: it is not even unpacked; uncompressed, it is not parsed."""
    bomb = gzip.compress(b'{"choices":[' + piece * 20_000_000 + b"0]}", 9)
    assert len(bomb) < 60_000
    async with AsyncClient(base_url=server.url, model="m") as client:
        server.script(http(bomb, 200, "Content-Encoding: gzip"))
        with pytest.raises(BodyTooLargeError, match="times its size") as caught:
            await client.chat.create("hi")
        assert 0 < (caught.value.limit or 0) <= 100 * len(bomb)
        assert len(server.requests) == 1
        server.script(http(b'{"choices":[' + piece * 5_000_000 + b"0]}"))
        with pytest.raises(DecodeError, match="objects and lists"):
            await client.chat.create("hi")
        server.script([head(), chunk(b'data: {"choices":[' + piece * 5_000_000 + b"0]}\n\n"), Close()])
        with pytest.raises(DecodeError, match="objects and lists"):
            await client.chat.stream("hi").final()


@pytest.mark.slow
async def test_a_large_answer_that_compresses_well_is_read(server: FaultServer) -> None:
    """Twenty megabytes of log probabilities, thirty times smaller as gzip, are an answer."""
    entry = '{{"token":"word","logprob":-0.{:06d},"bytes":[119,111,114,100],"top_logprobs":[]}}'
    entries = ",".join(entry.format(n % 1_000_000) for n in range(250_000)).encode()
    body = json.dumps(chat_body()).encode().replace(b'"finish_reason"', b'"logprobs":{"content":[%b]},"finish_reason"')
    server.script(http(gzip.compress(body.replace(b"%b", entries), 6), 200, "Content-Encoding: gzip"))
    async with AsyncClient(base_url=server.url, model="m") as client:
        reply = await client.chat.create("hi")
    assert reply.logprobs is not None
    assert len(reply.logprobs.content) == 250_000


async def steps_of(work: Callable[[], Coroutine[Any, Any, object]]) -> int:
    """How many lines of the package were run, and functions called."""
    steps = 0

    def local(frame: Any, event: str, argument: object) -> Any:
        nonlocal steps
        steps += 1
        return local

    def trace(frame: Any, event: str, argument: object) -> Any:
        return local(frame, event, argument) if "/nimclient/" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await work()
    finally:
        sys.settrace(before)
    return steps


def calls_without_index(count: int) -> Any:
    call = [{"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(count)]
    events = [{"choices": [{"index": 0, "delta": {"tool_calls": [one]}}]} for one in call]
    return [*events, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]


def calls_under_one_index(count: int) -> Any:
    part = {"index": 0, "function": {"name": "f", "arguments": '{"a": 1}'}}
    return [{"choices": [{"index": 0, "delta": {"tool_calls": [part]}, "finish_reason": "stop"}]}] * count


def finished_choices(count: int) -> Any:
    return [{"choices": [{"index": n, "delta": {"content": "a"}, "finish_reason": "stop"}]} for n in range(count)]


def pieces_of_text(count: int) -> Any:
    return [{"choices": [{"index": 0, "delta": {"content": "<th"}}]}] * count


def halves_of_characters(count: int) -> Any:
    event = r'{"choices": [{"index": 0, "delta": {"content": "\ud83d"}}]}'
    return [event] * count


def parts_of_reasoning(count: int) -> Any:
    part = {"type": "thinking", "thinking": [{"type": "text", "text": "A"}]}
    return [{"choices": [{"index": 0, "delta": {"content": [part]}}]}] * count


def lines_of_one_event(count: int) -> Any:
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n' * count
    return 200, {"Content-Type": "text/event-stream"}, event + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "events",
    [
        calls_without_index,
        calls_under_one_index,
        finished_choices,
        pieces_of_text,
        halves_of_characters,
        parts_of_reasoning,
        lines_of_one_event,
    ],
)
async def test_twice_the_stream_is_twice_the_work(events: Callable[[int], Any]) -> None:
    """Whatever a stream is made of, double its length costs double the steps."""
    small, large = [
        await steps_of(client_of(events(count)).chat.stream("hi").final) for count in (400, 800)
    ]  # each with a client of its own, warm alike
    assert large <= 2.3 * small


@pytest.mark.parametrize("piece", ["```", "```json\n{", '{"a":', "[", "<think>", '"'])
async def test_twice_the_answer_is_twice_the_work_of_parse(piece: str) -> None:
    """Fences, brackets and tags that never end cost a step for each of them, not one for each pair."""
    counts: list[int] = []
    for size in (2_000, 4_000):
        client = client_of(chat_body(piece * size))
        with pytest.raises(NimError):
            counts.append(await steps_of(lambda client=client: failing(client)))
            raise NimError("counted")
    assert counts[1] <= 2.5 * counts[0] + 1000


async def failing(client: AsyncClient) -> None:
    with pytest.raises(NimError):
        await client.chat.parse("hi", dict[str, int])


async def test_twice_the_items_are_twice_the_work_of_unique_items() -> None:
    """A list that must not repeat itself is looked through once."""
    schema = {
        "type": "object",
        "properties": {"items": {"type": "array", "uniqueItems": True, "items": {"type": "object"}}},
        "required": ["items"],
    }
    counts: list[int] = []
    for size in (1_000, 2_000):
        client = client_of(chat_body(json.dumps({"items": [{"n": n} for n in range(size)]})))
        counts.append(await steps_of(lambda client=client: client.chat.parse("hi", schema)))
    assert counts[1] <= 2.3 * counts[0]


# secrets -------------------------------------------------------------------------------------------------------------


def repeated(request: Request) -> list[Any]:
    return [request.raw_head, Close()]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "script",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        repeated,
        [f"who is user:{PASSWORD}?\r\n\r\n".encode(), Close()],
    ],
    ids=["407", "repeated", "repeated in words"],
)
async def test_the_password_of_a_proxy_is_in_no_traceback(server: FaultServer, scheme: str, script: Any) -> None:
    """A proxy that rejects it, or repeats it: neither the error nor what it is chained to has it."""
    server.script(script)
    proxy = f"http://user:{PASSWORD}@127.0.0.1:{server.port}"
    async with AsyncClient(KEY, f"{scheme}://nim.invalid/v1", model="m", retry=ONCE, proxy=proxy) as client:
        with pytest.raises(NimError) as caught:
            await client.chat.create("hi")
    shown = everything_of(caught.value)
    assert PASSWORD not in shown
    assert base64.b64encode(f"user:{PASSWORD}".encode()).decode() not in shown
    assert KEY not in shown


@pytest.mark.parametrize("place", ["127.0.0.1:99999", "127.0.0.1:abc", "127.0.0.1:0", "[::1", "h:1:2"])
async def test_a_proxy_that_cannot_be_one_is_named_without_its_password(place: str) -> None:
    """A port that there is not, or no port at all."""
    with pytest.raises((ConfigurationError, ConnectError)) as caught:
        async with AsyncClient(
            base_url="http://nim.invalid", model="m", retry=ONCE, proxy=f"http://u:{PASSWORD}@{place}"
        ) as client:
            await client.chat.create("hi")
    assert PASSWORD not in everything_of(caught.value)
    assert PASSWORD not in variables_of(caught.value)


@pytest.mark.parametrize(
    "script",
    [
        repeated,
        lambda request: [b"you said: " + request.raw_head, Close()],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Said: " + KEY.encode() + b"\x00\r\n\r\n{}",
        [b"HTTP/1.1 " + KEY.encode() + b" OK\r\n\r\n", Close()],
        http(json.dumps({"error": {"message": f"no {KEY}"}}).replace("-", "\\u002d").encode(), 401),
        http(KEY.encode()),
        stream(token("a"), sse({"error": {"message": KEY, "code": 500}}), DONE),
    ],
)
async def test_a_key_that_a_server_repeats_is_in_no_traceback(server: FaultServer, script: Any) -> None:
    """A server that speaks no HTTP, or puts the key into its answer: plain calls and streams, chained errors included."""
    server.script(script)
    async with AsyncClient(KEY, server.url, model="m", retry=ONCE) as client:
        for work in (client.chat.create, client.chat.stream):
            with pytest.raises(NimError) as caught:
                reply: Any = await work("hi")
                await reply.final()
            assert KEY not in everything_of(caught.value)


# what a server may send ----------------------------------------------------------------------------------------------

LONG = "9" * 5000


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(
    "body",
    [
        f'{{"error":{{"message":"m","code":{LONG}}}}}',
        f'{{"error":{{"message":"m","code":"{LONG}"}}}}',
        f'{{"error":{nested(1000)}}}',
        f'{{"choices":[{{"message":{{"role":"assistant","content":"a"}},"x":{nested(1000)}}}]}}',
        f'{{"choices":[{{"message":{{"tool_calls":[{{"function":{{"name":"f","arguments":{nested(1000)}}}}}]}}}}]}}',
        f'{{"choices":[{{"message":{{"tool_calls":[{{"index":{LONG},"function":{{"name":"f"}}}}]}}}}]}}',
    ],
)
async def test_numbers_and_nesting_without_end_are_errors_of_ours(status: int, body: str) -> None:
    """Five thousand digits or a thousand levels, in an answer, an event or an error: it can be shown, pickled and copied."""
    for answers in ((status, {}, body.encode()), (status, {}, [body])):
        client = client_of(*[answers] * 3)
        for work in (client.chat.create, client.chat.stream, client.embeddings.embed_query):
            with pytest.raises(NimError) as caught:
                reply: Any = await work("hi")
                await reply.final()
            assert len(str(caught.value)) < 1000
            assert str(pickle.loads(pickle.dumps(caught.value))) == str(copy.deepcopy(caught.value))


async def test_a_record_as_deep_as_it_may_be_can_be_used() -> None:
    """240 levels in an unknown field: repr, pickle, copy and JSON work; a thousand are a DecodeError."""
    body = json.dumps(chat_body()).removesuffix("}") + ',"x":'
    reply = await client_of((200, {}, f"{body}{nested(240)}}}".encode())).chat.create("hi")
    assert len(repr(reply)) < 2000
    assert pickle.loads(pickle.dumps(reply)) == copy.deepcopy(reply) == reply
    assert json.dumps(reply.to_dict())
    with pytest.raises(DecodeError, match="levels"):
        await client_of((200, {}, f"{body}{nested(1000)}}}".encode())).chat.create("hi")


async def test_controls_of_a_server_and_negative_counts(server: FaultServer) -> None:
    """ESC, C1 and marks of direction are not in an error's text; a count below zero is no count, and stays in `extra`."""
    server.script(
        error(400, "\x1b[31mred\u202eevil\x9b0m\x07"), chat(usage={"prompt_tokens": -5, "total_tokens": "-3"})
    )
    async with AsyncClient(base_url=server.url, model="m", retry=ONCE) as client:
        with pytest.raises(NimError) as caught:
            await client.chat.create("hi")
        assert str(caught.value).isprintable()
        usage = (await client.chat.create("hi")).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.total_tokens) == (0, 0)
    assert usage.extra == {"prompt_tokens": -5, "total_tokens": "-3"}


@pytest.mark.parametrize("kind", [AsyncClient, Client])
@pytest.mark.parametrize("settings", [{"base_url": "ftp://x"}, {"retry": 5}, {"nonsense": 1}])
def test_a_client_whose_construction_failed(kind: Any, settings: dict[str, Any]) -> None:
    """A debugger that shows it, `close` in somebody's `finally`, and the end of its life raise nothing."""
    client = kind.__new__(kind)
    with pytest.raises((ConfigurationError, TypeError)):
        client.__init__(**settings)
    assert "not initialized" in repr(client)
    if kind is Client:
        client.close()
    else:
        asyncio.run(client.aclose())
    del client


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.models.list(),
        lambda client: client.chat.stream("hi").final(),
        lambda client: client.chat.stream("hi").__aenter__(),
        lambda client: client.completions.stream("hi").__anext__(),
        lambda client: client.chat.conversation().stream("hi").final(),
        lambda client: client.chat.batch(["hi"]),
        lambda client: client.embeddings.embed_documents(["hi"]),
        lambda client: client.rerank("hi", ["a"]),
        lambda client: client.health.ready(),
        lambda client: client.health.wait_ready(),
        lambda client: EmbedJob(["a"], "never-made").run(client),
        lambda client: BatchJob(__file__, "never-made").run(client),
    ],
)
def test_a_call_without_a_loop_says_what_to_do(call: Callable[[AsyncClient], Coroutine[Any, Any, object]]) -> None:
    """A coroutine that is driven outside asyncio: our error, which names asyncio.run and the blocking client."""
    loopless = call(AsyncClient(base_url="http://127.0.0.1:9", model="m"))
    with pytest.raises(ConfigurationError, match=r"asyncio\.run.*blocking Client"):
        loopless.send(None)
    assert not Path("never-made").exists()


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "socks5h://user:pass@host:1"])
def test_a_socks_proxy_is_not_taken(proxy: str) -> None:
    """`proxy=` of a SOCKS proxy is an error that says so, without its password."""
    with pytest.raises(ConfigurationError, match="SOCKS is not supported") as caught:
        AsyncClient(base_url="http://nim", proxy=proxy)
    assert "pass@" not in str(caught.value)


async def test_a_proxy_that_wants_credentials_is_named(server: FaultServer) -> None:
    """407 over plain HTTP comes as a response: the error says that it is the proxy's, and where its credentials go."""
    server.script(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    proxy = f"http://127.0.0.1:{server.port}"
    async with AsyncClient(KEY, "http://nim.invalid/v1", model="m", retry=ONCE, proxy=proxy) as client:
        with pytest.raises(NimError, match=r"proxy requires credentials.*HTTPS_PROXY"):
            await client.chat.create("hi")


LONG = 123456789012345678901234567890
LONG_ANSWERS: list[tuple[str, Any, Any]] = [
    (f'{{"n": {LONG}}}', dict[str, int], {"n": LONG}),
    (f'{{"n": -{LONG}}}', dict[str, int], {"n": -LONG}),
    (f'```json\n{{"n": [{LONG}, 1.5]}}\n```', dict[str, list[float]], {"n": [float(LONG), 1.5]}),
    (f'{{"n": "{LONG}"}}', dict[str, str], {"n": str(LONG)}),
]


@pytest.mark.parametrize(("text", "form", "value"), LONG_ANSWERS)
async def test_whole_numbers_beyond_64_bits(text: str, form: Any, value: Any) -> None:
    """An output or an argument of a tool keeps all the digits that the model wrote, in parse, its stream and tools."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    client = AsyncClient("k", "http://host:1", model="m", transport=FakeTransport(lambda _: {"choices": [choice]}))
    assert (await client.chat.parse("hi", form)).value == value
    assert (await client.chat.parse_stream("hi", form).final()).value == value
    if text[0] == "{":
        assert ToolCall("1", "f", text).parse() == value
