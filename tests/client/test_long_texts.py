"""`long="mean"`: texts that the model does not take whole are cut by the server's tokens and get one vector, as in vLLM."""

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient import AsyncClient, Client, RetryPolicy
from nimclient.cli import main
from nimclient.errors import ConfigurationError, ContextLengthError
from nimclient.jobs import EmbedJob, merge_shards
from nimclient.jobs.sinks import SQLiteSink
from nimclient.simulator import Simulator, SimulatorThread
from nimclient.testing import FakeRequest, FakeTransport
from support.vllm_pooling import PoolingServer

ONCE = RetryPolicy(attempts=1)
LIMIT = 16


def words(count: int, first: int = 0) -> str:
    """A text of so many tokens, the two special ones included; a word has 11 bytes."""
    return " ".join(f"word{number:06}" for number in range(first, first + count - 2))


def connected(server: PoolingServer, **changes: Any) -> tuple[AsyncClient, FakeTransport]:
    transport = FakeTransport(server)
    options = {"model": "m", "transport": transport, "retry": ONCE, **changes}
    return AsyncClient("k", "http://fake", **options), transport


def paths(transport: FakeTransport) -> list[str]:
    return [request.url.removeprefix("http://fake") for request in transport.requests]


def inputs(transport: FakeTransport) -> list[Any]:
    return [item for request in transport.requests if "input" in request.json for item in request.json["input"]]


def cosine(one: Any, other: Any) -> float:
    a, b = numpy.asarray(one, numpy.float64), numpy.asarray(other, numpy.float64)
    return float(a @ b / (numpy.linalg.norm(a) * numpy.linalg.norm(b)))


# as vLLM's chunked mode -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_unit", [True, False], ids=["normalized", "raw"])
@pytest.mark.parametrize("changes", [{}, {"dialect": "vllm"}], ids=["base64", "bytes"])
async def test_the_vectors_of_the_chunked_mode(is_unit: bool, changes: Any) -> None:
    """Pieces, weights and length are vLLM's: the same numbers within rounding, for texts around every border."""
    texts = [words(count, 1000 * at) for at, count in enumerate((3, 15, 16, 17, 31, 32, 33, 48, 161, 1000))]
    chunked, _ = connected(PoolingServer(chunked=True, is_unit=is_unit), **changes)
    plain, _ = connected(PoolingServer(is_unit=is_unit), **changes)
    options: Any = {"prefix": ""}
    async with chunked, plain:
        wanted = await chunked.embeddings.embed_documents(texts, **options)
        vectors = await plain.embeddings.embed_documents(texts, long="mean", **options)
    assert vectors.pieces == {3: 2, 4: 2, 5: 2, 6: 3, 7: 3, 8: 11, 9: 63}
    assert wanted.pieces == {}
    assert min(map(cosine, vectors, wanted)) >= 0.999999
    assert numpy.allclose(vectors.numpy(), wanted.numpy(), rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(3, 80), min_size=1, max_size=12), st.integers(4, 40), st.booleans())
