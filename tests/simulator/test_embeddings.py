import base64
import math
import struct
from array import array
from typing import Any

import aiohttp
import orjson
import pytest

from nimclient.simulator import Simulator
from nimclient.simulator.embeddings import little_endian
from nimclient.simulator.raw_vectors import packed
from nimclient.simulator.text import count_tokens

from .raw import EMBED, SYMMETRIC, RawClient

VISUAL = "nvidia/llama-nemotron-embed-vl-1b-v2"
TEXTS = ["Wait for a task to finish.", "Return the square root.", "Tasks are awaited until they have finished."]


def _vectors(body: Any) -> list[list[float]]:
    return [entry["embedding"] for entry in body["data"]]


def _cosine(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


async def test_the_answer_has_nims_shape(raw: RawClient) -> None:
    """One entry a text in order, vectors of 1024 floats and length one, and a usage."""
    status, body, _ = await raw.embed(TEXTS)
    assert status == 200
    assert (body["object"], body["model"]) == ("list", EMBED)
    assert [entry["index"] for entry in body["data"]] == [0, 1, 2]
    assert all(len(vector) == 1024 for vector in _vectors(body))
    assert all(math.hypot(*vector) == pytest.approx(1.0) for vector in _vectors(body))
    tokens = sum(map(count_tokens, TEXTS))
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


async def test_similar_texts_are_nearer(raw: RawClient) -> None:
    """Texts that share words are nearer than those that do not."""
    first, second, third = _vectors((await raw.embed(TEXTS)).body)
    assert _cosine(first, third) > _cosine(first, second) + 0.2


async def test_base64_equals_float(raw: RawClient) -> None:
    """The base64 form holds the same 32-bit floats, little-endian."""
    plain = _vectors((await raw.embed(TEXTS)).body)
    packed = (await raw.embed(TEXTS, encoding_format="base64")).body["data"]
    for vector, entry in zip(plain, packed, strict=True):
        assert array("f", base64.b64decode(entry["embedding"])).tolist() == vector


async def test_fewer_dimensions_are_a_prefix(raw: RawClient) -> None:
    """A shortened vector points where the first components of the whole point."""
    whole = _vectors((await raw.embed(TEXTS[0])).body)[0][:256]
    short = _vectors((await raw.embed(TEXTS[0], dimensions=256)).body)[0]
    length = math.hypot(*whole)
    assert short == pytest.approx([value / length for value in whole], abs=1e-6)


@pytest.mark.parametrize(("kind", "low", "high"), [("int8", -127, 127), ("uint8", 1, 255)])
async def test_integer_types_are_scaled(raw: RawClient, kind: str, low: int, high: int) -> None:
    """The integer types use their whole range and keep the direction."""
    whole = _vectors((await raw.embed(TEXTS[0])).body)[0]
    small = _vectors((await raw.embed(TEXTS[0], embedding_type=kind)).body)[0]
    assert low <= min(small)
    assert max(small) <= high
    assert high in small or low in small
    centred = [value - (128 if kind == "uint8" else 0) for value in small]
    assert _cosine(whole, centred) / math.hypot(*centred) > 0.99


async def test_binary_types_pack_the_signs(raw: RawClient) -> None:
    """The binary types hold one bit a component; the signed form is 128 lower."""
    whole = _vectors((await raw.embed(TEXTS[0], dimensions=20)).body)[0]
    unsigned = _vectors((await raw.embed(TEXTS[0], dimensions=20, embedding_type="ubinary")).body)[0]
    signed = _vectors((await raw.embed(TEXTS[0], dimensions=20, embedding_type="binary")).body)[0]
    bits = "".join(f"{byte:08b}" for byte in unsigned)
    assert bits == "".join("1" if value > 0 else "0" for value in whole) + "0000"
    assert signed == [byte - 128 for byte in unsigned]
    packed = (await raw.embed(TEXTS[0], dimensions=20, embedding_type="ubinary", encoding_format="base64")).body
    assert list(base64.b64decode(packed["data"][0]["embedding"])) == unsigned


async def test_queries_and_passages_of_one_text_are_near(raw: RawClient) -> None:
    """The two input types differ a little; a suffix of the model's name says the same as the field."""
    query = _vectors((await raw.embed(TEXTS[0])).body)[0]
    passage = _vectors((await raw.embed(TEXTS[0], input_type="passage")).body)[0]
    named = await raw.embed(TEXTS[0], model=f"{EMBED}-passage", input_type=None)
    assert 0.97 < _cosine(query, passage) < 0.9999
    assert _vectors(named.body)[0] == passage


async def test_asymmetric_models_want_an_input_type(raw: RawClient) -> None:
    """Without input_type an asymmetric model rejects, in the flat shape of a retriever NIM."""
    status, body, _ = await raw.embed("x", input_type=None)
    assert status == 400
    assert body["object"] == "error"
    assert "'input_type' parameter is required" in body["message"]


@pytest.mark.parametrize("model", [SYMMETRIC, "mine/own"])
async def test_symmetric_models_make_no_difference(raw: RawClient, model: str) -> None:
    """A symmetric model, and one given by name, takes any input type or none, with the same vector."""
    found = [_vectors((await raw.embed("x", model=model, input_type=kind)).body) for kind in (None, "query", "passage")]
    assert found[0] == found[1] == found[2]


async def test_too_long_texts_are_rejected(raw: RawClient) -> None:
    """A text beyond the model's limit is rejected in NIM's words; 8192 tokens is the limit of other models."""
    text = "word " * 600
    status, body, _ = await raw.embed(text)
    assert status == 400
    assert body["message"] == "Input length 601 exceeds maximum allowed token size 512"
    assert (await raw.embed(text, model="nvidia/llama-nemotron-embed-1b-v2")).status == 200


async def test_truncation_gives_up_one_end(raw: RawClient) -> None:
    """END keeps the first tokens, START the last, and the usage counts what is kept."""
    head, tail = "alpha " * 400, "omega " * 400
    ending = (await raw.embed(head + tail, truncate="END")).body
    starting = (await raw.embed(head + tail, truncate="START")).body
    assert ending["usage"]["prompt_tokens"] == starting["usage"]["prompt_tokens"] == 512
    alpha = _vectors((await raw.embed("alpha")).body)[0]
    omega = _vectors((await raw.embed("omega")).body)[0]
    end, start = _vectors(ending)[0], _vectors(starting)[0]
    assert _cosine(end, alpha) > _cosine(end, omega)
    assert _cosine(start, omega) > _cosine(start, alpha)


async def test_images_are_single_words_to_visual_models(raw: RawClient) -> None:
    """An image data URL counts little and stands for its bytes; other models read it as text."""
    url = f"data:image/png;base64,{'QUJD' * 10_000}"
    options: dict[str, Any] = {"model": VISUAL, "input_type": "passage", "modality": "text_image"}
    body = (await raw.embed([f"a cat {url}", "a cat", url], **options)).body
    assert body["usage"]["prompt_tokens"] < 20
    both, text, image = _vectors(body)
    assert _cosine(both, text) > 0.3
    assert _cosine(both, image) > 0.3
    assert (await raw.embed(url)).status == 400


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["x", ""]}, "index 1"),
        ({"input": [1, 2]}, "input"),
        ({"input": 7}, "input"),
        ({"input_type": "document"}, "input_type"),
        ({"truncate": "MIDDLE"}, "truncate"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 1025}, "dimensions"),
        ({"dimensions": "8"}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"embedding_type": "int4"}, "embedding_type"),
        ({"modality": ["smell"]}, "modality"),
    ],
)
async def test_wrong_options_are_rejected_by_name(raw: RawClient, options: Any, name: str) -> None:
    """A wrong field is a 400 whose message names it."""
    status, body, _ = await raw.post("/v1/embeddings", {"model": EMBED, "input_type": "query", "input": "x", **options})
    assert status == 400
    assert name in body["message"]


