"""Equal texts are sent once: within a call, within the window of a stream, and across calls and processes with a cache."""

import asyncio
import random
import sqlite3
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient import AsyncClient, Progress, RetryPolicy
from nimclient.errors import BadRequestError, ConfigurationError, EmbeddingMismatchError
from nimclient.simulator import Simulator, SimulatorThread
from nimclient.testing import FakeTransport
from support.jobs import run_cached_calls, start
from support.wire import embedded

ONCE = RetryPolicy(attempts=1)
NO_PREFIX: Any = {"embedding": {"prefix": ""}}


def fake(**changes: Any) -> tuple[AsyncClient, FakeTransport]:
    """A client of a server whose vectors begin with the number that each text is; it rejects the text "13"."""
    transport = FakeTransport(lambda request: 400 if "13" in request.json["input"] else embedded(request.json["input"]))
    settings = {"model": "m", "transport": transport, "retry": ONCE, **changes}
    return AsyncClient("k", "http://fake", **settings), transport


def sent(transport: Any) -> list[str]:
    return [text for request in transport.requests if request.json is not None for text in request.json["input"]]


def repeating(count: int, share: float) -> list[str]:
    """`count` texts in random order, of which this share repeats another."""
    source = random.Random(5)
    different = [str(number) for number in range(100, 100 + round(count * (1 - share)))]
    texts = [*different, *source.choices(different, k=count - len(different))]
    source.shuffle(texts)
    return texts


# within a call ----------------------------------------------------------------------------------------------------


async def test_documents_with_60_percent_repeats() -> None:
    """60 % fewer texts are sent, in full slices; each position has its vector, and the counts are of all texts."""
    texts = repeating(1000, 0.6)
    seen: list[Progress] = []
    client, transport = fake()
    async with client:
        vectors = await client.embeddings.embed_documents(texts, on_progress=seen.append)
    assert len(sent(transport)) == len(set(texts)) == 400
    assert len(transport.requests) == 7
    assert [int(vector[0]) for vector in vectors] == list(map(int, texts))
    assert (seen[-1].done, seen[-1].total, seen[-1].repeated, seen[-1].cached) == (1000, 1000, 600, 0)
    assert vectors.usage is not None
    assert vectors.meta is not None
    assert vectors.meta.attempts == 7


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_stream_with_60_percent_repeats(ordered: bool) -> None:
    """A stream sends each text once while it remembers it; batches and indexes are as without repeats."""
    texts = repeating(1000, 0.6)
    client, transport = fake()
    async with client:
        stream = client.embeddings.embed_stream(iter(texts), ordered=ordered, batch_size=20, concurrency=8)
        batches = [batch async for batch in stream]
    assert len(sent(transport)) == 400
    pairs = [(i, int(v[0])) for batch in batches for i, v in zip(batch.indexes, batch.vectors, strict=True)]
    assert (pairs if ordered else sorted(pairs)) == list(enumerate(map(int, texts)))
    assert {len(batch.vectors) for batch in batches} == {20}
    assert all(isinstance(batch.indexes, range) and batch.usage is not None for batch in batches)
    assert (stream.progress.done, stream.progress.repeated) == (1000, 600)


@given(st.lists(st.integers(10, 16), min_size=1, max_size=30), st.integers(1, 5), st.integers(1, 4), st.booleans())
@settings(max_examples=30, deadline=None)
async def test_repeats_with_a_bad_text(numbers: list[int], batch_size: int, concurrency: int, ordered: bool) -> None:
    """Whatever repeats in whatever slices: every index has its vector, or the failure of its text."""
    texts = list(map(str, numbers))
    client, _ = fake()
    async with client:
        stream = client.embeddings.embed_stream(
            texts, batch_size=batch_size, concurrency=concurrency, ordered=ordered, on_error="collect"
        )
        batches = [batch async for batch in stream]
    found = {i: int(v[0]) for b in batches for i, v in zip(b.indexes, b.vectors, strict=True)}
    failed = sorted(failure.index for batch in batches for failure in batch.failures)
    assert found == {i: number for i, number in enumerate(numbers) if number != 13}
    assert failed == [i for i, number in enumerate(numbers) if number == 13]
    assert (stream.progress.done, stream.progress.failed) == (len(texts), len(failed))


