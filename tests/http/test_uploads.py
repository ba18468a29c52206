"""Request bodies: large ones arrive as they are, and a server may answer before it has read one."""

import asyncio
import json
from collections.abc import Callable

import pytest

from nimclient import AsyncClient, RetryPolicy, Timeouts
from nimclient.errors import AuthenticationError, NimError, RequestTimeoutError, RequestTooLargeError
from support.leaks import open_files
from support.server import Close, Early, FaultServer, Pause, Reset, Stall
from support.virtual_time import takes
from support.wire import HELLO, answer, chat, embedded, error

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
LARGE = "x" * 20_000_000

SEND_PIECE = 2**18  # of the transport: see test_contract.py


@pytest.mark.parametrize("size", [1, SEND_PIECE - 100, SEND_PIECE, SEND_PIECE + 1, 3 * SEND_PIECE + 7, 20_000_000])
async def test_bodies_arrive_as_they_are(server: FaultServer, client: AsyncClient, size: int) -> None:
    """A request body of any size arrives whole, as JSON with its length."""
    server.script(chat())
    text = "é" + "x" * size
    assert (await client.chat.create(text)).text == "Hello"
    request = server.requests[0]
    assert json.loads(request.body)["messages"][0]["content"] == text
    assert request.headers["content-type"] == "application/json"
    assert int(request.headers["content-length"]) == len(request.body)
    assert "transfer-encoding" not in request.headers


async def test_a_large_body_is_sent_again_whole(server: FaultServer, client: AsyncClient) -> None:
    """A retry sends the same large body from its beginning."""
    server.script(error(503), chat())
    await client.chat.create(LARGE[:1_000_000])
    first, second = server.requests
    assert first.body == second.body
    assert len(first.body) > 1_000_000


async def test_a_large_body_of_a_stream(server: FaultServer, client: AsyncClient) -> None:
    """Streams send large bodies, too."""
    server.script(HELLO)
    assert (await client.chat.stream(LARGE[:1_000_000]).final()).text == "Hello"


@pytest.mark.parametrize(
    ("refusal", "kind"), [(error(413, "too big"), RequestTooLargeError), (error(401, "who?"), AuthenticationError)]
)
@pytest.mark.parametrize("then", [[Pause(0.2), Close()], [Stall()]], ids=["then closes", "then waits"])
async def test_a_refusal_before_the_body_was_read(
    server: FaultServer, client: AsyncClient, refusal: bytes, kind: type[NimError], then: list[object]
) -> None:
    """A rejection while 20 MB are still being sent is received: its status, not a broken pipe."""
    server.script(Early([refusal, *then]))
    with pytest.raises(kind) as caught:
        await client.chat.create(LARGE)
    assert getattr(caught.value, "attempts", None) == len(server.requests) == 1
    await server.until(lambda: server.open == 0)
    server.script(chat())
    assert (await client.chat.create("hi")).text == "Hello"


async def test_an_answer_before_the_body_was_read(server: FaultServer, client: AsyncClient) -> None:
    """An early success counts as one; the connection is not used again."""
    server.script(Early([chat(), Stall()]))
    assert (await client.chat.create(LARGE)).text == "Hello"
    await server.until(lambda: server.open == 0)


@pytest.mark.parametrize("end", [Reset(), Close()], ids=["RST", "FIN"])
async def test_a_server_that_leaves_while_the_body_is_sent(
    server: FaultServer, client: AsyncClient, end: Reset | Close
) -> None:
    """A connection that breaks during the upload is an error of the transport, tried again."""
    server.script(Early([Pause(0.02), end]), answer(embedded(["1"])))
    reply = await client.embeddings.create(["1"], user=LARGE)
    assert reply.meta is not None
    assert reply.meta.attempts == 2


async def test_a_server_that_stops_reading(server: FaultServer, make_client: MakeClient) -> None:
    """A server that does not read the body is given up after the headers limit."""
    client = make_client(timeouts=Timeouts(headers=0.15), retry=RetryPolicy(attempts=1))
    gate = asyncio.Event()
    server.script(Early([gate.wait]))
    with takes(0.15), pytest.raises(RequestTimeoutError) as caught:
        await client.chat.create(LARGE)
    assert caught.value.phase == "headers"
    gate.set()


async def test_a_cancelled_upload_is_dropped_at_once(server: FaultServer, client: AsyncClient) -> None:
    """What is left of a body that a server does not read is not flushed to it: the connection is gone with the call."""
    server.script(Early([Pause(30)]))
    before = open_files()
    call = asyncio.create_task(client.chat.create(LARGE))
    await server.until(lambda: bool(server.requests))
    await asyncio.sleep(0.05)
    during = open_files()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0.01)
    assert before < during
    assert open_files() == during - 1  # the server's own side is not ours to close
