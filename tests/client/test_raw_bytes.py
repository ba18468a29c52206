"""Vectors as raw bytes, from vLLM: the same bits as in base64, asked for where they are known to come, and checked."""

import json
import math
import struct
import warnings
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient import AsyncClient, Client, RetryPolicy
from nimclient.errors import BadRequestError, ConnectionLostError, DecodeError, EmbeddingMismatchError, NimError
from nimclient.simulator import Simulator
from nimclient.testing import FakeTransport
from support.server import Close, FaultServer, Request
from support.wire import END, MODEL, answer, chunk, embedded, error, head, http

TEXTS = [f"text number {number}" for number in range(150)]
OCTETS = "application/octet-stream"
NO_PREFIX: Any = {"embedding": {"prefix": ""}}


def raw_client(url: str, **settings: Any) -> AsyncClient:
    settings = {"dialect": "vllm", "retry": RetryPolicy(attempts=1), **settings}
    return AsyncClient("k", url, model=MODEL, defaults=NO_PREFIX, **settings)


def formats(requests: Sequence[Any]) -> list[str]:
    return [request.json["encoding_format"] for request in requests if request.json is not None]


def numbers(texts: Sequence[str]) -> bytes:
    """The vectors of `embedded`, as bytes."""
    return b"".join(struct.pack("<2f", float(text), 1.0) for text in texts)


def raw_answer(*pieces: bytes, type: str = OCTETS) -> bytes:
    return head(type=type) + b"".join(map(chunk, pieces)) + END


def vllm(request: Request) -> bytes:
    sent = request.json
    return (
        raw_answer(numbers(sent["input"]))
        if sent["encoding_format"] == "bytes_only"
        else answer(embedded(sent["input"]))
    )


# where it is used ------------------------------------------------------------------------------------------------


async def test_it_is_used_once_the_server_is_known() -> None:
    """The first answer tells that it is vLLM; from then on many texts come as bytes, the same bits in the same order."""
    async with (
        Simulator(dialect="vllm", models=[MODEL], embedding_dimensions=96) as simulator,
        AsyncClient(base_url=simulator.base_url, model=MODEL, defaults=NO_PREFIX) as client,
    ):
        known = await client.embeddings.create(TEXTS)
        raw = await client.embeddings.embed_documents(TEXTS)
        with_usage = await client.embeddings.embed_documents(TEXTS, encoding_format="base64")
        query = await client.embeddings.embed_query(TEXTS[0])
        assert client.dialect == "vllm"
    assert formats(simulator.requests) == ["base64", *["bytes_only"] * 3, *["base64"] * 4]
    assert raw.buffer == with_usage.buffer == known.vectors.buffer
    assert query == raw[0]
    assert (raw.usage, raw.model, raw.meta and raw.meta.attempts) == (None, MODEL, 3)
    assert with_usage.usage == known.usage


async def test_a_stream_changes_in_its_midst() -> None:
    """A stream that detects vLLM on its way asks for bytes from then on; tokens that it does not know are None."""
    async with (
        Simulator(dialect="vllm", models=[MODEL], embedding_dimensions=96) as simulator,
        AsyncClient(base_url=simulator.base_url, model=MODEL, defaults=NO_PREFIX) as client,
    ):
        stream = client.embeddings.embed_stream(TEXTS, batch_size=50, concurrency=1)
        batches = [batch async for batch in stream]
        direct = await client.embeddings.create(TEXTS)
    assert formats(simulator.requests) == ["base64", "bytes_only", "bytes_only", "base64"]
    assert b"".join(batch.vectors.buffer for batch in batches) == direct.vectors.buffer
    assert [batch.usage is None for batch in batches] == [False, True, True]
    assert {batch.vectors.model for batch in batches} == {MODEL}
    assert (stream.progress.tokens, stream.progress.tokens_per_second) == (None, None)
    assert "None" not in str(stream.progress)


async def test_one_request_asks_for_it_by_name() -> None:
    """`create` keeps its usage unless the caller asks for bytes."""
    async with (
        Simulator(dialect="vllm", models=[MODEL], embedding_dimensions=96) as simulator,
        raw_client(simulator.base_url) as client,
    ):
        plain = await client.embeddings.create(TEXTS)
        raw = await client.embeddings.create(TEXTS, encoding_format="bytes_only", dimensions=64)
        short = await client.embeddings.create(TEXTS, dimensions=64)
    assert formats(simulator.requests) == ["base64", "bytes_only", "base64"]
    assert plain.usage is not None
    assert raw.usage is None
    assert raw.vectors.buffer == short.vectors.buffer