def test_any_lengths(counts: list[int], limit: int, is_unit: bool) -> None:
    """Whatever the lengths and the limit: each text has vLLM's vector, and those above the limit are reported."""
    texts = [words(count, 100 * at) for at, count in enumerate(counts)]
    with Client(
        "k", "http://fake", model="m", transport=FakeTransport(PoolingServer(limit, is_unit=is_unit))
    ) as client:
        vectors = client.embeddings.embed_documents(texts, long="mean", batch_size=5)
    whole = PoolingServer(limit, is_unit=is_unit)
    assert all(cosine(v, whole.chunk_mean(whole.ids_of(t))) >= 0.999999 for v, t in zip(vectors, texts, strict=True))
    assert vectors.pieces == {at: -(-count // limit) for at, count in enumerate(counts) if count > limit}


async def test_the_prefix_is_part_of_the_text() -> None:
    """It is tokenized with its text and stands in the first piece only, as where the server cuts."""
    server = PoolingServer()
    client, _ = connected(server)
    async with client:
        vectors = await client.embeddings.embed_documents([words(40)], long="mean", prefix="passage: ")
    assert cosine(vectors[0], server.chunk_mean(server.ids_of("passage: " + words(40)))) >= 0.999999
    assert vectors.pieces == {0: 3}


async def test_float16() -> None:
    """The mean of pieces in half precision is rounded once more."""
    client, transport = connected(PoolingServer(), dialect="vllm")
    async with client:
        vectors = await client.embeddings.embed_documents([words(40)], long="mean", prefix="", embed_dtype="float16")
    server = PoolingServer()
    assert vectors.dtype == "float16"
    assert cosine(vectors[0], server.chunk_mean(server.ids_of(words(40)))) >= 0.99999
    assert transport.requests[-1].json["embed_dtype"] == "float16"


# what is sent -----------------------------------------------------------------------------------------------------


async def test_it_costs_nothing_without_the_option() -> None:
    """Without it there is no request more, and a text that is too long is the error that it was."""
    client, transport = connected(PoolingServer())
    async with client:
        await client.embeddings.embed_documents([words(10), words(16)])
        with pytest.raises(ContextLengthError) as caught:
            await client.embeddings.embed_documents([words(10), words(17)])
    assert caught.value.index == 1
    assert "/tokenize" not in paths(transport)


async def test_short_texts_are_sent_as_they_are() -> None:
    """The tokenizer is asked for the limit, and for texts that are probably too long; others stay texts in one request."""
    client, transport = connected(PoolingServer())
    texts = [words(5), words(6, 50), words(30), words(6)]
    async with client:
        vectors = await client.embeddings.embed_documents(texts, long="mean")
    assert paths(transport) == ["/tokenize", "/tokenize", "/v1/embeddings", "/v1/embeddings"]
    assert inputs(transport)[:3] == [texts[0], texts[1], texts[3]]
    assert [len(piece) for piece in inputs(transport)[3:]] == [16, 14]
    assert vectors.pieces == {2: 2}
    assert vectors.usage is not None
    assert vectors.usage.prompt_tokens == 5 + 6 + 6 + 30


async def test_a_text_of_many_tokens_and_few_bytes() -> None:
    """One that does not look too long is tokenized when the server rejects it; its neighbors are not rejected with it."""
    dense = " ".join("abcdefghijklmnopqrst")
    client, transport = connected(PoolingServer())
    async with client:
        vectors = await client.embeddings.embed_documents(["a b", dense, "c d"], long="mean")
    server = PoolingServer()
    assert len(dense) < 3 * LIMIT
    assert vectors.pieces == {1: 2}
    assert cosine(vectors[1], server.chunk_mean(server.ids_of(dense))) >= 0.999999
    assert cosine(vectors[2], server.piece(server.ids_of("c d"))) >= 0.999999
    assert paths(transport).count("/tokenize") == 2


async def test_many_pieces_go_in_several_requests() -> None:
    """No request has more pieces than `batch_size`, nor more than 65,536 ids."""
    client, transport = connected(PoolingServer())
    async with client:
        one = await client.embeddings.embed_documents([words(500)], long="mean", batch_size=10)
    sizes = [len(request.json["input"]) for request in transport.requests if "input" in request.json]
    assert sizes == [10, 10, 10, 2]
    assert one.pieces == {0: 32}
    large, transport = connected(PoolingServer(limit=30_000, dimensions=2))
    async with large:
        await large.embeddings.embed_documents([words(130_000)], long="mean")
    assert [len(request.json["input"]) for request in transport.requests if "input" in request.json] == [2, 2, 1]


async def test_equal_texts_are_cut_once() -> None:
    """Every position of a text that was cut is reported, in a call and within the window of a stream."""
    client, transport = connected(PoolingServer())
    texts = [words(40), "a", words(40), words(40, 500), words(40)]
    async with client:
        vectors = await client.embeddings.embed_documents(texts, long="mean")
        assert vectors.pieces == {0: 3, 2: 3, 3: 3, 4: 3}
        assert len([item for item in inputs(transport) if isinstance(item, list)]) == 6
        told: dict[int, int] = {}
        async with client.embeddings.embed_stream(iter(texts), long="mean", batch_size=2) as batches:
            async for batch in batches:
                told.update(batch.pieces)
                assert all(batch.vectors[batch.indexes.index(at)] == vectors[at] for at in batch.pieces)
    assert told == vectors.pieces


async def test_a_failure_beside_it() -> None:
    """Other texts that fail stay failures of their own."""
    client, _ = connected(PoolingServer())
    texts: Any = [words(40), "", "a", 5, words(20)]
    async with client:
        [batch] = [
            batch async for batch in client.embeddings.embed_stream(iter(texts), long="mean", on_error="collect")
        ]
    assert list(batch.indexes) == [0, 2, 4]
    assert batch.pieces == {0: 3, 4: 2}
    assert [failure.index for failure in batch.failures] == [1, 3]


# servers that cannot ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        401,
        403,
        405,
        501,
        (404, {}, b"404 page not found"),
        (422, {}, {"error": "missing field `inputs`", "error_type": "Validation"}),  # TEI's own /tokenize
        {"tokens": []},  # llama-server, which calls the text `content`
        {"count": 3, "tokens": [1, 7, 2], "max_model_len": None},
    ],
)
async def test_a_tokenizer_that_cannot_be_used(answer: Any) -> None:
    """Whatever a server or a gateway answers to /tokenize: the texts are embedded, by what the embeddings accept."""
    server = PoolingServer()
    transport = FakeTransport(lambda request: answer if request.url.endswith("/tokenize") else server(request))
    client, _ = connected(server, transport=transport)
    async with client:
        with pytest.warns(UserWarning, match="not by its tokens"):
            vectors = await client.embeddings.embed_documents([words(9), words(40)], long="mean")
    assert vectors.pieces.keys() == {1}
    assert cosine(vectors[0], server.piece(server.ids_of(words(9)))) >= 0.999999


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_tokenizer_that_is_busy(status: int) -> None:
    """A failure that passes is no answer to whether there is a tokenizer: the call waits for it, or ends with it."""
    server = PoolingServer()
    asked: list[int] = []

    def busy(request: Any) -> Any:
        if request.url.endswith("/tokenize") and not asked:
            asked.append(status)
            return status, {"Retry-After": "0"}, {"detail": "busy"}
        return server(request)

    client, _ = connected(server, transport=FakeTransport(busy), retry=RetryPolicy(attempts=2, first_delay=0))
    async with client:
        vectors = await client.embeddings.embed_documents([words(40)], long="mean")
    assert asked
    assert vectors.pieces == {0: 3}


