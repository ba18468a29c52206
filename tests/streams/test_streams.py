"""A chat stream in good days: every way to open it, to read it and to leave it."""

import asyncio
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, ChatStream, Limits, RetryPolicy, Timeouts
from nimclient.errors import StreamInterruptedError
from support.server import Close, FaultServer, Pause, Stall
from support.wire import DONE, END, HELLO, ROLE, STOP, chat, chunk, head, http, sse, stream, token

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
BEGIN = head() + chunk(ROLE) + chunk(token("Hel"))


async def awaited(stream: ChatStream) -> str:
    return "".join([chunk.text async for chunk in await stream])


async def in_a_block(stream: ChatStream) -> str:
    async with stream as opened:
        assert opened is stream
        return "".join([chunk.text async for chunk in opened])


async def in_a_block_after_await(stream: ChatStream) -> str:
    async with await stream as opened:
        return "".join([chunk.text async for chunk in opened])


async def iterated(stream: ChatStream) -> str:
    return "".join([chunk.text async for chunk in stream])


async def by_text(stream: ChatStream) -> str:
    return "".join([piece async for piece in stream.text_stream])


async def by_final(stream: ChatStream) -> str:
    return (await stream.final()).text


@pytest.mark.parametrize("read", [awaited, in_a_block, in_a_block_after_await, iterated, by_text, by_final])
async def test_every_form_of_opening_reads_the_whole_answer(
    server: FaultServer, client: AsyncClient, read: Callable[[ChatStream], Any]
) -> None:
    """Awaited, entered, both, iterated at once, by text or by final(): the answer is the same, for one request."""
    server.script(HELLO)
    assert await read(client.chat.stream("hi")) == "Hello"
    assert len(server.requests) == 1


async def test_the_request_of_a_stream(server: FaultServer, client: AsyncClient) -> None:
    """A stream asks for events and usage in plain bytes."""
    server.script(HELLO)
    await client.chat.stream("hi").final()
    request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.json["stream"] is True
    assert request.json["stream_options"] == {"include_usage": True}
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/json"


async def test_stream_usage_false_asks_for_none(server: FaultServer, client: AsyncClient) -> None:
    """stream_usage=False leaves stream_options out."""
    server.script(HELLO)
    await client.chat.stream("hi", stream_usage=False).final()
    assert "stream_options" not in server.requests[0].json


async def test_final_equals_the_plain_answer(server: FaultServer, client: AsyncClient) -> None:
    """final() gives what chat.create would have returned, beside id and meta."""
    server.script(HELLO, chat())
    streamed = await client.chat.stream("hi").final()
    plain = await client.chat.create("hi")
    assert streamed.to_dict() == {key: value for key, value in plain.to_dict().items() if key != "created"}
    assert streamed.usage == plain.usage


async def test_final_after_some_chunks_has_them_too(server: FaultServer, client: AsyncClient) -> None:
    """final() reads the rest and returns the whole answer, and the same again."""
    server.script(HELLO)
    async with client.chat.stream("hi") as stream:
        await anext(stream)
        assert (await stream.final()).text == "Hello"
        assert (await stream.final()).text == "Hello"


async def test_what_chunks_carry(server: FaultServer, client: AsyncClient) -> None:
    """Chunks hand out text, finish_reason, usage, choices, extra and the event itself."""
    server.script(HELLO)
    chunks = [chunk async for chunk in client.chat.stream("hi")]
    assert [chunk.text for chunk in chunks] == ["", "Hel", "lo", "", ""]
    assert chunks[3].finish_reason == "stop"
    assert chunks[4].usage is not None
    assert chunks[4].usage.total_tokens == 3
    assert chunks[4].choices == ()
    assert chunks[1].choices[0].delta.content == "Hel"
    assert chunks[1].extra["model"] == "test-model"
    assert chunks[1].to_dict()["choices"][0]["delta"] == {"content": "Hel"}
    assert chunks[1].meta is not None
    assert chunks[1].meta.status == 200


