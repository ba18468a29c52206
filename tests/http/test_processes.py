"""Processes: a forked child has connections of its own, a spawned one gets the client as a pickle.

Everything runs in programs of its own, with every warning an error: forking is no game for a
process with the threads of a test run.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.server import FaultServer, Request, Stall
from support.slow import mostly_slow
from support.wire import MODEL, chat, chunk, head, token

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

START = f"""
import asyncio, gc, os, sys, threading, time, traceback, warnings
from nimclient import AsyncClient, Client
url, verify, kind = sys.argv[1], sys.argv[2] or True, sys.argv[3]
client = AsyncClient(base_url=url, model={MODEL!r}, verify=verify)
blocking = Client(base_url=url, model={MODEL!r}, verify=verify)
if kind == "uvloop":
    import uvloop
    new_loop = uvloop.new_event_loop
else:
    new_loop = asyncio.new_event_loop

def run(main):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)

def fork(work, leave=os._exit):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside a thread: what this is about
        child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        leave(7)
    return child

def wait(*children):
    for child in children:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == 7, status
"""


@pytest.fixture(params=mostly_slow(["http", "https"], "https"))
def served(request: pytest.FixtureRequest) -> tuple[FaultServer, str]:
    """A server in a thread, and the authority that its clients need."""
    if request.param == "http":
        return request.getfixturevalue("far"), ""
    return request.getfixturevalue("far_tls"), request.getfixturevalue("ca_file")


Program = Callable[..., None]


@pytest.fixture(params=mostly_slow(["asyncio", "uvloop"], "asyncio"))
def program(request: pytest.FixtureRequest, served: tuple[FaultServer, str], tmp_path: Path) -> Program:
    """Runs a program against the server; it must end well and say nothing."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")

    def run(code: str) -> None:
        file = tmp_path / "program.py"
        file.write_text(START + code)
        arguments = [served[0].url, served[1], request.param]
        command = [sys.executable, "-W", "error", str(file), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=250)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stdout + done.stderr

    return run


def hello(request: Request) -> Any:
    if request.json.get("stream"):
        return [head() + chunk(token("a")), Stall()]
    return chat()


def test_forked_beside_a_warm_loop(served: Any, program: Program) -> None:
    """Four children forked beside a warm loop call in parallel with their parent; every process has
    connections of its own, no call needs a second attempt, and the parent's is never replaced.
    """
    served[0].script(hello)
    program("""
async def call(times):
    for _ in range(times):
        reply = await client.chat.create("hi")
        assert reply.text == "Hello" and reply.meta.attempts == 1

warm, go = threading.Event(), threading.Event()

async def parent():
    await call(1)
    stream = await client.chat.stream("hi")
    warm.set()
    while not go.is_set():
        await asyncio.sleep(0.001)
    await call(100)
    await stream.aclose()

thread = threading.Thread(target=run, args=(parent(),))
thread.start()
assert warm.wait(60)
children = [fork(lambda: (run(call(25)), gc.collect()), sys.exit) for _ in range(4)]
go.set()
thread.join()
wait(*children)
""")
    assert served[0].connections == 2 + 4
    assert len(served[0].requests) == 2 + 100 + 4 * 25


def test_forked_inside_a_coroutine(served: Any, program: Program) -> None:
    """A child forked by a coroutine that has a stream open leaves it to its parent, though it collects and closes it."""
    served[0].script(hello)
    program("""
async def main():
    await client.chat.create("hi")
    async with client.chat.stream("hi") as stream:
        assert (await anext(stream)).text == "a"

        def work():
            list(stream.aclose().__await__())
            gc.collect()

        await asyncio.to_thread(wait, fork(work), fork(lambda: None))
        assert stream.partial.text == "a"
        assert (await client.chat.create("hi")).meta.attempts == 1

run(main())
""")
    assert served[0].connections == 2


