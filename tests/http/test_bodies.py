"""Plain bodies: cut, malformed, compressed, too large, no JSON, and those of rejections."""

import gzip
import json
import pickle
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Limits, Timeouts
from nimclient.errors import (
    APIStatusError,
    BadRequestError,
    BodyTooLargeError,
    ConnectionLostError,
    DecodeError,
    NimError,
    ProtocolError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    ServiceUnavailableError,
    StreamFaultError,
)
from support.server import Close, Drip, FaultServer, Pause, Reset, Stall
from support.virtual_time import takes
from support.wire import END, answer, chat, chat_body, chunk, embedded, error, head, http

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
BODY = json.dumps(chat_body()).encode()
JSON = head(type="application/json")
GZIP = "Content-Encoding: gzip"

CUT = {
    "Content-Length too long": [http(BODY).replace(b"Length: ", b"Length: 1"), Close()],
    "no last chunk": [JSON + chunk(BODY), Close()],
    "in a chunk": [JSON + b"%x\r\n" % len(BODY) + BODY[:20], Close()],
    "RST": [JSON + chunk(BODY), Pause(0.02), Reset()],
    "RST with a length": [http(BODY)[:-5], Pause(0.02), Reset()],
}


@pytest.mark.parametrize("script", CUT.values(), ids=CUT)
async def test_a_cut_body_is_a_lost_connection(server: FaultServer, client: AsyncClient, script: Any) -> None:
    """A body that ends before its framing says so is ConnectionLostError, retried like one, never an answer."""
    server.script(script)
    with pytest.raises(ConnectionLostError, match="before the response was complete") as caught:
        await client.chat.create("hi")
    assert (caught.value.phase, caught.value.attempts, len(server.requests)) == ("body", 2, 2)
    server.script(script, script, answer(embedded(["1"])))
    assert len((await client.embeddings.create(["1"])).vectors) == 1


@pytest.mark.parametrize(
    "script",
    [
        [JSON + b"zz\r\n" + BODY, Stall()],
        [JSON + chunk(BODY), Pause(0.02), b"zz\r\nxx\r\n", Stall()],
        [JSON + chunk(BODY), Pause(0.02), b"ffffffffffffffffffff\r\n", Stall()],
        [http(b"no gzip at all", 200, GZIP), Stall()],
        [http(gzip.compress(BODY)[:-8] + b"\0" * 8, 200, GZIP), Stall()],
        [http(gzip.compress(BODY), 200, "Content-Encoding: " + ", ".join(["gzip"] * 6))],
    ],
    ids=["chunk size", "later chunk size", "huge chunk size", "no gzip", "bad CRC", "stacked"],
)
async def test_a_malformed_body_is_a_protocol_error(server: FaultServer, client: AsyncClient, script: Any) -> None:
    """A body that breaks its framing or encoding is ProtocolError or no JSON; one more try is made."""
    server.script(script)
    with pytest.raises((ProtocolError, DecodeError)) as caught:
        await client.chat.create("hi")
    assert not isinstance(caught.value, APIStatusError)
    assert len(server.requests) == 2
    server.script(chat())
    assert (await client.chat.create("hi")).text == "Hello"


async def test_a_malformed_chunk_in_the_middle_does_not_hang(server: FaultServer, client: AsyncClient) -> None:
    """A broken chunk size in a body in flight is reported to its reader at once."""
    server.script([JSON + chunk(BODY), Pause(0.02), b"zz\r\n", Stall()])
    with takes(0.045), pytest.raises(ProtocolError, match="malformed"):
        await client.chat.create("hi")


@pytest.mark.parametrize(
    ("raw", "error_type"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:-9], DecodeError),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(BODY)[:-30], NimError),
        (http(gzip.compress(BODY)[:-30], 200, GZIP), NimError),
    ],
    ids=["plain", "gzip", "gzip with a length"],
)
async def test_a_body_that_is_cut_within_good_framing(
    server: FaultServer, client: AsyncClient, raw: bytes, error_type: type[NimError]
) -> None:
    """JSON or gzip that stops in the middle of a well-framed body is an error, never half an answer."""
    server.script([raw, Close()])
    with pytest.raises(error_type):
        await client.chat.create("hi")
    assert len(server.requests) == 2


