"""Blocking streams: the loop is crossed once for each read, and however a stream is left, its connection is given back."""

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from nimclient import Client, RetryPolicy, SyncChatStream
from nimclient.errors import ClientClosedError, ConfigurationError, StreamFaultError, StreamInterruptedError
from support.leaks import assert_idle, pools
from support.portal import portal, run_in_portal
from support.server import FaultServer, Pause, ServerThread, Stall
from support.until import until
from support.wire import DONE, END, MODEL, answer, chat, chunk, embedded, head, sse, token

READS = 3
TOKENS = 50


def in_reads(request: Any) -> list[Any]:
    """Three reads of fifty tokens each."""
    steps: list[Any] = [head()]
    for _ in range(READS):
        steps += [chunk(b"".join(token("x") for _ in range(TOKENS))), Pause(0.03)]
    return [*steps, chunk(token(None, "stop"), DONE), END]


def unfinished(request: Any) -> list[Any]:
    """A stream that begins and stops."""
    return [head() + chunk(token("a"), token("b")), Stall()]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with ServerThread() as server:
        server.script(unfinished)
        yield server


@pytest.fixture
def client(server: FaultServer) -> Iterator[Client]:
    with Client(base_url=server.url, model=MODEL, retry=RetryPolicy(attempts=1)) as client:
        yield client


