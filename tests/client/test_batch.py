"""chat.batch and chat.as_completed: many conversations concurrently, in bounded memory, under one gate."""

import asyncio
import gc
import itertools
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from nimclient import AsCompleted, AsyncClient, ChatCompletion, RetryPolicy
from nimclient.errors import (
    BadRequestError,
    BatchError,
    ClientClosedError,
    ConfigurationError,
    NimError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)
from nimclient.simulator import Simulator
from support.cancelling import cancel_everywhere
from support.held import Held
from support.leaks import assert_idle, assert_no_strays
from support.server import FaultServer, Pause, Stall
from support.virtual_time import takes
from support.wire import answer, chat, chat_body, error

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]


def said(request: Any) -> str:
    """What the last message of a request says."""
    text = request.json["messages"][-1]["content"]
    assert isinstance(text, str)
    return text


def echo(request: Any) -> list[Any]:
    """Answers with the text it was sent; one that begins with "slow" after a while; "bad" is rejected, "stall" waits."""
    text = said(request)
    if text.startswith("bad"):
        return [error(400, f"no {text}")]
    if text.startswith("stall"):
        return [Stall()]
    return [*([Pause(0.05)] if text.startswith("slow") else []), answer(chat_body(text))]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():  # others bring it about
            await asyncio.sleep(0.002)


@pytest.fixture
def echoing(server: FaultServer) -> FaultServer:
    server.script(echo)
    return server


# the good days --------------------------------------------------------------------------------


async def test_answers_come_in_the_order_of_the_conversations(echoing: FaultServer, client: AsyncClient) -> None:
    """batch returns one answer a conversation, in input order whatever finishes first, in any form of messages."""
    replies = await client.chat.batch(
        ["slow a", [{"role": "user", "content": "b"}], [("system", "s"), ("user", "c")], "d"], concurrency=4
    )
    assert [reply.text for reply in replies] == ["slow a", "b", "c", "d"]
    assert all(isinstance(reply, ChatCompletion) for reply in replies)


async def test_answers_as_they_finish(echoing: FaultServer, client: AsyncClient) -> None:
    """as_completed hands answers out when they are there, with the position of their conversation."""
    pairs = [(i, reply.text) async for i, reply in client.chat.as_completed(["slow a", "b", "c"], concurrency=3)]
    assert pairs[-1] == (0, "slow a")
    assert sorted(pairs) == [(0, "slow a"), (1, "b"), (2, "c")]


async def test_options_go_with_every_request(echoing: FaultServer, client: AsyncClient) -> None:
    """Model and options are those of create, for each conversation."""
    await client.chat.batch(["a", "b"], model="m", temperature=0.5)
    assert {(r.json["model"], r.json["temperature"]) for r in echoing.requests} == {("m", 0.5)}


async def numbers(count: int) -> AsyncIterator[str]:
    for number in range(count):
        await asyncio.sleep(0)
        yield str(number)


@pytest.mark.parametrize(
    "source", [lambda: map(str, range(40)), lambda: numbers(40)], ids=["iterable", "async iterable"]
)
async def test_any_iterable_is_a_source(echoing: FaultServer, client: AsyncClient, source: Callable[[], Any]) -> None:
    """Generators and async generators work like lists in both methods."""
    assert [reply.text for reply in await client.chat.batch(source())] == [str(n) for n in range(40)]
    assert sorted([i async for i, _ in client.chat.as_completed(source())]) == list(range(40))


@pytest.mark.parametrize("source", [list, lambda: iter(())])
async def test_nothing_gives_nothing(echoing: FaultServer, client: AsyncClient, source: Callable[[], Any]) -> None:
    """No conversations, no answers and no request."""
    assert await client.chat.batch(source()) == []
    assert [pair async for pair in client.chat.as_completed(source())] == []
    assert echoing.requests == []


async def test_a_conversation_may_be_an_iterator(echoing: FaultServer, client: AsyncClient) -> None:
    """Messages that can be read only once are read once."""
    replies = await client.chat.batch([iter([("user", "a")]), iter([("user", "b")])])  # type: ignore[list-item]
    assert [reply.text for reply in replies] == ["a", "b"]