async def test_the_meta_of_a_stream_grows_with_it(server: FaultServer, client: AsyncClient) -> None:
    """Timings of a stream: time to first token, gaps between tokens, total; None before it is open."""
    first_was_read = asyncio.Event()
    begun = head(200, "X-Request-Id: abc") + chunk(ROLE, token("a"))
    server.script([begun, first_was_read.wait, chunk(token("b"), DONE), END])
    stream = client.chat.stream("hi")
    assert stream.meta is None
    assert stream.partial is None
    await stream
    assert stream.partial is not None
    assert stream.partial.text == "a"
    await asyncio.sleep(0.05)
    first_was_read.set()
    reply = await stream.final()
    meta = reply.meta
    assert meta is not None
    assert (meta.status, meta.attempts, meta.request_id) == (200, 1, "abc")
    assert meta.headers["Content-Type"] == "text/event-stream"
    assert meta.url == server.url + "/chat/completions"
    timings = meta.timings
    assert timings.connect is not None
    assert timings.ttft is not None
    assert timings.total is not None
    assert 0 <= timings.connect <= timings.ttft < timings.total
    assert timings.queue == 0
    assert len(timings.inter_token) == 1
    assert timings.inter_token[0] >= 0.05


async def test_twenty_streams_use_one_connection(server: FaultServer, client: AsyncClient) -> None:
    """The connection of a stream that was read to its [DONE] is given back and used again."""
    server.script(HELLO)
    for _ in range(20):
        assert await iterated(client.chat.stream("hi")) == "Hello"
    assert (server.connections, len(server.requests)) == (1, 20)


@pytest.mark.parametrize("rest", [[Stall()], [Pause(0.3), END]], ids=["never ends", "ends late"])
async def test_a_body_that_does_not_end_after_done_is_not_waited_for(
    server: FaultServer, client: AsyncClient, rest: list[Any]
) -> None:
    """After [DONE] the end of the body is waited for a moment; then the connection is closed."""
    server.script([BEGIN, chunk(STOP), chunk(DONE), *rest], HELLO)
    async with asyncio.timeout(0.25):
        assert await iterated(client.chat.stream("hi")) == "Hel"
    assert await iterated(client.chat.stream("hi")) == "Hello"
    assert server.connections == 2


async def test_a_flood_after_done_is_not_read(server: FaultServer, client: AsyncClient) -> None:
    """More than 64 KiB after [DONE] close the connection."""
    server.script([BEGIN, chunk(STOP), chunk(DONE), chunk(b": x\n" * 50_000), Stall()], HELLO)
    assert await iterated(client.chat.stream("hi")) == "Hel"
    assert await iterated(client.chat.stream("hi")) == "Hello"
    assert server.connections == 2


async def test_events_after_done_are_ignored(server: FaultServer, client: AsyncClient) -> None:
    """What comes after the first [DONE] is no part of the answer."""
    server.script(stream(token("a"), DONE, token("b"), DONE))
    assert await iterated(client.chat.stream("hi")) == "a"


@pytest.mark.parametrize(
    "script",
    [
        stream(token("a"), token(None, "stop")),
        stream(token("a", "stop")),
        stream(token("a"), DONE),
        stream(token("a"), b"data:  [DONE] \n\n"),
        stream(token("a"), b"event: done\ndata: [DONE]\n\n"),
        stream(token("a"), b"data: [DONE]"),
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + token("a") + DONE, Close()],
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + token("a", "length"), Close()],
    ],
    ids=[
        "finish",
        "finish with text",
        "done",
        "done spaced",
        "done named",
        "done unended",
        "plain done",
        "plain finish",
    ],
)
async def test_a_stream_is_complete_with_done_or_finish_reason(
    server: FaultServer, client: AsyncClient, script: Any
) -> None:
    """[DONE] alone, or a finish_reason alone, ends a stream well."""
    server.script(script)
    stream = client.chat.stream("hi")
    assert await iterated(stream) == "a"
    assert (await stream.final()).text == "a"


