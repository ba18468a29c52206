"""How programs end that use Client: at once and quietly, whatever is open; and what Ctrl-C does to a call."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.server import FaultServer, Request, ServerThread, Stall
from support.slow import mostly_slow
from support.wire import answer, chat, chat_body, chunk, error, head, token

BEGIN = """
import sys, threading, time
from nimclient import Client, RetryPolicy
client = Client(base_url=sys.argv[1], model="m", retry=RetryPolicy(max_retry_after=60))
def thread(call):
    threading.Thread(target=call, daemon=True).start()
    time.sleep(0.2)
started = threading.Event()
def job():
    from nimclient.jobs import EmbedJob
    EmbedJob([str(n) for n in range(100)], sys.argv[2], format="npy", batch_size=10).run_sync(client)
def tool(seconds: int) -> str:
    print("the tool runs", flush=True)
    started.set()
    time.sleep(seconds)
    return "done"
"""


def play(request: Request) -> Any:
    """Answers "ok", refuses "later" for half a minute, calls a tool for "tool", begins streams; else silence."""
    if request.path.endswith("embeddings"):
        return [Stall()]
    body = request.json
    text = body["messages"][-1]["content"]
    if body.get("stream"):
        return [head() + chunk(token("Hel")), Stall()]
    if text == "later":
        return error(503, "no", "Retry-After: 30")
    if text == "tool":
        call = {"id": "c", "type": "function", "function": {"name": "tool", "arguments": '{"seconds": 20}'}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return answer(chat_body() | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    return chat("fine") if text == "ok" else [Stall()]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with ServerThread() as server:
        server.script(play)
        yield server


@contextlib.contextmanager
def running(server: FaultServer, script: str) -> Iterator["subprocess.Popen[str]"]:
    """A program under way."""
    pipe = subprocess.PIPE
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", BEGIN + script, server.url, folder]
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


def until(condition: Any, seconds: float = 10) -> float:
    """Wait for it; returns how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen"
        time.sleep(0.005)
    return time.monotonic() - began


LEFT_OPEN = {
    "nothing": "client.chat.create('ok'); client.close()",
    "an unused client": "",
    "a client": "client.chat.create('ok')",
    "a stream": "stream = client.chat.stream('hi'); next(stream)",
    "a stream in a block": "stream = client.chat.stream('hi').__enter__()",
    "a batch": "replies = client.chat.as_completed(['ok', 'silence']); next(replies)",
    "a batch from a generator": "replies = client.chat.as_completed(iter(['ok', 'silence']), concurrency=2); next(replies)",
    "a thread in a call": "thread(lambda: client.chat.create('silence'))",
    "a thread in a stream": "thread(lambda: list(client.chat.stream('hi')))",
    "a thread in a batch": "thread(lambda: client.chat.batch(iter(['ok', 'silence'])))",
    "a thread in a pause": "thread(lambda: client.chat.create('later'))",
    "a thread in documents": "thread(lambda: client.embeddings.embed_documents(['a', 'b'], batch_size=1))",
    "a thread in a tool": "thread(lambda: client.chat.run_tools('tool', [tool])); started.wait()",
    "a thread in a job": "thread(job); time.sleep(0.3)",
    "busy threads": """
def work():
    while True:
        client.chat.create('ok')
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
""",
    "an exit handler": """
import atexit
client.chat.create('ok')
atexit.register(client.close)
atexit.register(lambda: print(client.chat.create('ok').text, flush=True))
""",
    "an error": "stream = client.chat.stream('hi'); next(stream); sys.exit(3)",
}


@pytest.mark.parametrize("left", mostly_slow(LEFT_OPEN, "a stream in a block", "a thread in a batch"))
def test_the_interpreter_exits_quietly(server: FaultServer, left: str) -> None:
    """With clients, streams, batches and daemon threads under way a program ends at once and prints nothing; each time."""
    script = LEFT_OPEN[left] + "\nprint('end', flush=True)"
    with running(server, script) as one, running(server, script) as two:
        for process in (one, two):
            assert process.stdout is not None
            assert process.stderr is not None
            printed = []
            for line in iter(process.stdout.readline, ""):
                printed.append(line.strip())
                if line == "end\n":
                    break
            ended = until(lambda process=process: process.poll() is not None)
            rest = process.stdout.read().split() + process.stderr.read().splitlines()
            assert rest == (["fine"] if left == "an exit handler" else [])
            assert process.returncode == (3 if left == "an error" else 0)
            assert printed == {"an error": [], "a thread in a tool": ["the tool runs", "end"]}.get(left, ["end"])
            assert ended < 3


