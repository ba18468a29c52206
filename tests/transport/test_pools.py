"""Pools of connections: reuse, staleness, slots, one per event loop, and their end with the client or the loop."""

import asyncio
import gc
import os
import pkgutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nimclient import AsyncClient, Limits, RetryPolicy, Timeouts
from nimclient._transport.connection import IDLE_CONNECTION
from nimclient.errors import (
    ClientClosedError,
    ConfigurationError,
    ConnectionLostError,
    RateLimitError,
    RequestTimeoutError,
)
from support.leaks import assert_idle, open_files, pools, stray_tasks
from support.server import Close, FaultServer, Pause, Request, Reset, ServerThread, Stall
from support.wire import DONE, HELLO, MODEL, answer, chat, chunk, embedded, error, head, token

MakeClient = Callable[..., AsyncClient]
ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def far() -> Iterator[FaultServer]:
    """A server in a thread of its own."""
    with ServerThread() as server:
        server.script(chat())
        yield server


# reuse -----------------------------------------------------------------------------------------------------------


async def test_calls_in_a_row_use_one_connection(server: FaultServer, client: AsyncClient) -> None:
    """Twenty calls of all kinds use one connection; only the first has a connect time."""

    def reply(request: Request) -> bytes:
        return chat() if "chat" in request.path else answer(embedded(["1"]))

    server.script(reply)
    first = await client.chat.create("hi")
    assert first.meta is not None
    assert first.meta.timings.connect is not None
    for _ in range(10):
        again = await client.chat.create("hi")
        await client.embeddings.create(["1"])
        assert again.meta is not None
        assert again.meta.timings.connect is None
    assert (server.connections, len(server.requests)) == (1, 21)