@pytest.mark.parametrize("lacks", ["tokenizes", "takes_ids"])
async def test_a_server_without_tokens(lacks: str) -> None:
    """Such a text is halved until its parts are accepted, weighted by the tokens of their usage; one warning says so."""
    lacking: Any = {lacks: False}
    server = PoolingServer(**lacking)
    client, transport = connected(server)
    texts = [words(9), words(40), words(11)]
    async with client:
        with pytest.warns(UserWarning, match="not by its tokens"):
            vectors = await client.embeddings.embed_documents(texts, long="mean")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await client.embeddings.embed_documents(texts, long="mean")
    parts = [item for item in inputs(transport) if isinstance(item, str) and item not in texts]
    accepted = [part for part in dict.fromkeys(parts) if len(server.ids_of(part)) <= LIMIT]
    assert "".join(accepted) == texts[1]
    assert vectors.pieces == {1: len(accepted)}
    tokens = [len(server.ids_of(part)) for part in accepted]
    mean = sum(n * server.piece(server.ids_of(part)) for n, part in zip(tokens, accepted, strict=True))
    assert cosine(vectors[1], mean) >= 0.999999
    assert cosine(vectors[2], server.piece(server.ids_of(texts[2]))) >= 0.999999


@pytest.mark.filterwarnings("ignore:the server has no /tokenize")
async def test_a_text_larger_than_a_request_may_be() -> None:
    """A gateway, or Text Embeddings Inference, takes so many bytes, of the tokenizer, too: the text is cut all the same."""
    server = PoolingServer()

    def limited(request: FakeRequest) -> Any:
        if len(request.body or b"") > 2000:
            return 413, {"content-type": "text/plain"}, b"Failed to buffer the request body: length limit exceeded"
        return server(request)

    client = AsyncClient("k", "http://fake", model="m", transport=FakeTransport(limited), retry=ONCE)
    vectors = await client.embeddings.embed_documents([words(5), words(300), words(7)], long="mean")
    assert len(vectors) == 3
    assert list(vectors.pieces) == [1]