@pytest.mark.parametrize("events", [(DONE,), (sse({"choices": [], "usage": {"prompt_tokens": 9}}), DONE)])
async def test_a_stream_without_an_answer(server: FaultServer, client: AsyncClient, events: tuple[bytes, ...]) -> None:
    """[DONE] alone, or behind nothing but usage, is no empty answer: it is asked for again, and an error in the end."""
    server.script(stream(*events), stream(token("a"), STOP, DONE))
    assert await iterated(client.chat.stream("hi")) == "a"
    server.script(stream(*events))
    stream_ = client.with_options(retry=RetryPolicy(attempts=1)).chat.stream("hi")
    with pytest.raises(StreamInterruptedError, match="without an answer"):
        await iterated(stream_)


async def test_comments_and_annotations_are_passed_over(server: FaultServer, client: AsyncClient) -> None:
    """Comments, empty events and objects without choices add no chunk."""
    server.script(stream(b": ping\n\n", b"data:\n\n", sse({"nvext": {"worker": 1}}), token("a"), STOP, DONE))
    assert [chunk.text async for chunk in client.chat.stream("hi")] == ["a", ""]


@pytest.mark.parametrize("size", [1, 2, 7, 100])
async def test_cuts_do_not_matter(server: FaultServer, client: AsyncClient, size: int) -> None:
    """A stream cut anywhere, also inside a character, reads the same."""
    events = token("é€😀").replace(b"\n", b"\r\n") + token("…\u2028x") + STOP + DONE
    lines = events.replace(b"data: ", b"").replace(b"\n\n", b"\n")  # NDJSON
    for text in (events, lines):
        server.script([head(), *[chunk(text[i : i + size]) for i in range(0, len(text), size)], END])
        assert await iterated(client.chat.stream("hi")) == "é€😀…\u2028x"


async def test_lines_are_read_as_they_arrive(server: FaultServer, client: AsyncClient) -> None:
    """Of events in a line each the first is there before the second was sent."""
    lines = [part.removeprefix(b"data: ").strip() + b"\n" for part in (token("a"), token("b"), STOP)]
    server.script([head(), chunk(lines[0]), Stall()])
    async with client.chat.stream("hi") as stream:
        assert (await anext(stream)).text == "a"


async def test_many_events_in_one_read(server: FaultServer, client: AsyncClient) -> None:
    """A thousand events that come at once are handed out one by one."""
    server.script(stream(b"".join(token("x") for _ in range(1000)) + STOP + DONE))
    assert len([chunk async for chunk in client.chat.stream("hi")]) == 1001


async def test_all_chunks_of_a_read_at_once(server: FaultServer, client: AsyncClient) -> None:
    """wait() fills `ready` with what one read brought, and says when there is no more."""
    server.script([head() + chunk(token("a"), token("b")), Pause(0.03), chunk(token("c"), DONE), END])
    stream = client.chat.stream("hi")
    texts = []
    assert len(stream.ready) == 0
    while await stream.wait():
        texts.append([chunk_.text for chunk_ in stream.ready])
        stream.ready.clear()
    assert texts == [["a", "b"], ["c"]]


# reading it wrongly --------------------------------------------------------------------------------------------


