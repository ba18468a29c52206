"""Event loops: a pool for each, in any thread, on asyncio and on uvloop; gone with the loop, however that ends."""

import asyncio
import gc
import os
import pkgutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from nimclient import AsyncClient, Client, Limits, Timeouts
from nimclient.errors import ClientClosedError, ConfigurationError, RequestTimeoutError, StreamInterruptedError
from nimclient.testing import HttpRequest
from support.leaks import assert_idle, open_files, pools, shared_state, stray_tasks
from support.memory import allocations
from support.server import FaultServer, Pause, Request, Stall
from support.until import until
from support.wire import HELLO, MODEL, answer, chat, chunk, embedded, head, token

MakeClient = Callable[..., AsyncClient]
NewLoop = Callable[[], asyncio.AbstractEventLoop]
SHORT_LOOPS = int(os.environ.get("NIMCLIENT_TEST_SHORT_LOOPS", "300"))


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> NewLoop:
    """Makes event loops of this kind."""
    if request.param == "asyncio":
        return asyncio.new_event_loop
    factory: NewLoop = pytest.importorskip("uvloop").new_event_loop
    return factory


@pytest.fixture(params=["http", "https"])
def served(request: pytest.FixtureRequest) -> tuple[FaultServer, Callable[[], AsyncClient]]:
    """A server in a thread, and clients of it."""
    server: FaultServer = request.getfixturevalue("far" if request.param == "http" else "far_tls")
    verify = True if request.param == "http" else request.getfixturevalue("ca_file")
    return server, lambda: AsyncClient(base_url=server.url, model=MODEL, verify=verify)


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def run(new_loop: NewLoop, main: Coroutine[Any, Any, Any]) -> Any:
    """asyncio.run on this kind of loop."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def run_by_hand(new_loop: NewLoop, main: Coroutine[Any, Any, Any]) -> Any:
    """Without the ceremony of asyncio.run: async generators are not shut down. uvloop itself warns of open sockets then."""
    loop = new_loop()
    result = loop.run_until_complete(main)
    with warnings.catch_warnings():
        if not isinstance(loop, asyncio.BaseEventLoop):
            warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
    return result


def hello(request: Request) -> bytes:
    return HELLO if request.json.get("stream") else chat()


async def use(client: AsyncClient) -> str:
    """A plain call beside a stream that is left early: also what is open at the end of a loop is closed."""
    async with client.chat.stream("hi") as stream:
        reply = await client.chat.create("hi")
        async for _ in stream:
            break
    return reply.text


# one after another -------------------------------------------------------------------------------------------------


def test_a_hundred_loops(served: Any, new_loop: NewLoop) -> None:
    """One client works through a hundred asyncio.run calls without a warning, and leaves no descriptor open."""
    server, make = served
    server.script(hello)
    client = make()
    run(new_loop, use(client))
    until(lambda: server.open == 0)
    before = open_files()
    for _ in range(100):
        assert run(new_loop, use(client)) == "Hello"
        assert pools(client) == []
    gc.collect()
    assert until(lambda: server.open == 0)
    assert until(lambda: open_files() <= before), (before, open_files())


def test_loops_closed_by_hand(served: Any, new_loop: NewLoop) -> None:
    """Where loop.close() is all that a loop gets, its sockets are closed by the next loop's first call; nothing warns."""
    server, make = served
    server.script(hello)
    client = make()
    run(new_loop, use(client))
    until(lambda: server.open == 0)
    before = open_files()
    for _ in range(20):
        assert run_by_hand(new_loop, use(client)) == "Hello"
        assert len(pools(client)) == 1
        gc.collect()
    assert run(new_loop, use(client)) == "Hello"
    assert pools(client) == []
    assert until(lambda: server.open == 0)
    assert until(lambda: open_files() <= before), (before, open_files())


@pytest.mark.parametrize("end", ["dropped", "closed", "collected"])
def test_the_end_of_a_client_whose_loop_was_closed_by_hand(served: Any, new_loop: NewLoop, end: str) -> None:
    """Closing or dropping the client closes what a loop that was closed by hand has left open; nothing warns."""
    server, make = served
    server.script(hello)
    client = make()
    run_by_hand(new_loop, use(client))
    match end:
        case "closed":
            asyncio.run(client.aclose())
            assert pools(client) == []
        case "collected":
            client.itself = client
    del client
    gc.collect()
    assert until(lambda: server.open == 0)


