"""embeddings.embed_stream: any source, bounded memory, ordered or not, one bad text costs itself and little more."""

import asyncio
import gc
import itertools
import random
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from nimclient import AsyncClient, EmbeddedBatch, EmbedStream, Progress, RetryPolicy
from nimclient.errors import (
    AuthenticationError,
    BadRequestError,
    BatchError,
    ConfigurationError,
    ConnectionLostError,
    ContextLengthError,
    EmbeddingMismatchError,
    GoneError,
    ModelNotFoundError,
    NimError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)
from nimclient.simulator import Simulator
from support.cancelling import cancel_everywhere
from support.leaks import assert_idle, assert_no_strays, pools
from support.server import Close, FaultServer, Pause, Request, Stall
from support.wire import MODEL, answer, embedded, error

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]


def texts(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def numbers_of(batch: EmbeddedBatch) -> list[int]:
    """The texts that the vectors were made of."""
    return [int(vector[0]) for vector in batch.vectors]


def embed(request: Request) -> bytes:
    return answer(embedded(request.json["input"]))


def refusing(*bad: str, status: int = 400, words: str = "bad text", most: int = 10**6) -> Callable[[Request], Any]:
    """A server that rejects requests with these texts in them, or with more than `most` texts."""

    def script(request: Request) -> Any:
        sent = request.json["input"]
        if len(sent) > most:
            return error(422, f"batch size {len(sent)} > maximum allowed batch size {most}")
        poison = [text for text in sent if text in bad]
        return error(status, f"{words}: {poison[0]}") if poison else embed(request)

    return script


async def read(stream: EmbedStream) -> list[EmbeddedBatch]:
    return [batch async for batch in stream]


async def numbers(count: int) -> AsyncIterator[str]:
    for number in range(count):
        await asyncio.sleep(0)
        yield str(number)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():  # others bring it about
            await asyncio.sleep(0.002)


def busy(client: AsyncClient) -> bool:
    return not all(pool.is_idle() for pool in pools(client))


# the good days --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", [texts, lambda n: iter(texts(n)), numbers], ids=["list", "iterator", "async iterator"]
)
async def test_batches_come_in_the_order_of_the_source(
    server: FaultServer, client: AsyncClient, source: Callable[[int], Any]
) -> None:
    """Whatever finishes first, positions follow each other and fit the vectors; usage, model and meta come along."""
    server.script(lambda r: [Pause(0.02 if int(r.json["input"][0]) % 20 == 0 else 0.001), embed(r)])
    batches = await read(client.embeddings.embed_stream(source(95), batch_size=10, concurrency=4))
    assert [batch.indexes for batch in batches] == [range(at, min(at + 10, 95)) for at in range(0, 95, 10)]
    assert [number for batch in batches for number in numbers_of(batch)] == list(range(95))
    first = batches[0]
    assert first.usage is not None
    assert (first.usage.prompt_tokens, first.vectors.model, first.failures) == (10, MODEL, ())
    assert first.meta is not None
    assert (first.meta.status, first.meta.attempts) == (200, 1)
    assert {request.json["input_type"] for request in server.requests} == {"passage"}


async def test_batches_as_they_are_finished(server: FaultServer, client: AsyncClient) -> None:
    """With ordered=False a slow slice holds back nothing."""
    server.script(lambda r: [Pause(0.1 if r.json["input"][0] == "0" else 0.0), embed(r)])
    stream = client.embeddings.embed_stream(texts(50), batch_size=10, concurrency=3, ordered=False)
    starts = [batch.indexes[0] for batch in await read(stream)]
    assert starts[-1] == 0
    assert sorted(starts) == [0, 10, 20, 30, 40]


async def test_options_go_with_every_request(server: FaultServer, client: AsyncClient) -> None:
    """Model, input_type and the others are those of the call."""
    server.script(embed)
    options: dict[str, Any] = {"model": "m", "input_type": "query", "truncate": "END", "dimensions": 2, "user": "u"}
    await read(client.embeddings.embed_stream(texts(4), batch_size=2, **options))
    assert [{k: r.json[k] for k in options} for r in server.requests] == [options, options]
    server.requests.clear()
    await read(client.embeddings.embed_stream(["1"], input_type=None))
    assert "input_type" not in server.requests[0].json


async def test_nothing_gives_nothing(server: FaultServer, client: AsyncClient) -> None:
    """No texts, no batches and no request."""
    for source in ([], iter(()), numbers(0)):
        assert await read(client.embeddings.embed_stream(source)) == []
    assert server.connections == 0


async def test_the_default_model_is_looked_up_once() -> None:
    """With no model named, the server's models are listed once, not once a slice; not at all for an empty list."""
    async with Simulator() as simulator, AsyncClient(base_url=simulator.base_url) as client:
        assert await read(client.embeddings.embed_stream([])) == []
        assert simulator.requests == ()
        assert len(await read(client.embeddings.embed_stream(texts(9), batch_size=2))) == 5
        assert [r.path for r in simulator.requests].count("/v1/models") == 1