async def test_a_stream_is_read_once(server: FaultServer, client: AsyncClient) -> None:
    """Iterating over a stream that was read to its end is a RuntimeError; the answer is still there."""
    server.script(HELLO)
    stream = client.chat.stream("hi")
    assert await iterated(stream) == "Hello"
    with pytest.raises(RuntimeError, match="read to its end"):
        await iterated(stream)
    with pytest.raises(RuntimeError, match="read to its end"):
        await by_text(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert (await stream.final()).text == "Hello"


async def test_two_readers_are_refused(server: FaultServer, client: AsyncClient) -> None:
    """While one task waits for the next chunk, a second one gets a RuntimeError and the first continues."""
    server.script([BEGIN, Pause(0.1), chunk(token("lo"), DONE), END])
    stream = await client.chat.stream("hi")
    first = asyncio.create_task(iterated(stream))
    await asyncio.sleep(0.03)
    with pytest.raises(RuntimeError, match="another task"):
        await anext(stream)
    assert await first == "Hello"


async def test_two_openers_are_refused(server: FaultServer, client: AsyncClient) -> None:
    """While one task opens a stream, a second one gets a RuntimeError."""
    server.script([Pause(0.05), HELLO])
    stream = client.chat.stream("hi")
    first = asyncio.create_task(iterated(stream))
    await asyncio.sleep(0.01)
    with pytest.raises(RuntimeError, match="opened by another task"):
        await stream
    assert await first == "Hello"


# leaving it ----------------------------------------------------------------------------------------------------


async def never_iterated(stream: ChatStream) -> None:
    async with stream:
        pass


async def broken_off(stream: ChatStream) -> None:
    async with stream:
        async for _ in stream:
            break


async def failed_in_the_block(stream: ChatStream) -> None:
    with pytest.raises(ZeroDivisionError):
        async with stream:
            async for _ in stream:
                raise ZeroDivisionError


async def closed_twice(stream: ChatStream) -> None:
    await stream
    await stream.aclose()
    await stream.aclose()


async def timed_out(stream: ChatStream) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), stream:
            async for _ in stream:
                pass


async def cancelled(stream: ChatStream) -> None:
    task = asyncio.create_task(iterated(stream))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "leave",
    [never_iterated, broken_off, failed_in_the_block, closed_twice, timed_out, cancelled],
    ids=lambda f: f.__name__,
)
async def test_leaving_early_closes_the_connection_and_frees_its_slot(
    server: FaultServer, make_client: MakeClient, leave: Callable[[ChatStream], Any]
) -> None:
    """However a stream is left, the server sees its connection closed and the next call has the slot."""
    client = make_client(limits=Limits(concurrency=1))
    server.script([BEGIN, Stall()], HELLO)
    await leave(client.chat.stream("hi"))
    await server.until(lambda: server.open == 0)
    assert await iterated(client.chat.stream("hi")) == "Hello"
    assert server.connections == 2


async def test_an_unopened_stream_costs_nothing(server: FaultServer, client: AsyncClient) -> None:
    """A stream that is never opened sends nothing and may be dropped or closed; opened later, it says so."""
    server.script(HELLO)
    client.chat.stream("hi")
    stream = client.chat.stream("hi")
    await stream.aclose()
    with pytest.raises(StreamInterruptedError, match="closed before it was opened"):
        await stream
    assert server.connections == 0


async def test_a_dropped_stream_warns_once_and_closes(server: FaultServer, client: AsyncClient) -> None:
    """An open stream that is forgotten gives one ResourceWarning that names its URL, and its connection is closed."""
    server.script([BEGIN, Stall()])
    stream = await client.chat.stream("hi")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del stream
        gc.collect()
        await server.until(lambda: server.open == 0)
    (warning,) = caught
    assert warning.category is ResourceWarning
    assert server.url in str(warning.message)


async def test_breaking_out_without_a_block_leaves_the_stream_open(server: FaultServer, client: AsyncClient) -> None:
    """After break outside a block the stream can continue, or be closed."""
    server.script([BEGIN, Pause(0.02), chunk(token("lo"), DONE), END])
    stream = client.chat.stream("hi")
    async for piece in stream.text_stream:
        assert piece == "Hel"
        break
    assert (await stream.final()).text == "Hello"


async def test_closing_from_another_task_wakes_the_reader(server: FaultServer, client: AsyncClient) -> None:
    """aclose() from another task ends a waiting reader with StreamInterruptedError that has the text so far."""
    server.script([BEGIN, Stall()])
    stream = await client.chat.stream("hi")
    reader = asyncio.create_task(iterated(stream))
    await asyncio.sleep(0.02)
    await stream.aclose()
    with pytest.raises(StreamInterruptedError, match="closed") as caught:
        async with asyncio.timeout(0.2):
            await reader
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"


