"""A chat stream in bad days: broken, cut, stalled, with errors in it; what is retried, and what carries `.partial`."""

import asyncio
import gzip
import pickle
import time
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Limits, RetryPolicy, Timeouts
from nimclient.errors import (
    BodyTooLargeError,
    ConnectionLostError,
    DecodeError,
    NimError,
    RateLimitError,
    RequestTimeoutError,
    StreamError,
    StreamFaultError,
    StreamInterruptedError,
)
from support.server import Close, Drip, FaultServer, Flood, HalfClose, Pause, Reset, ServerThread, Stall
from support.slow import mostly_slow
from support.virtual_time import takes
from support.wire import DONE, END, HELLO, ROLE, STOP, chat_body, chunk, error, head, http, sse, stream, token

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
BEGIN = head() + chunk(ROLE) + chunk(token("Hel"))
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
DYNAMO = b"event: error\n: the worker has gone\ndata: {}\n\n"


async def read(client: AsyncClient, **options: Any) -> str:
    async with client.chat.stream("hi", **options) as stream_:
        return "".join([chunk_.text async for chunk_ in stream_])


BROKEN = {
    "clean end": [BEGIN, END],
    "clean end after usage": [BEGIN, chunk(sse({"choices": [], "usage": {"total_tokens": 3}})), END],
    "cut between chunks": [BEGIN, Close()],
    "cut in a chunk": [BEGIN, b"400\r\ndata: {", Close()],
    "cut in an event": [BEGIN, chunk(b'data: {"choices": [{"delta": {"content": "lo'), Close()],
    "reset": [BEGIN, Pause(0.02), Reset()],
    "half closed": [BEGIN, HalfClose()],
    "bad chunk size": [BEGIN, Pause(0.02), b"zz\r\nxx\r\n", Stall()],
}


async def test_one_choice_of_two_is_not_the_answer(server: FaultServer, client: AsyncClient) -> None:
    """A stream that ends with one of its choices unfinished is interrupted."""
    server.script([BEGIN, chunk(token("b", "stop", index=1)), END])
    with pytest.raises(StreamInterruptedError) as caught:
        await read(client, n=2)
    assert caught.value.partial is not None
    assert [choice.finish_reason for choice in caught.value.partial.choices] == [None, "stop"]


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN)
async def test_a_stream_that_breaks_off_raises_with_what_came(
    server: FaultServer, client: AsyncClient, script: Any
) -> None:
    """After content was handed out a broken stream is not retried: StreamInterruptedError carries the text so far."""
    server.script(script, HELLO)
    pieces = []
    with pytest.raises(StreamInterruptedError) as caught:
        async with client.chat.stream("hi") as stream_:
            async for piece in stream_.text_stream:
                pieces.append(piece)
    assert pieces == ["Hel"]
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"
    assert caught.value.partial.meta is not None
    assert len(server.requests) == 1
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.partial) == (str(caught.value), caught.value.partial)
    assert await read(client) == "Hello"


async def test_a_lost_stream_chains_its_cause(server: FaultServer, client: AsyncClient) -> None:
    """What the transport said stands behind the StreamInterruptedError."""
    server.script([BEGIN, Pause(0.02), Reset()])
    with pytest.raises(StreamInterruptedError, match="stream interrupted") as caught:
        await read(client)
    assert isinstance(caught.value.__cause__, ConnectionLostError)


async def test_an_error_waits_until_the_chunks_before_it_are_read(server: FaultServer, client: AsyncClient) -> None:
    """Chunks that came in the same read as an error are handed out first; the error is raised again and again."""
    server.script([head() + chunk(token("a"), token("b"), sse({"error": {"message": "boom"}})), Stall()])
    stream_ = client.chat.stream("hi")
    with pytest.raises(StreamFaultError):
        await stream_
    server.script([head() + chunk(token("a")), Pause(0.03), chunk(token("b"), sse({"error": {"message": "boom"}}))])
    async with client.chat.stream("hi") as stream_:
        assert (await anext(stream_)).text == "a"
        assert (await anext(stream_)).text == "b"
        for _ in range(2):
            with pytest.raises(StreamFaultError, match="boom") as caught:
                await anext(stream_)
        with pytest.raises(StreamFaultError):
            await stream_.final()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "ab"