async def test_the_error_of_a_repeated_text() -> None:
    """`.index` is the first position of the text, and `.completed` has the repeats of what was finished."""
    client, _ = fake()
    async with client:
        with pytest.raises(BadRequestError) as caught:
            await client.embeddings.embed_documents(["1", "2", "1", "13", "2", "13"], batch_size=2, concurrency=1)
    assert caught.value.index == 3
    completed: Any = getattr(caught.value, "completed", ())
    pairs = [(start + place, int(v[0])) for start, vectors in completed for place, v in enumerate(vectors)]
    assert sorted(pairs) == [(0, 1), (1, 2), (2, 1), (4, 2)]


async def test_a_text_that_cannot_be_sent_is_named_by_its_position() -> None:
    """Also where texts before it repeat."""
    client, _ = fake()
    async with client:
        with pytest.raises(ConfigurationError, match=r"texts\[3\] holds a lone surrogate") as caught:
            await client.embeddings.embed_documents(["1", "1", "2", "\ud800"])
    assert caught.value.index == 3


async def test_items_that_are_no_texts() -> None:
    """Lists and dicts, which have no hash, fail each at their own position."""
    items: Any = ["1", [1, 2], {"a": 1}, [1, 2], "1", None]
    client, transport = fake()
    async with client:
        batches = [b async for b in client.embeddings.embed_stream(items, on_error="collect")]
    assert [failure.index for batch in batches for failure in batch.failures] == [1, 2, 3, 5]
    assert [i for batch in batches for i in batch.indexes] == [0, 4]
    assert sent(transport) == ["1"]


@pytest.mark.slow
async def test_what_a_stream_remembers_is_bounded() -> None:
    """A text whose vector was forgotten is sent again."""
    vectors = {"object": "list", "data": [{"index": 0, "embedding": [1.0] * 2_000_000}]}
    transport = FakeTransport(lambda _: vectors)
    async with AsyncClient("k", "http://fake", model="m", transport=transport) as client:
        texts = ["1", "2", "1", "3", "4", "1"]
        stream = client.embeddings.embed_stream(texts, batch_size=1, concurrency=1)
        assert sum([len(batch) async for batch in stream]) == 6
    assert sent(transport) == ["1", "2", "3", "4", "1"]


# the cache --------------------------------------------------------------------------------------------------------


async def test_a_cache_across_clients(tmp_path: Path) -> None:
    """What one client has embedded the next one takes from the folder, bit for bit; only new texts are sent."""
    texts = repeating(300, 0.5)
    client, transport = fake()
    async with client:
        first = await client.embeddings.embed_documents(texts, cache=tmp_path / "cache")
    assert len(sent(transport)) == 150
    client, transport = fake()
    seen: list[Progress] = []
    async with client:
        again = await client.embeddings.embed_documents(
            [*texts, "1", "2"], cache=str(tmp_path / "cache"), on_progress=seen.append
        )
    assert sent(transport) == ["1", "2"]
    assert again[:300].buffer == first.buffer
    assert (seen[-1].done, seen[-1].cached, seen[-1].repeated, seen[-1].requests) == (302, 150, 150, 1)


async def test_a_call_that_sends_nothing(tmp_path: Path) -> None:
    """Vectors that all come from the cache have used no tokens and have no response."""
    client, transport = fake()
    async with client:
        once = await client.embeddings.embed_documents(["1", "2"], cache=tmp_path)
        again = await client.embeddings.embed_documents(["2", "1", "2"], cache=tmp_path)
        batches = [b async for b in client.embeddings.embed_stream(["1"], cache=tmp_path)]
    assert len(transport.requests) == 1
    assert again.tolist() == [once[1].tolist(), once[0].tolist(), once[1].tolist()]
    assert again.usage is not None
    assert (again.usage.prompt_tokens, again.meta, again.dtype) == (0, None, "float32")
    assert [(list(b.indexes), b.vectors.tolist(), b.meta) for b in batches] == [([0], [once[0].tolist()], None)]