async def test_connection_close_is_obeyed(server: FaultServer, client: AsyncClient) -> None:
    """After an answer with Connection: close the next call has a connection of its own, and no retry."""
    server.script(chat().replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    for _ in range(3):
        reply = await client.chat.create("hi")
        assert reply.meta is not None
        assert reply.meta.attempts == 1
    assert (server.connections, len(server.requests)) == (3, 3)


def test_idle_connections_are_left_before_servers_leave_them() -> None:
    """Connections idle for more than four seconds are not used: uvicorn and vLLM close them after five."""
    assert IDLE_CONNECTION < 5


async def test_a_server_that_closes_after_each_answer(server: FaultServer, client: AsyncClient) -> None:
    """A pooled connection that the server has closed costs no error; every request is processed once."""
    server.script([chat(), Close()])
    for _ in range(30):
        assert (await client.chat.create("hi")).text == "Hello"
    assert len(server.requests) == 30


@pytest.mark.parametrize("end", [Close(), Reset()], ids=["FIN", "RST"])
@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_stale_connection_is_replaced_once(
    server: FaultServer, make_client: MakeClient, end: Any, attempts: int
) -> None:
    """A pooled connection that dies under a request: one more try on a fresh one, which the policy does not count."""
    client = make_client(retry=RetryPolicy(attempts=attempts, first_delay=0.01))
    server.script(chat("a"), [end], chat("b"))
    assert (await client.chat.create("hi")).text == "a"
    reply = await client.chat.create("hi")
    assert reply.text == "b"
    assert (server.connections, len(server.requests)) == (2, 3)


async def test_only_one_stale_connection_is_replaced_freely(server: FaultServer, make_client: MakeClient) -> None:
    """When the fresh connection breaks as well the policy decides."""
    client = make_client(retry=ONCE)
    server.script(chat(), [Close()])
    await client.chat.create("hi")
    with pytest.raises(ConnectionLostError) as caught:
        await client.chat.create("hi")
    assert caught.value.reused is False
    assert len(server.requests) == 3


async def test_a_stream_on_a_stale_connection(server: FaultServer, make_client: MakeClient) -> None:
    """Opening a stream replaces a stale connection, too."""
    client = make_client(retry=ONCE)
    server.script(chat(), [Reset()], HELLO)
    await client.chat.create("hi")
    assert (await client.chat.stream("hi").final()).text == "Hello"


async def test_a_closed_connection_in_the_pool_goes_unnoticed(server: FaultServer, client: AsyncClient) -> None:
    """A connection that was closed while it was idle is not even tried."""
    server.script([chat(), Close()])
    await client.chat.create("hi")
    await asyncio.sleep(0.02)
    reply = await client.chat.create("hi")
    assert reply.meta is not None
    assert reply.meta.attempts == 1


# slots -----------------------------------------------------------------------------------------------------------


async def test_the_pool_limit(server: FaultServer, make_client: MakeClient) -> None:
    """When all slots are taken for longer than the pool limit: RequestTimeoutError with phase pool, and no request."""
    client = make_client(limits=Limits(concurrency=1), timeouts=Timeouts(pool=0.1))
    server.script([head() + chunk(token("a")), Stall()], chat())
    async with client.chat.stream("hi"):
        began = time.monotonic()
        with pytest.raises(RequestTimeoutError) as caught:
            await client.chat.create("hi")
        assert 0.09 < time.monotonic() - began < 0.35
        assert (caught.value.phase, caught.value.attempts, len(server.requests)) == ("pool", 1, 1)
    assert (await client.chat.create("hi")).text == "Hello"


async def test_the_total_limit_holds_in_the_queue(server: FaultServer, make_client: MakeClient) -> None:
    """Waiting for a slot counts against `total`."""
    client = make_client(limits=Limits(concurrency=1))
    server.script([head() + chunk(token("a")), Stall()])
    async with client.chat.stream("hi"):
        with pytest.raises(RequestTimeoutError) as caught:
            await client.chat.create("hi", timeout=0.05)
        assert caught.value.phase == "total"


async def test_no_more_requests_than_slots(server: FaultServer, make_client: MakeClient) -> None:
    """With three slots the server never sees more than three requests at once, and all are answered in time."""
    client = make_client(limits=Limits(concurrency=3))
    now = most = 0

    async def enter() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    server.script([enter, chat()])
    replies = await asyncio.gather(*(client.chat.create("hi") for _ in range(20)))
    assert (most, server.connections) == (3, 3)
    queues = [reply.meta.timings.queue for reply in replies if reply.meta]
    assert queues.count(0) == 3
    assert max(filter(None, queues)) > 0.03


async def test_copies_share_the_slots(server: FaultServer, make_client: MakeClient) -> None:
    """A with_options copy uses the pool of its original."""
    client = make_client(limits=Limits(concurrency=1), timeouts=Timeouts(pool=0.05))
    copy = client.with_options(headers={"X-Copy": "1"})
    server.script([head() + chunk(token("a"))] + [Pause(0.1), chunk(DONE), b"0\r\n\r\n"], chat())
    async with client.chat.stream("hi") as stream:
        with pytest.raises(RequestTimeoutError):
            await copy.chat.create("hi")
        await stream.final()
    assert (await copy.chat.create("hi")).text == "Hello"
    assert server.connections == 1
    assert server.requests[1].headers["x-copy"] == "1"


# loops, threads, processes -----------------------------------------------------------------------------------------


def test_many_event_loops_one_after_another(far: FaultServer) -> None:
    """One client works through fifty asyncio.run calls without a warning, and leaves no descriptor open."""
    client = AsyncClient(base_url=far.url, model=MODEL)

    async def call() -> str:
        async with client.chat.stream("hi") as stream:  # left early: also what is open at the end of a loop is closed
            reply = await client.chat.create("hi")
            async for _ in stream:
                break
        return reply.text

    far.script(lambda request: HELLO if request.json.get("stream") else chat())
    asyncio.run(call())
    before = open_files()
    for _ in range(50):
        assert asyncio.run(call()) == "Hello"
    gc.collect()
    assert pools(client) == []
    deadline = time.monotonic() + 2
    while open_files() > before and time.monotonic() < deadline:
        time.sleep(0.01)  # the server closes its side in its own time
    assert open_files() <= before


def test_a_loop_that_ends_with_a_stream_open(far: FaultServer) -> None:
    """A stream that is open at the end of its loop warns when it is dropped, and nothing else happens."""
    client = AsyncClient(base_url=far.url, model=MODEL)
    far.script([head() + chunk(token("a")), Stall()])

    async def leave() -> Any:
        return await client.chat.stream("hi")

    stream = asyncio.run(leave())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del stream
        gc.collect()
    assert any("was not closed" in str(warning.message) for warning in caught)
    assert {warning.category for warning in caught} == {ResourceWarning}
    assert pools(client) == []


def test_a_client_that_is_dropped_in_a_loop(far: FaultServer) -> None:
    """A client that is never closed leaves no connection behind when its loop ends."""

    async def call() -> None:
        await AsyncClient(base_url=far.url, model=MODEL).chat.create("hi")

    for _ in range(5):
        asyncio.run(call())
    gc.collect()
    deadline = time.monotonic() + 2
    while far.open and time.monotonic() < deadline:
        time.sleep(0.01)
    assert far.open == 0


def test_threads_share_a_client(far: FaultServer, eager_threads: None) -> None:
    """One client in eight threads at once: every loop has its pool, and all calls succeed."""
    client = AsyncClient(base_url=far.url, model=MODEL)
    start = threading.Barrier(8)
    texts: list[str] = []

    def work() -> None:
        async def calls() -> None:
            for _ in range(5):
                texts.append((await client.chat.create("hi")).text)

        start.wait()
        for _ in range(3):
            asyncio.run(calls())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["Hello"] * 120
    assert pools(client) == []


@pytest.mark.parametrize("slow", ["nimclient._engine.Core", "nimclient._transport.aiohttp.AiohttpTransport"])
def test_threads_share_what_the_first_of_them_makes(
    far: FaultServer, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """Threads that use a new client for the first time at the same moment do not make two cores or transports of it."""
    real = pkgutil.resolve_name(slow.rpartition(".")[0] + ":" + slow.rpartition(".")[2])
    made = []

    def make(*args: Any) -> Any:
        time.sleep(0.02)
        made.append(real(*args))
        return made[-1]

    client = AsyncClient(base_url=far.url, model=MODEL)
    monkeypatch.setattr(slow, make)
    threads = [threading.Thread(target=asyncio.run, args=(client.chat.create("hi"),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(far.requests) == 4


async def test_closing_while_aiohttp_is_being_imported(
    server: FaultServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call ever imports aiohttp in a thread; a client that is closed meanwhile sends nothing."""
    monkeypatch.delitem(sys.modules, "nimclient._transport.aiohttp")
    monkeypatch.setattr("nimclient._engine.import_module", lambda name: time.sleep(0.05))
    client = make_client()
    call = asyncio.create_task(client.chat.create("hi"))
    await asyncio.sleep(0.02)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await call
    assert server.connections == 0


def test_closing_from_one_loop_closes_the_pools_of_others(far: FaultServer) -> None:
    """aclose() in one loop closes the connections that another thread's loop has, there."""
    client = AsyncClient(base_url=far.url, model=MODEL)
    ready, closed = threading.Event(), threading.Event()
    outcome: list[Any] = []

    async def other() -> None:
        await client.chat.create("hi")
        ready.set()
        while not closed.is_set() or pools(client):
            await asyncio.sleep(0.005)
        try:
            await client.chat.create("hi")
        except ClientClosedError as error:
            outcome.append(error)

    thread = threading.Thread(target=asyncio.run, args=(other(),))
    thread.start()
    ready.wait(5)

    async def close() -> None:
        await client.chat.create("hi")
        await client.aclose()
        closed.set()

    asyncio.run(close())
    thread.join(5)
    assert len(outcome) == 1
    deadline = time.monotonic() + 2
    while far.open and time.monotonic() < deadline:
        time.sleep(0.01)
    assert far.open == 0


def test_a_loop_that_was_closed_without_ceremony(far: FaultServer) -> None:
    """A pool whose loop was closed by hand is forgotten at the next call."""
    client = AsyncClient(base_url=far.url, model=MODEL)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.chat.create("hi"))
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert asyncio.run(client.chat.create("hi")).text == "Hello"
        gc.collect()
    assert pools(client) == []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.chat.create("hi"))
    loop.close()
    asyncio.run(client.aclose())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del client
        gc.collect()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_connections_of_its_own(far: FaultServer) -> None:
    """A child forked beside a warm loop makes its own connections; those of the parent go on working."""
    client = AsyncClient(base_url=far.url, model=MODEL)
    warm, go = threading.Event(), threading.Event()
    replies: list[Any] = []

    async def parent() -> None:
        replies.append(await client.chat.create("hi"))
        warm.set()
        while not go.is_set():
            await asyncio.sleep(0.005)
        for _ in range(3):
            replies.append(await client.chat.create("hi"))

    thread = threading.Thread(target=asyncio.run, args=(parent(),))
    thread.start()
    warm.wait(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:  # pragma: no cover - another process
        code = 1
        try:
            code = 0 if asyncio.run(client.chat.create("hi")).text == "Hello" else 2
            gc.collect()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    go.set()
    thread.join(5)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(replies) == 4
    assert all(reply.meta.attempts == 1 for reply in replies)
    assert far.connections == 2


def test_uvloop(far: FaultServer) -> None:
    """Plain calls, streams, time limits and closing work on uvloop."""
    uvloop = pytest.importorskip("uvloop")

    def reply(request: Request) -> Any:
        if "slow" in str(request.json):
            return [Stall()]
        return HELLO if request.json.get("stream") else chat()

    far.script(reply)

    async def main() -> None:
        async with AsyncClient(base_url=far.url, model=MODEL, limits=Limits(concurrency=1)) as client:
            assert (await client.chat.create("hi")).text == "Hello"
            assert [piece async for piece in client.chat.stream("hi").text_stream] == ["Hel", "lo"]
            with pytest.raises(RequestTimeoutError):
                await client.chat.create("slow", timeout=0.05)
            waiting = asyncio.create_task(client.chat.create("slow"))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await client.chat.create("hi")).text == "Hello"
            assert_idle(client)
        assert stray_tasks() == []

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_without_a_loop_it_says_what_it_needs() -> None:
    """A call outside asyncio (under trio, say) is a ConfigurationError."""
    from nimclient._transport.aiohttp import AiohttpTransport

    transport = AiohttpTransport(AsyncClient(base_url="http://x", model=MODEL)._core.settings)
    opening = transport._pool()
    with pytest.raises(ConfigurationError, match="asyncio"):
        opening.send(None)


def test_trio(far: FaultServer) -> None:
    """Under trio a call is a ConfigurationError."""
    trio = pytest.importorskip("trio")
    with pytest.raises(ConfigurationError, match="asyncio"):
        trio.run(AsyncClient(base_url=far.url, model=MODEL).chat.create, "hi")


# the end ---------------------------------------------------------------------------------------------------------


async def test_a_closed_client_takes_no_calls(server: FaultServer, make_client: MakeClient) -> None:
    """After aclose() calls raise ClientClosedError, before any use and after; closing again does nothing."""
    server.script(chat())
    for warm in (False, True):
        client = make_client()
        if warm:
            await client.chat.create("hi")
        await client.aclose()
        await client.aclose()
        for call in (client.chat.create("hi"), client.embeddings.create(["a"]), client.chat.stream("hi").final()):
            with pytest.raises(ClientClosedError):
                await call
    await server.until(lambda: server.open == 0)
    assert len(server.requests) == 1


async def test_closing_ends_calls_under_way(server: FaultServer, make_client: MakeClient) -> None:
    """Calls that wait for an answer, a slot or another attempt end with ClientClosedError when the client is closed."""
    client = make_client(limits=Limits(concurrency=2), retry=RetryPolicy(first_delay=0.05, max_delay=0.05))
    server.script(error(503), [Stall()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.random", lambda: 1.0)
        calls = [asyncio.create_task(client.chat.create("hi")) for _ in range(5)]
        await asyncio.sleep(0.03)
        await client.aclose()
        began = time.monotonic()
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - began < 1
    assert [type(result) for result in results] == [ClientClosedError] * 5


async def test_closing_ends_streams_under_way(server: FaultServer, make_client: MakeClient) -> None:
    """A stream that is being read when its client is closed ends with an error that has the text so far."""
    client = make_client()
    server.script([head() + chunk(token("a")), Stall()])
    stream = await client.chat.stream("hi")
    rest = asyncio.create_task(stream.final())
    await asyncio.sleep(0.02)
    await client.aclose()
    with pytest.raises(ClientClosedError) as caught:
        await rest
    assert caught.value.partial is not None
    assert caught.value.partial.text == "a"


async def test_closing_ends_a_plain_body_under_way(server: FaultServer, make_client: MakeClient) -> None:
    """A call whose answer is half there when the client is closed ends with ClientClosedError."""
    client = make_client()
    server.script([chat()[:-5], Stall()])
    call = asyncio.create_task(client.chat.create("hi"))
    await asyncio.sleep(0.03)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(call, 1)


async def test_closing_while_a_connection_is_made(make_client: MakeClient, server: FaultServer) -> None:
    """A call that is in a TLS handshake when its client is closed does not outlive it."""
    server.on_accept = [Pause(0.1), Close()]
    client = make_client(server.url.replace("http:", "https:"))
    call = asyncio.create_task(client.chat.create("hi"))
    await asyncio.sleep(0.03)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(call, 1)


async def test_closing_a_copy_closes_nothing(server: FaultServer, client: AsyncClient) -> None:
    """with_options copies leave the connections alone when they are closed; they end with their original."""
    server.script(chat())
    copy = client.with_options(timeouts=5)
    async with copy:
        await copy.chat.create("hi")
    assert (await copy.chat.create("hi")).text == "Hello"
    assert (await client.chat.create("hi")).text == "Hello"
    assert server.connections == 1
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await copy.chat.create("hi")


async def test_with_options_changes_only_the_copy(server: FaultServer, client: AsyncClient) -> None:
    """Retry, headers and model of a copy are its own."""
    server.script(error(429))
    copy = client.with_options(retry=ONCE, model="other", headers={"X-A": "b"}).with_options(headers={"X-C": "d"})
    with pytest.raises(RateLimitError):
        await copy.chat.create("hi")
    assert len(server.requests) == 1
    assert server.requests[0].json["model"] == "other"
    assert (server.requests[0].headers["x-a"], server.requests[0].headers["x-c"]) == ("b", "d")
    with pytest.raises(RateLimitError):
        await client.chat.create("hi")
    assert len(server.requests) == 4
    assert server.requests[1].json["model"] == MODEL
    assert "x-a" not in server.requests[1].headers