async def test_extra_bytes_after_a_body_spoil_no_other_call(server: FaultServer, client: AsyncClient) -> None:
    """A Content-Length that is too short gives DecodeError; the bytes left over do not reach the next answer."""
    server.script(http(BODY).replace(b"Length: %d" % len(BODY), b"Length: 9"), chat("b"))
    try:
        reply = await client.chat.create("hi")
    except (DecodeError, ProtocolError):
        reply = await client.chat.create("hi")
    assert reply.text == "b"
    server.script([chat("a") + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"], chat("b"))
    assert (await client.chat.create("hi")).text == "a"
    assert (await client.chat.create("hi")).text == "b"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compressed_answers_are_read(server: FaultServer, client: AsyncClient, encoding: str) -> None:
    """Plain answers may be compressed."""
    compress = gzip.compress if encoding == "gzip" else zlib.compress
    server.script(http(compress(BODY), 200, f"Content-Encoding: {encoding}"))
    assert (await client.chat.create("hi")).text == "Hello"


async def test_a_gzip_bomb_is_stopped_at_the_cap(server: FaultServer, make_client: MakeClient) -> None:
    """A small body that grows without measure is BodyTooLargeError at the cap, with memory in bounds, and final."""
    client = make_client(limits=Limits(max_body=2**20))
    bomb = http(gzip.compress(b" " * 2**26, 9), 200, GZIP)
    server.script([bomb, Stall()])
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLargeError, match="max_body") as caught:
            await client.chat.create("hi")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**24
    assert caught.value.limit == 2**20
    assert len(server.requests) == 1
    await server.until(lambda: server.open == 0)


@pytest.mark.parametrize("framing", ["length", "chunks", "none"])
async def test_a_body_above_the_cap(server: FaultServer, make_client: MakeClient, framing: str) -> None:
    """However it is framed, a body above Limits.max_body is not read to its end."""
    client = make_client(limits=Limits(max_body=10_000))
    first = {
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n",
        "chunks": JSON,
        "none": b"HTTP/1.1 200 OK\r\n\r\n",
    }[framing]
    piece = b"x" * 1000
    server.script([first, Drip(chunk(piece) if framing == "chunks" else piece, 0.0005)])
    with pytest.raises(BodyTooLargeError):
        await client.chat.create("hi")
    assert len(server.requests) == 1
    await server.until(lambda: server.open == 0)


async def test_a_body_of_exactly_the_cap_is_fine(server: FaultServer, make_client: MakeClient) -> None:
    """max_body is the largest size that is taken."""
    server.script(chat())
    assert (await make_client(limits=Limits(max_body=len(BODY))).chat.create("hi")).text == "Hello"
    with pytest.raises(BodyTooLargeError):
        await make_client(limits=Limits(max_body=len(BODY) - 1)).chat.create("hi")


async def test_no_cap(server: FaultServer, make_client: MakeClient) -> None:
    """Without caps everything is taken."""
    server.script(chat("x" * 1_000_000))
    client = make_client(limits=Limits(max_body=None, max_event=None, concurrency=None))
    assert len((await client.chat.create("hi")).text) == 1_000_000


async def test_a_body_that_stalls(server: FaultServer, make_client: MakeClient) -> None:
    """A plain body that stops arriving is given up after the idle limit; one that continues is not."""
    client = make_client(timeouts=Timeouts(idle=0.1))
    server.script([http(BODY)[:-5], Stall()])
    with pytest.raises(RequestTimeoutError) as caught:
        await client.chat.create("hi")
    assert (caught.value.phase, len(server.requests)) == ("idle", 2)
    pieces = [step for i in range(0, len(BODY), 60) for step in (Pause(0.03), chunk(BODY[i : i + 60]))]
    server.script([JSON, *pieces, END])
    assert (await client.chat.create("hi")).text == "Hello"


ODD = {
    "empty": b"",
    "white space": b" \n",
    "null": b"null",
    "list": b"[]",
    "str": b'"ok"',
    "number": b"1",
    "no choices": b"{}",
    "choices of another kind": b'{"choices": 5}',
    "a choice without a message": b'{"choices": [{"index": 0}]}',
    "choices of strings": b'{"choices": ["a"]}',
    "cut": BODY[:-1],
    "NaN": b'{"choices": [], "x": NaN}',
    "1e400": b'{"choices": [], "x": 1e400}',
    "invalid UTF-8": BODY.replace(b"Hello", b"\xff\xfe"),
    "NUL": BODY.replace(b"Hello", b"a\0b"),
    "two values": b"{}{}",
    "deep": b"[" * 100_000 + b"]" * 100_000,
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
async def test_an_answer_that_is_no_chat_completion(server: FaultServer, client: AsyncClient, body: bytes) -> None:
    """A 200 that holds something else is DecodeError, picklable, in one line; one more try is made."""
    server.script(http(body))
    with pytest.raises(DecodeError) as caught:
        await client.chat.create("hi")
    assert len(server.requests) == 2
    assert "\n" not in str(caught.value)
    assert len(caught.value.excerpt) <= 200
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert server.connections == 1


async def test_a_page_of_html_with_status_200(server: FaultServer, client: AsyncClient) -> None:
    """A captive portal's page is DecodeError that shows how the page begins."""
    server.script(http(b"<html>\x07<body>Please\nlog in" + b"." * 5000, type="text/html"))
    with pytest.raises(DecodeError) as caught:
        await client.chat.create("hi")
    assert caught.value.excerpt.startswith("<html> <body>Please log in")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\xef\xbb\xbf" + BODY, "Hello"),
        (BODY.replace(b"Hello", b"\\u0000"), "\0"),
        (BODY.replace(b"Hello", b"a\\ud83d"), "a\ufffd"),
        (BODY.replace(b"Hello", b"\\ud83d\\ude00"), "😀"),
        (BODY.replace(b'"Hello"', b"null"), ""),
        (BODY.replace(b'"chat-1"', b"5").replace(b'"created": 1', b'"created": "x"'), "Hello"),
        (BODY.replace(b'"index": 0', b'"index": null'), "Hello"),
    ],
    ids=["BOM", "NUL", "lone surrogate", "pair", "null", "wrong types", "no index"],
)
async def test_odd_answers_that_are_taken(server: FaultServer, client: AsyncClient, body: bytes, text: str) -> None:
    """What can be read without loss of sense is read."""
    server.script(http(body))
    assert (await client.chat.create("hi")).text == text
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"type": None},
        {"type": "text/plain"},
        {"type": "application/json; charset=latin-1"},
        {"type": "nonsense/;;;"},
    ],
)
async def test_the_content_type_does_not_matter(server: FaultServer, client: AsyncClient, headers: Any) -> None:
    """An answer is read by what it is, not by what its header says."""
    server.script(http(BODY, **headers))
    assert (await client.chat.create("hi")).text == "Hello"