def test_bytes_are_little_endian_on_every_host() -> None:
    """A big-endian host swaps the bytes, and leaves its numbers alone."""
    numbers = array("f", [1.0, -2.5])
    here = little_endian(numbers, "little")
    swapped = little_endian(numbers, "big")
    assert swapped == b"".join(here[at : at + 4][::-1] for at in (0, 4))
    assert numbers.tolist() == [1.0, -2.5]


@pytest.mark.parametrize("dialect", ["vllm", "dynamo"])
async def test_what_other_servers_ignore(session: aiohttp.ClientSession, dialect: str) -> None:
    """vLLM and Dynamo ignore input_type, truncate and embedding_type; token ids are taken, and vLLM's truncation."""
    async with Simulator(dialect=dialect, embedding_dimensions=64) as sim:
        raw = RawClient(sim, session)
        plain = (await raw.embed("the event loop", input_type=None)).body["data"][0]["embedding"]
        options = {"input_type": "nonsense", "truncate": "END", "embedding_type": "int8", "modality": "smell"}
        assert (await raw.embed("the event loop", **options)).body["data"][0]["embedding"] == plain
        assert (await raw.embed("word " * 600, input_type="passage", truncate="END")).status == 400
        cut = await raw.embed("word " * 600 + "the event loop", truncate_prompt_tokens=4)
        whole = await raw.embed("the event loop", truncate_prompt_tokens=-1)
        assert cut.body["usage"]["prompt_tokens"] == 4
        assert whole.body["data"][0]["embedding"] == plain
        for tokens, count in (([1, 2, 3], 1), ([[1, 2], [3]], 2)):
            assert len((await raw.embed(tokens)).body["data"]) == count
        assert (await raw.embed([[1], ["a"]])).status == 400