async def test_a_batch_size_of_the_callers_own(server: FaultServer, client: AsyncClient) -> None:
    """batch_size counts texts, up to what a request may weigh; without it 256 kB end a slice."""
    server.script(lambda r: answer(embedded(["1"] * len(r.json["input"]))))
    long = [f"{number}{'x' * 99_999}" for number in range(6)]
    await read(client.embeddings.embed_stream(long, batch_size=6))
    assert [len(r.json["input"]) for r in server.requests] == [6]
    server.requests.clear()
    await read(client.embeddings.embed_stream(long, concurrency=1))
    assert [len(r.json["input"]) for r in server.requests] == [2, 2, 2]


# bounded memory, leaving early ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
async def test_an_endless_source_is_taken_from_as_batches_are_handed_out(
    server: FaultServer, client: AsyncClient, asynchronous: bool, ordered: bool
) -> None:
    """At most 2 × concurrency slices are taken beyond those handed out, by a slow reader as well."""
    server.script(embed)
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield str(number)

    async def endless_async() -> AsyncIterator[str]:
        for item in endless():
            yield item

    source: Any = endless_async() if asynchronous else endless()
    handed_out = 0
    async with client.embeddings.embed_stream(source, batch_size=5, concurrency=3, ordered=ordered) as batches:
        async for _ in batches:
            handed_out += 1
            if handed_out % 10 == 0:
                await asyncio.sleep(0.02)
            assert taken <= (handed_out + 6) * 5
            if handed_out == 40:
                break
    if asynchronous:
        await source.aclose()
    assert_idle(client)


@pytest.mark.parametrize(("concurrency", "most"), [(None, 8), (16, 16)])
async def test_large_vectors_make_the_window_smaller(
    server: FaultServer, client: AsyncClient, monkeypatch: pytest.MonkeyPatch, concurrency: int | None, most: int
) -> None:
    """What is in flight or waits is bounded in bytes, too; a concurrency that was asked for is kept nevertheless."""
    monkeypatch.setattr("nimclient._resources.embed_stream.WINDOW_BYTES", 64)
    monkeypatch.setattr("nimclient._resources.embed_stream.WINDOW_SLICES", 2)
    server.script(embed)
    taken = handed_out = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield str(number)

    async with client.embeddings.embed_stream(endless(), batch_size=1, concurrency=concurrency) as batches:
        async for batch in batches:
            assert len(batch.vectors.buffer) == 8
            handed_out += 1
            if handed_out % 10 == 0:
                await asyncio.sleep(0.01)
            assert handed_out < 60 or taken <= handed_out + most
            if handed_out == 100:
                break


async def test_a_slow_slice_holds_up_no_more_than_the_window(server: FaultServer, client: AsyncClient) -> None:
    """While the first slice hangs, as many others are finished as may wait for their turn, and no more."""
    server.script(lambda r: [Stall()] if r.json["input"] == ["0"] else embed(r))
    async with client.embeddings.embed_stream(map(str, itertools.count()), batch_size=1, concurrency=4) as batches:
        reader = asyncio.ensure_future(anext(batches))
        await server.until(lambda: len(server.requests) == 8)
        await asyncio.sleep(0.03)
        assert len(server.requests) == 8
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def test_two_readers(server: FaultServer, client: AsyncClient) -> None:
    """A second task that reads gets an error of its own and takes nothing away from the first."""
    server.script(lambda r: [Pause(0.05), embed(r)] if r.json["input"] == ["0"] else embed(r))
    stream = client.embeddings.embed_stream(texts(4), batch_size=1)
    reader = asyncio.ensure_future(read(stream))
    await server.until(lambda: len(server.requests) == 4)
    await asyncio.sleep(0.02)
    with pytest.raises(RuntimeError, match="another task") as caught:
        await anext(stream)
    assert "completed" not in vars(caught.value)
    assert [n for batch in await reader for n in numbers_of(batch)] == [0, 1, 2, 3]


async def test_closed_while_batches_wait_for_their_turn(server: FaultServer, client: AsyncClient) -> None:
    """What was finished, but could not be handed out, is on the error of who reads on."""
    server.script(lambda r: [Stall()] if r.json["input"] == ["0"] else embed(r))
    stream = client.embeddings.embed_stream(texts(3), batch_size=1)
    reader = asyncio.ensure_future(anext(stream))
    await server.until(lambda: len(server.requests) == 3)
    await asyncio.sleep(0.05)
    await stream.aclose()
    with pytest.raises(StreamInterruptedError) as caught:
        await reader
    assert [(start, int(v[0][0])) for start, v in caught.value.completed] == [(1, 1), (2, 2)]


async def test_slices_that_wait_for_a_place_have_a_time_limit_too(server: FaultServer, client: AsyncClient) -> None:
    """timeout= is for each request; a place at the gate is taken as soon as it is free, not when the time is up."""
    server.script([Pause(0.03), answer(embedded(["1"]))])
    source = texts(12)
    started = asyncio.get_running_loop().time()
    await read(client.embeddings.embed_stream(source, batch_size=1, concurrency=2, timeout=10))
    assert asyncio.get_running_loop().time() - started < 5