async def test_at_most_concurrency_requests_at_once(make_client: MakeClient, server: FaultServer) -> None:
    """`concurrency` bounds the requests in flight; without it there are 16 at first, one more for each that is answered."""
    held = Held()
    server.script([held.hold, chat()])
    client = make_client()
    await held.answer_each(server, client.chat.batch(["x"] * 10, concurrency=3), 10, lambda answered: 3)
    assert held.most == 3
    await held.answer_each(server, client.chat.batch(["x"] * 40), 40, lambda answered: 16 + answered)
    assert held.most == 16 + 12


async def test_the_default_model_is_looked_up_once() -> None:
    """With no model named, a batch lists the server's models once, not once a conversation; nothing for an empty list."""
    async with Simulator() as simulator, AsyncClient(base_url=simulator.base_url) as client:
        assert await client.chat.batch([]) == []
        assert simulator.requests == ()
        await client.chat.batch(["a", "b", "c"])
        assert [r.path for r in simulator.requests].count("/v1/models") == 1
        await client.chat.batch(["a"])
        assert [r.path for r in simulator.requests].count("/v1/models") == 1


# bounded memory --------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_endless_source_is_taken_from_as_answers_are_handed_out(
    echoing: FaultServer, client: AsyncClient, asynchronous: bool
) -> None:
    """At most `concurrency` conversations are taken beyond those whose answers were handed out, also by a slow reader."""
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield str(number)

    async def endless_async() -> AsyncIterator[str]:
        for item in endless():
            yield item

    handed_out = 0
    source: Any = endless_async() if asynchronous else endless()
    async with client.chat.as_completed(source, concurrency=4) as replies:
        async for _ in replies:
            handed_out += 1
            assert taken <= handed_out + 4
            if handed_out % 10 == 0:
                await asyncio.sleep(0.02)
                assert taken <= handed_out + 4
            if handed_out == 60:
                break
    assert taken <= 64
    if asynchronous:
        await source.aclose()


# leaving early --------------------------------------------------------------------------------


async def test_leaving_the_block_cancels_and_awaits_the_others() -> None:
    """After break the block's end leaves no task and no slot, and the server sees its clients go."""
    async with (
        Simulator(itl=0.02, models=["m"]) as simulator,
        AsyncClient(base_url=simulator.base_url, model="m") as client,
    ):
        async with client.chat.as_completed(["hi"] + ["tell me all about everything " * 20] * 5) as replies:
            async for _, reply in replies:
                assert reply.text
                break
        assert_idle(client)
        await assert_no_strays_but_the_simulators()
        await eventually(lambda: sum(r.disconnected for r in simulator.requests) == 5)


async def assert_no_strays_but_the_simulators() -> None:
    names = [t.get_coro().__qualname__ for t in asyncio.all_tasks()]  # type: ignore[union-attr]
    assert not [name for name in names if name.startswith(("_Workers", "_run_all"))]


async def test_reading_after_closing_is_an_error(echoing: FaultServer, client: AsyncClient) -> None:
    """What was closed before its end does not look complete; closing again does nothing."""
    replies = client.chat.as_completed(["a", "stall"])
    await anext(replies)
    await replies.aclose()
    await replies.aclose()
    with pytest.raises(StreamInterruptedError, match="closed"):
        await anext(replies)


async def test_answers_nobody_reads_make_it_incomplete(echoing: FaultServer, client: AsyncClient) -> None:
    """Closed after all is finished but before all is read, reading on is an error too."""
    replies = client.chat.as_completed(["a", "b", "c"])
    await anext(replies)
    await echoing.until(lambda: len(echoing.requests) == 3)
    await asyncio.sleep(0.05)
    await replies.aclose()
    with pytest.raises(StreamInterruptedError):
        await anext(replies)


async def test_closed_unread_it_is_empty(echoing: FaultServer, client: AsyncClient) -> None:
    """One that was closed before it began sends nothing and ends at once."""
    async with client.chat.as_completed(["a"]) as replies:
        pass
    assert [pair async for pair in replies] == []
    assert echoing.requests == []


async def test_a_waiting_reader_ends_when_another_task_closes(echoing: FaultServer, client: AsyncClient) -> None:
    """aclose from another task ends the wait of the reader with an error."""
    replies = client.chat.as_completed(["stall"])
    reader = asyncio.ensure_future(anext(replies))
    await echoing.until(lambda: len(echoing.requests) == 1)
    with pytest.raises(RuntimeError, match="another task"):
        await anext(replies)
    await replies.aclose()
    with pytest.raises(StreamInterruptedError):
        await reader


