"""Faults of the machine and of the process: names, descriptors, clocks, signals, logs, odd environments."""

import asyncio
import concurrent.futures
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from nimclient import AsyncClient, Timeouts
from nimclient.errors import RequestTimeoutError
from nimclient.simulator import Simulator, SimulatorThread
from support.server import FaultServer, Pause, ServerThread
from support.wire import chat

MakeClient = Callable[..., AsyncClient]


def by_name(server: FaultServer) -> str:
    """A URL whose host has to be looked up."""
    return f"http://nim.test:{server.port}/v1"


def look_up(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
    """What looking up a name gives, one answer after the other, the last one for ever."""
    left = list(answers)

    async def getaddrinfo(self: Any, host: Any, port: int, **options: Any) -> Any:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


async def test_a_name_look_up_that_fails_once(
    server: FaultServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F002: a temporary failure of the resolver costs an attempt."""
    look_up(monkeypatch, socket.gaierror(socket.EAI_AGAIN, "try again"), "127.0.0.1")
    server.script(chat())
    reply = await make_client(by_name(server)).chat.create("hi")
    assert reply.meta is not None
    assert (reply.text, reply.meta.attempts) == ("Hello", 2)


async def test_a_name_look_up_that_hangs(server: FaultServer, make_client: MakeClient) -> None:
    """F003: with every thread of the default executor taken, the connect limit ends the call, and the loop is free."""
    released = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        blocked = loop.run_in_executor(None, released.wait)
        client = make_client(f"http://localhost:{server.port}/v1", timeouts=Timeouts(connect=0.05))
        try:
            with pytest.raises(RequestTimeoutError) as caught:
                await client.chat.create("hi")
        finally:
            released.set()
        await blocked
    assert caught.value.phase == "connect"


async def test_an_address_that_changes(
    server: FaultServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F005: when the name's time is over, new connections go to its new address."""
    server.script(chat("old", x=1).replace(b"HTTP/1.1 200 Whatever", b"HTTP/1.1 200 Whatever\r\nConnection: close"))
    look_up(monkeypatch, "127.0.0.1", "127.0.0.2")
    now = time.monotonic()
    monkeypatch.setattr("aiohttp.connector.monotonic", lambda: now)
    client = make_client(by_name(server))
    async with FaultServer() as moved:
        moved.script(chat("new"))
        other = await moved.listen(server.port, "127.0.0.2")
        assert (await client.chat.create("hi")).text == "old"
        assert (await client.chat.create("hi")).text == "old"
        now += 11
        assert (await client.chat.create("hi")).text == "new"
        await client.aclose()
        other.close()


def run(program: str, *arguments: str, flags: tuple[str, ...] = (), **environment: str) -> str:
    """What a Python program prints; it must end well and must not complain (but of a machine that is slow)."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if not line.startswith("Executing <")], done.stderr
    return done.stdout.strip()


NO_DESCRIPTORS = """
import asyncio, os, resource, sys
from nimclient import AsyncClient, RetryPolicy, errors
PLAIN, OTHER = sys.argv[1:]
ONCE = {"model": "m", "retry": RetryPolicy(attempts=1)}
taken = []
def take():
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
def free():
    while taken:
        os.close(taken.pop())
async def main():
    async with AsyncClient(base_url=PLAIN, **ONCE) as client:
        await client.chat.create("hi")
    async with AsyncClient(base_url=OTHER, **ONCE) as client:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        take()
        try:
            await client.chat.create("hi")
        except errors.ConnectError as error:
            print(error.kind, "ulimit" in str(error))
        free()
        print((await client.chat.create("hi")).text)
asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["plain", "name", "tls"])
def test_no_descriptors_left(way: str, authority: trustme.CA, ca_file: str) -> None:
    """F009: it is ConnectError of kind resources, for a name and under TLS too; when there are some again the client works.

    Without a descriptor OpenSSL loads no authority and says nothing; a resolver finds no name.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with ServerThread() as server, ServerThread(ssl=context) as secure:
        server.script(chat())
        secure.script(chat())
        urls = {"plain": server.url, "name": server.url.replace("127.0.0.1", "localhost")}
        url = urls.get(way, secure.url.replace("127.0.0.1", "localhost"))
        assert run(NO_DESCRIPTORS, server.url, url, SSL_CERT_FILE=ca_file).split() == ["resources", "True", "Hello"]


NO_DESCRIPTORS_YET = """
import asyncio, os, resource, sys
from nimclient import AsyncClient, Client, errors
url, kind = sys.argv[1:]
sys.unraisablehook = lambda _: None  # asyncio complains when it finalizes the loop that it could not make
async def ask():
    return await client.chat.create("hi")
def call():
    return runner.run(ask()) if kind == "async" else client.chat.create("hi")
runner = asyncio.Runner()
runner.get_loop()
client = AsyncClient(base_url=url, model="m") if kind == "async" else Client(base_url=url, model="m")
client.chat
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = [os.dup(0)]
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    pass
try:
    call()
except errors.ConnectError as error:
    print(error.kind, "ulimit" in str(error))
for number in taken:
    os.close(number)
print(call().text)
runner.run(client.aclose()) if kind == "async" else client.close()
runner.close()
"""


@pytest.mark.parametrize("kind", ["async", "blocking"])
def test_no_descriptors_left_for_a_first_call(kind: str) -> None:
    """F009: the first call of a process, which imports what it needs, ends with that error, too; the second is answered."""
    with ServerThread() as server:
        server.script(chat())
        assert run(NO_DESCRIPTORS_YET, server.url, kind).split() == ["resources", "True", "Hello"]


FEW_DESCRIPTORS = """
import asyncio, resource, sys
from nimclient import AsyncClient
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
texts = [str(number) for number in range(1000)]
async def main():
    async with AsyncClient(base_url=sys.argv[1], model="nvidia/nv-embedqa-e5-v5") as client:
        for concurrency in (None, 200):
            print(len(await client.embeddings.embed_documents(texts, batch_size=1, concurrency=concurrency)))
        replies = await asyncio.gather(*(client.chat.create("hi", model="meta/llama-3.1-8b-instruct") for _ in range(200)))
        print(len(replies))
asyncio.run(main())
"""


@pytest.mark.slow
def test_more_at_once_than_there_are_descriptors() -> None:
    """F116: with 64 descriptors and 200 requests at once each waits until one that is in flight is done."""
    with SimulatorThread(Simulator(embedding_dimensions=4, ttft=0.02)) as url:
        assert run(FEW_DESCRIPTORS, url).split() == ["1000", "1000", "200"]


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
async def test_a_wall_clock_that_jumps(
    server: FaultServer, client: AsyncClient, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """F120: an hour forward or back during a call ends it neither early nor late."""
    true = time.time

    async def change() -> None:
        monkeypatch.setattr(time, "time", lambda: true() + jump)

    server.script([change, Pause(0.01), chat()])
    assert (await client.chat.create("hi", timeout=200)).text == "Hello"


STOPPED = """
import asyncio, os, signal, sys
from nimclient import AsyncClient, errors
async def main():
    async with AsyncClient(base_url=sys.argv[1], model="m") as client:
        await client.models.list()
        call = asyncio.create_task(client.chat.create("hi", timeout=1))
        while not os.path.exists(sys.argv[2]) and not call.done():
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            await call
        except errors.RequestTimeoutError as error:
            print(error.phase)
        print(len(await client.models.list()))
asyncio.run(main())
"""


@pytest.mark.slow
def test_a_process_that_was_stopped(tmp_path: Path) -> None:
    """F121: a limit that passed while the process was stopped (a laptop that slept) is reached when it wakes up."""
    mark = tmp_path / "arrived"

    async def arrived() -> None:
        mark.touch()

    with ServerThread() as server:
        server.script([arrived, Pause(60)])
        server.script(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{"data": []}', path="/v1/models")
        program = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", STOPPED, server.url, str(mark)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        os.waitpid(program.pid, os.WUNTRACED)  # it has stopped itself
        time.sleep(1.1)
        program.send_signal(signal.SIGCONT)
        output, _ = program.communicate(timeout=200)
    assert output.split() == ["total", "0"]


@pytest.mark.no_key
async def test_netrc_is_never_used(
    server: FaultServer, client: AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """F128: a password in ~/.netrc goes nowhere."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\ndefault login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    server.script(chat())
    await client.chat.create("hi")
    assert "authorization" not in server.requests[0].headers


ANY_CALL = """
import sys
from nimclient import Client
with Client(base_url=sys.argv[1], model="m") as client:
    print(client.chat.create("hi").text)
    with client.chat.stream("hi") as stream:
        pass
"""
ENVIRONMENTS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "-X dev": (("-X", "dev"), {}),
    "-O": (("-O",), {}),
    "-OO": (("-OO",), {}),
    "no HOME": ((), {"HOME": "/nonexistent"}),
    "read-only HOME": ((), {"HOME": "/proc"}),
    "ASCII locale": ((), {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "no certificates": ((), {"SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "/nonexistent"}),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in ENVIRONMENTS])
def test_odd_environments(name: str) -> None:
    """F129: a program with warnings as errors gets its answer and says nothing else."""
    flags, environment = ENVIRONMENTS[name]
    with ServerThread() as server:
        server.script(chat())
        assert run(ANY_CALL, server.url, flags=flags, **environment) == "Hello"


class Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("the disk is full")


async def test_a_log_handler_that_raises(server: FaultServer, client: AsyncClient) -> None:
    """F132: what a handler does wrong is not the call's fault."""
    logger = logging.getLogger("nimclient")
    handler = Raising()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    server.script(chat())
    try:
        assert (await client.chat.create("hi")).text == "Hello"
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
