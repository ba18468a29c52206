"""Blocking batch, as_completed, conversation and completions: as in AsyncClient, with the caller's code in its own thread."""

import gc
import itertools
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from nimclient import (
    ChatCompletion,
    Client,
    Completion,
    RetryPolicy,
    SyncAsCompleted,
    SyncChatStream,
    SyncCompletionStream,
    SyncConversation,
)
from nimclient.errors import (
    BadRequestError,
    BatchError,
    ConfigurationError,
    NimError,
    StreamInterruptedError,
)
from support.portal import run_in_portal
from support.server import FaultServer, Pause, ServerThread, Stall
from support.until import until
from support.wire import MODEL, answer, chat, chat_body, chunk, error, head, token


def echo(request: Any) -> list[Any]:
    text = request.json["messages"][-1]["content"]
    if text.startswith("bad"):
        return [error(400, f"no {text}")]
    if text == "stall":
        return [Stall()]
    return [*([Pause(0.05)] if text.startswith("slow") else []), answer(chat_body(text))]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with ServerThread() as server:
        server.script(echo)
        yield server


@pytest.fixture
def client(server: FaultServer) -> Iterator[Client]:
    with Client(base_url=server.url, model=MODEL, retry=RetryPolicy(attempts=1)) as client:
        yield client


def arrived(server: FaultServer, count: int) -> bool:
    return len(server.requests) >= count


# batch and as_completed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [list, tuple, iter])
def test_a_batch_comes_in_order(client: Client, make: Any) -> None:
    """Lists and other iterables give their answers in order, whatever finishes first."""
    replies = client.chat.batch(make(["slow a", *map(str, range(30))]), concurrency=4)
    assert [reply.text for reply in replies] == ["slow a", *map(str, range(30))]


@pytest.mark.parametrize("make", [list, iter])
def test_answers_as_they_finish(client: Client, make: Any) -> None:
    """as_completed is a blocking iterator of (index, answer)."""
    with client.chat.as_completed(make(["slow a", "b", "c"])) as replies:
        assert isinstance(replies, SyncAsCompleted)
        assert iter(replies) is replies
        pairs = [(i, reply.text) for i, reply in replies]
    assert pairs[-1] == (0, "slow a")
    assert sorted(pairs) == [(0, "slow a"), (1, "b"), (2, "c")]
    assert list(replies) == []


def test_the_source_is_advanced_in_the_reading_thread(client: Client) -> None:
    """A generator runs in the thread that reads, and at most `concurrency` items ahead of what was handed out."""
    threads: set[int] = set()
    taken = handed_out = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for number in itertools.count():
            threads.add(threading.get_ident())
            taken += 1
            yield str(number)

    with client.chat.as_completed(endless(), concurrency=3) as replies:
        for _ in replies:
            handed_out += 1
            assert taken <= handed_out + 3
            if handed_out == 40:
                break
    assert threads == {threading.get_ident()}
    assert client.chat.batch(itertools.islice(endless(), 5))[4].text == "4"


def test_the_source_goes_on_while_answers_are_read(server: FaultServer, client: Client) -> None:
    """For each answer that goes out an item comes in: requests are kept in flight, not sent in bursts."""
    server.script([Pause(0.005), chat()])
    with client.chat.as_completed(map(str, range(40)), concurrency=4) as replies:
        for number, _ in enumerate(replies, 1):
            if number < 30:
                assert until(partial(arrived, server, number + 2))


def test_closing_ends_what_is_under_way(client: Client, server: FaultServer) -> None:
    """Leaving the block cancels the others; reading on is an error; closing again does nothing."""
    with client.chat.as_completed(["a", "stall", "stall"]) as replies:
        assert next(replies)[0] == 0
    replies.close()
    with pytest.raises(StreamInterruptedError):
        next(replies)
    assert client.chat.create("b").text == "b"


def test_forgotten_it_warns(client: Client) -> None:
    """An iterator that is dropped early gives a ResourceWarning, with a generator as its source too."""
    for source in (["a", "stall"], iter(["a", "stall"])):
        replies: Any = client.chat.as_completed(source)
        next(replies)
        with pytest.warns(ResourceWarning, match="not closed"):  # noqa: PT031  # by the collector
            del replies
            gc.collect()


def test_errors_as_in_the_async_client(client: Client) -> None:
    """raise, return and collect work in both methods, for lists and for other iterables."""
    for make in (list, iter):
        with pytest.raises(BadRequestError) as caught:
            client.chat.batch(make(["a", "bad", "stall"]), concurrency=1)
        assert (caught.value.index, [i for i, _ in caught.value.completed]) == (1, [0])
        replies = client.chat.batch(make(["a", "bad", []]), on_error="return")
        assert [isinstance(reply, NimError) for reply in replies] == [False, True, True]
        with pytest.raises(BatchError) as collected:
            client.chat.batch(make(["a", "bad", "b"]), on_error="collect")
        assert [f.index for f in collected.value.failures] == [1]
        assert [i for i, _ in collected.value.completed] == [0, 2]


def test_an_error_of_the_source_is_raised_as_it_is(client: Client) -> None:
    """The source's own error comes after the answers to what came before it, with its position."""

    def broken() -> Iterator[str]:
        yield "slow a"
        yield "b"
        raise KeyError("broken")

    with pytest.raises(KeyError) as caught:
        client.chat.batch(broken())
    assert vars(caught.value)["index"] == 2
    assert [i for i, _ in vars(caught.value)["completed"]] == [0, 1]