CALLS = {
    "create": "client.chat.create('silence')",
    "parse": "client.chat.parse('silence', {'type': 'object'})",
    "stream": "list(client.chat.stream('hi'))",
    "final": "client.chat.stream('hi').final()",
    "block": "with client.chat.stream('hi') as stream: list(stream)",
    "batch": "client.chat.batch(['silence', 'silence'])",
    "fed": "list(client.chat.as_completed(iter(['silence', 'silence'])))",
    "documents": "client.embeddings.embed_documents(['a', 'b'], batch_size=1)",
    "embed_stream": "list(client.embeddings.embed_stream(iter(['a', 'b']), batch_size=1))",
    "infer": "client.infer('/v1/infer', {'messages': [{'content': 'silence'}]})",
    "event stream": "client.request('POST', '/v1/chat/completions', json={'messages': [{'content': 'x'}]}, stream=True)",
    "job": "job()",
}


@pytest.mark.parametrize("call", mostly_slow(CALLS, "create", "batch"))
def test_ctrl_c_cancels_the_request_at_once(server: FaultServer, call: str) -> None:
    """KeyboardInterrupt comes out of the call, and its connections are closed by then, not only at exit."""
    script = f"""
try:
    {CALLS[call]}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    time.sleep(20)
"""
    with running(server, script) as process:
        assert process.stdout is not None
        until(lambda: server.requests)
        time.sleep(0.1)
        assert server.open > 0
        process.send_signal(signal.SIGINT)
        took = until(lambda: server.open == 0)
        assert process.stdout.readline() == "interrupted\n"
        assert process.poll() is None
        assert took < 1
        process.send_signal(signal.SIGINT)
        assert process.wait(3) == -signal.SIGINT or process.returncode == 130


def test_ctrl_c_in_a_pause_sends_nothing_more(server: FaultServer) -> None:
    """A call that waits for its next attempt ends, too."""
    with running(server, "client.chat.create('later')") as process:
        until(lambda: server.requests)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.wait(3)
    assert len(server.requests) == 1


def test_ctrl_c_while_a_tool_blocks(server: FaultServer) -> None:
    """A tool that blocks cannot be stopped; the program ends all the same, after one Ctrl-C or two."""
    for times in (1, 2):
        with running(server, "client.chat.run_tools('tool', [tool])") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "the tool runs\n"
            for _ in range(times):
                process.send_signal(signal.SIGINT)
                time.sleep(0.02)
            began = time.monotonic()
            process.wait(5)
            assert time.monotonic() - began < 3


def test_the_client_works_after_ctrl_c(server: FaultServer) -> None:
    """An interrupted call leaves the client as it was."""
    script = """
for _ in range(3):
    try:
        client.chat.create('silence')
    except KeyboardInterrupt:
        print(client.chat.create('ok').text, flush=True)
"""
    with running(server, script) as process:
        assert process.stdout is not None
        for number in range(1, 4):
            until(lambda number=number: sum("silence" in str(r.json) for r in server.requests) == number)
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "fine\n"
        assert process.wait(3) == 0


def test_the_second_ctrl_c_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a cancelled call cleans up, another Ctrl-C leaves it to that."""

    import anyio

    from nimclient._sync import portal

    monkeypatch.setattr(portal, "CANCELLING", 30.0)
    cleaned = threading.Event()

    async def stubborn() -> None:
        try:
            await anyio.sleep(30)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.5)
            cleaned.set()

    for seconds in (0.1, 0.2):
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        portal.PORTAL.run(stubborn)
    assert time.monotonic() - began < 0.4
    assert cleaned.wait(2)


def test_a_task_that_exits_ends_its_own_call_only(server: FaultServer) -> None:
    """SystemExit out of a coroutine (an async tool that calls sys.exit) reaches its caller; the loop goes on."""
    script = """
async def tool(seconds: int) -> str:
    raise SystemExit(4)
threading.Thread(target=lambda: print(client.chat.stream('hi').text_stream.__next__(), flush=True), daemon=True).start()
try:
    client.chat.run_tools('tool', [tool])
except BaseException as error:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    print(type(error).__name__, flush=True)
print(client.chat.create('ok').text, flush=True)
"""
    with running(server, script) as process:
        out, err = process.communicate(timeout=10)
    assert all(word in out for word in ("Hel", "SystemExit", "fine")), out
    assert err == ""
