"""Client: the blocking twin of AsyncClient."""

import gc
import inspect
import pickle
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from nimclient import AsyncClient, Client, RetryPolicy
from nimclient.errors import (
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    ModelNotFoundError,
    StreamInterruptedError,
)
from nimclient.simulator import Simulator, SimulatorThread
from support.blocking_words import as_blocking
from support.portal import run_in_portal
from support.server import ServerThread, Stall
from support.until import until
from support.wire import MODEL, answer, chunk, head, token


@pytest.fixture
def client(nim_simulator_url: str) -> Iterator[Client]:
    with Client(base_url=nim_simulator_url) as client:
        yield client


def public(cls: type) -> dict[str, object]:
    return {name: value for name, value in inspect.getmembers(cls) if not name.startswith("_")}


def test_a_docstring_shows_blocking_code(client: Client) -> None:
    """What stands in the help of Client can be pasted into a script."""
    doc = inspect.getdoc(client.chat.stream) or ""
    assert "``with client.chat.stream(...) as stream: for chunk in stream:" in doc
    for method in (client.chat.as_completed, client.chat.conversation, client.embeddings.embed_stream):
        assert not re.search(r"async (with|for)|await |aclose", inspect.getdoc(method) or "")


def test_every_method_of_the_async_client_has_its_twin() -> None:
    """Client has each public method and namespace of AsyncClient, with `close` for `aclose`."""
    names = {"close" if name == "aclose" else name for name in public(AsyncClient)}
    assert names <= set(public(Client))


@pytest.mark.parametrize("namespace", ["chat", "completions", "embeddings", "models", "health"])
def test_every_method_of_a_namespace_has_its_twin(namespace: str, client: Client) -> None:
    """A namespace has the methods of the async one, with the same parameters and docstrings."""
    asynchronous = type(getattr(client._async, namespace))
    blocking = type(getattr(client, namespace))
    methods = {n: v for n, v in public(asynchronous).items() if callable(v)}
    assert methods
    for name, method in methods.items():
        twin = getattr(blocking, name)
        assert inspect.signature(twin).parameters.keys() == inspect.signature(method).parameters.keys()
        assert twin.__doc__ == as_blocking(method.__doc__)


def test_calls_return_the_same_records(client: Client) -> None:
    """Chat, embeddings, reranking, models and health work without await."""
    assert client.chat.create("hello").text
    assert len(client.embeddings.create(["a"], input_type="query").vectors) == 1
    assert len(client.embeddings.embed_query("a")) == 1024
    assert len(client.embeddings.embed_documents(["a", "b", "c"], batch_size=1)) == 3
    assert client.rerank("csv", ["json", "csv"]).results[0].document == "csv"
    assert client.models.get("baai/bge-m3").kind == "embedding"
    assert client.models.list(kind="ranking")
    assert client.health.ready()
    assert client.health.live()


def test_a_stream_is_read_in_a_block_or_at_once(client: Client) -> None:
    """A stream gives the same text in a with block, as text_stream, and as its final answer."""
    with client.chat.stream("hello there") as stream:
        text = "".join(chunk.text for chunk in stream)
    assert text == stream.final().text
    assert text == "".join(client.chat.stream("hello there").text_stream)
    assert stream.meta is not None
    assert stream.meta.timings.ttft is not None
    assert stream.partial is not None


def test_a_stream_cannot_be_read_twice(client: Client) -> None:
    """Iterating over a stream that was read to its end is an error that names final()."""
    stream = client.chat.stream("hello")
    assert list(stream)
    with pytest.raises(RuntimeError, match="final"):
        list(stream)


def test_leaving_the_block_early_closes_the_stream() -> None:
    """Breaking out of a stream ends it on the server, and the answer is known to be partial."""
    simulator = Simulator(itl=0.01)
    with SimulatorThread(simulator) as url, Client(base_url=url) as client:
        with client.chat.stream("hello") as stream:
            next(stream)
        with pytest.raises(StreamInterruptedError) as caught:
            stream.final()
        assert caught.value.partial is not None
        stream.close()


def test_errors_pass_unchanged(client: Client) -> None:
    """Errors of the async client reach blocking callers as they are."""
    with pytest.raises(ModelNotFoundError):
        client.chat.create("hello", model="no/such-model")
    with pytest.raises(ConfigurationError, match="empty"):
        client.chat.create([])
    with pytest.raises(TypeError, match="temperatur"):
        client.chat.stream("hello", temperatur=1)  # type: ignore[call-arg]
    with Client(base_url="http://127.0.0.1:9", retry=RetryPolicy(attempts=1)) as nowhere, pytest.raises(ConnectError):
        nowhere.chat.create("hello", model="m")


def test_a_closed_client_refuses_calls(nim_simulator_url: str) -> None:
    """After close a call raises ClientClosedError; closing twice does nothing."""
    client = Client(base_url=nim_simulator_url)
    assert client.health.ready()
    client.close()
    client.close()
    with pytest.raises(ClientClosedError):
        client.chat.create("hello")


def test_a_copy_shares_the_connections(client: Client) -> None:
    """with_options gives a Client over the same pool; closing the copy closes nothing."""
    with client.with_options(timeouts=5, headers={"X-Team": "a"}) as copy:
        assert isinstance(copy, Client)
        assert copy.chat.create("hello").text
    assert client.chat.create("hello").text
    assert client.base_url in repr(client)


def test_a_client_pickles(client: Client) -> None:
    """A pickled client works where it is loaded."""
    with pickle.loads(pickle.dumps(client)) as copy:
        assert copy.chat.create("hello").text


