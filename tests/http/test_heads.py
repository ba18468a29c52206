"""From the request to the head of the answer: what is lost, malformed, redirected or late before a body begins."""

from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, RetryPolicy, Timeouts
from nimclient.errors import (
    APIStatusError,
    BadRequestError,
    ConnectionLostError,
    NimError,
    ProtocolError,
    RedirectError,
    RequestTimeoutError,
)
from support.server import Close, Drip, FaultServer, HalfClose, Pause, Reset, Stall
from support.virtual_time import takes
from support.wire import answer, chat, chat_body, embedded, error, http

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
OK = b"HTTP/1.1 200 OK\r\n"
ONCE = RetryPolicy(attempts=1)

LOST = {
    "FIN": [Close()],
    "half close": [HalfClose()],
    "RST": [Reset()],
    "FIN in the status line": [b"HTTP/1.", Close()],
    "FIN in the headers": [OK + b"Content-Type: appl", Close()],
    "RST in the headers": [OK + b"Content-Length: 5\r\n", Pause(0.02), Reset()],
}


@pytest.mark.parametrize("script", LOST.values(), ids=LOST)
async def test_a_connection_lost_before_the_answer(server: FaultServer, client: AsyncClient, script: Any) -> None:
    """A fresh connection that breaks before the head is ConnectionLostError: generation is repeated once."""
    server.script(script)
    with pytest.raises(ConnectionLostError, match="before the response began") as caught:
        await client.chat.create("hi")
    assert (caught.value.phase, caught.value.reused, caught.value.attempts) == ("headers", False, 2)
    assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize("script", LOST.values(), ids=LOST)
async def test_embeddings_are_repeated_freely(server: FaultServer, client: AsyncClient, script: Any) -> None:
    """Embedding is a pure function: a lost connection is tried as often as the policy allows."""
    server.script(script)
    with pytest.raises(ConnectionLostError) as caught:
        await client.embeddings.create(["1"])
    assert caught.value.attempts == len(server.requests) == 3
    server.script(script, script, answer(embedded(["1"])))
    reply = await client.embeddings.create(["1"])
    assert reply.meta is not None
    assert reply.meta.attempts == 3


MALFORMED = {
    "garbage": b"!!! this is no HTTP !!!\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "bad version": b"HTTP/9.9 200 OK\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": OK + b"Content-Length: -5\r\n\r\n",
    "odd length": OK + b"Content-Length: 1_0\r\n\r\n",
    "NUL in a header": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "no name": OK + b": value\r\nContent-Length: 0\r\n\r\n",
    "no colon": OK + b"Content-Length\r\n\r\n",
    "5000 headers": OK + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n",
    "a header of 200 kB": OK + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_http_is_a_protocol_error(server: FaultServer, client: AsyncClient, raw: bytes) -> None:
    """A malformed answer is ProtocolError, never a bad request of the caller's; one more try is made."""
    server.script([raw, Stall()])
    with pytest.raises(ProtocolError) as caught:
        await client.chat.create("hi")
    assert not isinstance(caught.value, (APIStatusError, BadRequestError))
    assert caught.value.phase in ("headers", "body")
    assert caught.value.attempts == len(server.requests) == 2
    assert len(str(caught.value)) < 400
    await server.until(lambda: server.open == 0)
    server.script(chat())
    assert (await client.chat.create("hi")).text == "Hello"


async def test_garbage_then_good(server: FaultServer, client: AsyncClient) -> None:
    """After one malformed answer the next attempt succeeds."""
    server.script([MALFORMED["garbage"], Stall()], chat())
    reply = await client.chat.create("hi")
    assert reply.meta is not None
    assert reply.meta.attempts == 2


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(server: FaultServer, client: AsyncClient, status: int) -> None:
    """A redirect is RedirectError that names the place; nothing is sent there, and it is not retried."""
    async with FaultServer() as second:
        second.script(chat())
        server.script(http(b"", status, f"Location: {second.url}/chat/completions?token=secret"))
        with pytest.raises(RedirectError, match="was not followed") as caught:
            await client.chat.create("hi")
        assert second.connections == 0
    assert caught.value.host == f"{second.url}/chat/completions"
    assert "secret" not in str(caught.value)
    assert (len(server.requests), caught.value.attempts) == (1, 1)


async def test_the_body_of_a_redirect_is_not_read(server: FaultServer, client: AsyncClient) -> None:
    """The connection of a redirect whose body has not come is closed."""
    server.script([http(b"x", 302, "Location: /")[:-1], Stall()])
    with pytest.raises(RedirectError):
        await client.chat.create("hi")
    await server.until(lambda: server.open == 0)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "/v1/chat/completions", "//", "https://127.0.0.1/", ""])
