"""The caller's own code never runs on the background loop: it may block there where it runs, and use the client again."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from nimclient import AsyncClient, AttemptEvent, Client, Progress, RetryPolicy
from nimclient.jobs import EmbedJob
from support.leaks import pools
from support.portal import run_in_portal
from support.server import FaultServer, Request, ServerThread
from support.until import until
from support.wire import MODEL, answer, chat, chat_body, embedded, error

LOOP = "nimclient"  # the name of the loop's thread


def reply(request: Request) -> Any:
    """Echoes; calls the tool `work` where there are tools and no result yet; forty times for "many"."""
    body = request.json
    if request.path.endswith("embeddings"):
        return answer(embedded(body["input"]))
    if request.path.endswith("ranking"):
        return answer({"rankings": [{"index": i, "logit": -float(i)} for i in range(len(body["passages"]))]})
    if request.path.endswith("/completions") and "prompt" in body:
        return answer({"object": "text_completion", "choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]})
    last = body["messages"][-1]
    if body.get("tools") and last["role"] == "user":
        names = range(60 if last["content"] == "many" else 1)
        calls = [
            {"id": f"c{n}", "type": "function", "function": {"name": "work", "arguments": '{"a": 1}'}} for n in names
        ]
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        return answer(chat_body() | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    if body.get("response_format"):
        return chat('{"name": "x"}')
    return chat(str(last["content"]))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with ServerThread() as server:
        server.script(reply)
        yield server


@pytest.fixture
def client(server: FaultServer) -> Iterator[Client]:
    with Client(base_url=server.url, model=MODEL) as client:
        yield client


class Seen:
    """Code of a caller's that blocks, uses the client, and remembers the threads it ran in."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.threads: list[threading.Thread] = []

    def __call__(self, *_: object) -> str:
        self.threads.append(threading.current_thread())
        time.sleep(0.002)
        return self.client.chat.create("inner").text

    @property
    def in_this_thread(self) -> bool:
        return set(self.threads) == {threading.current_thread()}

    @property
    def off_the_loop(self) -> bool:
        return bool(self.threads) and all(thread.name != LOOP for thread in self.threads)


@pytest.fixture
def seen(client: Client) -> Seen:
    return Seen(client)


def test_on_attempt_runs_in_the_callers_thread(server: FaultServer, seen: Seen) -> None:
    """It is called for every attempt, by the thread that waits, before the call returns or raises."""
    events: list[AttemptEvent] = []

    def on_attempt(event: AttemptEvent) -> None:
        events.append(event)
        seen(event)

    with Client(
        base_url=server.url, model=MODEL, on_attempt=on_attempt, retry=RetryPolicy(attempts=2, first_delay=0.01)
    ) as client:
        assert client.chat.create("hi").text == "hi"
        assert [event.status for event in events] == [200]
        server.script(error(503), chat())
        assert client.chat.stream("hi").final().text == "Hello"
        assert [event.status for event in events] == [200, 503, 200]
    assert seen.in_this_thread


def outer(server: FaultServer) -> int:
    """How many requests did not come from code of the caller's."""
    return sum(request.json["messages"][-1]["content"] != "inner" for request in server.requests)


def test_on_attempt_of_a_batch_runs_in_the_thread_that_reads(server: FaultServer, seen: Seen) -> None:
    """What happens between two reads waits for the next; nothing is lost when the iterator is closed."""
    with Client(base_url=server.url, model=MODEL, on_attempt=seen) as client:
        with client.chat.as_completed(["a", "b", "c", "d"], concurrency=4) as replies:
            next(replies)
            assert until(lambda: outer(server) == 4 and all(pool.is_idle() for pool in pools(client)))
            run_in_portal(asyncio.sleep, 0)
        assert len(seen.threads) == 4
        assert len(client.chat.batch(iter(["a", "b"]))) == 2
        assert len(seen.threads) == 6
    assert seen.in_this_thread