async def test_the_length_of_accepted_parts_is_remembered() -> None:
    """The second long text is cut at once into parts of a length that was accepted: fewer requests than the first took."""
    client, transport = connected(PoolingServer(tokenizes=False))
    async with client:
        with pytest.warns(UserWarning, match="not by its tokens"):
            await client.embeddings.embed_documents(
                [words(200), words(200, 500)], long="mean", batch_size=1, concurrency=1
            )
    first = [item for item in inputs(transport) if "word0005" not in item and "word0006" not in item]
    assert len(inputs(transport)) < 1.8 * len(first)


async def test_a_strict_client() -> None:
    """A strict client raises instead of halving."""
    client, _ = connected(PoolingServer(tokenizes=False), strict=True)
    async with client:
        with pytest.raises(ConfigurationError, match="not by its tokens"):
            await client.embeddings.embed_documents([words(40)], long="mean")


async def test_a_server_without_usage() -> None:
    """Parts without a known weight have no mean."""
    client, _ = connected(PoolingServer(tokenizes=False, has_usage=False))
    async with client:
        with (
            pytest.warns(UserWarning, match="not by its tokens"),
            pytest.raises(ConfigurationError, match="weighs the parts"),
        ):
            await client.embeddings.embed_documents([words(40)], long="mean")


async def test_a_server_that_truncates_silently() -> None:
    """infinity cuts texts off without a word, so that nothing can be reported: an error that says so."""
    answer = PoolingServer(limit=10_000)
    owner = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "infinity", "stats": {}}]}

    def infinity(request: Any) -> Any:
        if request.url.endswith("/models"):
            return owner
        return (404, {}, {"detail": "Not Found"}) if request.url.endswith("/tokenize") else answer(request)

    client, _ = connected(answer, transport=FakeTransport(infinity), model=None)
    async with client:
        with pytest.raises(ConfigurationError, match="silently cuts off"):
            await client.embeddings.embed_documents([words(40)], long="mean", prefix="")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"long": "max"}, "long"),
        ({"truncate": "END"}, "exclude each other"),
        ({"extra_body": {"truncate_prompt_tokens": -1}}, "exclude each other"),
        ({"embedding_type": "int8"}, "float"),
    ],
)
async def test_what_excludes_it(options: Any, says: str) -> None:
    """Options that would cut texts off, or whose vectors have no mean, are an error before anything is sent."""
    client, transport = connected(PoolingServer())
    async with client:
        with pytest.raises(ConfigurationError, match=says):
            await client.embeddings.embed_documents(["a"], **{"long": "mean", **options})
        with pytest.raises(ConfigurationError, match=says):
            client.embeddings.embed_stream(["a"], **{"long": "mean", **options})
    assert not transport.requests


# what tells -------------------------------------------------------------------------------------------------------


async def test_pieces_of_slices_and_copies() -> None:
    """Slices count from their own start, and a pickled copy has them too."""
    client, _ = connected(PoolingServer())
    async with client:
        vectors = await client.embeddings.embed_documents(["a", words(40), "b", words(20)], long="mean")
    assert vectors.pieces == {1: 3, 3: 2}
    assert vectors[1:].pieces == {0: 3, 2: 2}
    assert vectors[1::2].pieces == {0: 3, 1: 2}
    assert vectors[2:3].pieces == {}
    assert pickle.loads(pickle.dumps(vectors)).pieces == vectors.pieces