def test_threads_share_one_client(client: Client) -> None:
    """Eight threads use one client at the same time."""
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(client.chat.create("hello").text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 8
    assert all(texts)


async def test_it_works_where_a_loop_is_running(nim_simulator_url: str) -> None:
    """In a coroutine (a Jupyter cell) the blocking client works, since its loop is another one."""
    with Client(base_url=nim_simulator_url) as client:
        assert client.chat.create("hello").text


def test_a_blocking_call_in_its_own_loop_is_refused(client: Client) -> None:
    """Waiting in the portal's loop for the portal's loop would never end."""

    async def call() -> str:
        return client.chat.create("hello").text

    with pytest.raises(RuntimeError, match="AsyncClient"):
        run_in_portal(call)


def test_a_dropped_stream_warns_and_is_closed() -> None:
    """A stream that is opened and forgotten gives one ResourceWarning, and its connection is closed."""
    with ServerThread() as server, Client(base_url=server.url, model=MODEL) as client:
        server.script([head() + chunk(token("a")), Stall()], answer({}))
        stream = client.chat.stream("hi")
        run_in_portal(stream._async.__aenter__)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del stream
            gc.collect()
            assert until(lambda: server.open == 0)
        assert ["not closed" in str(warning.message) for warning in caught].count(True) == 1
        assert client.health.ready()


def test_a_forked_child_starts_its_own_loop(nim_simulator_url: str) -> None:
    """After fork the child's calls work, and so do the parent's."""
    script = f"""
import os, sys
from nimclient import Client
client = Client(base_url={nim_simulator_url!r})
client.chat.create("hello")
child = os.fork()
if child == 0:
    os._exit(0 if client.chat.create("hello").text else 1)
assert os.waitpid(child, 0)[1] == 0
assert client.chat.create("hello").text
client.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script], capture_output=True, text=True, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_works_inside_trio(nim_simulator_url: str) -> None:
    """Under trio, and under anyio on trio, the blocking client works; its context is not taken for that of its own loop."""
    import anyio
    import trio

    with Client(base_url=nim_simulator_url) as client:

        async def call() -> str:
            return client.chat.create("hello").text

        assert trio.run(call)
        assert anyio.run(call, backend="trio")
        assert anyio.run(call, backend="asyncio")


def test_it_works_on_uvloop(nim_simulator_url: str) -> None:
    """Where uvloop makes the event loops the background loop is one, too."""
    script = f"""
import asyncio, uvloop
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
from nimclient import Client
from nimclient._sync.portal import PORTAL
with Client(base_url={nim_simulator_url!r}) as client:
    assert client.chat.create("hello").text == "".join(client.chat.stream("hello").text_stream)
    assert len(client.chat.batch(iter("abc"))) == 3
async def kind():
    return type(asyncio.get_running_loop()).__module__
assert PORTAL.run(kind) == "uvloop"
stream = client.chat.stream("hello")
"""
    quiet = "ignore:'asyncio.set_event_loop_policy'"  # deprecated since Python 3.14
    done = subprocess.run([sys.executable, "-W", quiet, "-c", script], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")


def test_after_the_portal_has_stopped(nim_simulator_url: str) -> None:
    """A call that comes after the interpreter's end began says so, and does not wait for ever."""
    script = f"""
import atexit, threading, nimclient._sync.portal
from nimclient import Client
def late():
    try:
        client.chat.create("hello")
    except RuntimeError as error:
        print("late:", error)
    go_on.set()
    thread.join(0.2)
    print(thread.is_alive())
go_on = threading.Event()
def call():
    go_on.wait()
    client.chat.create("hello")
thread = threading.Thread(target=call, daemon=True)
thread.start()
client = Client(base_url={nim_simulator_url!r})
client.chat.create("hello")
atexit.unregister(nimclient._sync.portal.PORTAL.stop)
atexit.register(late)
atexit.register(nimclient._sync.portal.PORTAL.stop)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.stdout.startswith("late: the interpreter is shutting down"), done
    assert done.stdout.endswith("True\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_forking_while_a_portal_is_being_started(nim_simulator_url: str) -> None:
    """A child that is forked while another thread holds the portal's lock starts a portal of its own."""
    script = f"""
import os
from nimclient import Client
from nimclient._sync.portal import PORTAL
client = Client(base_url={nim_simulator_url!r})
client.chat.create("hello")
with PORTAL._lock:
    child = os.fork()
if child == 0:
    text = client.chat.create("hello").text
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if client.chat.create("hello").text == text else 1)
    os._exit(os.waitpid(grandchild, 0)[1])
assert os.waitpid(child, 0)[1] == 0
assert client.chat.create("hello").text
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script], capture_output=True, text=True, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_all_clients_share_one_thread(nim_simulator_url: str) -> None:
    """However many clients and threads there are, there is one background loop."""

    def use() -> None:
        with Client(base_url=nim_simulator_url) as client:
            client.chat.create("hello")

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [thread.name for thread in threading.enumerate()].count("nimclient") == 1


async def test_it_works_beside_a_loop_that_is_busy(client: Client) -> None:
    """Called from threads of a loop whose executor is full of sleeping work, it does not wait for that."""
    import asyncio

    loop = asyncio.get_running_loop()
    go_on = threading.Event()
    sleeping = [loop.run_in_executor(None, go_on.wait, 3600) for _ in range(64)]
    assert client.chat.create("hello").text  # in the loop's own thread, which it blocks
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(client.chat.create("hello").text))
    thread.start()
    thread.join(200)
    assert found
    assert not any(task.done() for task in sleeping)
    go_on.set()
    await asyncio.gather(*sleeping)