async def test_two_content_types(server: FaultServer, client: AsyncClient) -> None:
    """Headers that are repeated are joined."""
    server.script(http(BODY, 200, "Content-Type: text/plain"))
    reply = await client.chat.create("hi")
    assert reply.meta is not None
    assert reply.meta.headers["content-type"] == "text/plain, application/json"


@pytest.mark.parametrize("status", [202, 204, 205])
async def test_success_without_a_body(server: FaultServer, client: AsyncClient, status: int) -> None:
    """A POST that returned nothing is DecodeError, not an empty answer."""
    server.script(http(b"", status))
    with pytest.raises(DecodeError):
        await client.chat.create("hi")


@pytest.mark.parametrize("status", [200, 201, 299])
async def test_all_of_2xx_is_success(server: FaultServer, client: AsyncClient, status: int) -> None:
    """Any status of the 200s with a good body is an answer."""
    server.script(http(BODY, status))
    reply = await client.chat.create("hi")
    assert reply.meta is not None
    assert reply.meta.status == status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (402, APIStatusError),
        (418, APIStatusError),
        (451, APIStatusError),
        (511, ServerError),
        (599, ServerError),
        (600, APIStatusError),
        (999, APIStatusError),
    ],
)
async def test_unusual_statuses(server: FaultServer, client: AsyncClient, status: int, kind: type) -> None:
    """A status without a class of its own is APIStatusError or ServerError and is not retried."""
    server.script(error(status, "odd"))
    with pytest.raises(APIStatusError, match="odd") as caught:
        await client.chat.create("hi")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.attempts, len(server.requests)) == (status, 1, 1)


