"""How programs end that use Client: at once and quietly, whatever is open; and what Ctrl-C does to a call."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.portal import portal, run_in_portal
from support.server import FaultServer, Request, ServerThread, Stall
from support.slow import mostly_slow
from support.until import until
from support.wire import answer, chat, chat_body, chunk, error, head, token

LONG = 120.0  # seconds that a program has on a loaded machine; what it is to end without takes an hour
BEGIN = """
import sys, threading, time
from nimclient import Client, RetryPolicy
patient = RetryPolicy(max_retry_after=7200, patience=7200)
headers = {"x-program": sys.argv[3]}
client = Client(base_url=sys.argv[1], model="m", retry=patient, headers=headers, on_attempt=lambda event: report(event))
report = lambda event: None
wait = sys.stdin.readline
def thread(call):
    threading.Thread(target=call, daemon=True).start()
    wait()
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
    """Answers "ok", rejects "later" for an hour, calls a tool for "tool", begins streams; else silence."""
    if request.path.endswith("embeddings"):
        return [Stall()]
    body = request.json
    text = body["messages"][-1]["content"]
    if body.get("stream"):
        return [head() + chunk(token("Hel")), Stall()]
    if text == "later":
        return error(503, "no", "Retry-After: 3600")
    if text == "tool":
        call = {"id": "c", "type": "function", "function": {"name": "tool", "arguments": '{"seconds": 3600}'}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return answer(chat_body() | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    return chat("fine") if text == "ok" else [Stall()]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with ServerThread() as server:
        server.script(play)
        yield server


@contextlib.contextmanager
def running(server: FaultServer, script: str, name: str = "") -> Iterator["subprocess.Popen[str]"]:
    """A running program. Its requests carry its name; it waits for a line where it calls `wait`."""
    pipe = subprocess.PIPE
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", BEGIN + script, server.url, folder, name]
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1) as process:
            try:
                yield process
            finally:
                process.kill()


def requests_of(server: FaultServer, name: str) -> int:
    return sum(request.headers["x-program"] == name for request in server.requests)


def activity(process: "subprocess.Popen[str]") -> list[tuple[str, str]]:
    """State of each thread of a program, and how often it has waited."""
    statuses = [path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/status")]
    return [(re.findall(r"State:\t(.)", text)[0], re.findall(r"\nvoluntary_.*", text)[0]) for text in statuses]


def until_idle(process: "subprocess.Popen[str]") -> None:
    """Wait until all threads of a program wait for something: the same at five looks in a row."""
    looks: list[Any] = [None]
    while looks != [looks[0]] * 5 or any(state != "S" for state, _ in looks[0]):
        time.sleep(0.01)
        looks = [*looks, activity(process)][-5:]


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
    "a thread in a job": "thread(job)",
    "busy threads": """
def work():
    while True:
        client.chat.create('ok')
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
wait()
""",
    "an exit handler": """
import atexit
client.chat.create('ok')
atexit.register(client.close)
atexit.register(lambda: print(client.chat.create('ok').text, flush=True))
""",
    "a first call in an exit handler": """
import asyncio, atexit
from nimclient import AsyncClient
async def ask():
    async with AsyncClient(base_url=sys.argv[1], model="m", headers=headers) as late:
        print((await late.chat.create('ok')).text, flush=True)
atexit.register(lambda: asyncio.run(ask()))
""",
    "an error": "stream = client.chat.stream('hi'); next(stream); sys.exit(3)",
}


@pytest.mark.parametrize(
    "left", mostly_slow(LEFT_OPEN, "a stream in a block", "a thread in a batch", "a first call in an exit handler")
)
def test_the_interpreter_exits_quietly(server: FaultServer, left: str) -> None:
    """With clients, streams, batches and daemon threads running, which would take for ever, a program ends and prints
    nothing; each time.
    """
    script = LEFT_OPEN[left] + "\nprint('end', flush=True)"
    with running(server, script, "one") as one, running(server, script, "two") as two:
        for process, name in ((one, "one"), (two, "two")):
            assert process.stdin is not None
            if "thread" in left:
                assert until(lambda name=name: requests_of(server, name) >= (50 if left == "busy threads" else 1))
                process.stdin.write("\n")
            printed, said = process.communicate(timeout=LONG)
            words = {"an error": [], "a thread in a tool": ["the tool runs", "end"]}
            usual = ["end", "fine"] if left.endswith("an exit handler") else ["end"]
            assert printed.splitlines() == words.get(left, usual)
            assert said == ""
            assert process.returncode == (3 if left == "an error" else 0)


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
    wait()
"""
    with running(server, script) as process:
        assert process.stdout is not None
        assert until(lambda: server.requests)
        until_idle(process)
        assert server.open > 0
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert until(lambda: server.open == 0)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT or process.returncode == 130


def test_ctrl_c_in_a_pause_sends_nothing_more(server: FaultServer) -> None:
    """A call that waits for its next attempt ends, too."""
    script = """
report = lambda event: print(event.status, flush=True)
client.chat.create('later')
"""
    with running(server, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "503\n"
        process.send_signal(signal.SIGINT)
        process.wait()
    assert len(server.requests) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_a_tool_blocks(server: FaultServer, times: int) -> None:
    """A tool that blocks cannot be stopped; the program ends all the same, after one Ctrl-C or two."""
    with running(server, "client.chat.run_tools('tool', [tool])") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "the tool runs\n"
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        process.wait()


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
            assert until(lambda number=number: sum("silence" in str(r.json) for r in server.requests) == number)
            until_idle(process)
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "fine\n"
        assert process.wait() == 0


def test_the_second_ctrl_c_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a cancelled call cleans up, another Ctrl-C leaves it to that."""

    import anyio

    monkeypatch.setattr(portal, "CANCELLING", LONG)
    started, cleaning, release, cleaned = (threading.Event() for _ in range(4))

    async def stubborn() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cleaning.set()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(release.wait)
            cleaned.set()

    def interrupt() -> None:
        for moment in (started, cleaning):
            moment.wait(LONG)
            os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        run_in_portal(stubborn)
    assert not cleaned.is_set()
    interrupting.join()
    release.set()
    assert cleaned.wait(LONG)


def test_a_task_that_exits_ends_its_own_call_only(server: FaultServer) -> None:
    """SystemExit out of a coroutine (an async tool that calls sys.exit) reaches its caller; the loop continues."""
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
        out, err = process.communicate(timeout=LONG)
    assert all(word in out for word in ("Hel", "SystemExit", "fine")), out
    assert err == ""