@pytest.mark.real_time
async def test_forgotten_it_warns_and_cancels(echoing: FaultServer, client: AsyncClient) -> None:
    """An iterator that is dropped while requests are in flight gives a ResourceWarning and ends them."""
    replies: AsCompleted[Any] | None = client.chat.as_completed(["a", "stall"])
    assert replies is not None
    await anext(replies)
    with pytest.warns(ResourceWarning, match="not closed"):  # noqa: PT031  # by the collector
        del replies
        gc.collect()
    await eventually(lambda: not _busy(client))
    assert_idle(client)


def _busy(client: AsyncClient) -> bool:
    from support.leaks import pools

    return not all(pool.is_idle() for pool in pools(client))


async def test_read_to_its_end_it_needs_no_closing(echoing: FaultServer, client: AsyncClient) -> None:
    """No warning comes of one that was read to its end, and reading on ends at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replies = client.chat.as_completed(["a", "b"])
        assert len([pair async for pair in replies]) == 2
        assert [pair async for pair in replies] == []
        del replies
        gc.collect()


@pytest.mark.real_time
async def test_cancelled_anywhere_nothing_is_left(echoing: FaultServer, client: AsyncClient) -> None:
    """Cancelled at each of its suspensions, a batch leaves no task and no slot."""

    async def after_each() -> None:
        await assert_no_strays()
        await eventually(lambda: not _busy(client))
        assert_idle(client)

    await client.chat.batch(["warm", "up"])
    assert await cancel_everywhere(lambda: client.chat.batch(["a", "b", "slow c"], concurrency=2), after_each) > 3


async def test_a_time_limit_around_a_batch_holds(echoing: FaultServer, client: AsyncClient) -> None:
    """A timeout scope of the caller ends the batch and leaves nothing in flight."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.chat.batch(["a", "stall", "stall"])
    await assert_no_strays()


def test_without_a_loop_it_says_what_it_needs() -> None:
    """Driven by something that is no asyncio loop, reading is a ConfigurationError."""
    replies = AsyncClient(base_url="http://127.0.0.1:9", model="m").chat.as_completed(["a"])
    with pytest.raises(ConfigurationError, match="asyncio loops"):
        replies.__anext__().send(None)


def test_the_loop_may_end_before_it_was_read(nim_simulator_url: str) -> None:
    """A program that leaves as_completed unread ends with its loop; the iterator that outlives it warns and does no harm."""
    client = AsyncClient(base_url=nim_simulator_url)

    async def begin() -> AsCompleted[ChatCompletion]:
        replies = client.chat.as_completed(["a", "b", "c"], concurrency=1)
        await anext(replies)
        return replies

    replies = asyncio.run(begin())
    replies.__del__()  # its workers ended with the loop: nothing to warn of

    async def read_on() -> None:
        await replies.aclose()
        with pytest.raises(StreamInterruptedError):
            await anext(replies)

    asyncio.run(read_on())


# errors --------------------------------------------------------------------------------


async def test_raise_cancels_the_others_and_keeps_what_is_finished(
    echoing: FaultServer, make_client: MakeClient
) -> None:
    """The first error is raised with its index; what was finished is on it; a sibling that hangs is cancelled."""
    client = make_client()
    with takes(0), pytest.raises(BadRequestError, match="no bad") as caught:
        await client.chat.batch(["a", "b", "stall", "bad", "stall"], concurrency=3)
    assert caught.value.index == 3
    assert [(i, reply.text) for i, reply in caught.value.completed] == [(0, "a"), (1, "b")]
    assert_idle(client)
    await assert_no_strays()


async def test_return_puts_the_error_in_its_place(echoing: FaultServer, client: AsyncClient) -> None:
    """on_error="return" gives every conversation its answer or its error, also one that cannot be sent."""
    replies = await client.chat.batch(["a", "bad", [], 5, "b"], on_error="return")  # type: ignore[list-item]
    assert [type(reply).__name__ for reply in replies] == [
        "ChatCompletion",
        "BadRequestError",
        "ConfigurationError",
        "ConfigurationError",
        "ChatCompletion",
    ]
    errors = [reply for reply in replies if isinstance(reply, NimError)]
    assert [error.index for error in errors] == [1, 2, 3]
    assert isinstance(errors[2].__cause__, TypeError)