async def test_a_cache_tells_too(tmp_path: Path) -> None:
    """What comes from the cache is reported as well, and a call without the option is not given the mean of a cut text."""
    client, transport = connected(PoolingServer())
    texts = ["a", words(40)]
    async with client:
        first = await client.embeddings.embed_documents(texts, long="mean", cache=tmp_path)
        count = len(inputs(transport))
        again = await client.embeddings.embed_documents(texts, long="mean", cache=tmp_path)
        assert again == first
        assert again.pieces == first.pieces == {1: 3}
        assert len(inputs(transport)) == count
        with pytest.raises(ContextLengthError):
            await client.embeddings.embed_documents(texts, cache=tmp_path)


async def test_a_job(tmp_path: Path) -> None:
    """The report counts the rows that were cut, long.jsonl lists them, and another run of the job keeps both."""
    source = tmp_path / "docs.txt"
    source.write_text("\n".join([words(5), words(40), words(6), words(20)]))
    client, _ = connected(PoolingServer())
    async with client:
        job = EmbedJob(source, tmp_path / "out", format="npy", long="mean")
        report = await job.run(client)
        assert (report.status, report.succeeded, report.long) == ("complete", 4, 2)
        assert (await job.run(client)).long == 2
        plain = await EmbedJob(source, tmp_path / "plain", format="npy").run(client)
        assert (plain.status, plain.failed, plain.long) == ("partial", 2, 0)
    lines = [json.loads(line) for line in (tmp_path / "out" / "long.jsonl").read_text().splitlines()]
    assert lines == [{"index": 1, "id": "1", "pieces": 3}, {"index": 3, "id": "3", "pieces": 2}]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["long"] == 2
    assert not (tmp_path / "plain" / "long.jsonl").exists()


async def test_a_job_with_a_sink(tmp_path: Path) -> None:
    """The records of a sink have the rows that were cut; a later run knows them."""
    source = tmp_path / "docs.txt"
    source.write_text("\n".join([words(5), words(40), words(6)]))
    client, _ = connected(PoolingServer())
    async with client:
        for _ in range(2):
            job = EmbedJob(source, SQLiteSink(tmp_path / "vectors.db"), long="mean")
            report = await job.run(client)
            assert (report.status, report.long) == ("complete", 1)
            assert report.long_rows == ({"index": 1, "id": "1", "pieces": 3},)


async def test_shards_of_a_job(tmp_path: Path) -> None:
    """Each shard lists its rows, and the merged folder all of them in the order of the source."""
    source = tmp_path / "docs.txt"
    source.write_text("\n".join(words(40 if number % 3 == 0 else 5, 100 * number) for number in range(9)))
    client, _ = connected(PoolingServer())
    async with client:
        for index in range(2):
            await EmbedJob(source, tmp_path / "out", format="npy", long="mean", shard=(index, 2)).run(client)
    assert merge_shards(tmp_path / "out").long == 3
    lines = [json.loads(line) for line in (tmp_path / "out" / "long.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 3, 6]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`nimclient embed --long mean` says how many texts were cut."""
    source = tmp_path / "docs.txt"
    source.write_text("The museum opens at nine. " * 500 + "\nshort\n")
    with SimulatorThread(Simulator(dialect="vllm")) as url:
        command = ["embed", str(source), "--out", str(tmp_path / "out"), "--format", "npy", "--long", "mean"]
        code = main([*command, "--base-url", url, "--model", "nvidia/nv-embedqa-e5-v5", "--prefix", ""])
    assert code == 0
    assert "1 cut into pieces" in capsys.readouterr().err
    [line] = (tmp_path / "out" / "long.jsonl").read_text().splitlines()
    assert json.loads(line) == {"index": 0, "id": "0", "pieces": 6}
