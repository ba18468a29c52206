"""Answers of embedding endpoints: vectors in the order of the texts, or an error; never anything misaligned."""

import json
import math
import pickle
import struct
import subprocess
import sys
from array import array
from base64 import b64encode
from itertools import permutations
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient import ResponseMeta
from nimclient.errors import DecodeError, EmbeddingMismatchError
from nimclient.records import Headers
from nimclient.records.chat import Usage
from nimclient.records.embeddings import Embeddings, decode_embeddings, loads_embeddings

META = ResponseMeta(200, Headers([(b"NVCF-REQID", b"r-1")]), "http://host/v1/embeddings")


def b64(*values):
    return b64encode(pack(f"<{len(values)}f", *values)).decode()


def item(index, embedding):
    return {"object": "embedding", "index": index, "embedding": embedding}


def body(*embeddings, **rest):
    return {"object": "list", "data": [item(i, e) for i, e in enumerate(embeddings)], **rest}


def decode(value, **options):
    return decode_embeddings(value, meta=META, **options)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([[1.0, 2.0], [3.0, 4.0]], id="numbers"),
        pytest.param([[1, 2], [3, 4]], id="whole numbers"),
        pytest.param([b64(1, 2), b64(3, 4)], id="base64"),
        pytest.param([b64(1, 2), [3.0, 4.0]], id="mixed"),
    ],
)
def test_numbers_and_base64_give_the_same_vectors(rows):
    """The encoding is read item by item, whichever was asked for."""
    answer = decode(body(*rows, model="m", usage={"prompt_tokens": 4}, id="embd-1"), count=2, dimensions=2)
    assert answer.vectors.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert (answer.model, answer.usage, answer.extra, answer.meta) == ("m", Usage(4), {"id": "embd-1"}, META)
    assert (answer.vectors.model, answer.vectors.usage, answer.vectors.meta) == ("m", Usage(4), META)


def test_vectors_lie_in_one_buffer():
    """All rows are contiguous, as little-endian float32."""
    assert decode(body([1.0], b64(2.0))).vectors.buffer == pack("<2f", 1, 2)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_shuffled_items_are_placed_by_their_index(order):
    """The index decides, not the position."""
    data = {"data": [item(i, [float(i)]) for i in order]}
    assert decode(data, count=3).vectors.tolist() == [[0.0], [1.0], [2.0]]


@pytest.mark.parametrize("indexes", [["2", "0", "1"], [2.0, 0.0, 1.0]])
def test_indexes_as_texts_and_floats_place_the_vectors(indexes):
    """A whole number is one however the server writes it."""
    items = [{"index": index, "embedding": [float(i)]} for i, index in enumerate(indexes)]
    assert decode({"data": items}).vectors.tolist() == [[1.0], [2.0], [0.0]]


@pytest.mark.parametrize("indexes", [[..., ..., ...], [None, None, None]])
def test_items_without_any_index_are_in_order(indexes):
    """A server that sends no index at all means the order of the texts."""
    items = [{"embedding": [float(i)]} | ({} if index is ... else {"index": index}) for i, index in enumerate(indexes)]
    assert decode({"data": items}).vectors.tolist() == [[0.0], [1.0], [2.0]]


@pytest.mark.parametrize(
    "indexes",
    [
        pytest.param([0, 1, 3], id="gap"),
        pytest.param([0, 1, 1], id="repeated"),
        pytest.param([1, 2, 3], id="from one"),
        pytest.param([0, 1, -1], id="negative"),
        pytest.param([0, 1, "two"], id="text"),
        pytest.param([0, 2, True], id="boolean"),
        pytest.param([False, True, 2], id="booleans in place"),
        pytest.param([2, 1.5, 0], id="fraction"),
        pytest.param([0, 1, None], id="null in one"),
        pytest.param([0, 1, ...], id="missing in one"),
        pytest.param([None, ..., 2], id="null and missing"),
        pytest.param([0, [1], {}], id="of other types"),
    ],
)
def test_impossible_indexes_are_a_mismatch(indexes):
    """F100: a gap, a repeat, or what is no whole number of 0 to n-1 never places a vector."""
    items = [{"embedding": [float(i)]} | ({} if index is ... else {"index": index}) for i, index in enumerate(indexes)]
    with pytest.raises(EmbeddingMismatchError, match="index") as caught:
        decode({"data": items}, count=3)
    assert caught.value.path.startswith("data")
    assert (caught.value.status, caught.value.request_id) == (200, "r-1")