def test_an_interrupt_in_the_source_ends_it_all(client: Client) -> None:
    """KeyboardInterrupt in the source's code leaves at once and closes the iterator."""

    def interrupted() -> Iterator[str]:
        yield "stall"
        raise KeyboardInterrupt

    replies = client.chat.as_completed(interrupted())
    with pytest.raises(KeyboardInterrupt):
        next(replies)
    with pytest.raises(StreamInterruptedError):
        next(replies)


def test_wrong_sources(client: Client) -> None:
    """A str, a number or an async iterable is a TypeError; so is an unknown option."""

    async def conversations() -> Any:
        yield "a"

    wrong: Any = client.chat
    for method in (wrong.batch, wrong.as_completed):
        for source in ("hello", 5, {"role": "user"}):
            with pytest.raises(TypeError, match="takes a list of conversations"):
                method(source)
        with pytest.raises(TypeError, match="temperatur"):
            method(iter(["a"]), temperatur=1)
        with pytest.raises(ConfigurationError, match="concurrency"):
            method(["a"], concurrency=0)
    with pytest.raises(TypeError, match="AsyncClient"):
        wrong.as_completed(conversations())


# conversations --------------------------------------------------------------------------------


class Watched(dict[str, list[dict[str, Any]]]):
    """A store that knows which threads used it."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.threads.add(threading.get_ident())
        return super().get(key, default)

    def __setitem__(self, key: str, value: list[dict[str, Any]]) -> None:
        self.threads.add(threading.get_ident())
        super().__setitem__(key, value)


def test_a_conversation_remembers(client: Client, server: FaultServer) -> None:
    """send and stream build on each other; the store is used in the caller's thread only."""
    store = Watched()
    talk = client.chat.conversation("s", store, "x", temperature=0.5)
    assert isinstance(talk, SyncConversation)
    assert talk.send("a").text == "a"
    server.script([head() + chunk(token("B", "stop")) + b"0\r\n\r\n"])
    with talk.stream("b", temperature=0.1) as stream:
        assert isinstance(stream, SyncChatStream)
        assert "".join(piece.text for piece in stream) == "B"
    assert talk.stream("c").final().text == "B"
    assert "".join(talk.stream("d").text_stream) == "B"
    assert [m.content for m in talk.messages] == ["s", "a", "a", "b", "B", "c", "B", "d", "B"]
    assert store.threads == {threading.get_ident()}
    assert [r.json["temperature"] for r in server.requests] == [0.5, 0.1, 0.5, 0.5]
    talk.trim(2)
    copy = SyncConversation.from_json(talk.to_json(), client, temperature=0.2)
    assert [m.content for m in copy.messages] == ["s", "d", "B"]
    assert copy.stream("e").final().text == "B"
    assert server.requests[-1].json["temperature"] == 0.2


def test_only_completed_turns_are_kept(client: Client, server: FaultServer) -> None:
    """Rejected, closed and broken turns leave the history as it was, and the next may begin."""
    talk = client.chat.conversation()
    with pytest.raises(BadRequestError):
        talk.send("bad")
    for use in (lambda stream: next(stream), lambda stream: stream.final(), lambda stream: stream.__enter__()):
        with pytest.raises(BadRequestError):
            use(talk.stream("bad"))
    server.script([head() + chunk(token("Hel")), Stall()])
    with talk.stream("a") as stream:
        assert next(stream).text == "Hel"
        with pytest.raises(RuntimeError, match="in flight"):
            talk.send("b")
        with pytest.raises(RuntimeError, match="in flight"):
            talk.stream("b").final()
    assert talk.messages == ()
    server.script([head() + chunk(token("Hel")), Pause(0.02), b"0\r\n\r\n"])
    with pytest.raises(StreamInterruptedError):
        list(talk.stream("c"))
    server.script(chat("ok"))
    talk.send("d")
    assert len(talk.messages) == 2


def test_wrong_options_of_a_conversation(client: Client) -> None:
    """Unknown options are a TypeError, where the conversation or the stream is made."""
    conversation: Any = client.chat.conversation
    with pytest.raises(TypeError, match="temperatur"):
        conversation(temperatur=1)
    with pytest.raises(TypeError, match="temperatur"):
        conversation().stream("a", temperatur=1)


# completions --------------------------------------------------------------------------------


def test_completions(nim_simulator_url: str) -> None:
    """create and stream give the same completion."""
    with Client(base_url=nim_simulator_url) as client:
        plain = client.completions.create("the cat sat on the mat", echo=True, logprobs=1)
        assert isinstance(plain, Completion)
        with client.completions.stream("the cat sat on the mat", echo=True, logprobs=1) as stream:
            assert isinstance(stream, SyncCompletionStream)
            assert "".join(piece.text for piece in stream) == plain.text
            assert stream.final().choices == plain.choices
        assert stream.partial is not None
        assert client.completions.stream("a b a").final().text


def test_nothing_runs_on(client: Client) -> None:
    """After a batch was read no task of it is left in the background loop."""
    import asyncio

    assert isinstance(client.chat.batch(iter(["a", "b"]))[0], ChatCompletion)

    async def names() -> list[str]:
        return [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr]

    assert not [name for name in run_in_portal(names) if "_Workers" in name]
