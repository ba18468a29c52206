"""Blocking embed_stream: as in AsyncClient, with the source and the callback in the caller's thread."""

import gc
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from nimclient import Client, Progress, RetryPolicy, SyncEmbedStream
from nimclient.errors import BadRequestError, ConfigurationError, StreamInterruptedError
from support.server import FaultServer, Pause, ServerThread, Stall
from support.wire import MODEL, answer, embedded, error


def script(request: Any) -> Any:
    sent = request.json["input"]
    if "13" in sent:
        return [Pause(0.02), error(400, "bad text")]
    return [Stall()] if "stall" in sent else answer(embedded(sent))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with ServerThread() as server:
        server.script(script)
        yield server


@pytest.fixture
def client(server: FaultServer) -> Iterator[Client]:
    with Client(base_url=server.url, model=MODEL, retry=RetryPolicy(attempts=1)) as client:
        yield client


@pytest.mark.parametrize("make", [list, tuple, iter])
@pytest.mark.parametrize("ordered", [True, False])
def test_batches(client: Client, make: Any, ordered: bool) -> None:
    """Lists and other iterables give every text its vector, and the failure its place."""
    source = make(map(str, range(50)))
    with client.embeddings.embed_stream(source, batch_size=4, on_error="collect", ordered=ordered) as batches:
        assert isinstance(batches, SyncEmbedStream)
        assert iter(batches) is batches
        pairs = [(i, int(v[0])) for batch in batches for i, v in zip(batch.indexes, batch.vectors, strict=True)]
    assert all(index == number for index, number in pairs)
    assert {index for index, _ in pairs} == set(range(50)) - {13}
    assert (batches.progress.done, batches.progress.failed) == (50, 1)
    assert not ordered or pairs == sorted(pairs)
    assert list(batches) == []


def test_source_and_listener_run_in_the_reading_thread(client: Client) -> None:
    """An endless generator is advanced in the thread that reads, a bounded number of slices ahead, and so is on_progress."""
    threads: set[int] = set()
    taken = handed_out = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for number in itertools.count(100):
            threads.add(threading.get_ident())
            taken += 1
            yield str(number)

    def listen(progress: Progress) -> None:
        threads.add(threading.get_ident())
        assert progress.done > 0

    with client.embeddings.embed_stream(endless(), batch_size=5, concurrency=3, on_progress=listen) as batches:
        for batch in batches:
            handed_out += 1
            assert [int(v[0]) - 100 for v in batch.vectors] == list(batch.indexes)
            assert taken <= (handed_out + 6) * 5
            if handed_out == 30:
                break
    assert threads == {threading.get_ident()}


def test_errors(client: Client) -> None:
    """The failing text's error has what was finished beyond the batches before it; an error of the source is its own."""
    seen = []
    with pytest.raises(BadRequestError) as caught:
        for batch in client.embeddings.embed_stream(map(str, range(40)), batch_size=4, concurrency=4):
            seen += list(batch.indexes)
    assert (caught.value.index, seen) == (13, list(range(12)))
    assert caught.value.completed[0][0] == 12

    def broken() -> Iterator[str]:
        yield "1"
        raise KeyError("broken")

    with pytest.raises(KeyError) as own:
        list(client.embeddings.embed_stream(broken()))
    assert vars(own.value)["index"] == 1


def test_a_listener_that_raises(client: Client) -> None:
    """Its exception ends the stream and comes out as it is."""

    def listen(progress: Progress) -> None:
        raise ZeroDivisionError

    batches = client.embeddings.embed_stream(["1", "stall"], batch_size=1, on_progress=listen)
    with pytest.raises(ZeroDivisionError):
        next(batches)
    with pytest.raises(StreamInterruptedError):
        list(batches)


def test_closing_and_forgetting(client: Client) -> None:
    """Leaving the block ends what is in flight; a stream that is dropped half read warns."""
    with client.embeddings.embed_stream(["1", "stall"], batch_size=1) as batches:
        assert next(batches).indexes == range(1)
    batches.close()
    for source in (["1", "stall"], iter(["1", "stall"])):
        stream: Any = client.embeddings.embed_stream(source, batch_size=1)
        next(stream)
        with pytest.warns(ResourceWarning, match="not closed"):  # noqa: PT031  # by the collector
            del stream
            gc.collect()


def test_wrong_sources(client: Client) -> None:
    """A str, a number, an async iterable, an unknown option and a bad item are rejected at once."""

    async def texts() -> Any:
        yield "a"

    wrong: Any = client.embeddings.embed_stream
    for source in ("hello", 5):
        with pytest.raises(TypeError, match="takes a list of texts"):
            wrong(source)
    with pytest.raises(TypeError, match="AsyncClient"):
        wrong(texts())
    with pytest.raises(TypeError, match="dimension"):
        wrong(["a"], dimension=5)
    with pytest.raises(ConfigurationError, match="empty"):
        wrong(["a", ""])