async def test_collect_finishes_all_and_raises_once(echoing: FaultServer, client: AsyncClient) -> None:
    """on_error="collect" raises one BatchError at the end, with the answers and with a Failure for each error."""
    with pytest.raises(BatchError, match="3 items failed, the first at index 1") as caught:
        await client.chat.batch(
            ["slow a", "bad one", [("user", "bad two")], "b", []], on_error="collect", concurrency=2
        )
    assert [(i, reply.text) for i, reply in caught.value.completed] == [(0, "slow a"), (3, "b")]
    assert [(f.index, f.id, f.text) for f in caught.value.failures] == [
        (1, None, "bad one"),
        (2, None, "bad two"),
        (4, None, None),
    ]
    assert isinstance(caught.value.failures[0].error, BadRequestError)
    assert caught.value.failures[0].error.index == 1
    assert caught.value.failures[0].to_dict() == {
        "index": 1,
        "type": "BadRequestError",
        "error": str(caught.value.failures[0].error),
        "text": "bad one",
    }


async def test_collect_without_errors_returns_the_answers(echoing: FaultServer, client: AsyncClient) -> None:
    """Where all goes well "collect" is like "raise"; one failure is spoken of in the singular."""
    assert len(await client.chat.batch(["a", "b"], on_error="collect")) == 2
    with pytest.raises(BatchError, match=r"^one item failed"):
        await client.chat.batch(["a", "bad"], on_error="collect")


async def test_errors_come_after_the_answers_that_were_there(echoing: FaultServer, client: AsyncClient) -> None:
    """as_completed hands out what was finished before the error, then raises it, and again when it is read on."""
    replies = client.chat.as_completed(["a", "b", "bad", "stall"], concurrency=1)
    assert [(await anext(replies))[0], (await anext(replies))[0]] == [0, 1]
    for _ in range(2):
        with pytest.raises(BadRequestError) as caught:
            await anext(replies)
        assert caught.value.index == 2


async def test_as_completed_collects_and_returns(echoing: FaultServer, client: AsyncClient) -> None:
    """The other ways with errors work as in batch: in the pairs, or once at the end."""
    pairs = [p async for p in client.chat.as_completed(iter(["a", "bad", ""]), on_error="return")]
    assert {i: type(reply) for i, reply in pairs} == {0: ChatCompletion, 1: BadRequestError, 2: ConfigurationError}
    seen = []
    with pytest.raises(BatchError) as caught:  # it comes at the end of the loop
        async for i, _ in client.chat.as_completed(iter(["a", "bad", "b"]), on_error="collect"):
            seen.append(i)
    assert sorted(seen) == [0, 2]
    assert [failure.index for failure in caught.value.failures] == [1]


async def test_of_a_list_bad_items_are_found_before_anything_is_sent(echoing: FaultServer, client: AsyncClient) -> None:
    """With "raise" a list is looked through first; another source when the item's turn comes."""
    conversations: list[Any] = ["a"] * 250 + [[]]
    with pytest.raises(ConfigurationError, match="empty") as caught:
        await client.chat.batch(conversations)
    assert (caught.value.index, caught.value.completed) == (250, ())
    with pytest.raises(TypeError, match="messages takes") as wrong:
        await client.chat.batch(["a", 5])  # type: ignore[list-item]
    assert vars(wrong.value)["index"] == 1
    with pytest.raises(ConfigurationError):
        await anext(client.chat.as_completed((*conversations,)))
    assert echoing.requests == []
    with pytest.raises(ConfigurationError) as late:
        await client.chat.batch(iter(["a", []]), concurrency=1)
    assert late.value.index == 1
    assert len(late.value.completed) == 1