@pytest.mark.parametrize(
    ("code", "kind", "tries"),
    [
        (400, BadRequestError, 1),
        (429, RateLimitError, 3),
        ("503", ServiceUnavailableError, 3),
        (None, StreamFaultError, 2),
    ],
)
async def test_an_error_object_in_a_200(
    server: FaultServer, client: AsyncClient, code: Any, kind: type[NimError], tries: int
) -> None:
    """A gateway's 200 with an error object in it is the error of the status that its code says, retried as that."""
    server.script(answer({"error": {"message": "hidden", "code": code, "type": "T"}}))
    with pytest.raises(kind, match="hidden") as caught:
        await client.chat.create("hi")
    assert type(caught.value) is kind
    assert len(server.requests) == tries


# bodies of refusals ---------------------------------------------------------------------------------------------


async def test_a_huge_error_body_is_cut(server: FaultServer, client: AsyncClient) -> None:
    """Of an error body at most 64 KiB are read; the rest is left and the connection closed."""
    first = b"HTTP/1.1 400 Bad\r\nContent-Length: 1000000000\r\n\r\n" + b"it is bad. "
    server.script([first, Drip(b"x" * 20_000, 0.0005)])
    with takes(0.0), pytest.raises(APIStatusError, match="it is bad") as caught:
        await client.chat.create("hi")
    assert len(caught.value.body) == 65_536
    assert len(str(caught.value)) < 1000
    await server.until(lambda: server.open == 0)


async def test_an_error_body_that_is_cut_off(server: FaultServer, client: AsyncClient) -> None:
    """What came of a cut error body is kept; the status decides."""
    server.script([http(b'{"detail": "some', 422).replace(b"Length: ", b"Length: 9"), Close()])
    with pytest.raises(APIStatusError) as caught:
        await client.chat.create("hi")
    assert (caught.value.status, caught.value.body) == (422, '{"detail": "some')


@pytest.mark.parametrize("limit", ["own", "total"])
async def test_a_slow_error_body_is_not_waited_for(
    server: FaultServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """An error body that does not end in time is left; the status error comes with what was there."""
    client = make_client(timeouts=Timeouts(total=0.15 if limit == "total" else None))
    if limit == "own":
        monkeypatch.setattr("nimclient._engine.rejection.ERROR_BODY_SECONDS", 0.1)
    server.script([b"HTTP/1.1 400 Bad\r\nContent-Length: 100\r\n\r\nhello", Stall()])
    with takes(0.15 if limit == "total" else 0.1), pytest.raises(APIStatusError, match="hello") as caught:
        await client.chat.create("hi")
    assert caught.value.status == 400
    await server.until(lambda: server.open == 0)


async def test_an_error_body_in_full_gives_the_connection_back(server: FaultServer, client: AsyncClient) -> None:
    """A rejection that was read to its end leaves its connection in the pool."""
    server.script(error(400), chat())
    with pytest.raises(APIStatusError):
        await client.chat.create("hi")
    await client.chat.create("hi")
    assert server.connections == 1


async def test_a_compressed_error_bomb(server: FaultServer, client: AsyncClient) -> None:
    """An error body that grows without measure is cut like a long one."""
    server.script([http(gzip.compress(b"x" * 2**25), 400, GZIP), Stall()])
    with pytest.raises(APIStatusError) as caught:
        await client.chat.create("hi")
    assert len(caught.value.body) == 65_536
