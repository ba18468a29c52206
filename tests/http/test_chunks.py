"""Bodies of many small chunks are what they are in one chunk, whatever the reads, and vectors wake nobody for each."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nimclient import AsyncClient, RetryPolicy, Timeouts
from nimclient._http.chunks import MAX_SIZE, MAX_UNREAD, SMALL_READ, ChunkedBody
from nimclient.errors import (
    ConnectionLostError,
    NimError,
    ProtocolError,
    RequestTimeoutError,
    StreamInterruptedError,
)
from support.server import Close, FaultServer, Pause, Request, Reset, Stall
from support.wire import DONE, END, MODEL, ROLE, STOP, chunk, head, token

RAW, STREAM = head(type="application/octet-stream"), head()
ROW = bytes(range(1, 65)) * 2
NO_PREFIX: Any = {"embedding": {"prefix": ""}}


def raw_client(url: str, **settings: Any) -> AsyncClient:
    settings = {"dialect": "vllm", "retry": RetryPolicy(attempts=1), **settings}
    return AsyncClient("k", url, model=MODEL, defaults=NO_PREFIX, **settings)


BODIES = st.tuples(
    st.lists(st.sampled_from([ROW, ROW, ROW, ROW[:-1], b"x", b"\r\n", b"\r\n80\r\n" + ROW]), max_size=12),
    st.sampled_from([END, b"0\r\nTrailer: x\r\n\r\n", b"80;name=value\r\n" + ROW + b"\r\n", b"zz\r\n", b"00080\r\n"]),
)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The reads that begin at these places."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


class Wire:
    """What a body stands between: a transport, a protocol, and the parser's part of the body, which is empty."""

    paused = closing = False

    def __init__(self) -> None:
        self.transport = self
        self.left: bytes = b""
        self.is_left = False

    def set_protocol(self, protocol: Any) -> None:
        self.is_left = protocol is self

    def data_received(self, data: bytes) -> None:
        self.left += data

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def exception(self) -> None:
        """None."""

    def read_nowait(self) -> bytes:
        return b""


def body_of(wire: Any, *, loop: Any = None, raw: bool = False, on_data: Any = lambda: None) -> ChunkedBody:
    """A body of which the head is there."""
    body = ChunkedBody(loop, wire, on_data if raw else None)
    body.data_received(RAW if raw else STREAM)
    assert wire.left == (RAW if raw else STREAM)
    wire.left = b""
    assert body.before(wire) is body
    return body


def taken(reads: Sequence[bytes]) -> tuple[bytes, bytes | None]:
    """What the chunks of these reads contain, and what follows them."""
    wire = Wire()
    body = body_of(wire)
    for data in reads:
        (wire if wire.is_left else body).data_received(data)
    return body.read_nowait(), wire.left if wire.is_left else None


@given(BODIES, st.lists(st.integers(0, 2000), max_size=8))
@example(([ROW, ROW], END), [])
def test_the_chunks_of_any_reads(body: tuple[list[bytes], bytes], places: list[int]) -> None:
    """Ordinary chunks are what they contain, and what follows them is left over, however the body is cut."""
    rows, tail = body
    data = b"".join(map(chunk, rows)) + tail
    assert taken(cut(data, places)) == (b"".join(rows), tail)
    assert taken([data[at : at + 1] for at in range(len(data))]) == (b"".join(rows), tail)


@pytest.mark.parametrize("line", [b" 80\r\n", b"+80\r\n", b"8_0\r\n", b"0x8\r\n", b"\r\n80\r\n"])
def test_what_is_no_size(line: bytes) -> None:
    """A size that is no plain number is left to the parser from there on."""
    data = line + ROW + b"\r\n"
    assert taken([chunk(ROW) * 2 + data]) == (ROW * 2, data)
    assert taken([chunk(ROW), chunk(ROW), data]) == (ROW * 2, data)


@pytest.mark.parametrize("line", [b"80\r\n", b"!\r\n80\r\n", b"\n80\r\n", b"\r80\r\n"])
def test_content_that_is_longer_than_its_size(line: bytes) -> None:
    """What follows a chunk without a line end is nothing that the parser could take for a chunk."""
    data = chunk(ROW)[:-2] + line + ROW + b"\r\n"
    assert taken([chunk(ROW), data]) == (ROW * 2, b"?" + line + ROW + b"\r\n")
    assert taken([chunk(ROW) + data]) == (ROW * 2, b"?" + line + ROW + b"\r\n")