HELLO = {"model": EMBED, "input": TEXTS}
SIZES = {"float32": 4, "float16": 2, "bfloat16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1}


async def _raw(simulator: Simulator, session: aiohttp.ClientSession, **fields: Any) -> tuple[Any, bytes]:
    async with session.post(f"{simulator.base_url}/embeddings", json={**HELLO, **fields}) as response:
        return response, await response.read()


@pytest.mark.parametrize("dtype", SIZES)
async def test_vllm_sends_raw_bytes(session: aiohttp.ClientSession, dtype: str) -> None:
    """Item after item without a header, in chunks without a length, in the type and order that is asked for."""
    async with Simulator(dialect="vllm") as simulator:
        plain = _vectors((await RawClient(simulator, session).embed(TEXTS)).body)
        response, data = await _raw(simulator, session, encoding_format="bytes_only", embed_dtype=dtype)
        _, big = await _raw(simulator, session, encoding_format="bytes_only", embed_dtype=dtype, endianness="big")
        _, packed = await _raw(simulator, session, encoding_format="base64", embed_dtype=dtype)
    assert (response.status, response.content_type) == (200, "application/octet-stream")
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in response.headers
    size = SIZES[dtype]
    assert len(data) == 3 * 1024 * size
    assert big == b"".join(data[at : at + size][::-1] for at in range(0, len(data), size))
    rows = [base64.b64decode(entry["embedding"]) for entry in orjson.loads(packed)["data"]]
    assert b"".join(rows) == data
    if dtype == "float32":
        assert array("f", data).tolist() == [value for vector in plain for value in vector]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float16", "6aa8f127"), ("bfloat16", "0dbdfe3c"), ("fp8_e4m3", "9110"), ("fp8_e5m2", "a828")],
)
def test_small_floats_are_those_of_vllm(dtype: str, expected: str) -> None:
    """The first two numbers of a real answer, in each type."""
    numbers = struct.unpack("<2f", bytes.fromhex("09380dbd4f24fe3c"))
    assert packed(numbers, dtype, "little").hex() == expected
    assert packed((0.0, -0.0), dtype, "little") == (b"\0\x80" if SIZES[dtype] == 1 else b"\0\0\0\x80")


async def test_bytes_with_a_header(session: aiohttp.ClientSession) -> None:
    """`bytes` says in a header what `bytes_only` leaves out."""
    async with Simulator(dialect="vllm") as simulator:
        response, data = await _raw(simulator, session, encoding_format="bytes", dimensions=8)
    metadata = orjson.loads(response.headers["metadata"])
    assert len(data) == metadata["data"][-1]["end"] == 3 * 8 * 4
    assert metadata["data"][1] == {
        "index": 1, "embed_dtype": "float32", "endianness": "native", "start": 32, "end": 64, "shape": [8]
    }  # fmt: skip
    assert metadata["usage"]["prompt_tokens"] == sum(map(count_tokens, TEXTS))


@pytest.mark.parametrize(
    ("dialect", "words"),
    [
        ("nim", "must be one of float, base64, got bytes_only"),
        ("dynamo", "unknown variant `bytes_only`, expected `float` or `base64`"),
    ],
)
async def test_other_servers_reject_raw_bytes(session: aiohttp.ClientSession, dialect: str, words: str) -> None:
    """Only vLLM sends them."""
    async with Simulator(dialect=dialect) as simulator:
        response, data = await _raw(simulator, session, encoding_format="bytes_only", input_type="query")
    assert response.status == 400
    assert words in data.decode()


@pytest.mark.parametrize("field", ["encoding_format", "embed_dtype", "endianness"])
async def test_vllm_rejects_unknown_words(session: aiohttp.ClientSession, field: str) -> None:
    """A word that is not of the enumeration is a 400 in pydantic's words, as JSON."""
    async with Simulator(dialect="vllm") as simulator:
        response, data = await _raw(simulator, session, **{"encoding_format": "bytes_only", field: "none"})
    assert (response.status, response.content_type) == (400, "application/json")
    error = orjson.loads(data)["error"]
    assert (error["type"], error["param"]) == ("Bad Request", f"body.{field}")
    assert "Input should be " in error["message"]