def test_short_loops_in_numbers(far: FaultServer) -> None:
    """After any number of short loops there is no pool, and neither memory nor descriptors have grown."""
    client = AsyncClient(base_url=far.url, model=MODEL)

    async def call() -> int:
        await client.chat.create("hi")
        return len(pools(client))

    def loops(number: int) -> None:
        for step in range(number):
            assert (run if step % 2 else run_by_hand)(asyncio.new_event_loop, call()) <= 2
            far.requests.clear()
        asyncio.run(call())
        gc.collect()

    loops(50)
    until(lambda: far.open == 0)
    before = open_files()
    with allocations() as in_use:
        loops(SHORT_LOOPS)
        assert pools(client) == []
        assert in_use() < 2**20
    assert until(lambda: open_files() <= before)


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
    assert until(lambda: far.open == 0)


# side by side ------------------------------------------------------------------------------------------------------


def test_threads_share_a_client(served: Any, new_loop: NewLoop, eager_threads: None) -> None:
    """One client in eight threads at once: every loop has its pool, and all calls succeed."""
    server, make = served
    server.script(hello)
    client = make()
    start = threading.Barrier(8)
    texts: list[str] = []

    def work() -> None:
        async def calls() -> None:
            for _ in range(5):
                texts.append(await use(client))

        start.wait()
        for _ in range(3):
            run(new_loop, calls())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["Hello"] * 120
    assert pools(client) == []
    assert until(lambda: server.open == 0)


@pytest.mark.parametrize(
    "slow", ["nimclient._engine.shared_state.SharedState", "nimclient._http.aiohttp.AiohttpTransport"]
)
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
    monkeypatch.delitem(sys.modules, "nimclient._http.aiohttp")
    monkeypatch.setattr("nimclient._engine.shared_state.import_module", lambda name: time.sleep(0.05))
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
    ready.wait(60)

    async def close() -> None:
        await client.chat.create("hi")
        await client.aclose()
        closed.set()

    asyncio.run(close())
    thread.join(60)
    assert len(outcome) == 1
    assert until(lambda: far.open == 0)


# kinds of loops -----------------------------------------------------------------------------------------------------


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
    transport = asyncio.run(shared_state(AsyncClient(base_url="http://x")).transport())
    opening = transport.open(HttpRequest("GET", "http://x", {}), Timeouts(), None)
    with pytest.raises(ConfigurationError, match="asyncio"):
        opening.send(None)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.chat.create("hi"),
        lambda client: client.chat.stream("hi").final(),
        lambda client: client.chat.batch(["hi", "you"]),
        lambda client: anext(client.chat.as_completed(["hi", "you"])),
        lambda client: client.completions.create("hi"),
        lambda client: client.embeddings.embed_documents(["a", "b"], batch_size=1),
        lambda client: client.rerank("q", ["a", "b"], batch_size=1),
        lambda client: client.models.list(),
    ],
    ids=["create", "stream", "batch", "as_completed", "completions", "embed_documents", "rerank", "models"],
)
def test_trio(far: FaultServer, call: Callable[[AsyncClient], Any]) -> None:
    """Under trio every call is a ConfigurationError that says what to use there; the server sees nothing."""
    trio = pytest.importorskip("trio")

    async def main() -> None:
        await call(AsyncClient(base_url=far.url, model=MODEL))

    with pytest.raises(ConfigurationError, match=r"asyncio.run\(\.\.\.\).*under trio use the sync Client in a thread"):
        trio.run(main)
    assert far.connections == 0


def test_the_blocking_client_under_trio(far: FaultServer) -> None:
    """What the error under trio says works: the blocking client in a worker thread."""
    trio = pytest.importorskip("trio")
    client = Client(base_url=far.url, model=MODEL)
    assert trio.run(trio.to_thread.run_sync, client.chat.create, "hi").text == "Hello"
    client.close()


def test_a_stream_belongs_to_its_loop(far: FaultServer) -> None:
    """A stream that is read in another loop than it was opened in is an error of ours that says so."""
    client = AsyncClient(base_url=far.url, model=MODEL)
    far.script([head() + chunk(token("a")), Stall()])
    opened = asyncio.new_event_loop()
    stream = opened.run_until_complete(client.chat.stream("hi").__aenter__())

    async def read() -> None:
        with pytest.raises(StreamInterruptedError, match="another event loop") as caught:
            await stream.final()
        assert caught.value.partial is not None
        assert caught.value.partial.text == "a"
        await stream.aclose()

    asyncio.run(read())
    opened.run_until_complete(asyncio.sleep(0))
    assert until(lambda: far.open == 0)
    opened.run_until_complete(client.aclose())
    opened.close()