async def test_redirects_to_anywhere(server: FaultServer, client: AsyncClient, location: str) -> None:
    """Where a redirect leads makes no difference, nor whether it leads anywhere."""
    server.script(http(b"", 302, *([f"Location: {location}"] if location else [])))
    with pytest.raises(RedirectError) as caught:
        await client.chat.create("hi")
    assert caught.value.host == location


async def test_a_redirected_stream(server: FaultServer, client: AsyncClient) -> None:
    """Opening a stream does not follow redirects either."""
    server.script(http(b"", 307, "Location: http://127.0.0.1:1/"))
    with pytest.raises(RedirectError):
        await client.chat.stream("hi")


@pytest.mark.parametrize("status", [101, 304])
async def test_statuses_that_make_no_sense(server: FaultServer, client: AsyncClient, status: int) -> None:
    """A status that no POST can have is an error, not an empty answer; the next call works."""
    server.script(http(b"", status, "Connection: Upgrade", "Upgrade: x"), chat())
    with pytest.raises(NimError, match=str(status)):
        await client.chat.create("hi")
    assert (await client.chat.create("hi")).text == "Hello"


async def test_informational_answers_are_passed_over(server: FaultServer, client: AsyncClient) -> None:
    """100 and 103 before the answer change nothing."""
    server.script(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + chat())
    assert (await client.chat.create("hi")).text == "Hello"


LATE = {
    "silence": [Stall()],
    "a drip of headers": [OK, Drip(b"X-A: b\r\n", 0.02)],
    "a drip of one header": [OK + b"X-A: ", Drip(b"b", 0.02)],
    "endless 1xx": [Drip(b"HTTP/1.1 102 Processing\r\n\r\n", 0.02)],
}


@pytest.mark.parametrize("script", LATE.values(), ids=LATE)
async def test_a_head_that_does_not_come_in_time(server: FaultServer, make_client: MakeClient, script: Any) -> None:
    """The headers limit counts to the end of the head: neither a drip nor 1xx answers prolong it."""
    client = make_client(timeouts=Timeouts(headers=0.1), retry=ONCE)
    server.script(script)
    with takes(0.1), pytest.raises(RequestTimeoutError, match=r"headers limit of 0\.1 s") as caught:
        await client.chat.create("hi")
    assert (caught.value.phase, caught.value.seconds) == ("headers", 0.1)
    assert isinstance(caught.value, TimeoutError)
    await server.until(lambda: server.open == 0)


async def test_late_heads_are_repeated_as_the_call_allows(server: FaultServer, make_client: MakeClient) -> None:
    """A chat call whose answer did not begin is sent twice, an embedding three times."""
    client = make_client(timeouts=Timeouts(headers=0.05))
    server.script([Stall()])
    for call, requests in ((client.chat.create("hi"), 2), (client.embeddings.create(["a"]), 3)):
        server.requests.clear()
        with pytest.raises(RequestTimeoutError) as caught:
            await call
        assert caught.value.attempts == len(server.requests) == requests


async def test_cookies_are_ignored(server: FaultServer, client: AsyncClient) -> None:
    """Set-Cookie leads to no Cookie header in the next request."""
    server.script(answer(chat_body(), 200, *[f"Set-Cookie: c{i}=v; Path=/" for i in range(50)]))
    for _ in range(2):
        assert (await client.chat.create("hi")).text == "Hello"
    assert all("cookie" not in request.headers for request in server.requests)
    assert server.connections == 1


@pytest.mark.no_key
async def test_a_request_says_who_sends_it(server: FaultServer, client: AsyncClient) -> None:
    """A request carries our User-Agent, accepts compressed JSON and has no Authorization without a key."""
    server.script(chat())
    await client.chat.create("hi")
    headers = server.requests[0].headers
    assert headers["user-agent"].startswith("nimclient/")
    assert headers["accept"] == "application/json"
    assert headers["accept-encoding"] == "gzip, deflate"
    assert "authorization" not in headers


@pytest.mark.parametrize("value", ["", "x" * 5000, "a\tb\x7fc", "é"])
async def test_odd_request_ids_are_made_harmless(server: FaultServer, client: AsyncClient, value: str) -> None:
    """The request id of an answer has no control characters and at most 200 characters."""
    raw = http(b"{}", 400, "X-Request-Id: @").replace(b"@", value.encode("latin-1"))
    server.script(raw)
    with pytest.raises(NimError) as caught:
        await client.chat.create("hi")
    request_id = getattr(caught.value, "request_id", None)
    assert request_id is None or (request_id.isprintable() and len(request_id) <= 200)


async def test_the_request_id_of_a_refusal(server: FaultServer, client: AsyncClient) -> None:
    """An error carries the server's request id, also in its text."""
    server.script(error(400, "no", "NVCF-REQID: abc-1"))
    with pytest.raises(BadRequestError, match="abc-1") as caught:
        await client.chat.create("hi")
    assert caught.value.request_id == "abc-1"