@pytest.mark.parametrize(("rows", "count"), [(2, 3), (3, 2), (0, 1), (1, 0)])
def test_another_count_is_a_mismatch(rows, count):
    """F100: fewer or more vectors than texts."""
    with pytest.raises(EmbeddingMismatchError, match=f"{rows} vectors for {count} texts"):
        decode(body(*[[1.0]] * rows), count=count)


@pytest.mark.parametrize(
    ("rows", "dimensions", "words", "path"),
    [
        ([[1.0, 2.0], [3.0]], None, "4 bytes, but the first vector has 8", "data[1].embedding"),
        ([b64(1), b64(1, 2)], None, "8 bytes, but the first vector has 4", "data[1].embedding"),
        ([[], []], None, "the vector is empty", "data[0].embedding"),
        (["", ""], None, "the vector is empty", "data[0].embedding"),
        ([[1.0], []], None, "the vector is empty", "data[1].embedding"),
        ([b64encode(b"abc").decode()], None, "3 bytes", "data[0].embedding"),
        ([[1.0, 2.0]], 3, "2 dimensions, but 3 were requested", "data[0].embedding"),
        ([b64(1, 2)], 1, "2 dimensions, but 1 were requested", "data[0].embedding"),
    ],
)
def test_other_dimensions_are_a_mismatch(rows, dimensions, words, path):
    """F101: lengths that differ from each other or from what was asked for, and vectors of no length."""
    with pytest.raises(EmbeddingMismatchError, match=words) as caught:
        decode(body(*rows), dimensions=dimensions)
    assert caught.value.path == path


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("encode", [b64, lambda *values: list(values)], ids=["base64", "numbers"])
def test_values_that_are_not_finite_are_a_mismatch(bad, encode):
    """F102: NaN or infinity in any vector, named by its item."""
    with pytest.raises(EmbeddingMismatchError, match="NaN or infinity") as caught:
        decode(body(encode(1.0, 2.0), encode(3.0, bad)))
    assert caught.value.path == "data[1]"


@pytest.mark.parametrize(
    "embedding",
    [
        pytest.param([1.0, None], id="null"),
        pytest.param([1.0, "2"], id="text"),
        pytest.param([[1.0, 2.0]], id="matrix"),
        pytest.param([{}], id="object"),
        pytest.param([10**400], id="huge number"),
        pytest.param("AAAA=A==", id="bad padding"),
        pytest.param("AAA", id="no padding"),
        pytest.param("AA AA", id="white space"),
        pytest.param("AA%A", id="junk"),
        pytest.param("é===", id="not ASCII"),
        pytest.param(None, id="nothing"),
        pytest.param(5, id="number"),
        pytest.param({"float": [1.0]}, id="object for a vector"),
        pytest.param(True, id="boolean"),
    ],
)
def test_what_is_no_vector_is_a_mismatch(embedding):
    """F102, F103: other types, text among numbers, and base64 that is not exactly base64."""
    for data in (body(embedding), {"data": [{"embedding": [1.0]}, {"embedding": embedding}]}):
        with pytest.raises(EmbeddingMismatchError) as caught:
            decode(data)
        assert caught.value.path == f"data[{len(data['data']) - 1}].embedding"


def test_all_zero_vectors_are_allowed():
    """F102: a vector of zeros is a vector."""
    assert decode(body([0.0, -0.0])).vectors.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("value", "path"),
    [(None, "body"), ([], "body"), ("x", "body"), ({}, "data"), ({"data": None}, "data"), ({"data": {}}, "data")],
)
def test_without_a_list_of_data_there_is_no_answer(value, path):
    """A missing spine is a DecodeError that is no mismatch."""
    with pytest.raises(DecodeError) as caught:
        decode(value, count=1)
    assert type(caught.value) is DecodeError
    assert caught.value.path == path


@pytest.mark.parametrize("data", [["x"], [None], [5, 6], [[]]])
def test_items_that_are_no_objects_are_a_mismatch(data):
    """An item must be an object with a vector."""
    with pytest.raises(EmbeddingMismatchError, match="expected a list of numbers or base64 text, got null"):
        decode({"data": data})


def test_no_texts_give_no_vectors():
    """An empty list is an answer to no texts."""
    answer = decode({"data": []}, count=0, dimensions=4)
    assert (len(answer.vectors), answer.usage, answer.model) == (0, None, None)


@pytest.mark.parametrize(
    ("dtype", "numbers"),
    [("int8", [-128, 127]), ("uint8", [0, 255]), ("binary", [-128, 127]), ("ubinary", [0, 255])],
)
def test_integer_types_are_read(dtype, numbers):
    """NIM's embedding_type: rows of bytes, as numbers or base64; of packed bits eight dimensions are a number."""
    code = "b" if dtype in ("int8", "binary") else "B"
    for row in (numbers, b64encode(array(code, numbers).tobytes()).decode()):
        answer = decode(body(row), dtype=dtype, dimensions=16 if "binary" in dtype else 2)
        assert (answer.vectors.dtype, answer.vectors.dimensions, answer.vectors.tolist()) == (dtype, 2, [numbers])