def test_the_loop_is_crossed_once_for_each_read(
    client: Client, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred and fifty tokens in three reads are as many crossings, one for opening and one for the end."""
    server.script(in_reads)
    crossed = 0
    run_at = portal.Portal.run_at

    def counted(*args: Any) -> Any:
        nonlocal crossed
        crossed += 1
        return run_at(*args)

    monkeypatch.setattr(portal.Portal, "run_at", counted)
    with client.chat.stream("hi") as stream:
        assert "".join(stream.text_stream) == "x" * READS * TOKENS
    assert READS <= crossed <= READS + 4
    crossed = 0
    assert client.chat.stream("hi").final().text == "x" * READS * TOKENS
    assert crossed == 1


def break_out(stream: SyncChatStream) -> None:
    with stream:
        for _ in stream:
            break


def raise_inside(stream: SyncChatStream) -> None:
    with pytest.raises(KeyError), stream:
        for _ in stream:
            raise KeyError


def read_nothing(stream: SyncChatStream) -> None:
    with stream:
        pass


def break_and_close(stream: SyncChatStream) -> None:
    for _ in stream:
        break
    stream.close()
    stream.close()


def close_elsewhere(stream: SyncChatStream) -> None:
    assert next(stream).text == "a"
    thread = threading.Thread(target=stream.close)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "leave", [break_out, raise_inside, read_nothing, break_and_close, close_elsewhere], ids=lambda f: f.__name__
)
def test_leaving_early_closes_the_connection(
    client: Client, server: FaultServer, leave: Callable[[SyncChatStream], None]
) -> None:
    """A break, an error, no reading at all, a close once, twice or from another thread: the server sees the end at once."""
    stream = client.chat.stream("hi")
    leave(stream)
    assert until(lambda: server.open == 0)
    assert len(server.requests) == 1
    with pytest.raises(StreamInterruptedError) as caught:
        stream.final()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "ab"
    stream.close()
    server.script(chat())
    assert client.chat.create("hi").text == "Hello"


def test_what_was_read_is_handed_out_after_closing(client: Client) -> None:
    """Chunks that have arrived come first, then the error; closing does not make an answer look complete."""
    stream = client.chat.stream("hi")
    assert next(stream).text == "a"
    stream.close()
    assert next(stream).text == "b"
    for _ in range(2):
        with pytest.raises(StreamInterruptedError):
            next(stream)


def test_a_stream_that_is_never_read_sends_nothing(client: Client, server: FaultServer) -> None:
    """Making a stream and dropping it, or closing it unopened, does nothing; then it cannot be opened any more."""
    client.chat.stream("hi")
    stream = client.chat.stream("hi")
    stream.close()
    with pytest.raises(StreamInterruptedError, match="before it was opened"):
        next(stream)
    assert server.connections == 0


def test_a_forgotten_stream_warns_and_is_closed(client: Client, server: FaultServer) -> None:
    """A break outside a block leaves the closing to the collector, which warns."""
    stream: Any = client.chat.stream("hi")
    for _ in stream:
        break
    with pytest.warns(ResourceWarning, match="was not closed"):  # noqa: PT031  # by the collector
        del stream, _
        gc.collect()
    assert until(lambda: server.open == 0)


def test_reading_to_the_end_keeps_the_connection(client: Client, server: FaultServer) -> None:
    """Streams that are read to their end use one connection, one after the other; a second iteration is an error."""
    server.script([head() + chunk(token("a", "stop"), DONE), END])
    for use in (list, lambda stream: stream.final(), lambda stream: list(stream.text_stream)):
        stream = client.chat.stream("hi")
        use(stream)
        with pytest.raises(RuntimeError, match="final"):
            iter(stream)
        assert stream.final().text == "a"
        with pytest.raises(StopIteration):
            next(stream)
    assert server.connections == 1


def test_final_after_some_chunks(client: Client, server: FaultServer) -> None:
    """final() takes what has been read with it: nothing is handed out twice."""
    server.script([head() + chunk(token("a"), token("b"), token("c", "stop"), DONE), END])
    stream = client.chat.stream("hi")
    assert next(stream).text == "a"
    assert stream.final().text == "abc"
    with pytest.raises(StopIteration):
        next(stream)


class Reader(threading.Thread):
    """Reads a stream in a thread of its own: `outcome` has what came, then the StreamInterruptedError if there is one."""

    def __init__(self, items: Iterable[Any]) -> None:
        super().__init__()
        self.items = items
        self.outcome: list[Any] = []
        self.start()

    def run(self) -> None:
        try:
            self.outcome.extend(self.items)
        except StreamInterruptedError as error:
            self.outcome.append(error)


def test_closing_wakes_a_reader_in_another_thread(client: Client, server: FaultServer) -> None:
    """A thread that waits for the next token ends with StreamInterruptedError, and keeps what there is."""
    stream = client.chat.stream("hi")
    thread = Reader(stream)
    assert until(lambda: len(thread.outcome) == 2)
    stream.close()
    thread.join(60)
    assert thread.outcome[2].partial.text == "ab"
    assert until(lambda: server.open == 0)


def test_closing_while_it_opens(client: Client, server: FaultServer) -> None:
    """A stream whose first event does not come can be closed from another thread."""
    server.script([head(), Stall()])
    stream = client.chat.stream("hi")
    thread = Reader(stream)
    assert until(lambda: len(server.requests) == 1)
    time.sleep(0.02)
    stream.close()
    thread.join(60)
    assert "opened" in str(thread.outcome[0])
    assert until(lambda: server.open == 0)


def test_two_threads_cannot_wait_for_the_same_stream(client: Client) -> None:
    """The second one gets an error; the first continues waiting."""
    stream = client.chat.stream("hi")
    assert [next(stream).text, next(stream).text] == ["a", "b"]
    thread = Reader(stream)
    time.sleep(0.05)
    with pytest.raises(RuntimeError, match="being read"):
        next(stream)
    stream.close()
    thread.join(60)
    assert len(thread.outcome) == 1


def test_an_error_in_the_stream_comes_after_its_chunks(client: Client, server: FaultServer) -> None:
    """What arrived in the same read as an error event is handed out first; the error has the text so far."""
    server.script(
        [
            head() + chunk(token("a")),
            Pause(0.03),
            chunk(token("b"), sse({"error": {"message": "no", "code": 500}}), DONE),
            END,
        ]
    )
    stream = client.chat.stream("hi")
    assert [next(stream).text, next(stream).text] == ["a", "b"]
    with pytest.raises(StreamFaultError) as caught:
        next(stream)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "ab"
    server.script(chat())
    assert client.chat.create("hi").text == "Hello"


@pytest.mark.parametrize("kind", ["unary", "stream", "batch", "fed", "documents"])
def test_closing_the_client_ends_calls_of_other_threads(server: FaultServer, kind: str) -> None:
    """Each of them ends with ClientClosedError, and close() returns at once."""
    client = Client(base_url=server.url, model=MODEL)
    server.script(unfinished if kind == "stream" else [Stall()])
    calls: dict[str, Callable[[], Any]] = {
        "unary": lambda: client.chat.create("hi"),
        "stream": lambda: list(client.chat.stream("hi")),
        "batch": lambda: client.chat.batch(["a", "b"], on_error="return"),
        "fed": lambda: list(client.chat.as_completed(iter(["a", "b"]))),
        "documents": lambda: client.embeddings.embed_documents(["a", "b"], batch_size=1),
    }
    outcome: list[BaseException] = []

    def call() -> None:
        try:
            calls[kind]()
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert until(lambda: len(server.requests) >= 1)
    client.close()
    thread.join(60)
    assert [type(error) for error in outcome] == [ClientClosedError]
    with pytest.raises(ClientClosedError):
        calls[kind]()


def one_of_many(request: Any) -> Any:
    """An answer to the first of many, and a stream of events that begins; silence for the others."""
    body = request.json
    if request.path.endswith("embeddings"):
        return answer(embedded(body["input"])) if body["input"] == ["1"] else [Stall()]
    if request.path.endswith("events"):
        return [head() + chunk(sse({"n": 1})), Stall()]
    return chat() if body["messages"][-1]["content"] == "1" else [Stall()]


MANY: dict[str, Callable[[Client], Any]] = {
    "as_completed": lambda client: client.chat.as_completed(["1", "2", "3"]),
    "as_completed, fed": lambda client: client.chat.as_completed(iter(["1", "2", "3"])),
    "embed_stream": lambda client: client.embeddings.embed_stream(["1", "2", "3"], batch_size=1),
    "embed_stream, fed": lambda client: client.embeddings.embed_stream(iter(["1", "2", "3"]), batch_size=1),
    "events": lambda client: client.request("POST", "/v1/events", json={}, stream=True),
}


def close_elsewhere_after_one(items: Any) -> None:
    next(items)
    thread = threading.Thread(target=items.close)
    thread.start()
    thread.join()


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize(
    "leave",
    [break_out, raise_inside, read_nothing, break_and_close, close_elsewhere_after_one],
    ids=lambda f: f.__name__,
)
def test_iterators_over_many_are_left_in_any_way(
    client: Client, server: FaultServer, kind: str, leave: Callable[[Any], None]
) -> None:
    """After a break, an error, no reading at all, a close once, twice or elsewhere nothing is in flight any more."""
    server.script(one_of_many)
    items = MANY[kind](client)
    leave(items)
    assert until(lambda: all(pool.is_idle() for pool in pools(client)))
    assert_idle(client)
    items.close()
    with contextlib.suppress(StopIteration), pytest.raises(StreamInterruptedError):
        next(items)
    server.script(chat())
    assert client.chat.create("hi").text == "Hello"


@pytest.mark.parametrize("kind", MANY)
def test_closing_wakes_who_reads_one_of_many(client: Client, server: FaultServer, kind: str) -> None:
    """A thread that waits for the next of many ends with StreamInterruptedError when another closes the iterator."""
    server.script(one_of_many)
    items = MANY[kind](client)
    thread = Reader(items)
    assert until(lambda: len(thread.outcome) == 1)
    time.sleep(0.02)
    items.close()
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(thread.outcome[1], StreamInterruptedError)
    assert_idle(client)


def test_an_error_leads_to_nothing_of_the_call(client: Client) -> None:
    """An error that is kept keeps no task: it is collected with its last reference, without the collector."""
    gc.collect()
    gc.disable()
    try:
        try:
            client.chat.create([])
        except ConfigurationError as error:
            alive = weakref.ref(error)
        assert alive() is None
    finally:
        gc.enable()


def test_nothing_is_left_in_the_loop(client: Client) -> None:
    """After streams were left in every way no task is left in the background loop."""
    break_out(client.chat.stream("hi"))
    break_and_close(client.chat.stream("hi"))

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    assert run_in_portal(tasks) == 2  # this one, and the one that ends the loop