HEADS = {
    "not chunked": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\n",
    "compressed": head(200, "Content-Encoding: gzip"),
    "another type": head(type="application/json"),
    "an error": head(503),
    "informational": b"HTTP/1.1 100 Continue\r\n\r\n" + head(),
    "incomplete": head()[:-2],
    "compressed transfer": head().replace(b"chunked", b"gzip, chunked"),
}


@pytest.mark.parametrize("data", HEADS.values(), ids=HEADS)
def test_other_responses_are_left_to_the_parser(data: bytes) -> None:
    """Only a whole head of status 200, of the type that was asked for, in chunks that nothing compresses, begins a body."""
    wire: Any = Wire()
    body = ChunkedBody(cast(Any, None), wire, None)
    body.data_received(data)
    assert (wire.is_left, wire.left) == (True, data)
    assert body.before(wire) is wire


def test_a_body_beyond_what_is_kept() -> None:
    """From 64 MB of vectors on, the next chunk is left to the parser, which stops reading where nobody takes its data."""
    wire, some = Wire(), chunk(b"x" * 2**22)
    body = body_of(wire, raw=True)
    for _ in range(MAX_SIZE // 2**22):
        body.data_received(some)
    assert not wire.is_left
    body.data_received(some)
    assert wire.left == some
    assert len(body.read_nowait()) == MAX_SIZE


async def test_small_reads_wait_for_more() -> None:
    """After a second small read of vectors the connection rests, up to 8 ms; a large one is followed by the next at once."""
    wire, loop, reads = Wire(), asyncio.get_running_loop(), list[None]()
    body = body_of(wire, loop=loop, raw=True, on_data=lambda: reads.append(None))
    rests = list[float]()
    for number in range(7):
        began = loop.time()
        body.data_received(chunk(ROW))
        assert wire.paused, number
        while wire.paused:
            await asyncio.sleep(0)
        rests.append(loop.time() - began)
    assert rests[0] >= 0.0004
    assert min(rests[4:]) >= 0.0075
    body.data_received(chunk(b"x" * SMALL_READ))
    assert (wire.paused, len(reads)) == (False, 9)


async def test_a_stream_that_nobody_reads() -> None:
    """A connection is read until half a megabyte waits for the reader, and again when that was taken."""
    wire = Wire()
    body = body_of(wire, loop=asyncio.get_running_loop())
    for _ in range(MAX_UNREAD // len(ROW)):
        body.data_received(chunk(ROW))
    assert not wire.paused
    body.data_received(chunk(ROW))
    assert wire.paused
    assert len(await body.readany()) == MAX_UNREAD + len(ROW)
    assert not wire.paused


def test_a_closed_connection_is_not_read_again() -> None:
    """What is taken after the connection was closed changes nothing of it."""
    wire = Wire()
    body = body_of(wire)
    body.data_received(chunk(b"x" * (MAX_UNREAD + 1)))
    wire.closing = True
    assert len(body.read_nowait()) == MAX_UNREAD + 1
    assert wire.paused


# against a server ------------------------------------------------------------------------------------------------


def rows_of(request: Request, *after: Any) -> list[Any]:
    """A chunk for each text, each sent by itself."""
    return [RAW, *itertools.chain.from_iterable((chunk(ROW), Pause(0.001)) for _ in request.json["input"]), *after]


async def embed(url: str, count: int, **settings: Any) -> bytes:
    """The vectors of so many texts, of 50 a request."""
    async with raw_client(url, **settings) as client:
        texts = [str(number) for number in range(count)]
        return bytes((await client.embeddings.embed_documents(texts, batch_size=50, concurrency=1)).buffer)


async def test_vectors_that_are_sent_one_by_one(server: FaultServer) -> None:
    """100 vectors in 100 chunks are all there, and the connection serves the second half too."""
    server.script(lambda request: rows_of(request, END))
    assert await embed(server.url, 100) == ROW * 100
    assert (len(server.requests), server.connections) == (2, 1)


async def test_bodies_at_once_and_one_by_one_on_one_connection(server: FaultServer) -> None:
    """A body that comes with its head follows one that did not, and the other way round."""
    count = itertools.count()

    def script(request: Request) -> list[Any]:
        steps = rows_of(request, END)
        return [b"".join(step for step in steps if isinstance(step, bytes))] if next(count) % 2 else steps

    server.script(script)
    assert await embed(server.url, 300) == ROW * 300
    assert (len(server.requests), server.connections) == (6, 1)


async def test_under_tls(tls_server: FaultServer, ca_file: str) -> None:
    """The same under TLS."""
    tls_server.script(lambda request: rows_of(request, END))
    assert await embed(tls_server.url, 100, verify=ca_file) == ROW * 100
    assert tls_server.connections == 1


def test_on_uvloop(far: FaultServer, far_tls: FaultServer, ca_file: str) -> None:
    """The same on uvloop, in clear and under TLS."""
    uvloop = pytest.importorskip("uvloop")
    for server, verify in ((far, True), (far_tls, ca_file)):
        server.script(lambda request: rows_of(request, END))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(embed(server.url, 100, verify=verify)) == ROW * 100
        assert server.connections == 1


async def test_leaving_in_the_middle(server: FaultServer) -> None:
    """A call that is cancelled while its connection rests closes it at once."""
    server.script(lambda request: rows_of(request, Stall()))
    async with raw_client(server.url) as client:
        call = asyncio.create_task(client.embeddings.embed_documents([str(number) for number in range(20)]))
        await server.until(lambda: bool(server.requests))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.until(lambda: server.open == 0)


CUTS: dict[str, tuple[list[Any], type[NimError]]] = {
    "no end": ([Close()], ConnectionLostError),
    "in a chunk": ([chunk(ROW)[:-9], Close()], ConnectionLostError),
    "in a size": ([b"8", Close()], ConnectionLostError),
    "reset": ([Pause(0.02), Reset()], ConnectionLostError),
    "malformed": ([b"zz\r\n", Stall()], ProtocolError),
    "silence": ([Stall()], RequestTimeoutError),
}


@pytest.mark.parametrize(("end", "kind"), CUTS.values(), ids=CUTS)
async def test_a_broken_body_is_its_error(server: FaultServer, end: list[Any], kind: type[NimError]) -> None:
    """Whatever ends such a body early is the error that it is for every other body, and no vector."""
    server.script(lambda request: rows_of(request, *end))
    async with raw_client(server.url, timeouts=Timeouts(idle=0.3)) as client:
        with pytest.raises(kind) as caught:
            await client.embeddings.embed_documents(["a", "b", "c"])
        assert caught.value.phase in ("body", "idle")  # type: ignore[attr-defined]  # all of them have one
        server.script(lambda request: rows_of(request, END))
        assert len(await client.embeddings.embed_documents(["a", "b"])) == 2


async def test_limits_of_a_body_that_keeps_arriving(server: FaultServer) -> None:
    """Each chunk begins the idle limit again, the total limit ends the call whatever arrives."""
    slow = [RAW, *itertools.chain.from_iterable((chunk(ROW), Pause(0.1)) for _ in range(6)), END]
    server.script(slow, slow)
    texts = [str(number) for number in range(6)]
    async with raw_client(server.url, timeouts=Timeouts(idle=0.35)) as client:
        assert len(await client.embeddings.embed_documents(texts)) == 6
        with pytest.raises(RequestTimeoutError, match="total"):
            await client.with_options(timeouts=Timeouts(total=0.25)).embeddings.embed_documents(texts)


# streams ---------------------------------------------------------------------------------------------------------

WORDS = [f" word{number}" for number in range(12)]
EVENTS = [ROLE, *map(token, WORDS), STOP, DONE]
WITH_EXTENSION = b"".join(map(chunk, EVENTS[5:])).replace(b"\r\n", b";name=value\r\n", 1)


def sent(number: int) -> list[Any]:
    """The steps of a server that sends a stream in this manner."""
    data = b"".join(map(chunk, EVENTS)) + END
    manners: list[list[bytes]] = [
        [STREAM, *map(chunk, EVENTS), END],
        [STREAM + data],
        [STREAM, *(data[start : start + 50] for start in range(0, len(data), 50))],
        [
            STREAM,
            *(chunk(*EVENTS[start : start + 3]) for start in range(0, len(EVENTS), 3)),
            b"0\r\nTrailer: x\r\n\r\n",
        ],
        [STREAM, *map(chunk, EVENTS[:5]), WITH_EXTENSION, END],
        [STREAM[:-2], b"\r\n", data],
        [STREAM, *(data[start : start + 1] for start in range(160)), data[160:]],
    ]
    return [step for part in manners[number] for step in (part, Pause(0.001))]


async def read_all_manners(server: FaultServer, **settings: Any) -> None:
    """Each manner of sending gives the same text, over one connection."""
    numbers = iter([*range(7), *range(7)])
    server.script(lambda request: sent(next(numbers)))
    async with AsyncClient("k", server.url, model=MODEL, **settings) as client:
        for _ in range(14):
            assert (await client.chat.stream("hi").final()).text == "".join(WORDS)
    assert server.connections == 1


async def test_streams_however_they_are_sent(server: FaultServer) -> None:
    """A stream is the same in whatever chunks and reads it comes, and its connection serves the next."""
    await read_all_manners(server)


async def test_streams_under_tls(tls_server: FaultServer, ca_file: str) -> None:
    """The same under TLS."""
    await read_all_manners(tls_server, verify=ca_file)


def test_streams_on_uvloop(far: FaultServer, far_tls: FaultServer, ca_file: str) -> None:
    """The same on uvloop, in clear and under TLS."""
    uvloop = pytest.importorskip("uvloop")
    for server, verify in ((far, True), (far_tls, ca_file)):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(read_all_manners(server, verify=verify))


@pytest.mark.parametrize(("end", "kind"), CUTS.values(), ids=CUTS)
async def test_a_broken_stream_keeps_its_words(server: FaultServer, end: list[Any], kind: type[NimError]) -> None:
    """Whatever ends a stream early, what came before is in the error, and the next call succeeds."""
    end = [step.replace(chunk(ROW)[:-9], b"40\r\ndata: {") if isinstance(step, bytes) else step for step in end]
    server.script([STREAM, *(step for event in EVENTS[:4] for step in (chunk(event), Pause(0.001))), *end])
    async with AsyncClient("k", server.url, model=MODEL, timeouts=Timeouts(idle=0.3)) as client:
        with pytest.raises(NimError) as caught:
            await client.chat.stream("hi").final()
        assert isinstance(caught.value, kind) or isinstance(caught.value.__cause__, kind)
        assert caught.value.partial is not None
        assert caught.value.partial.text == "".join(WORDS[:3])
        server.script(lambda request: sent(0))
        assert (await client.chat.stream("hi").final()).text == "".join(WORDS)


async def test_closing_a_stream_that_waits(server: FaultServer) -> None:
    """A stream that is left while it waits for a chunk closes its connection at once."""
    server.script([STREAM, *map(chunk, EVENTS[:4]), Stall()])
    async with AsyncClient("k", server.url, model=MODEL) as client:
        async with client.chat.stream("hi") as stream:
            assert [(await anext(stream)).text for _ in range(4)] == ["", *WORDS[:3]]
            reading = asyncio.create_task(anext(stream))
            await asyncio.sleep(0.01)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        await server.until(lambda: server.open == 0)


AS_REPORTED = {
    "a gateway's head within the body (zerodep #129)": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "content longer than its size (aiohttp #10596)": b"4\r\nHello\r\n0\r\n\r\n",
    "content shorter than its size (aiohttp #10596)": b"6\r\nHello\r\n0\r\n\r\n",
    "two other bytes in place of a line end (aiohttp #10355)": b"5\r\nHelloXY5\r\nHello\r\n",
    "no last chunk (llhttp #20)": b"\r\n\r\n",
    "letters behind a size (picohttpparser #78)": b"5x\r\nHello\r\n",
}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("wrong", AS_REPORTED.values(), ids=AS_REPORTED)
async def test_malformed_chunks_as_reported(server: FaultServer, wrong: bytes, alone: bool) -> None:
    """What is malformed in a stream ends it at once with its words so far, in a read of its own or not."""
    words = b"".join(map(chunk, EVENTS[:4]))
    server.script([STREAM, words, Pause(0.01), wrong, Stall()] if alone else [STREAM, words + wrong, Stall()])
    async with AsyncClient("k", server.url, model=MODEL, timeouts=Timeouts(idle=5)) as client:
        with pytest.raises(StreamInterruptedError) as caught:
            await client.chat.stream("hi").final()
    assert isinstance(caught.value.__cause__, ProtocolError)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "".join(WORDS[:3])