@pytest.mark.parametrize(
    ("dtype", "dimensions"), [("int8", 3), ("uint8", 1), ("binary", 2), ("ubinary", 17), ("float32", 2)]
)
def test_dimensions_are_checked_for_every_type(dtype, dimensions):
    """A server that ignores `dimensions` is detected whatever type was asked for."""
    with pytest.raises(EmbeddingMismatchError, match=f"dimensions, but {dimensions} were requested"):
        decode(body(b64encode(bytes(4 if dtype == "float32" else 2)).decode()), dtype=dtype, dimensions=dimensions)


UNIT = [math.sin(i) / 8 for i in range(128)]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "binary", "ubinary"])
def test_floats_where_bytes_were_asked_for_are_a_mismatch(dtype):
    """A server that ignores embedding_type sends float32: four times too wide, and no vector of bytes."""
    with pytest.raises(EmbeddingMismatchError, match=f"float32 numbers, but {dtype} was requested"):
        decode(body(b64encode(array("f", UNIT).tobytes()).decode()), dtype=dtype)


@pytest.mark.parametrize("form", ["e", "d"], ids=["float16", "float64"])
def test_floats_of_another_size_are_a_mismatch(form):
    """float16 and float64 in base64 are not read as float32, also where no dimensions were asked for."""
    row = b64encode(struct.pack(f"<{len(UNIT)}{form}", *UNIT)).decode()
    with pytest.raises(EmbeddingMismatchError):
        decode(body(row))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "binary", "ubinary"])
@given(st.binary(min_size=64, max_size=64))
def test_rows_of_bytes_are_not_taken_for_floats(dtype, row):
    """Bytes as quantized embeddings have them, large and small, pass."""
    answer = decode(body(b64encode(bytes(b ^ (i * 37 % 256) for i, b in enumerate(row))).decode()), dtype=dtype)
    assert len(answer.vectors.buffer) == 64


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("row", [[True, False], [1, True], [1, "2"], [[1]], [None]])
def test_what_is_no_number_is_a_mismatch(dtype, row):
    """Booleans, texts and nulls are no numbers of a vector."""
    with pytest.raises(EmbeddingMismatchError, match="not a vector"):
        decode(body(row), dtype=dtype)


def test_a_vector_for_each_token_is_named():
    """llama-cpp-python does not pool those of a chat model, whatever is asked."""
    with pytest.raises(EmbeddingMismatchError, match="one for each token"):
        decode(body([[0.5, 0.5], [0.5, 0.1]]))


def test_vectors_of_zeros_are_told():
    """A vector that is zero throughout is allowed, and `zeros` says where it is."""
    answer = decode({"data": [{"embedding": row} for row in ([0.0, 0.0], [0.0, 1.0], [0, 0])]})
    assert answer.vectors.zeros == (0, 2)
    assert answer.vectors[1:].zeros == (1,)
    assert decode({"data": []}).vectors.zeros == ()


def test_an_index_of_megabytes_makes_a_short_error():
    """What a server sends as an index is shown in part only."""
    with pytest.raises(EmbeddingMismatchError) as caught:
        decode({"data": [{"index": "9" * 5_000_000, "embedding": [1.0]}]})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("dtype", "row"),
    [("int8", [128]), ("int8", [1.5]), ("uint8", [-1]), ("uint8", [256]), ("binary", ["1"]), ("ubinary", [None])],
)
def test_numbers_out_of_the_types_range_are_a_mismatch(dtype, row):
    """A number that the type cannot hold is rejected, not wrapped around."""
    with pytest.raises(EmbeddingMismatchError, match=f"not a vector of {dtype} numbers"):
        decode(body(row), dtype=dtype)


def test_rows_of_integers_must_be_of_one_length():
    """Lengths are compared for every type."""
    with pytest.raises(EmbeddingMismatchError, match="1 bytes, but the first vector has 2"):
        decode(body([1, 2], [3]), dtype="int8")


# answers whose base64 is decoded where it lies -------------------------------------------------------------------------

COMPACT = (",", ":")


