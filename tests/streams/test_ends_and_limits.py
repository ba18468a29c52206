"""How a stream ends: by a complete answer, whatever the server does after it, or by a limit, whatever keeps arriving."""

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from nimclient import AsyncClient, Client, RetryPolicy, Timeouts
from nimclient.errors import RequestTimeoutError, StreamInterruptedError
from nimclient.testing import FakeTransport
from support.reads import streamed
from support.server import Close, Drip, FaultServer, Pause, Reset, Stall
from support.wire import DONE, END, STOP, USAGE, chunk, head, token

pytestmark = pytest.mark.usefixtures("virtual_time")

BEGIN = head() + chunk(token("Hel")) + chunk(token("lo"))
PING = chunk(b": ping\n\n")
ONCE = RetryPolicy(attempts=1)


@pytest.mark.parametrize(
    "rest",
    [
        [Stall()],
        [Drip(PING, 0.05)],
        [chunk(b"data: [DONE]\n"), Stall()],
        [Close()],
        [Reset()],
        [Pause(0.1), b"zz\r\n", Stall()],
        [Pause(0.3), Reset()],
        [END],
    ],
    ids=["silence", "heartbeats", "one LF after [DONE]", "cut", "reset", "a bad chunk", "a late reset", "the end"],
)
async def test_a_complete_answer_needs_nothing_more(server: FaultServer, client: AsyncClient, rest: list[Any]) -> None:
    """When every choice has its finish_reason the answer is given, with no [DONE] and however the connection ends."""
    server.script([BEGIN, chunk(STOP), *rest])
    reply = await client.chat.stream("hi").final()
    assert (reply.text, reply.finish_reason) == ("Hello", "stop")


@pytest.mark.parametrize(
    ("bad", "end"), [(b"", Close()), (b"", Reset()), (b"zz\r\n", Stall())], ids=["cut", "reset", "chunk"]
)
@pytest.mark.parametrize("whole", [True, False], ids=["all of it", "a part"])
async def test_what_has_arrived_is_read(
    server: FaultServer, client: AsyncClient, bad: bytes, end: Any, whole: bool
) -> None:
    """However slow the reader is, and however the connection ended in the meantime (cpython #75044 in asyncio's reader,
    the same in aiohttp's).
    """
    asked = anyio.Event()
    more = chunk(token(" wor")) + chunk(token("ld")) + (chunk(STOP) + chunk(DONE) if whole else b"")
    server.script([BEGIN, asked.wait, more + bad, end])
    stream = client.chat.stream("hi")
    assert (await anext(stream)).text == "Hel"
    asked.set()
    await anyio.sleep(1)
    if whole:
        assert (await stream.final()).text == "Hello world"
        return
    with pytest.raises(StreamInterruptedError) as caught:
        await stream.final()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hello world"


@pytest.mark.parametrize("words", ["end it with data: [DONE]", "data:[DONE]", "\ndata: [DONE]"])
async def test_an_answer_about_the_end_of_streams(words: str) -> None:
    """A text is no end of its stream, also where a read ends just behind it."""
    event = token(words)
    cut = event.index(b"[DONE]") + len(b"[DONE]")
    reads = [event[:cut], event[cut:] + STOP + DONE]
    assert (await streamed(reads, ONCE).final()).text == words


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data:[DONE]\n", b"data: [DONE]\r\n"])
async def test_the_end_needs_no_blank_line(server: FaultServer, client: AsyncClient, end: bytes) -> None:
    """[DONE] ends a stream without a finish_reason, too, however few line ends follow before the server goes silent."""
    server.script([BEGIN, chunk(end), Stall()])
    assert (await client.chat.stream("hi").final()).text == "Hello"
    server.script([BEGIN, chunk(end), Stall()])
    assert len([event async for event in await client.request("POST", "/v1/any", json={}, stream=True)]) == 2


@pytest.mark.parametrize("event", [b'data: {"choices":[]}\n\n', token(None)], ids=["no choices", "an empty delta"])
async def test_heartbeats_that_are_events_put_the_end_off_no_longer(
    server: FaultServer, client: AsyncClient, event: bytes
) -> None:
    """A complete answer is given after its moment however many events without content follow."""
    sent: list[bytes] = []

    async def beat() -> None:
        sent.append(event)

    server.script([BEGIN, chunk(STOP), *[Pause(0.2), beat, chunk(event)] * 100, Stall()])
    assert (await client.chat.stream("hi").final()).text == "Hello"
    assert len(sent) < 10


async def test_text_after_an_early_finish_reason_is_waited_for(server: FaultServer, client: AsyncClient) -> None:
    """Content restores the moment that a complete answer waits: slow text after a finish_reason is not cut off."""
    later = [piece for word in ("a", "b", "c") for piece in (Pause(0.8), chunk(token(word)))]
    server.script([BEGIN, chunk(STOP), *later, Stall()])
    assert (await client.chat.stream("hi").final()).text == "Helloabc"