@pytest.mark.parametrize(("concurrency", "batch_size"), [(1, 1), (1000, 1), (1000, 1000)])
async def test_extreme_settings(server: FaultServer, client: AsyncClient, concurrency: int, batch_size: int) -> None:
    """One at a time, or more at once than there are texts: every text gets its vector."""
    server.script(embed)
    stream = client.embeddings.embed_stream(numbers(150), concurrency=concurrency, batch_size=batch_size)
    assert [n for batch in await read(stream) for n in numbers_of(batch)] == list(range(150))


async def test_a_reader_that_raises_ends_what_is_under_way(server: FaultServer, client: AsyncClient) -> None:
    """An exception in the block comes out as it is, and nothing runs on."""
    server.script(lambda r: embed(r) if r.json["input"] == ["0"] else [Stall()])
    with pytest.raises(ZeroDivisionError):
        async with client.embeddings.embed_stream(texts(8), batch_size=1) as batches:
            async for _ in batches:
                raise ZeroDivisionError
    await server.until(lambda: server.open == 1)
    assert_idle(client)


async def test_leaving_the_block_ends_what_is_under_way(server: FaultServer, client: AsyncClient) -> None:
    """After break nothing runs on; reading on is an error; closing again does nothing."""
    server.script(lambda r: embed(r) if r.json["input"] == ["0"] else [Stall()])
    async with client.embeddings.embed_stream(texts(8), batch_size=1) as batches:
        async for batch in batches:
            assert numbers_of(batch) == [0]
            break
    await server.until(lambda: server.open == 1)
    assert_idle(client)
    await batches.aclose()
    with pytest.raises(StreamInterruptedError):
        await anext(batches)


@pytest.mark.real_time
async def test_forgotten_it_warns_and_cancels(server: FaultServer, client: AsyncClient) -> None:
    """A stream that is dropped half read gives a ResourceWarning and ends its requests."""
    server.script(lambda r: embed(r) if r.json["input"] == ["0"] else [Stall()])
    stream: EmbedStream | None = client.embeddings.embed_stream(texts(4), batch_size=1)
    assert stream is not None
    await anext(stream)
    with pytest.warns(ResourceWarning, match="not closed"):  # noqa: PT031  # by the collector
        del stream
        gc.collect()
    await eventually(lambda: not busy(client))
    assert_idle(client)