def test_a_child_does_not_hold_its_parents_connections_open(served: Any, program: Program) -> None:
    """What the parent closes is closed: a child that never uses the client does not keep the server generating."""
    server = served[0]

    def reply(request: Request) -> Any:
        return hello(request) if request.json.get("stream") else chat(str(server.open))

    server.script(reply)
    program("""
async def main():
    stream = await client.chat.stream("hi")
    read, write = os.pipe()
    child = fork(lambda: (os.close(write), os.read(read, 1)))
    os.close(read)
    await asyncio.sleep(0.05)
    await stream.aclose()
    started = time.monotonic()
    while (await client.chat.create("How many connections are open?")).text != "1":
        assert time.monotonic() - started < 60, "the server still has the stream's connection"
        await asyncio.sleep(0.01)
    os.close(write)
    await asyncio.to_thread(wait, child)

run(main())
""")


def test_the_blocking_client(served: Any, program: Program) -> None:
    """A child starts a background loop of its own; the parent's, with a stream in flight in it, continues."""
    served[0].script(hello)
    program("""
with blocking.chat.stream("hi") as stream:
    assert next(stream).text == "a"

    def work():
        for _ in range(20):
            assert blocking.chat.create("hi").meta.attempts == 1

    children = [fork(work) for _ in range(4)]
    work()
    wait(*children)
    assert stream.partial.text == "a"
""")
    assert served[0].connections == 2 + 4


def test_a_lock_that_a_thread_held(served: Any, program: Program) -> None:
    """A child finds every lock of ours open, also where a thread of the parent was just starting the client."""
    program("""
from nimclient._base.init_lock import init_lock
from nimclient._sync.portal import PORTAL

held, release = threading.Event(), threading.Event()

def hold():
    with init_lock(), PORTAL._lock:
        held.set()
        release.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = fork(lambda: (run(client.chat.create("hi")), blocking.chat.create("hi")))
wait(child)
release.set()
thread.join()
""")


@pytest.mark.slow
def test_a_handshake_of_another_thread(far_tls: FaultServer, ca_file: str, tmp_path: Path) -> None:
    """Children forked while threads of the parent are in TLS handshakes: none waits for a lock that OpenSSL held there."""
    far_tls.script(hello)
    file = tmp_path / "handshakes.py"
    file.write_text(
        START
        + """
import signal

stop = threading.Event()

def shake():
    while not stop.is_set():
        run(greet())

async def greet():
    async with AsyncClient(base_url=url, model="m", verify=verify) as new:
        await new.chat.create("hi")

def work():
    signal.alarm(120)
    blocking.chat.create("hi")
    run(client.chat.create("hi"))

blocking.chat.create("hi")
threads = [threading.Thread(target=shake) for _ in range(2)]
for thread in threads:
    thread.start()
children = []
for _ in range(25):
    children.append(fork(work))
    time.sleep(0.01)
stop.set()
for thread in threads:
    thread.join()
wait(*children)
"""
    )
    command = [sys.executable, str(file), far_tls.url, ca_file, "asyncio"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stdout + done.stderr


@pytest.mark.parametrize("method", mostly_slow(["fork", "spawn", "forkserver"], "fork"))
def test_multiprocessing(served: Any, tmp_path: Path, method: str) -> None:
    """A pool of processes works with clients that it gets as arguments and, where it forks, that it inherits."""
    file = tmp_path / "pooled.py"
    file.write_text(
        START
        + """
import multiprocessing

def ask(given):
    return asyncio.run(given[0].chat.create("hi")).text + given[1].chat.create("hi").text

def ask_inherited(_):
    return ask((client, blocking))

if __name__ == "__main__":
    assert ask_inherited(None) == "HelloHello"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pool = multiprocessing.get_context(kind).Pool(2)
    with pool:
        assert pool.map(ask, [(client, blocking)] * 8) == ["HelloHello"] * 8
        assert pool.map(ask_inherited, range(8)) == ["HelloHello"] * 8
        pool.close()
        pool.join()
    assert ask_inherited(None) == "HelloHello"
"""
    )
    command = [sys.executable, "-W", "error", str(file), served[0].url, served[1], method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stdout + done.stderr