@pytest.mark.parametrize("dialect", ["nim", "dynamo"])
async def test_other_servers_are_not_asked(dialect: str) -> None:
    """NIM and Dynamo take float and base64."""
    simulator = Simulator(dialect=dialect, models=[MODEL], embedding_dimensions=96)
    async with simulator, AsyncClient("k", simulator.base_url, model=MODEL) as client:
        await client.models.list()
        for _ in range(2):
            await client.embeddings.embed_documents(TEXTS[:3])
    assert formats(simulator.requests) == ["base64", "base64"]


@pytest.mark.parametrize("option", [{"endianness": "big"}, {"embed_dtype": "bfloat16"}, {"encoding_format": "base64"}])
async def test_what_would_change_the_bytes_prevents_it(option: dict[str, Any]) -> None:
    """A layout that the caller asks for in words of the server is not read as another."""
    async with FaultServer() as server:
        server.script(lambda _: error(400, "no"))
        async with raw_client(server.url) as client:
            with pytest.raises(BadRequestError):
                await client.embeddings.embed_documents(["1"], extra_body=option)
    assert formats(server.requests) == ["base64"]


# servers that do not send it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "words",
    [
        "1 validation error: body.encoding_format Input should be 'float' or 'base64'",
        "unknown variant `bytes_only`, expected `float` or `base64`",
        "Bad Request",
    ],
)
async def test_a_rejection_falls_back_and_is_remembered(status: int, words: str) -> None:
    """An older vLLM is asked once, whatever it says, and in base64 from then on."""

    def script(request: Request) -> bytes:
        return (
            error(status, words)
            if request.json["encoding_format"] == "bytes_only"
            else answer(embedded(request.json["input"]))
        )

    async with FaultServer() as server:
        server.script(script)
        async with raw_client(server.url) as client:
            for _ in range(3):
                vectors = await client.embeddings.embed_documents(["1", "2"], concurrency=1)
                assert vectors.tolist() == [[1, 1], [2, 1]]
                assert vectors.usage is not None
    assert formats(server.requests) == ["bytes_only", "base64", "base64", "base64"]


async def test_an_ignored_request_is_read_as_json() -> None:
    """A server that sends numbers is read by its content type, and asked for base64 next."""
    async with FaultServer() as server:
        server.script(lambda request: answer(embedded(request.json["input"])))
        async with raw_client(server.url) as client:
            for _ in range(2):
                assert (await client.embeddings.embed_documents(["3", "4"])).tolist() == [[3, 1], [4, 1]]
    assert formats(server.requests) == ["bytes_only", "base64"]


async def test_base64_that_is_rejected_too() -> None:
    """Of a server that takes neither the numbers are asked for, as before."""

    def script(request: Request) -> bytes:
        if "encoding_format" in request.json:
            return error(400, "encoding_format is not supported")
        return answer(embedded(request.json["input"]))

    async with FaultServer() as server:
        server.script(script)
        async with raw_client(server.url) as client:
            for _ in range(2):
                assert (await client.embeddings.embed_documents(["3"])).tolist() == [[3, 1]]
    sent = [request.json.get("encoding_format") for request in server.requests]
    assert sent[:3] == ["bytes_only", "base64", None]
    assert sent[3:] == [None]


async def test_a_bad_text_is_no_rejection_of_bytes() -> None:
    """A 400 that base64 does not cure says nothing of bytes, which are asked for again."""

    def script(request: Request) -> bytes:
        return error(400, "bad text") if "0" in request.json["input"] else vllm(request)

    async with FaultServer() as server:
        server.script(script)
        async with raw_client(server.url) as client:
            with pytest.raises(BadRequestError):
                await client.embeddings.embed_documents(["0"])
            assert (await client.embeddings.embed_documents(["1"])).tolist() == [[1, 1]]
            with pytest.raises(BadRequestError):
                await client.embeddings.embed_documents(["0"])
    assert formats(server.requests) == ["bytes_only", "base64", "bytes_only", "bytes_only"]