async def test_read_to_its_end_it_needs_no_closing(server: FaultServer, client: AsyncClient) -> None:
    """No warning comes of one that was read to its end, or that was never read; reading on ends at once."""
    server.script(embed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.embeddings.embed_stream(texts(4))
        stream = client.embeddings.embed_stream(texts(4))
        assert len(await read(stream)) == 1
        assert await read(stream) == []
        del stream
        gc.collect()


@pytest.mark.real_time
@pytest.mark.parametrize("bad", [(), ("3",)])
async def test_cancelled_anywhere_nothing_is_left(
    server: FaultServer, client: AsyncClient, bad: tuple[str, ...]
) -> None:
    """Cancelled at each of its suspensions, in the middle of a bisection too, a stream leaves no task and no slot."""
    server.script(refusing(*bad))

    async def after_each() -> None:
        await assert_no_strays()
        await eventually(lambda: not busy(client))
        assert_idle(client)

    def call() -> Any:
        return read(client.embeddings.embed_stream(texts(6), batch_size=3, concurrency=2, on_error="collect"))

    await call()
    assert await cancel_everywhere(call, after_each) > 1


# errors: one text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_one_bad_text_is_isolated(server: FaultServer, client: AsyncClient, status: int) -> None:
    """Collected, it alone fails, with its position and the server's words, for at most 2·log2(64) requests more."""
    server.script(refusing("37", status=status))
    batches = await read(client.embeddings.embed_stream(texts(200), on_error="collect"))
    assert [n for batch in batches for n in numbers_of(batch)] == [n for n in range(200) if n != 37]
    assert [list(batch.indexes) for batch in batches[:2]] == [[n for n in range(64) if n != 37], list(range(64, 128))]
    (failure,) = batches[0].failures
    assert (failure.index, failure.text, failure.error.index) == (37, "37", 37)
    assert "bad text: 37" in str(failure.error)
    assert len(server.requests) <= 4 + 12
    assert batches[0].usage is not None
    assert batches[0].usage.prompt_tokens == 63
    assert batches[0].meta is not None
    assert 2 <= batches[0].meta.attempts <= 13
    assert all(not batch.failures for batch in batches[1:])


async def test_errors_are_collected_and_not_returned(client: AsyncClient) -> None:
    """There is no place for an error among vectors, so that on_error="return" is not offered; the text says what is."""
    settings: Any = {"on_error": "return"}
    with pytest.raises(ConfigurationError, match="on_error is 'return'; choose one of raise, collect"):
        client.embeddings.embed_stream(texts(3), **settings)


async def test_raise_gives_the_error_of_the_text(server: FaultServer, client: AsyncClient) -> None:
    """The batches before it come first; what was finished beyond them is on the error, which is raised once and again."""
    server.script(lambda r: [Pause(0.05 if "25" in r.json["input"] else 0.0), refusing("25")(r)])
    seen = []
    stream = client.embeddings.embed_stream(texts(60), batch_size=10, concurrency=3)
    with pytest.raises(BadRequestError, match="bad text: 25") as caught:
        async for batch in stream:
            seen += numbers_of(batch)
    assert seen == list(range(20))
    assert caught.value.index == 25
    completed = {start: [int(v[0]) for v in done] for start, done in caught.value.completed}
    assert {20: [20, 21, 22, 23, 24], 30: list(range(30, 40))}.items() <= completed.items()
    assert list(completed) == sorted(completed)
    with pytest.raises(BadRequestError) as again:
        await anext(stream)
    assert again.value.completed == caught.value.completed
    assert_idle(client)


async def test_embed_documents_names_the_text(server: FaultServer, client: AsyncClient) -> None:
    """The error of embed_documents has the position of the bad text, and everything that was finished."""
    server.script(refusing("13"))
    with pytest.raises(BadRequestError) as caught:
        await client.embeddings.embed_documents(texts(32), batch_size=8, concurrency=1)
    assert caught.value.index == 13
    completed = [(start, [int(v[0]) for v in done]) for start, done in caught.value.completed]
    assert completed[0] == (0, list(range(8)))
    assert (8, [8, 9, 10, 11]) in completed


@pytest.mark.parametrize("script", [error(500, "crash"), [Close()]], ids=["500", "lost"])
async def test_a_text_that_breaks_the_server(server: FaultServer, make_client: MakeClient, script: Any) -> None:
    """Collected, a 500 or a lost connection of one text is isolated like a rejection; with "raise" it is raised at once."""
    client = make_client(retry=RetryPolicy(attempts=1))
    server.script(lambda r: script if "5" in r.json["input"] else embed(r))
    (batch,) = await read(client.embeddings.embed_stream(texts(16), on_error="collect"))
    assert numbers_of(batch) == [n for n in range(16) if n != 5]
    assert isinstance(batch.failures[0].error, (ServerError, ConnectionLostError))
    assert len(server.requests) <= 9 + 8  # a lost one is tried on a fresh connection
    server.requests.clear()
    with pytest.raises((ServerError, ConnectionLostError)) as caught:
        await read(client.embeddings.embed_stream(texts(16)))
    assert caught.value.index == 0
    assert len(server.requests) <= 2


async def test_a_text_that_hangs(server: FaultServer, make_client: MakeClient) -> None:
    """A text whose request never ends costs itself: the others are embedded within their time limits."""
    client = make_client(retry=RetryPolicy(attempts=1))
    server.script(lambda r: [Stall()] if "2" in r.json["input"] else embed(r))
    (batch,) = await read(client.embeddings.embed_stream(texts(4), on_error="collect", timeout=0.1))
    assert numbers_of(batch) == [0, 1, 3]
    assert [failure.index for failure in batch.failures] == [2]


async def test_several_bad_texts(server: FaultServer, client: AsyncClient) -> None:
    """All of them are found; the failures are sorted, and one a slice may be all there is."""
    server.script(refusing("0", "1", "2", "9", "12"))
    batches = await read(client.embeddings.embed_stream(texts(15), batch_size=3, on_error="collect"))
    assert [[f.index for f in batch.failures] for batch in batches] == [[0, 1, 2], [], [], [9], [12]]
    assert [list(batch.indexes) for batch in batches] == [[], [3, 4, 5], [6, 7, 8], [10, 11], [13, 14]]
    assert (len(batches[0].vectors), batches[0].usage, batches[0].meta) == (0, None, None)


async def test_items_that_cannot_be_sent(server: FaultServer, client: AsyncClient) -> None:
    """Collected, empty texts and other things fail in their place and nothing of them is sent."""
    server.script(embed)
    items: list[Any] = ["0", "", "2", 5, None, "5", "\ud800"]
    batches = await read(client.embeddings.embed_stream(iter(items), batch_size=3, on_error="collect"))
    assert [(list(b.indexes), [f.index for f in b.failures]) for b in batches] == [
        ([0, 2], [1]),
        ([5], [3, 4]),
        ([], [6]),
    ]
    assert all(isinstance(f.error, ConfigurationError) for b in batches for f in b.failures)
    assert len(server.requests) == 2


class Named(str):
    """A text with an id."""

    def __new__(cls, text: str, id: int) -> "Named":
        made = super().__new__(cls, text)
        made.id = id  # type: ignore[attr-defined]
        return made


async def test_texts_with_ids(server: FaultServer, client: AsyncClient) -> None:
    """A str subclass is a text; its id is that of its failure."""
    server.script(refusing("1"))
    items = [Named("0", 70), Named("1", 71)]
    (batch,) = await read(client.embeddings.embed_stream(items, on_error="collect"))
    assert [(failure.id, failure.text) for failure in batch.failures] == [("71", "1")]
    server.script(embed)
    (batch,) = await read(client.embeddings.embed_stream(items))
    assert numbers_of(batch) == [0, 1]


async def test_items_that_cannot_be_sent_raise(server: FaultServer, client: AsyncClient) -> None:
    """With "raise" they are found in a list before anything is sent, in another source when their turn comes."""
    server.script(embed)
    wrong: Any = ["0", "1", "", "3"]
    for items in (wrong, (*wrong,), ["0", "1", 2]):
        with pytest.raises(ConfigurationError, match=r"texts\[2\]") as caught:
            client.embeddings.embed_stream(items)
        assert caught.value.index == 2
    assert server.connections == 0
    seen = []
    with pytest.raises(ConfigurationError, match=r"texts\[2\] is empty") as late:
        async for batch in client.embeddings.embed_stream(iter(wrong)):
            seen += numbers_of(batch)
    assert (late.value.index, seen) == (2, [0, 1])


class SourceError(Exception):
    pass


@pytest.mark.parametrize("on_error", ["raise", "collect"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_error_of_the_source_is_raised_as_it_is(
    server: FaultServer, client: AsyncClient, on_error: Any, asynchronous: bool
) -> None:
    """It comes with its position, after the batches of all texts before it."""
    server.script(embed)

    def broken() -> Iterator[str]:
        yield from texts(7)
        raise SourceError("broken")

    async def broken_async() -> AsyncIterator[str]:
        for item in broken():
            yield item

    source: Any = broken_async() if asynchronous else broken()
    seen = []
    with pytest.raises(SourceError) as caught:
        async for batch in client.embeddings.embed_stream(source, batch_size=3, on_error=on_error):
            seen += numbers_of(batch)
    assert (vars(caught.value)["index"], seen) == (7, list(range(7)))


async def test_arguments_are_checked_at_once(client: AsyncClient) -> None:
    """Wrong arguments raise where the method is called."""
    wrong: Any = client.embeddings.embed_stream
    for source in ("hello", b"hello", {"a": 1}, 5, None):
        with pytest.raises(TypeError, match="takes a list of texts"):
            wrong(source)
    with pytest.raises(TypeError, match=r"embed_stream\(\) got an unexpected option 'dimension'"):
        wrong(["a"], dimension=5)
    for bad in ({"on_error": "x"}, {"batch_size": 0}, {"concurrency": 0}, {"truncate": "MIDDLE"}, {"input_type": "x"}):
        with pytest.raises(ConfigurationError, match=next(iter(bad))):
            wrong(["a"], **bad)
    with pytest.raises(ConfigurationError, match="kind"):
        wrong(["a"], model="meta/llama-3.1-8b-instruct")


# errors: the call -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_error", ["raise", "collect"])
@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (401, "no key", AuthenticationError),
        (403, "no", AuthenticationError),
        (404, "The model `x` does not exist.", ModelNotFoundError),
        (410, "gone", GoneError),
        (400, "The model `x` does not exist.", BadRequestError),
        (400, "invalid API key", BadRequestError),
        (400, "changing dimensions is not supported", BadRequestError),
    ],
)
async def test_what_is_wrong_with_the_call_ends_it_at_once(
    server: FaultServer, client: AsyncClient, on_error: Any, status: int, words: str, kind: type[NimError]
) -> None:
    """A wrong model, key or option costs as many requests as are in flight, not one a text."""
    server.script(error(status, words))
    with pytest.raises(kind) as caught:
        await read(
            client.embeddings.embed_stream(map(str, itertools.count()), dimensions=2, on_error=on_error, concurrency=4)
        )
    assert caught.value.index is not None
    assert len(server.requests) <= 4


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_a_server_that_takes_nothing_ends_it(server: FaultServer, make_client: MakeClient, status: int) -> None:
    """When three slices' worth of texts fail in a row the stream ends with BatchError, after some hundred requests."""
    client = make_client(retry=RetryPolicy(attempts=1))
    server.script(error(status, "never"))
    with pytest.raises(
        BatchError, match=r"consecutive texts failed without a success; the last error: never"
    ) as caught:
        await read(client.embeddings.embed_stream(map(str, itertools.count()), on_error="collect"))
    assert len(server.requests) < 700
    assert caught.value.failures
    assert caught.value.index is not None
    assert isinstance(caught.value.__cause__, NimError)


async def test_many_bad_texts_among_good_ones_do_not_end_it(server: FaultServer, client: AsyncClient) -> None:
    """Failures count only while nothing is taken: a source with every second text bad is read to its end."""
    server.script(refusing(*(str(n) for n in range(0, 400, 2))))
    batches = await read(client.embeddings.embed_stream(map(str, range(400)), batch_size=8, on_error="collect"))
    assert sum(len(batch.failures) for batch in batches) == 200
    assert [n for batch in batches for n in numbers_of(batch)] == list(range(1, 400, 2))


async def test_a_refusal_for_capacity_is_nobodys_fault(server: FaultServer, make_client: MakeClient) -> None:
    """When its patience is spent the stream ends with the rejection; no text is called bad."""
    client = make_client(retry=RetryPolicy(attempts=1, first_delay=0.01, max_delay=0.02, patience=0.05))
    server.script(error(429, "busy"))
    with pytest.raises(RateLimitError) as caught:
        await read(client.embeddings.embed_stream(texts(4), on_error="collect"))
    assert caught.value.index == 0


# what a server takes --------------------------------------------------------------------------------------------------


async def test_a_batch_size_is_learned_once(server: FaultServer, client: AsyncClient) -> None:
    """A server that names the largest batch it takes gets no larger one again, in later calls neither."""
    server.script(refusing(most=24))
    batches = await read(client.embeddings.embed_stream(texts(640), concurrency=2))
    assert [n for batch in batches for n in numbers_of(batch)] == list(range(640))
    too_large = sum(len(request.json["input"]) > 24 for request in server.requests)
    assert 1 <= too_large <= 4  # those that were cut before the first refusal came
    server.requests.clear()
    assert len(await client.embeddings.embed_documents(texts(100))) == 100
    assert [len(request.json["input"]) for request in server.requests] == [24, 24, 24, 24, 4]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
async def test_rejections_that_come_and_go_do_not_shrink_the_slices_for_ever(
    server: FaultServer, client: AsyncClient, share: float
) -> None:
    """A 400 now and then, whatever the size: a success at the size that was suspected clears the suspicion."""
    chance = random.Random(7)
    server.script(lambda r: error(400, "no") if chance.random() < share and len(r.json["input"]) > 1 else embed(r))
    texts = list(map(str, range(100, 100 + 64 * 47)))
    batches = await read(client.embeddings.embed_stream(texts, concurrency=1, on_error="collect"))
    assert sum(len(batch.vectors) for batch in batches) == len(texts)
    assert len(server.requests) < (200 if share < 0.3 else 250)


async def test_vectors_of_another_model_are_told_once(server: FaultServer, make_client: MakeClient) -> None:
    """A server that changes its model, or replicas that are not alike: a warning, and an error of a strict client."""
    names = iter(["a", "a", "b", "b", "b", "c"])
    server.script(lambda r: answer({**embedded(r.json["input"]), "model": next(names)}))
    with pytest.warns(UserWarning, match="vectors of model 'b', but the first ones are of 'a'") as caught:
        await make_client().embeddings.embed_documents(list(map(str, range(10))), batch_size=2, concurrency=1)
    assert len(caught) == 1
    names = iter(["a", "b"])
    server.script(lambda r: answer({**embedded(r.json["input"]), "model": next(names)}))
    with pytest.raises(EmbeddingMismatchError, match="of model 'b'") as strict:
        await make_client(strict=True).embeddings.embed_documents(list(map(str, range(4))), batch_size=2, concurrency=1)
    assert strict.value.index == 2


@pytest.mark.parametrize("words", ["Payload Too Large", "too many inputs", "no"])
async def test_a_limit_without_a_number_is_learned_too(server: FaultServer, client: AsyncClient, words: str) -> None:
    """A slice that is rejected although each text is fine is halved; later ones are sent in the size that was taken."""
    status = 413 if words.startswith("Payload") else 400
    server.script(lambda r: error(status, words) if len(r.json["input"]) > 40 else embed(r))
    batches = await read(client.embeddings.embed_stream(map(str, range(100, 740)), concurrency=1, on_error="collect"))
    assert sum(len(batch.vectors) for batch in batches) == 640
    assert all(isinstance(batch.indexes, range) for batch in batches)
    refused = [n for n, request in enumerate(server.requests) if len(request.json["input"]) > 40]
    assert len(refused) <= 4
    assert refused[-1] < 30


async def test_a_text_that_the_hosted_gateway_would_refuse(server: FaultServer, make_client: MakeClient) -> None:
    """A body above the gateway's limit is not sent; the text that makes it so fails alone, without a request."""
    client = make_client(dialect="hosted", api_key="a-key")
    server.script(lambda r: answer(embedded(["1"] * len(r.json["input"]))))
    source = ["\n" * 14_000_000 if n == 5 else f"text {n}" for n in range(8)]  # as JSON it has twice the bytes
    stream = client.embeddings.embed_stream(source, on_error="collect", batch_size=8)
    (batch,) = await read(stream)
    assert [(f.index, type(f.error)) for f in batch.failures] == [(5, ConfigurationError)]
    assert batch.indexes == (0, 1, 2, 3, 4, 6, 7)
    assert max(len(r.body) for r in server.requests) <= 1000
    assert stream.progress.requests == len(server.requests)


async def test_base64_is_refused_once_by_each_slice_under_way(server: FaultServer, client: AsyncClient) -> None:
    """While one slice learns that base64 is rejected, the others pay at most once; those that come later do not pay."""

    def script(request: Request) -> Any:
        if "encoding_format" in request.json:
            return [Pause(0.02), error(400, "encoding_format base64 is not supported")]
        data = [{"index": i, "embedding": [float(t), 1.0]} for i, t in enumerate(request.json["input"])]
        return answer({"data": data, "model": MODEL})

    server.script(script)
    vectors = await client.embeddings.embed_documents(texts(400), batch_size=10, concurrency=4)
    assert [int(vector[0]) for vector in vectors] == list(range(400))
    refused = [tuple(r.json["input"]) for r in server.requests if "encoding_format" in r.json]
    assert len(refused) == len(set(refused)) <= 4
    assert len(server.requests) == 40 + len(refused)


# vectors that do not fit ----------------------------------------------------------------------------------------------


async def test_one_vector_that_is_not_finite(server: FaultServer, client: AsyncClient) -> None:
    """The slice is tried once more, then the text that has no vector is found; the others have theirs."""
    server.script(lambda r: answer(embedded(["nan" if t == "6" else t for t in r.json["input"]])))
    stream = client.embeddings.embed_stream(texts(8), on_error="collect")
    (batch,) = await read(stream)
    assert numbers_of(batch) == [0, 1, 2, 3, 4, 5, 7]
    assert isinstance(batch.failures[0].error, EmbeddingMismatchError)
    assert batch.failures[0].index == 6
    assert len(server.requests) <= 2 * (1 + 6)
    assert stream.progress.requests == len(server.requests)


async def test_a_slip_of_the_server_costs_a_request(server: FaultServer, client: AsyncClient) -> None:
    """An answer with a vector too few, once, is asked for again."""
    server.script(answer(embedded(texts(3))), embed)
    (batch,) = await read(client.embeddings.embed_stream(texts(4), on_error="collect"))
    assert (numbers_of(batch), batch.failures, len(server.requests)) == ([0, 1, 2, 3], (), 2)


@pytest.mark.parametrize("on_error", ["raise", "collect"])
async def test_other_dimensions_than_the_first(server: FaultServer, client: AsyncClient, on_error: Any) -> None:
    """Texts whose vectors are longer than the first ones fail; nothing misaligned is handed out."""
    server.script(lambda r: answer(embedded(r.json["input"], 3 if "5" in r.json["input"] else 2)))
    stream = client.embeddings.embed_stream(texts(8), batch_size=4, concurrency=1, on_error=on_error)
    batches = []
    if on_error == "raise":
        with pytest.raises(
            EmbeddingMismatchError, match="vectors of 3 dimensions, but the first ones have 2"
        ) as caught:
            async for batch in stream:
                batches.append(batch)
        assert (caught.value.index, len(batches)) == (5, 1)
        return
    batches = await read(stream)
    assert [numbers_of(batch) for batch in batches] == [[0, 1, 2, 3], [4, 6, 7]]
    assert {batch.vectors.dimensions for batch in batches} == {2}
    assert [failure.index for failure in batches[1].failures] == [5]


async def test_too_long_a_text(client: AsyncClient, server: FaultServer) -> None:
    """NIM's words for a text that is too long, which name an option, blame the text: the others are embedded."""
    words = "Input length 600 exceeds maximum allowed token size 512; set truncate=END"
    server.script(refusing("3", words=words))
    (batch,) = await read(client.embeddings.embed_stream(texts(6), truncate="NONE", on_error="collect"))
    assert isinstance(batch.failures[0].error, ContextLengthError)
    assert numbers_of(batch) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("dialect", ["nim", "vllm", "dynamo", "hosted"])
async def test_every_dialects_refusals(dialect: Any) -> None:
    """With each server type a text that is too long fails alone, by its own words, and a wrong model ends the stream."""
    long = "word " * 9000
    source = [long if n == 70 else f"text {n}" for n in range(100)]
    retry = RetryPolicy(attempts=1)
    async with (
        Simulator(dialect=dialect) as simulator,
        AsyncClient("nvapi-a-key", simulator.base_url, model="nvidia/nv-embedqa-e5-v5", retry=retry) as client,
    ):
        stream = client.embeddings.embed_stream(source, on_error="collect", prefix="")
        batches = await read(stream)
        assert [i for batch in batches for i in batch.indexes] == [n for n in range(100) if n != 70]
        (failure,) = (failure for batch in batches for failure in batch.failures)
        assert (failure.index, failure.text == long) == (70, True)
        assert isinstance(failure.error, ContextLengthError)
        assert stream.progress.requests <= 2 + 2 * 6
        with pytest.raises(NimError) as caught:
            await read(client.embeddings.embed_stream(source, model="no/such-model", on_error="collect", prefix=""))
        assert not isinstance(caught.value, BatchError)
        assert caught.value.index in (0, 64)


# progress -------------------------------------------------------------------------------------------------------------


@pytest.mark.real_time
async def test_progress(server: FaultServer, make_client: MakeClient) -> None:
    """on_progress is notified after each slice: counts that grow, what failed, throttles apart from retries, latencies."""
    client = make_client(retry=RetryPolicy(attempts=2, first_delay=0.01, max_delay=0.02))
    server.script(error(429), error(500), lambda r: [Pause(0.1 * ("15" in r.json["input"])), refusing("3")(r)])
    seen: list[Progress] = []
    stream = client.embeddings.embed_stream(
        texts(20), batch_size=5, concurrency=2, on_error="collect", on_progress=seen.append
    )
    before = stream.progress
    assert (before.done, before.total, before.seconds, before.limit, before.latency_p50) == (0, 20, 0.0, 2, None)
    assert len(await read(stream)) == len(seen) == 4
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    last = seen[-1]
    assert (last.done, last.failed, last.total, last.resumed) == (20, 1, 20, 0)
    assert last.requests == len(server.requests)
    assert (last.refusals, last.retries) == (1, 1)
    assert last.tokens == 19
    assert (last.in_flight, last.limit) == (0, 2)
    assert last.latency_p50 is not None
    assert last.latency_p95 is not None
    assert 0 < last.latency_p50 <= last.latency_p95
    assert last.eta == 0
    assert stream.progress.done == 20
    assert any(p.in_flight for p in seen[:-1])


async def test_an_unknown_total(server: FaultServer, client: AsyncClient) -> None:
    """A source that does not tell its length has no total."""
    server.script(embed)
    seen: list[Progress] = []
    await read(client.embeddings.embed_stream(iter(texts(3)), on_progress=seen.append))
    assert (seen[-1].total, seen[-1].eta, seen[-1].done) == (None, None, 3)


async def test_a_listener_that_raises_ends_the_stream(server: FaultServer, client: AsyncClient) -> None:
    """Its exception comes out as it is, after the batches before it, with the last one on it; nothing runs on."""

    def listen(progress: Progress) -> None:
        if progress.done >= 4:
            raise ZeroDivisionError

    server.script(lambda r: embed(r) if int(r.json["input"][0]) < 4 else [Stall()])
    stream = client.embeddings.embed_stream(texts(12), batch_size=2, concurrency=2, on_progress=listen, ordered=False)
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError) as caught:
        async for batch in stream:
            seen += batch.indexes
    kept = [start for start, _ in vars(caught.value)["completed"]]
    assert sorted([seen[0], *kept]) == [0, 2]
    assert_idle(client)
    with pytest.raises(ZeroDivisionError):
        await anext(stream)