async def test_arguments_are_checked_at_once(client: AsyncClient) -> None:
    """Wrong arguments raise where the method is called, before there is a loop's turn."""
    wrong: Any = client.chat.as_completed
    for source in ("hello", b"hello", {"role": "user"}, 5, None):
        with pytest.raises(TypeError, match="takes a list of conversations"):
            wrong(source)
    with pytest.raises(TypeError, match=r"batch takes a list .* not str"):
        await client.chat.batch("hello")
    with pytest.raises(TypeError, match="temperatur"):
        wrong(["a"], temperatur=1)
    with pytest.raises(ConfigurationError, match="on_error"):
        wrong(["a"], on_error="ignore")
    with pytest.raises(ConfigurationError, match="concurrency"):
        wrong(["a"], concurrency=0)
    with pytest.raises(ConfigurationError, match="kind"):
        wrong(["a"], model="baai/bge-m3")


class SourceError(Exception):
    pass


@pytest.mark.parametrize("on_error", ["raise", "return", "collect"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_error_of_the_source_is_raised_as_it_is(
    echoing: FaultServer, client: AsyncClient, on_error: Any, asynchronous: bool
) -> None:
    """The source's own error comes with its position, after what was in flight has been finished."""

    def broken() -> Iterator[str]:
        yield "slow a"
        yield "b"
        raise SourceError("broken")

    async def broken_async() -> AsyncIterator[str]:
        for item in broken():
            yield item

    source: Any = broken_async() if asynchronous else broken()
    with pytest.raises(SourceError) as caught:
        await client.chat.batch(source, on_error=on_error)
    assert vars(caught.value)["index"] == 2
    assert [i for i, _ in vars(caught.value)["completed"]] == [0, 1]


async def test_a_position_that_an_error_has_already_stays(echoing: FaultServer, client: AsyncClient) -> None:
    """An error of the source that tells its own index keeps it."""

    def broken() -> Iterator[str]:
        error = BatchError("inner")
        error.index = 77
        yield "a"
        raise error

    with pytest.raises(BatchError) as caught:
        await client.chat.batch(broken())
    assert caught.value.index == 77


async def test_a_closed_client_ends_a_batch(echoing: FaultServer, client: AsyncClient) -> None:
    """Closing the client during a batch ends it with ClientClosedError."""
    running = asyncio.ensure_future(client.chat.batch(["stall"] * 3))
    await echoing.until(lambda: len(echoing.requests) == 3)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await running


async def test_errors_of_the_server_are_retried_as_in_create(server: FaultServer, client: AsyncClient) -> None:
    """A 500 is tried once more, as generation is, and then it is that item's error."""
    server.script([error(500, "oops")], chat("well"))
    assert [reply.text for reply in await client.chat.batch(["a"])] == ["well"]
    server.script([error(500, "oops")])
    with pytest.raises(ServerError) as caught:
        await client.chat.batch(["a"])
    assert (caught.value.index, caught.value.attempts) == (0, 2)


# the gate --------------------------------------------------------------------------------


async def test_a_refusal_for_capacity_spends_no_attempt() -> None:
    """More conversations than a minute allows all get their answer: throttled ones wait at the gate, with one attempt."""
    policy = RetryPolicy(attempts=1, first_delay=0.02, max_delay=0.05)
    hasty = Simulator(rpm=10, models=["m"], clock=lambda: 120 * time.monotonic())  # twenty a second after ten at once
    async with hasty as simulator, AsyncClient(base_url=simulator.base_url, model="m", retry=policy) as client:
        replies = await client.chat.batch([f"number {n}" for n in range(25)], concurrency=8)
        assert all(reply.text for reply in replies)
        assert any(r.status == 429 for r in simulator.requests)


async def test_a_refusal_makes_all_wait(server: FaultServer, make_client: MakeClient) -> None:
    """While one conversation waits after a 429 with Retry-After, no other is sent."""
    server.script([error(429, "busy", "Retry-After: 0.2")], chat())
    client = make_client(retry=RetryPolicy(attempts=1, first_delay=0.001))
    with takes(0.2):
        await client.chat.batch(["a", "b", "c"], concurrency=1)
    assert len(server.requests) == 4


async def test_patience_ends(server: FaultServer, make_client: MakeClient) -> None:
    """A server that throttles for longer than the patience gives the throttling error of the item."""
    server.script(error(429, "busy"))
    client = make_client(retry=RetryPolicy(attempts=1, first_delay=0.01, max_delay=0.02, patience=0.05))
    replies = await client.chat.batch(["a", "b"], on_error="return")
    assert all(isinstance(reply, RateLimitError) for reply in replies)