def test_an_error_in_on_attempt_is_logged(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    """A callback's fault does not become the call's."""

    def on_attempt(event: AttemptEvent) -> None:
        raise KeyError("mine")

    with Client(base_url=server.url, model=MODEL, on_attempt=on_attempt) as client, caplog.at_level(logging.ERROR):
        assert client.chat.create("hi").text == "hi"
    assert "on_attempt raised" in caplog.text


def test_on_progress_runs_in_the_callers_thread(client: Client, seen: Seen) -> None:
    """It is called after every slice, by the thread that waits."""
    done: list[int] = []

    def on_progress(progress: Progress) -> None:
        done.append(progress.done)
        seen(progress)

    client.embeddings.embed_documents(["1", "2", "3"], batch_size=1, on_progress=on_progress)
    assert done == [1, 2, 3]
    assert seen.in_this_thread


def test_an_error_in_on_progress_ends_the_call(client: Client) -> None:
    """What on_progress raises comes out of the call, as in AsyncClient."""

    def on_progress(progress: Progress) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        client.embeddings.embed_documents(["1", "2"], batch_size=1, on_progress=on_progress)
    assert client.chat.create("hi").text == "hi"


def test_a_key_that_is_asked_for(server: FaultServer, seen: Seen) -> None:
    """A callable api_key may fetch the key with a blocking call."""
    with Client(lambda: "key-" + seen(), server.url, model=MODEL) as client:
        assert client.chat.create("hi").text == "hi"
        assert client.chat.stream("hi").final().text == "hi"
        assert len(client.chat.batch(["a", "b"])) == 2
    assert [r.headers.get("authorization") for r in server.requests][1::2][:2] == ["Bearer key-inner"] * 2
    assert seen.off_the_loop


def test_tools_may_use_the_client(client: Client, seen: Seen) -> None:
    """Sync tools run in worker threads; sixty at once, each of which runs tools in turn, do not wait for each other."""

    def work(a: int) -> str:
        return seen()

    assert client.chat.run_tools("one", [work]).rounds == 2

    outer = work

    def work(a: int) -> str:  # type: ignore[no-redef]
        return client.chat.run_tools("inner", [outer]).completion.text

    assert client.chat.run_tools("many", [work]).rounds == 2
    assert len(seen.threads) == 61
    assert seen.off_the_loop


def test_types_may_use_the_client(client: Client, seen: Seen) -> None:
    """Validators of the types of `parse` and of tools run off the loop."""

    @attrs.frozen
    class Named:
        name: str = attrs.field(validator=lambda *_: seen() and None)

    assert client.chat.parse("who?", Named).value.name == "x"
    assert len(seen.threads) == 1

    @attrs.frozen
    class One:
        a: int = attrs.field(default=1, validator=lambda *_: seen() and None)

    def work(a: int | One) -> str:
        return "done"

    client.chat.run_tools("one", [work])
    assert seen.off_the_loop


def test_iterables_are_read_in_the_callers_thread(client: Client, seen: Seen) -> None:
    """Generators of messages, conversations, texts, documents, prompts and tools are the caller's code."""

    def items(*values: Any) -> Iterator[Any]:
        for value in values:
            seen()
            yield value

    def work(a: int) -> str:
        return "done"

    hi = {"role": "user", "content": "hi"}
    client.chat.create(items(hi))
    client.chat.create(messages=items(hi))
    client.chat.stream(items(hi)).final()
    client.chat.run_tools(items(hi), tools=items(work))
    client.chat.parse(items(hi), {"type": "object"})
    client.chat.conversation().send(items(hi))
    client.chat.batch([items(hi), "b"])
    client.chat.batch(items(items(hi), "b"))
    list(client.chat.as_completed([items(hi)]))
    client.embeddings.create(items("1"))
    client.embeddings.embed_documents(items("1", "2"))
    client.rerank("q", items("a", "b"))
    client.rerank(query="q", documents=items("a", "b"))
    client.completions.create(items("a", "b"))
    client.completions.stream(items("a", "b")).close()
    list(client.embeddings.embed_stream(items("1", "2"), batch_size=1))
    assert len(seen.threads) == 25
    assert seen.in_this_thread


def test_a_job_may_use_the_client(client: Client, seen: Seen, tmp_path: Path) -> None:
    """The source of a blocking job and its on_progress run in the thread that called, not on the client's loop."""

    def source() -> Iterator[str]:
        for number in range(3):
            seen()
            yield str(number)

    report = EmbedJob(source(), tmp_path / "out", format="npy", batch_size=1).run_sync(client, on_progress=seen)
    assert report.succeeded == 3
    assert len(seen.threads) > 3
    assert seen.in_this_thread


def test_an_async_client_in_a_tool_is_at_home_in_its_own_loop(server: FaultServer, client: Client) -> None:
    """asyncio.run inside a sync tool: the callbacks of that client run in its thread, though the context is copied."""
    threads: list[bool] = []

    async def ask() -> str:
        here = threading.get_ident()
        listener = lambda _: threads.append(threading.get_ident() == here)  # noqa: E731
        async with AsyncClient(base_url=server.url, model=MODEL, on_attempt=listener) as inner:
            return (await inner.chat.create("hi")).text

    def work(a: int) -> str:
        return asyncio.run(ask())

    assert client.chat.run_tools("one", [work]).completion.text == "hi"
    assert threads == [True]


def test_the_context_of_the_caller_is_that_of_the_call(server: FaultServer) -> None:
    """Context variables (of a tracer, for example) are seen by what the call runs."""
    from contextvars import ContextVar

    var: ContextVar[str] = ContextVar("var")
    found: list[str] = []

    def key() -> str:
        found.append(var.get("nothing"))
        return "some-key"

    var.set("mine")
    with Client(key, server.url, model=MODEL) as client:
        client.chat.create("hi")
    assert found == ["mine"]
