"""Bodies of a chunk for each vector are what they are in one chunk, whatever the reads, and wake nobody for each chunk."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nimclient import AsyncClient, RetryPolicy, Timeouts
from nimclient._http.chunks import MAX_SIZE, SMALL_READ, ChunkReceiver, Chunks
from nimclient.errors import ConnectionLostError, NimError, ProtocolError, RequestTimeoutError
from support.server import Close, FaultServer, Pause, Request, Reset, Stall
from support.wire import END, MODEL, chunk, head

RAW = head(type="application/octet-stream")
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


def taken(reads: Sequence[bytes]) -> tuple[bytes, bytes | None]:
    """What the chunks of these reads contain, and what follows them."""
    chunks = Chunks()
    rest: bytes | None = None
    for data in reads:
        rest = chunks.take(data, 0) if rest is None else rest + data
    return chunks.content(), rest


@given(BODIES, st.lists(st.integers(0, 2000), max_size=8))
@example(([ROW, ROW], END), [])
def test_the_chunks_of_any_reads(body: tuple[list[bytes], bytes], places: list[int]) -> None:
    """Ordinary chunks are what they contain, and what follows them is complete, however the body is cut."""
    rows, tail = body
    data = b"".join(map(chunk, rows)) + tail
    content, rest = taken(cut(data, places))
    assert content == b"".join(rows)
    assert rest == (b"\r\n" if rows else b"") + tail
    assert taken([data[at : at + 1] for at in range(len(data))]) == (content, rest)


@pytest.mark.parametrize(
    "line", [b"80\r\n", b"!\r\n80\r\n", b"\n80\r\n", b"\r\n 80\r\n", b"\r\n+80\r\n", b"\r\n8_0\r\n", b"\r\n0x8\r\n"]
)
def test_what_is_no_chunk(line: bytes) -> None:
    """A size that does not follow a line end, or is no plain number, is left to the parser from there on."""
    data = chunk(ROW) + chunk(ROW)[:-2] + line + ROW + b"\r\n"
    assert taken([data]) == (ROW * 2, line + ROW + b"\r\n")


def test_a_body_beyond_what_is_kept() -> None:
    """From 64 MB on, the next chunk is left to the parser, which stops reading where nobody takes what has arrived."""
    chunks, some = Chunks(), chunk(b"x" * 2**22)
    assert {chunks.take(some, 0) for _ in range(MAX_SIZE // 2**22)} == {None}
    assert chunks.take(some, 0) == b"\r\n" + some
    assert len(chunks.content()) == MAX_SIZE


class Wire:
    """Where a receiver gets its data: a transport, and a protocol that takes nothing."""

    def __init__(self) -> None:
        self.transport = self
        self.reads = 0
        self.paused = False

    def count(self) -> None:
        self.reads += 1

    def set_protocol(self, protocol: Any) -> None:
        """The test knows it."""

    def data_received(self, data: bytes) -> None:
        """The head."""

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def test_small_reads_wait_for_more() -> None:
    """After a second small read the connection rests, up to 8 ms; a large read is followed by the next at once."""
    wire, loop = Wire(), asyncio.get_running_loop()
    receiver = ChunkReceiver(cast(Any, wire), loop, wire.count)
    rests = list[float]()
    receiver.data_received(RAW)
    for number in range(7):
        began = loop.time()
        receiver.data_received(chunk(ROW))
        assert wire.paused, number
        while wire.paused:
            await asyncio.sleep(0)
        rests.append(loop.time() - began)
    assert rests[0] >= 0.0004
    assert min(rests[4:]) >= 0.0075
    receiver.data_received(chunk(b"x" * SMALL_READ))
    assert (wire.paused, wire.reads) == (False, 9)


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