EMPTY = {
    "clean end": stream(),
    "clean end after a role": stream(ROLE),
    "cut": [head() + chunk(ROLE), Close()],
    "reset": [head() + chunk(ROLE), Pause(0.02), Reset()],
    "in-band 503": stream(sse({"error": {"message": "busy", "code": 503}})),
    "in-band without a code": stream(sse({"error": {"message": "boom"}})),
    "Dynamo": stream(DYNAMO),
    "broken JSON": stream(b"data: {nope\n\n"),
    "invalid UTF-8": stream(b'data: {"choices": "\xff"}\n\n'),
    "HTML": http(b"<html>", type="text/html"),
    "JSON": http(b'{"id": "x"}'),
    "nothing": http(b""),
    "garbage": [b"\x16\x03\x01nonsense\r\n\r\n", Close()],
    "no answer": [Close()],
    "503": error(503),
    "500": error(500),
}


@pytest.mark.parametrize("script", EMPTY.values(), ids=EMPTY)
async def test_a_failure_before_the_first_content_is_retried(
    server: FaultServer, client: AsyncClient, script: Any
) -> None:
    """Opening includes the first content: what goes wrong before it is tried again, and the reader never knows."""
    server.script(script, HELLO)
    async with client.chat.stream("hi") as stream_:
        assert (await stream_.final()).text == "Hello"
        assert stream_.meta is not None
        assert stream_.meta.attempts == 2
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("script", "error_type", "requests"),
    [
        (stream(), StreamInterruptedError, 2),
        ([head(), Close()], NimError, 2),
        (stream(b"data: {nope\n\n"), DecodeError, 2),
        (stream(sse({"error": {"message": "bad", "code": 400}})), StreamFaultError, 1),
        (stream(sse({"error": {"message": "busy", "code": "429"}})), StreamFaultError, 3),
        (stream(sse({"error": {"message": "boom", "code": 500}})), StreamFaultError, 2),
        (error(429), RateLimitError, 3),
    ],
    ids=["end", "cut", "garbled", "400", "429", "500", "429 status"],
)
async def test_how_often_an_opening_is_retried(
    server: FaultServer, client: AsyncClient, script: Any, error_type: type[NimError], requests: int
) -> None:
    """Rejections are tried three times, unknown outcomes of a generation twice, the caller's mistakes once."""
    server.script(script)
    with pytest.raises(error_type):
        await read(client)
    assert len(server.requests) == requests


SHAPES = {
    "OpenAI": (sse({"error": {"message": "boom", "type": "T", "code": 500}}), "boom", 500, "T"),
    "a str": (sse({"error": "boom"}), "boom", None, None),
    "old vLLM": (sse({"object": "error", "message": "boom", "type": "T", "code": 400}), "boom", 400, "T"),
    "problem": (sse({"title": "boom", "status": 422}), "boom", 422, None),
    "detail": (sse({"detail": "boom"}), "boom", None, None),
    "a code alone": (sse({"code": "E1", "message": "boom"}), "boom", "E1", None),
    "named event": (b'event: error\ndata: {"message": "boom", "code": 503}\n\n', "boom", 503, None),
    "named event with a str": (b'event: error\ndata: "boom"\n\n', "boom", None, None),
    "Dynamo": (DYNAMO, "the worker has gone", None, None),
    "Dynamo without data": (b"event: error\n: gone\n\n", "gone", None, None),
    "nothing said": (b"event: error\ndata:\n\n", "without text", None, None),
    "beside choices": (sse({"choices": [], "error": {"message": "boom"}}), "boom", None, None),
}


@pytest.mark.parametrize(("event", "words", "code", "kind"), SHAPES.values(), ids=SHAPES)
async def test_errors_inside_a_stream(
    server: FaultServer, client: AsyncClient, event: bytes, words: str, code: Any, kind: Any
) -> None:
    """An error event in any server's shape raises StreamFaultError with its words, code and type, and the partial."""
    server.script([BEGIN, Pause(0.01), chunk(event), Stall()])
    with pytest.raises(StreamFaultError, match=words) as caught:
        await read(client)
    assert (caught.value.code, caught.value.type) == (code, kind)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "event",
    [b"data: {nope\n\n", b"data: [1]\n\n", b"data: 1\n\n", b'data: {"a": "\xff"}\n\n', b'data: {"a": NaN}\n\n'],
    ids=["cut", "list", "number", "not UTF-8", "NaN"],
)
async def test_an_event_that_cannot_be_read(server: FaultServer, client: AsyncClient, event: bytes) -> None:
    """A malformed event in the middle raises DecodeError with the partial, alone or among good ones."""
    for events in ([event], [token("l"), event, token("o")]):
        server.script([BEGIN, Pause(0.01), chunk(*events), Stall()])
        with pytest.raises(DecodeError) as caught:
            await read(client)
        assert caught.value.partial is not None
        assert caught.value.partial.text.startswith("Hel")
        assert not isinstance(caught.value, StreamError)