# what is wrong with a body ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "wanted", "words"),
    [
        pytest.param(raw_answer(numbers("12")[:-1]), EmbeddingMismatchError, "15 bytes are not 2 float32 vectors", id="odd"),
        pytest.param(raw_answer(b"\0" * 12), EmbeddingMismatchError, "12 bytes", id="not even"),
        pytest.param(raw_answer(), EmbeddingMismatchError, "0 bytes are not 2", id="empty"),
        pytest.param(raw_answer(struct.pack("<4f", 1, math.nan, 1, 1)), EmbeddingMismatchError, "NaN", id="NaN"),
        pytest.param(raw_answer(struct.pack("<4f", 1, 1, 1, -math.inf)), EmbeddingMismatchError, r"data\[1\]", id="infinite"),
        pytest.param([head(type=OCTETS) + chunk(b"\0" * 8), Close()], ConnectionLostError, ".", id="cut off"),
        pytest.param(raw_answer(numbers("12"), type="text/html"), NimError, ".", id="wrong type"),
        pytest.param(raw_answer(numbers("12"), type="application/json"), NimError, ".", id="called JSON"),
        pytest.param(http(b'{"error": {"message": "broken", "code": 500}}'), NimError, "broken", id="fault with status 200"),
    ],
)  # fmt: skip
async def test_a_body_that_does_not_fit(script: Any, wanted: type[NimError], words: str) -> None:
    """Bytes that are not as many vectors as texts are an error, and so is anything that is not bytes or JSON."""
    async with FaultServer() as server:
        server.script(script)
        async with raw_client(server.url) as client:
            with pytest.raises(wanted, match=words):
                await client.embeddings.create(["1", "2"], encoding_format="bytes_only")


def of_fitting_length(text: bytes) -> bytes:
    """A body of text that could be two vectors, or three."""
    return http(text + b" " * (-len(text) % 24), type=OCTETS)


@pytest.mark.parametrize(
    ("text", "wanted", "words"),
    [
        (b'{"error": {"message": "broken", "code": 500}}', NimError, "broken"),
        (b'\xef\xbb\xbf{"detail": "\xe6\x97\xa0"}', NimError, "\u65e0"),
        (b'{"data": [{"index": 0, "embedding": [1', DecodeError, "not JSON"),
        (b"upstream connect error or disconnect/reset before headers", DecodeError, "upstream connect error"),
        (b"<html><body>502 Bad Gateway</body></html>", DecodeError, "502 Bad Gateway"),
    ],
)
@pytest.mark.parametrize("way", ["create", "embed_documents", "blocking", "float16"])
async def test_text_that_is_called_bytes(text: bytes, wanted: type[NimError], words: str, way: str) -> None:
    """A gateway's words of a length that fits are no vectors, whatever the content type says."""
    options: Any = {"encoding_format": "bytes_only", **({"embed_dtype": "float16"} if way == "float16" else {})}
    async with FaultServer() as server:
        server.script(of_fitting_length(text))
        async with raw_client(server.url) as client:
            with pytest.raises(wanted, match=words) as failed:
                if way == "embed_documents":
                    await client.embeddings.embed_documents(["1", "2"], **options)
                elif way == "blocking":
                    with Client(
                        "k", server.url, model=MODEL, dialect="vllm", retry=RetryPolicy(attempts=1)
                    ) as blocking:
                        await anyio.to_thread.run_sync(partial(blocking.embeddings.create, ["1", "2"], **options))
                else:
                    await client.embeddings.create(["1", "2"], **options)
    assert not isinstance(failed.value, EmbeddingMismatchError)


async def test_json_that_is_called_bytes() -> None:
    """It has the vectors, and the usage."""

    def script(request: Request) -> bytes:
        return of_fitting_length(json.dumps(embedded(request.json["input"])).encode())

    async with FaultServer() as server:
        server.script(script)
        async with raw_client(server.url) as client:
            vectors = await client.embeddings.embed_documents(["1", "2", "3"], batch_size=2)
    assert vectors.tolist() == [[1, 1], [2, 1], [3, 1]]
    assert vectors.usage is not None


async def test_fewer_bytes_than_before() -> None:
    """A body that divides evenly into vectors of other dimensions than the first ones is an error."""
    async with FaultServer() as server:
        server.script(vllm, lambda _: raw_answer(struct.pack("<1f", 1.0)))
        async with raw_client(server.url) as client:
            with pytest.raises(EmbeddingMismatchError, match="vectors of 1 dimensions, but the first ones have 2"):
                await client.embeddings.embed_documents(["1", "2"], batch_size=1, concurrency=1)