def test_a_stream_outlives_its_loop_as_an_error(far: FaultServer) -> None:
    """Reading and closing a stream whose loop has ended: the error has what arrived, and closing does nothing."""
    client = AsyncClient(base_url=far.url, model=MODEL)
    far.script([head() + chunk(token("a")), Stall()])
    stream = run_by_hand(asyncio.new_event_loop, client.chat.stream("hi").__aenter__())

    async def read() -> None:
        assert (await anext(stream)).text == "a"
        with pytest.raises(StreamInterruptedError, match="another event loop"):
            await anext(stream)
        await stream.aclose()

    asyncio.run(read())
    asyncio.run(client.aclose())
    assert until(lambda: far.open == 0)


def test_a_stream_is_closed_from_another_loop(far: FaultServer) -> None:
    """aclose() in another thread's loop closes the connection in the stream's own; a waiting reader ends."""
    client = AsyncClient(base_url=far.url, model=MODEL)
    far.script([head() + chunk(token("a")), Stall()])
    ready: list[Any] = []

    async def read() -> None:
        async with client.chat.stream("hi") as stream:
            ready.append(stream)
            with pytest.raises(StreamInterruptedError) as caught:
                await stream.final()
            assert caught.value.partial is not None
            ready.append(caught.value.partial.text)

    thread = threading.Thread(target=asyncio.run, args=(read(),))
    thread.start()
    assert until(lambda: bool(ready))
    asyncio.run(ready[0].aclose())
    thread.join(60)
    assert ready[1:] == ["a"]
    assert until(lambda: far.open == 0)


def test_a_stream_is_closed_from_another_loop_while_it_opens(far: FaultServer) -> None:
    """aclose() in another thread's loop ends the opening, too: the server would never have answered."""
    client = AsyncClient(base_url=far.url, model=MODEL)
    far.script([Stall()])
    stream = client.chat.stream("hi")
    ended = threading.Event()

    async def open_it() -> None:
        with pytest.raises(StreamInterruptedError, match="while it was being opened"):
            await stream
        ended.set()

    thread = threading.Thread(target=asyncio.run, args=(open_it(),))
    thread.start()
    assert until(lambda: bool(far.requests))
    asyncio.run(stream.aclose())
    assert ended.wait(60)
    thread.join()
    assert until(lambda: far.open == 0)


@pytest.mark.parametrize("first_loop", ["has ended", "goes on", "was closed by hand"])
@pytest.mark.parametrize("kind", ["as_completed", "embed_stream"])
def test_a_batch_belongs_to_its_loop(far: FaultServer, kind: str, first_loop: str) -> None:
    """Results that are read in another loop than the work was begun in: an error that says so, never a wait without end."""

    def reply(request: Request) -> Any:
        slow = Pause(0.03 if len(far.requests) > 1 else 0)
        return [slow, chat() if "chat" in request.path else answer(embedded(request.json["input"]))]

    far.script(reply)
    client = AsyncClient(base_url=far.url, model=MODEL)
    if kind == "as_completed":
        batch: Any = client.chat.as_completed(["hi"] * 6, concurrency=1)
    else:
        batch = client.embeddings.embed_stream([str(n) for n in range(6)], batch_size=1, concurrency=1)
    begun, over = threading.Event(), threading.Event()

    async def begin() -> None:
        await anext(batch)
        begun.set()
        while first_loop == "goes on" and not over.is_set():
            await asyncio.sleep(0.005)

    async def read_on() -> None:
        with pytest.raises(StreamInterruptedError, match=r"another event loop|closed before"):
            async with asyncio.timeout(60):
                while True:
                    await anext(batch)
        async with asyncio.timeout(60):
            await batch.aclose()

    if first_loop == "was closed by hand":
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()
    else:
        thread = threading.Thread(target=asyncio.run, args=(begin(),))
        thread.start()
        if first_loop == "has ended":
            thread.join()
        begun.wait(60)
    asyncio.run(read_on())
    over.set()
    if first_loop == "goes on":
        thread.join()
    assert until(lambda: far.open == 0 or first_loop == "was closed by hand")
    asyncio.run(client.aclose())