async def test_a_lone_surrogate_in_an_event_is_replaced(server: FaultServer, client: AsyncClient) -> None:
    """Half a surrogate pair, as models write it, becomes U+FFFD; a whole pair its character."""
    event = token("x").replace(b'"x"', b'"\\ud83d|\\ud83d\\ude00"')
    server.script(stream(event, token("y"), DONE))
    assert await read(client) == "\ufffd|😀y"


async def test_a_byte_order_mark_before_the_first_event(server: FaultServer, client: AsyncClient) -> None:
    """A BOM at the very beginning is dropped."""
    server.script(stream(b"\xef\xbb\xbf" + token("a"), DONE))
    assert await read(client) == "a"


@pytest.mark.parametrize("first", [b"", token("a")], ids=["at once", "after content"])
async def test_an_event_above_the_cap(server: FaultServer, make_client: MakeClient, first: bytes) -> None:
    """An event that exceeds Limits.max_event is BodyTooLargeError, not retried, its connection closed."""
    client = make_client(limits=Limits(max_event=1000, concurrency=1))
    steps = [chunk(first), Pause(0.01)] if first else []
    server.script([head(), *steps, Drip(chunk(b"data: " + b"x" * 400), 0.001)], HELLO)
    with pytest.raises(BodyTooLargeError, match="max_event") as caught:
        await read(client)
    assert caught.value.limit == 1000
    assert (caught.value.partial is not None) == bool(first)
    assert len(server.requests) == 1
    await server.until(lambda: server.open == 0)
    assert await read(client) == "Hello"


async def test_an_event_of_700_kilobytes_is_fine(server: FaultServer, client: AsyncClient) -> None:
    """Long lines are no fault: the cap is 16 MiB unless it is set."""
    server.script(stream(token("x" * 700_000), DONE))
    assert len(await read(client)) == 700_000


async def test_tokens_of_several_choices_are_kept_apart(server: FaultServer, client: AsyncClient) -> None:
    """Interleaved choices come out as choices; the text of the stream is that of the first."""
    server.script(
        stream(
            token("b", index=1), token("a"), token("d", index=1), token(None, "stop"), token(None, "length", 1), DONE
        )
    )
    async with client.chat.stream("hi", n=2) as stream_:
        assert [piece async for piece in stream_.text_stream] == ["a"]
        reply = await stream_.final()
    assert [(c.index, c.message.text, c.finish_reason) for c in reply.choices] == [
        (0, "a", "stop"),
        (1, "bd", "length"),
    ]


# time limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "drip",
    [b": ping\n\n", ROLE, sse({"choices": []}), sse({"nvext": {}}), b"data:\n\n"],
    ids=["comments", "roles", "no choices", "annotations", "empty"],
)
async def test_only_content_stops_the_clock_of_the_first_event(
    server: FaultServer, make_client: MakeClient, drip: bytes
) -> None:
    """Anything but content keeps first_event running: it is reached although bytes never cease."""
    client = make_client(timeouts=Timeouts(first_event=0.1), retry=RetryPolicy(attempts=1))
    server.script([head(), Drip(chunk(drip), 0.01)])
    with takes(0.1), pytest.raises(RequestTimeoutError) as caught:
        await read(client)
    assert (caught.value.phase, caught.value.seconds, caught.value.attempts) == ("first_event", 0.1, 1)
    assert caught.value.partial is None or caught.value.partial.text == ""
    await server.until(lambda: server.open == 0)


async def test_a_first_event_that_never_comes_is_tried_once_more(server: FaultServer, make_client: MakeClient) -> None:
    """A generation whose first event did not come in time may be repeated once."""
    client = make_client(timeouts=Timeouts(first_event=0.05))
    server.script([head(), Stall()])
    with pytest.raises(RequestTimeoutError) as caught:
        await read(client)
    assert (caught.value.phase, caught.value.attempts, len(server.requests)) == ("first_event", 2, 2)


@pytest.mark.parametrize(
    "drip", [b": ping\n\n", sse({"nvext": {}}), b"data:\n\n", b"x"], ids=["comments", "annotations", "empty", "a line"]
)
async def test_comments_do_not_stop_the_idle_clock(server: FaultServer, make_client: MakeClient, drip: bytes) -> None:
    """The idle limit counts events: a drip of comments does not keep a dead stream alive."""
    client = make_client(timeouts=Timeouts(idle=0.1))
    server.script([BEGIN, Drip(chunk(drip), 0.01)])
    with takes(0.1), pytest.raises(RequestTimeoutError) as caught:
        await read(client)
    assert (caught.value.phase, caught.value.seconds) == ("idle", 0.1)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"
    assert len(server.requests) == 1
    await server.until(lambda: server.open == 0)