CHANGES: list[dict[str, Any]] = [
    {"model": "other"},
    {"prefix": "9"},
    {"truncate": "END"},
    {"dimensions": 2},
    {"embed_dtype": "float16"},
    {"modality": "text"},
    {"extra_body": {"normalize": False}},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
async def test_what_changes_a_vector_is_in_its_key(tmp_path: Path, change: dict[str, Any]) -> None:
    """A call with another option finds nothing of the first one's, and its own when it comes again."""
    client, transport = fake()
    async with client:
        for options in ({}, change, change, {"user": "me", "timeout": 5, "batch_size": 1}):
            await client.embeddings.embed_documents(["1"], cache=tmp_path, **options)
        assert len(transport.requests) == 2
        query = [b async for b in client.embeddings.embed_stream(["1"], cache=tmp_path, input_type="query")]
    assert (len(query), len(transport.requests)) == (1, 3)


async def test_raw_bytes_and_base64_share_a_cache(tmp_path: Path) -> None:
    """How vectors are sent does not change them."""
    simulator = Simulator(dialect="vllm", models=["m"])
    async with simulator, AsyncClient("k", simulator.base_url, model="m", dialect="vllm", defaults=NO_PREFIX) as client:
        raw = await client.embeddings.embed_documents(["a", "b"], cache=tmp_path)
        packed = await client.embeddings.embed_documents(["a", "b"], cache=tmp_path, encoding_format="base64")
    assert len(simulator.requests) == 1
    assert raw == packed


async def test_a_model_of_other_dimensions_under_the_same_name(tmp_path: Path) -> None:
    """Vectors of the cache are never mixed with those of another model."""
    client, _ = fake()
    async with client:
        await client.embeddings.embed_documents(["1"], cache=tmp_path)
    transport = FakeTransport(lambda request: embedded(request.json["input"], dimensions=5))
    async with AsyncClient("k", "http://fake", model="m", transport=transport, retry=ONCE) as client:
        for texts in (["1", "2"], ["3", "1"]):
            with pytest.raises(EmbeddingMismatchError, match="dimensions"):
                await client.embeddings.embed_documents(texts, cache=tmp_path)


def served_by(model: str, **settings: Any) -> AsyncClient:
    """A client whose server answers with a model of this name, whatever was asked for."""
    transport = FakeTransport(lambda request: {**embedded(request.json["input"]), "model": model})
    return AsyncClient("k", "http://fake", model="default", transport=transport, **settings)


async def test_another_model_under_the_same_name(tmp_path: Path) -> None:
    """Vectors of equal dimensions do not show it, the name in the answer does: said once, and the cache is used no more."""
    async with served_by("first") as client:
        await client.embeddings.embed_documents(["1", "2"], cache=tmp_path)
    async with served_by("second") as client:
        with pytest.warns(
            UserWarning, match="vectors of model 'first', but the server answers with 'second'"
        ) as warned:
            await client.embeddings.embed_documents(["1", "3", "4"], batch_size=1, cache=tmp_path)
    assert len(warned) == 1
    async with served_by("second", strict=True) as client:
        with pytest.raises(EmbeddingMismatchError, match="use another cache"):
            await client.embeddings.embed_documents(["1", "3"], cache=tmp_path)
    async with served_by("first", strict=True) as client:
        await client.embeddings.embed_documents(["1", "3", "4"], cache=tmp_path)


@pytest.mark.parametrize("cache", [3, "", b""])
async def test_a_cache_that_is_no_folder(cache: Any) -> None:
    """It takes a path."""
    client, _ = fake()
    async with client:
        with pytest.raises(ConfigurationError, match="cache takes the path of a folder"):
            await client.embeddings.embed_documents(["1"], cache=cache)


async def test_a_cache_that_cannot_be_opened(tmp_path: Path) -> None:
    """A file in its place, and a file that is no database, are errors before anything is sent."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "vectors.sqlite").write_bytes(b"no database " * 100)
    client, transport = fake()
    async with client:
        for folder in (tmp_path / "file", tmp_path):
            with pytest.raises(ConfigurationError, match="cannot be opened"):
                await client.embeddings.embed_documents(["1"], cache=folder)
    assert not transport.requests


async def test_a_cache_that_breaks_costs_requests_only(tmp_path: Path) -> None:
    """A table that vanished is warned of once, and the vectors come from the server."""
    client, transport = fake()
    async with client:
        await client.embeddings.embed_documents(["1"], cache=tmp_path)
        with sqlite3.connect(tmp_path / "vectors.sqlite") as other:
            other.execute("DROP TABLE vectors")
        other.close()
        with pytest.warns(UserWarning, match="texts are sent without it"):
            vectors = await client.embeddings.embed_documents(["1", "2"], cache=tmp_path)
    assert vectors.tolist() == [[1, 1], [2, 1]]
    assert sent(transport) == ["1", "1", "2"]


NO_VECTORS: list[Any] = ["abcdefgh", 5, b"", b"odd", struct.pack("<2f", float("nan"), 1)]


@pytest.mark.parametrize("stored", NO_VECTORS, ids=["text", "number", "empty", "bytes", "nan"])
async def test_what_is_no_vector_in_a_cache(tmp_path: Path, stored: Any) -> None:
    """What another program or a damage has put there is as if it were not there: the text is sent, its vector kept."""
    client, transport = fake()
    async with client:
        first = await client.embeddings.embed_documents(["1", "2"], cache=tmp_path)
        with sqlite3.connect(tmp_path / "vectors.sqlite") as database:
            database.execute("UPDATE vectors SET vector = ?", (stored,))
        database.close()
        for _ in range(2):
            assert await client.embeddings.embed_documents(["1", "2"], cache=tmp_path) == first
    assert sent(transport) == ["1", "2"] * 2


async def test_a_vector_of_zeros_is_not_kept(tmp_path: Path) -> None:
    """A server that has not read a text may do so the next time."""
    zeros = {"data": [{"index": 0, "embedding": [0.0, 0.0]}], "model": "m"}
    transport = FakeTransport([zeros, embedded(["1"])])
    async with AsyncClient("k", "http://fake", model="m", transport=transport) as client:
        with pytest.warns(UserWarning, match="vectors of zeros"):
            await client.embeddings.embed_documents(["1"], cache=tmp_path)
        assert (await client.embeddings.embed_documents(["1"], cache=tmp_path)).zeros == ()


async def test_a_cache_that_is_a_link(tmp_path: Path) -> None:
    """A symbolic link in the place of its file is not followed."""
    precious = tmp_path / "precious"
    precious.touch()
    (tmp_path / "vectors.sqlite").symlink_to(precious)
    client, _ = fake()
    async with client:
        with pytest.raises(ConfigurationError, match="symbolic link"):
            await client.embeddings.embed_documents(["1"], cache=tmp_path)
    assert precious.read_bytes() == b""


async def test_calls_at_the_same_time_share_a_cache(tmp_path: Path) -> None:
    """Several calls of one client write and read one file."""
    client, _ = fake()
    async with client:
        calls = [client.embeddings.embed_documents([str(n), "1"], cache=tmp_path) for n in range(20, 40)]
        found = await asyncio.gather(*calls)
    assert [int(vectors[0][0]) for vectors in found] == list(range(20, 40))


@pytest.mark.slow
def test_processes_share_a_cache_and_survive_a_kill(tmp_path: Path) -> None:
    """Four processes write one file, one of them is killed; afterwards everything that was kept is found."""
    simulator, folder = Simulator(models=["m"], embedding_dimensions=64, ttft=0.005), str(tmp_path / "cache")
    with SimulatorThread(simulator) as url:
        processes = [start(run_cached_calls, url, folder, first) for first in (0, 0, 100, 100)]
        processes[1].join(1.5)
        processes[1].kill()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes if process is not processes[1]] == [0, 0, 0]
        before = len(simulator.requests)
        run_cached_calls(url, folder, 0)
        run_cached_calls(url, folder, 100)
        assert len(simulator.requests) == before
    with sqlite3.connect(tmp_path / "cache" / "vectors.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM vectors").fetchone() == (320,)
    database.close()


def test_the_texts_of_these_tests() -> None:
    """`repeating` gives the share that it promises."""
    counts = Counter(repeating(1000, 0.6))
    assert (sum(counts.values()), len(counts)) == (1000, 400)