async def test_closing_while_the_reader_yields_to_other_tasks(server: FaultServer, client: AsyncClient) -> None:
    """A reader that lets others run before it reads on does not take the end that aclose() makes for the answer's."""
    server.script([BEGIN, Stall()])
    stream = await client.chat.stream("hi")
    assert [(await anext(stream)).text for _ in range(2)] == ["", "Hel"]
    await asyncio.sleep(1)  # its turn is over
    reader = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    await stream.aclose()
    with pytest.raises(StreamInterruptedError, match="closed") as caught:
        await reader
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"


@pytest.mark.parametrize(
    "script",
    [
        [Stall()],
        [head(), Stall()],
        [head() + chunk(ROLE), Stall()],
        [http(b"", 503, "Retry-After: 9", "Connection: close")],
    ],
    ids=["no head", "no event", "no content", "waiting to retry"],
)
async def test_closing_from_another_task_wakes_the_opener(
    server: FaultServer, client: AsyncClient, script: Any
) -> None:
    """aclose() from another task ends a task that still waits for the first content, wherever it waits."""
    server.script(script)
    stream = client.chat.stream("hi")
    opener = asyncio.create_task(iterated(stream))
    await asyncio.sleep(0.05)
    await stream.aclose()
    with pytest.raises(StreamInterruptedError, match="closed"):
        async with asyncio.timeout(0.2):
            await opener
    await server.until(lambda: server.open == 0)


async def test_closing_at_the_moment_of_opening(server: FaultServer, client: AsyncClient) -> None:
    """Where aclose() comes too late to stop the opening the stream is closed all the same."""
    server.script([head() + chunk(ROLE), Pause(0.03), chunk(token("Hel")), Stall()])
    stream = client.chat.stream("hi")
    opener = asyncio.create_task(stream.final())
    await asyncio.sleep(0.01)
    stream._closed = True  # what aclose() leaves behind when its cancellation finds nothing to cancel any more
    with pytest.raises(StreamInterruptedError, match="closed"):
        await opener
    await server.until(lambda: server.open == 0)


async def test_a_closed_stream_does_not_look_complete(server: FaultServer, client: AsyncClient) -> None:
    """A reader that was busy when another task closed the stream is notified at its next step, and so is final()."""
    server.script([BEGIN, Stall()])
    stream = await client.chat.stream("hi")
    assert (await anext(stream)).text == ""
    await stream.aclose()
    with pytest.raises(StreamInterruptedError, match="closed") as caught:
        await iterated(stream)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"
    with pytest.raises(StreamInterruptedError, match="closed"):
        await stream.final()


async def test_a_stream_whose_reading_was_cancelled_does_not_look_complete(
    server: FaultServer, client: AsyncClient
) -> None:
    """After a wait for the next chunk was cancelled the stream is over, and says that it was interrupted."""
    server.script([BEGIN, Stall()])
    stream = await client.chat.stream("hi")
    await anext(stream)
    await anext(stream)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.02)
    with pytest.raises(StreamInterruptedError) as caught:
        await stream.final()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"
    with pytest.raises(StreamInterruptedError):
        await anext(stream)


async def test_closing_a_finished_stream_changes_nothing(server: FaultServer, client: AsyncClient) -> None:
    """aclose() after the end leaves the answer readable."""
    server.script(HELLO)
    async with client.chat.stream("hi") as stream:
        assert await iterated(stream) == "Hello"
    assert (await stream.final()).text == "Hello"


async def test_a_slow_stream_is_no_idle_one(server: FaultServer, make_client: MakeClient) -> None:
    """One event per interval, each within the idle limit, never times out however long it takes in all."""
    client = make_client(timeouts=Timeouts(idle=0.15, first_event=0.15))
    steps = [step for text in "abcdef" for step in (Pause(0.05), chunk(token(text)))]
    server.script([head(), *steps, chunk(DONE), END])
    assert await iterated(client.chat.stream("hi")) == "abcdef"