async def test_usage_a_little_later_is_read(server: FaultServer, client: AsyncClient) -> None:
    """A complete answer waits a moment for its usage."""
    server.script([BEGIN, chunk(STOP), Pause(0.3), chunk(USAGE), Stall()])
    async with client.chat.stream("hi") as stream:
        assert "".join([piece async for piece in stream.text_stream]) == "Hello"
        reply = await stream.final()
    assert reply.usage is not None
    assert reply.usage.total_tokens == 3


@pytest.mark.parametrize("choices", [2, 3])
async def test_an_answer_is_complete_with_all_its_choices(
    server: FaultServer, client: AsyncClient, choices: int
) -> None:
    """With n choices the moment begins when the last of them has ended: a server may write one after the other."""
    others = [piece for i in range(1, choices) for piece in (Pause(1.2), chunk(token("x", "stop", index=i)))]
    server.script([BEGIN, chunk(STOP), *others, Stall()])
    reply = await client.chat.stream("hi", n=choices).final()
    assert [choice.message.text for choice in reply.choices] == ["Hello", *["x"] * (choices - 1)]


async def test_an_answer_without_text_is_complete_too(server: FaultServer, client: AsyncClient) -> None:
    """A finish_reason without any text before it is an answer, and opening waits for no more."""
    server.script([head() + chunk(STOP), Stall()])
    assert (await client.chat.stream("hi").final()).text == ""


@pytest.mark.real_time
async def test_the_blocking_stream_ends_alike(server: FaultServer) -> None:
    """Client gives the complete answer of a server that goes silent."""
    server.script([BEGIN, chunk(STOP), Stall()])
    with Client(base_url=server.url, model="m") as client:
        reply = await anyio.to_thread.run_sync(client.chat.stream("hi").final)
    assert reply.text == "Hello"


async def test_a_closed_stream_is_not_taken_for_a_complete_one(server: FaultServer, client: AsyncClient) -> None:
    """aclose() before the finish_reason still ends a reader with StreamInterruptedError."""
    server.script([BEGIN, Stall()])
    stream = await client.chat.stream("hi")
    await stream.aclose()
    with pytest.raises(StreamInterruptedError):
        await stream.final()


EVENT = '{"choices": [{"index": 0, "delta": {"content": "x"}}]}'
EMPTY = ": ping"
MANY = 200_000


def flooded(piece: str, begin: str = "") -> FakeTransport:
    """A server whose every read returns at once."""
    return FakeTransport(lambda request: [begin, *[piece] * MANY] if begin else [piece] * MANY)


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("begin", "timeouts", "phase"),
    [
        ("", Timeouts(first_event=0.05), "first_event"),
        ("", Timeouts(total=0.05), "total"),
        (EVENT, Timeouts(idle=0.05), "idle"),
        (EVENT, Timeouts(total=0.05), "total"),
    ],
)
async def test_limits_fire_under_a_flood_of_comments(begin: str, timeouts: Timeouts, phase: str) -> None:
    """Comments that never let the reader wait do not keep a limit from ending the call."""
    transport = flooded(EMPTY, begin)
    client = AsyncClient(base_url="http://fake", model="m", timeouts=timeouts, transport=transport, retry=ONCE)
    with pytest.raises(RequestTimeoutError) as caught:
        await client.chat.stream("hi").final()
    assert caught.value.phase == phase


@pytest.mark.real_time
async def test_total_fires_between_tokens_that_are_ready() -> None:
    """Quick tokens, handed out without a wait, end when the time of the call is up; the error has what came before."""
    client = AsyncClient(base_url="http://fake", model="m", timeouts=Timeouts(total=0.2), transport=flooded(EVENT))
    count = 0
    with pytest.raises(RequestTimeoutError) as caught:
        async for _ in client.chat.stream("hi"):
            count += 1
    assert caught.value.phase == "total"
    assert count < MANY
    assert caught.value.partial is not None or count == 0  # on a machine that was busy for all that time


def test_total_fires_in_a_blocking_loop() -> None:
    """The same in Client."""
    client = Client(base_url="http://fake", model="m", timeouts=Timeouts(total=0.2), transport=flooded(EVENT))
    count = 0
    with pytest.raises(RequestTimeoutError), client.chat.stream("hi") as stream:
        for _ in stream:
            count += 1
    assert count < MANY


@pytest.mark.real_time
async def test_a_stream_that_never_waits_lets_other_tasks_run() -> None:
    """Tokens and comments that are always there do not hold up the loop."""
    transport = FakeTransport(lambda request: [*[EVENT] * 20_000, *[EMPTY] * 20_000, "[DONE]"])
    client = AsyncClient(base_url="http://fake", model="m", transport=transport)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as group:
        async with client.chat.stream("hi") as stream:
            group.start_soon(other)
            assert len([chunk async for chunk in stream]) == 20_000
        assert turns > 0
        group.cancel_scope.cancel()