async def test_an_error_after_a_second_opening_counts_both(server: FaultServer, make_client: MakeClient) -> None:
    """`.attempts` of an error in the middle of a stream counts the openings before it."""
    client = make_client(timeouts=Timeouts(idle=0.05))
    server.script(error(503), [BEGIN, Stall()])
    with pytest.raises(RequestTimeoutError) as caught:
        await read(client)
    assert (caught.value.phase, caught.value.attempts) == ("idle", 2)


async def test_the_total_limit_ends_a_stream_that_lives(server: FaultServer, make_client: MakeClient) -> None:
    """`total` bounds the whole stream, however lively it is."""
    client = make_client()
    server.script([head(), Drip(chunk(token("x")), 0.01)])
    with takes(0.15), pytest.raises(RequestTimeoutError) as caught:
        await read(client, timeout=0.15)
    assert (caught.value.phase, caught.value.seconds) == ("total", 0.15)
    assert caught.value.partial is not None
    assert caught.value.partial.text


@pytest.mark.real_time
@pytest.mark.parametrize("block", mostly_slow([0.15, 0.3], 0.15))
async def test_a_blocked_loop_is_no_idle_stream(make_client: MakeClient, block: float) -> None:
    """Bytes that arrived while the caller held up the loop are read before any time limit is judged."""
    with ServerThread() as server:
        client = make_client(server.url, timeouts=Timeouts(idle=0.1, first_event=0.1))
        server.script([BEGIN, Pause(0.05), chunk(token("lo"), DONE), END])
        async with client.chat.stream("hi") as stream_:
            await anext(stream_)
            await anext(stream_)
            rest = asyncio.create_task(stream_.final())
            await asyncio.sleep(0.01)  # now the reader waits
            time.sleep(block)  # noqa: ASYNC251 - what is tested
            assert (await rest).text == "Hello"
        await client.aclose()


async def test_a_slow_consumer_is_no_idle_stream(server: FaultServer, make_client: MakeClient) -> None:
    """The idle clock runs while the client waits for the server, not while the caller thinks."""
    client = make_client(timeouts=Timeouts(idle=0.05))
    server.script([BEGIN, chunk(token("lo")), Pause(0.12), chunk(DONE), END])
    async with client.chat.stream("hi") as stream_:
        text = ""
        async for chunk_ in stream_:
            text += chunk_.text
            await asyncio.sleep(0.06)
    assert text == "Hello"


async def test_a_json_answer_to_a_stream_that_is_cut_off(server: FaultServer, client: AsyncClient) -> None:
    """A server that ignores `stream` and is interrupted in its JSON gives an error after one more try, no short answer."""
    server.script(http(b"\n" + sse(chat_body())[6:-9]))
    with pytest.raises(DecodeError):
        await read(client)
    assert len(server.requests) == 2


async def test_events_in_answer_to_a_plain_call(server: FaultServer, client: AsyncClient) -> None:
    """A server that streams although it was not asked to has answered all the same."""
    server.script(HELLO)
    assert (await client.chat.create("hi")).text == "Hello"


async def test_a_compressed_stream(server: FaultServer, client: AsyncClient) -> None:
    """Events that come compressed although plain ones were asked for are read."""
    data = gzip.compress(token("a") + token("b") + DONE)
    server.script([head(200, "Content-Encoding: gzip"), *(chunk(data[i : i + 9]) for i in range(0, len(data), 9)), END])
    assert await read(client) == "ab"


async def test_a_slow_reader_holds_up_the_server(server: FaultServer, client: AsyncClient) -> None:
    """What nobody reads is not piled up here: the server has to wait."""
    flood = Flood(chunk(*[token("x" * 1000)] * 64), 1000)
    server.script([head(), flood, Stall()])
    async with client.chat.stream("hi") as stream_:
        await anext(stream_)
        await asyncio.sleep(0.3)
        assert 0 < flood.sent < 500


async def test_close_delimited_streams_are_read_to_their_end(server: FaultServer, client: AsyncClient) -> None:
    """Without lengths the end of the connection ends the stream: complete with [DONE], broken off without."""
    server.script([PLAIN + token("a") + STOP + DONE, Close()], [PLAIN + token("a"), Close()])
    assert await read(client) == "a"
    with pytest.raises(StreamInterruptedError):
        await read(client)