@pytest.mark.parametrize(
    "value",
    [
        body(b64(1, 2), b64(3, 4), model="m"),
        body(b64(1, 2), b64(3)),
        body(b64(1, 2), [3.0, 4.0]),
        body([1.0], [2.0]),
        {"data": [{"embedding": b64(1), "index": 1}, {"embedding": b64(2), "index": 0}]},
        {"data": [{"index": 0}], "embedding": b64(1)},
        {"data": [{"embedding": {"embedding": b64(1)}}]},
        {"data": [{"embedding": ""}, {"embedding": b64(1)}]},
        {"data": [{"embedding": "not base64!"}]},
        {"data": {"embedding": b64(1)}},
        {"data": [[{"embedding": b64(1)}]]},
        {"embedding": b64(1)},
        {"a": '{"embedding":"AAAA"}', "data": [{"embedding": b64(1)}]},
        {"a": ',"embedding":"', "data": []},
        [{"embedding": b64(1)}],
        "embedding",
        {},
    ],
)
@pytest.mark.parametrize("separators", [COMPACT, (", ", ": ")], ids=["compact", "spaced"])
def test_decoding_in_place_changes_nothing_but_the_type_of_vectors(value, separators):
    """The value is that of the JSON, with vectors as bytes in place of their base64 at most."""
    text = json.dumps(value, separators=separators)

    def same(found, expected):
        if isinstance(found, bytes):
            return b64encode(found).decode() == expected
        if isinstance(found, dict):
            return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in found)
        if isinstance(found, list):
            return len(found) == len(expected) and all(map(same, found, expected))
        return found == expected

    assert same(loads_embeddings(text.encode()), value)


def test_base64_is_decoded_in_place():
    """The vectors of an ordinary compact answer are bytes without a str in between."""
    text = json.dumps(body(b64(1, 2), b64(3, 4)), separators=COMPACT).encode()
    assert [entry["embedding"] for entry in loads_embeddings(text)["data"]] == [pack("<2f", 1, 2), pack("<2f", 3, 4)]
    assert decode(loads_embeddings(text), count=2).vectors.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_escaped_slashes_are_read():
    """Base64 with its slashes escaped, as some encoders write it, is read the ordinary way."""
    text = json.dumps(body(b64encode(b"\xff\xff\xfe\x00").decode()), separators=COMPACT).replace("/", "\\/").encode()
    assert b"\\/" in text
    assert decode(loads_embeddings(text), dtype="int8").vectors.tolist() == [[-1, -1, -2, 0]]


def test_a_cut_answer_is_a_decode_error():
    """An answer that ends early is never read as a shorter one."""
    text = json.dumps(body(b64(1, 2), b64(3, 4)), separators=COMPACT).encode()
    for end in range(len(text)):
        with pytest.raises(DecodeError):
            loads_embeddings(text[:end])


rows = st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=6)


@settings(deadline=None)
@given(rows, st.randoms(use_true_random=False), st.booleans())
def test_vectors_come_back_bit_for_bit(rows, random, compact):
    """Any vectors, in any order and either encoding, are those that were sent, at their places."""
    items = [item(i, b64(*row) if random.random() < 0.7 else row) for i, row in enumerate(rows)]
    random.shuffle(items)
    text = json.dumps({"data": items}, separators=COMPACT if compact else None)
    assert decode(loads_embeddings(text.encode()), count=len(rows)).vectors.tolist() == rows


# the record ------------------------------------------------------------------------------------------------------------


def test_an_answer_goes_round():
    """to_dict is a body that decodes to an equal record; pickles are equal, too."""
    answer = decode(body([1.0, 2.5], model="m", usage={"prompt_tokens": 4}, id="x"))
    assert decode_embeddings(answer.to_dict()) == answer
    assert json.loads(json.dumps(answer.to_dict())) == answer.to_dict()
    twin = pickle.loads(pickle.dumps(answer))
    assert (twin, twin.meta) == (answer, META)
    assert isinstance(twin, Embeddings)


@pytest.mark.parametrize("hidden", ["", "pybase64"])
def test_base64_is_strict_with_and_without_pybase64(hidden):
    """The standard library's decoder stands in for pybase64 and is as strict."""
    program = f"""
import sys
if {hidden!r}: sys.modules[{hidden!r}] = None
from nimclient.errors import EmbeddingMismatchError
from nimclient.records.embeddings import decode_embeddings, loads_embeddings
body = b'{{"data":[{{"embedding":"AACAPwAAAEA="}}]}}'
assert decode_embeddings(loads_embeddings(body)).vectors.tolist() == [[1.0, 2.0]]
for text in ("AAAA=A==", "AAA", "AA AA", "AA%A", "=", "AACAPwAAAEA=AAAA"):
    try:
        decode_embeddings({{"data": [{{"embedding": text}}]}})
    except EmbeddingMismatchError:
        continue
    raise SystemExit(text)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