# everything at once ---------------------------------------------------------------------------------------------------


async def let_others_go_on(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def troubled(seed: int) -> Callable[[Request], Any]:
    """A server that shuffles its answers, limits batches, rejects and mangles some texts, and has moods, which pass."""
    chance = random.Random(seed)
    most = chance.choice([3, 7, 16, 10**6])
    seen: set[bytes] = set()

    def script(request: Request) -> Any:
        sent = request.json["input"]
        mood = 1.0 if request.body in seen else chance.random()
        seen.add(request.body)
        if mood < 0.05:
            return error(429, "busy")
        if mood < 0.07:
            return error(500, "oops")
        if mood < 0.08:
            return answer(embedded(sent[1:]))  # a vector too few
        if len(sent) > most:
            return error(413, f"batch size {len(sent)} > maximum allowed batch size {most}")
        if any(int(text) % 23 == 5 for text in sent):
            return error(422, "bad text")
        body = embedded(["nan" if int(text) % 97 == 7 else text for text in sent], 3 if "97" in sent else 2)
        chance.shuffle(body["data"])
        return [partial(let_others_go_on, chance.randrange(8)), answer(body)]

    return script


@pytest.mark.parametrize("seed", range(12))
async def test_nothing_is_lost_or_misplaced(server: FaultServer, make_client: MakeClient, seed: int) -> None:
    """Whatever the server does, every text gets its own vector or a failure, once, and only bad texts fail."""
    client = make_client(retry=RetryPolicy(attempts=4, first_delay=0.001, max_delay=0.002))
    server.script(answer(embedded(["0"])), troubled(seed))
    await client.embeddings.create(["0"])
    source: list[Any] = [str(number) for number in range(300)]
    source[50:50] = ["", 5]
    numbers: dict[int, int] = {}
    failed: set[int] = set()
    stream = client.embeddings.embed_stream(
        iter(source), batch_size=20, concurrency=5, ordered=seed % 2 == 0, on_error="collect"
    )
    async for batch in stream:
        assert len(batch.indexes) == len(batch.vectors)
        numbers |= dict(zip(batch.indexes, numbers_of(batch), strict=True))
        failed |= {failure.index for failure in batch.failures}
    assert sorted([*numbers, *failed]) == list(range(302))
    assert all(source[index] == str(number) for index, number in numbers.items())
    bad = {
        i
        for i, text in enumerate(source)
        if i in (50, 51) or int(text) % 23 == 5 or int(text) % 97 == 7 or text == "97"
    }
    assert failed == bad
    assert stream.progress.requests == len(server.requests) - 1