async def test_an_error_stays_json() -> None:
    """A rejection of a text is read as ever, and the text at fault is found."""

    def script(request: Request) -> bytes:
        texts = request.json["input"]
        return error(400, "This model's maximum context length is 256 tokens.") if "0" in texts else vllm(request)

    async with FaultServer() as server:
        server.script(script)
        async with raw_client(server.url) as client:
            batches = [b async for b in client.embeddings.embed_stream(list("12034"), on_error="collect")]
    assert [failure.index for batch in batches for failure in batch.failures] == [2]
    assert [vector[0] for batch in batches for vector in batch.vectors] == [1, 2, 3, 4]


# the same bits ----------------------------------------------------------------------------------------------------

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
rectangles = st.integers(1, 7).flatmap(
    lambda width: st.lists(st.lists(finite, min_size=width, max_size=width), min_size=1, max_size=9)
)


def encoding(rows: Sequence[bytes], cuts: Sequence[int]) -> Callable[[Request], bytes]:
    """A vLLM that answers with these rows; the bytes in chunks."""

    def script(request: Request) -> bytes:
        if request.json["encoding_format"] == "bytes_only":
            data = b"".join(rows)
            edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
            return raw_answer(*(data[start:stop] for start, stop in pairwise(edges)))
        return answer({"data": [{"index": i, "embedding": b64encode(row).decode()} for i, row in enumerate(rows)]})

    return script


@given(rectangles, st.lists(st.integers(0, 300), max_size=4))
@settings(max_examples=20, deadline=None)
async def test_the_bits_are_those_of_base64(rows: list[list[float]], cuts: list[int]) -> None:
    """Whatever the numbers, and however the body is cut, in the order of the texts."""
    packed = [struct.pack(f"<{len(row)}f", *row) for row in rows]
    texts = [f"text {number}" for number in range(len(rows))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vectors that are zero throughout
        async with FaultServer() as server:
            server.script(encoding(packed, cuts))
            async with raw_client(server.url) as client:
                raw = await client.embeddings.embed_documents(texts)
                plain = await client.embeddings.embed_documents(texts, encoding_format="base64")
    assert raw == plain
    assert raw.buffer == b"".join(packed)


async def test_a_body_is_not_copied() -> None:
    """The vectors of a batch are the bytes that the transport handed over."""
    body = struct.pack("<24f", *range(1, 25))
    transport = FakeTransport(lambda _: (200, {"content-type": f"{OCTETS}; charset=binary"}, body))
    async with raw_client("http://vllm", transport=transport) as client:
        batches = [batch async for batch in client.embeddings.embed_stream(["a", "b", "c"])]
    assert batches[0].vectors.buffer.obj is body


# float16 ----------------------------------------------------------------------------------------------------------


async def test_float16_from_vllm_and_from_others() -> None:
    """vLLM sends it, others' float32 is rounded to the same bits, and so is what vLLM sends with its usage."""
    found: dict[str, Any] = {}
    for dialect in ("vllm", "nim"):
        async with (
            Simulator(dialect=dialect, models=[MODEL], embedding_dimensions=96) as simulator,
            AsyncClient("k", simulator.base_url, model=MODEL, defaults=NO_PREFIX) as client,
        ):
            await client.models.list()
            found[dialect] = await client.embeddings.embed_documents(TEXTS, embed_dtype="float16")
            if dialect == "vllm":
                found["rounded"] = await client.embeddings.embed_documents(
                    TEXTS, embed_dtype="float16", encoding_format="base64"
                )
                wide = await client.embeddings.embed_documents(TEXTS)
        sent = [request.json for request in simulator.requests if request.json is not None]
        assert sent[0].get("embed_dtype") == ("float16" if dialect == "vllm" else None)
    assert found["vllm"] == found["rounded"]
    assert found["rounded"].usage is not None
    vectors = found["vllm"]
    assert (vectors.dtype, found["nim"].dtype, len(vectors), vectors.dimensions) == ("float16", "float16", 150, 96)
    assert vectors.buffer.nbytes * 2 == wide.buffer.nbytes
    halves = struct.pack(f"<{wide.dimensions}e", *wide[7])
    assert vectors[7].buffer == halves


async def test_float16_that_is_too_large() -> None:
    """A number beyond its range is an error, not infinity."""
    async with FaultServer() as server:
        server.script(answer(embedded(["70000"])))
        async with raw_client(server.url, dialect="nim") as client:
            with pytest.raises(EmbeddingMismatchError, match="infinity"):
                await client.embeddings.embed_documents(["70000"], embed_dtype="float16")
