"""Vectors share one buffer with everything that is made of them; NumPy sees them without a copy."""

import copy
import pickle
import subprocess
import sys
from array import array
from struct import pack

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient import ResponseMeta
from nimclient.records import Headers
from nimclient.records.chat import Usage
from nimclient.records.embeddings import Vector, Vectors

ROWS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]
META = ResponseMeta(200, Headers([(b"a", b"b")]), "http://host/v1/embeddings")


def buffer(rows=ROWS, code="f"):
    return array(code, [value for row in rows for value in row]).tobytes()


def vectors(rows=ROWS, data=None, **options):
    return Vectors(data or buffer(rows), len(rows[0]), **options)


# Vector --------------------------------------------------------------------------------------------------------------


def test_a_vector_is_a_sequence_of_floats():
    """Length, items, iteration, membership and reversal as of any sequence."""
    vector = Vector(buffer([[1.0, 2.0, 3.0]]))
    assert (len(vector), vector[0], vector[-1], list(vector), 2.0 in vector) == (3, 1.0, 3.0, [1.0, 2.0, 3.0], True)
    assert list(reversed(vector)) == [3.0, 2.0, 1.0]
    assert (vector.index(3.0), vector.count(1.0), vector.tolist()) == (2, 1, [1.0, 2.0, 3.0])
    assert (vector.dtype, vector.buffer) == ("float32", buffer([[1.0, 2.0, 3.0]]))
    with pytest.raises(IndexError):
        vector[3]


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=8), st.slices(8))
def test_slices_of_a_vector_are_those_of_a_list(values, where):
    """Any start, stop and step; the slice is a Vector of the same type."""
    vector = Vector(array("f", values).tobytes())
    assert vector[where] == values[where]
    assert isinstance(vector[where], Vector)


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        (Vector(buffer([[1.0, 2.0]])), True),
        (Vector(bytes([1, 2]), "int8"), True),
        ([1.0, 2.0], True),
        ((1, 2), True),
        (array("f", [1, 2]), True),
        ([1.0], False),
        ([1.0, 3.0], False),
        (Vector(buffer([[2.0, 1.0]])), False),
        ("12", False),
        (b"12", False),
        (5, False),
        (None, False),
    ],
)
def test_a_vector_equals_any_equal_sequence(other, equal):
    """Vectors, lists, tuples and arrays of the same numbers are equal; text and other things are not."""
    assert (Vector(buffer([[1.0, 2.0]])) == other) is equal


def test_a_vector_is_not_hashable_and_has_a_short_repr():
    """Like the lists it equals it has no hash; the repr shows three numbers."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(Vector(b""))
    assert repr(Vector(buffer([[1.0, 0.5, 0.25, 2.0]]))) == "Vector([1, 0.5, 0.25, …], dimensions=4, dtype='float32')"
    assert repr(Vector(bytes([1, 255]), "int8")) == "Vector([1, -1], dimensions=2, dtype='int8')"


@pytest.mark.parametrize(
    ("dtype", "numbers", "numpy_dtype"),
    [
        ("int8", [1, -1], "int8"),
        ("uint8", [1, 255], "uint8"),
        ("binary", [1, -1], "int8"),
        ("ubinary", [1, 255], "uint8"),
    ],
)
def test_integer_types(dtype, numbers, numpy_dtype):
    """int8 and binary rows are signed, uint8 and ubinary unsigned, for us and for NumPy."""
    data = bytes([1, 255])
    assert Vector(data, dtype).tolist() == numbers
    assert Vector(data, dtype).numpy().dtype == numpy_dtype
    rows = Vectors(data * 3, 2, dtype)
    assert (len(rows), rows.dtype, rows[2].dtype, rows.tolist()) == (3, dtype, dtype, [numbers] * 3)
    assert rows.numpy().dtype == numpy_dtype
    assert rows[1:].dtype == dtype


# Vectors -------------------------------------------------------------------------------------------------------------


def test_vectors_are_a_sequence_of_vectors():
    """Items by position from either end, iteration, and IndexError beyond."""
    rows = vectors()
    assert (len(rows), rows.dimensions, rows.dtype) == (4, 2, "float32")
    assert (rows[0], rows[3], rows[-1], rows[-4]) == ([1.0, 2.0], [7.0, 8.0], [7.0, 8.0], [1.0, 2.0])
    assert [row.tolist() for row in rows] == rows.tolist() == ROWS
    for position in (4, -5):
        with pytest.raises(IndexError):
            rows[position]


@given(st.slices(4))
def test_slices_of_vectors_are_those_of_a_list(where):
    """Any start, stop and step, also backwards and empty."""
    assert vectors()[where].tolist() == ROWS[where]


def test_slices_keep_what_is_known_of_the_answer():
    """Dimensions, type, usage, model and meta go with a slice."""
    part = vectors(usage=Usage(1), model="m", meta=META)[1:3]
    assert (part.dimensions, part.dtype, part.usage, part.model, part.meta) == (2, "float32", Usage(1), "m", META)


def test_items_and_slices_share_the_buffer():
    """What is made of the vectors lies in the same memory, to NumPy as well."""
    data = bytearray(buffer())
    rows = vectors(data=data)
    row, rest, matrix = rows[1], rows[1:], np.asarray(rows)
    data[8:12] = np.float32(9).tobytes()
    assert (rows[1][0], row[0], rest[0][0], matrix[1, 0], rows.numpy()[1, 0], row.numpy()[0]) == (9.0,) * 6
    assert np.shares_memory(rows.numpy(), rows[1].numpy())
    assert np.shares_memory(np.asarray(rows), np.asarray(rows[1:]))


def test_everything_is_read_only():
    """Neither the buffer nor an array of it can be written through the vectors."""
    rows = vectors(data=bytearray(buffer()))
    with pytest.raises(TypeError):
        rows.buffer[0] = 1
    with pytest.raises(TypeError):
        rows[0].buffer[0] = 1
    for values in (rows.numpy(), rows[0].numpy(), np.asarray(rows)):
        assert not values.flags.writeable
    assert rows.buffer.readonly
    assert rows.buffer == buffer()


@pytest.mark.parametrize("make", [vectors, lambda: vectors()[1]], ids=["Vectors", "Vector"])
def test_numpy_asks_for_dtype_and_copy(make):
    """The same type shares memory, another one converts, copy=True copies, copy=False raises."""
    rows = make()
    base = rows.numpy()
    assert np.shares_memory(np.asarray(rows), base)
    assert np.shares_memory(np.asarray(rows, dtype="float32"), base)
    assert np.shares_memory(rows.__array__(None, False), base)
    assert not np.shares_memory(np.array(rows), base)
    assert not np.shares_memory(rows.__array__(None, True), base)
    converted = np.asarray(rows, dtype="float64")
    assert converted.dtype == "float64"
    assert converted.tolist() == rows.tolist()
    with pytest.raises(ValueError, match="needs a copy"):
        rows.__array__("float64", False)  # what `numpy.asarray(copy=False)` asks from NumPy 2 on


@pytest.mark.parametrize(("data", "dimensions", "shape"), [(b"", 0, (0, 0)), (b"", 4, (0, 4)), (bytes(16), 4, (1, 4))])
def test_shapes_of_small_matrices(data, dimensions, shape):
    """No vectors, and vectors of no dimensions, are matrices all the same."""
    rows = Vectors(data, dimensions)
    assert rows.numpy().shape == shape
    assert (len(rows), len(rows.tolist())) == (shape[0], shape[0])
    assert Vector(b"").numpy().shape == (0,)
    assert Vector(b"") == []


@pytest.mark.parametrize(("size", "dimensions", "dtype"), [(7, 1, "float32"), (12, 2, "float32"), (3, 2, "int8")])
def test_a_buffer_that_does_not_hold_whole_vectors_is_refused(size, dimensions, dtype):
    """A ValueError tells the sizes."""
    with pytest.raises(ValueError, match=f"{size} bytes do not hold whole vectors of {dimensions} {dtype}"):
        Vectors(bytes(size), dimensions, dtype)


def test_vectors_are_equal_by_value():
    """Dimensions, type and bytes count, the rest does not."""
    assert vectors() == vectors(model="m", usage=Usage(1))
    assert vectors() != vectors()[1:]
    assert Vectors(bytes(8), 2) != Vectors(bytes(8), 1)
    assert Vectors(bytes(8), 8, "int8") != Vectors(bytes(8), 8, "uint8")
    assert vectors() != ROWS
    with pytest.raises(TypeError, match="unhashable"):
        hash(vectors())
    assert repr(vectors(model="m")) == "Vectors(4 × 2, dtype='float32', model='m')"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_and_copies_are_equal(protocol):
    """A pickle holds the rows of a slice, not the buffer it was cut from, and all that is known of the answer."""
    rows = vectors(ROWS * 1000, usage=Usage(1), model="m", meta=META)[:2]
    data = pickle.dumps(rows, protocol)
    assert len(data) < 2000
    for twin in (pickle.loads(data), copy.deepcopy(rows)):
        assert (twin, twin.usage, twin.model, twin.meta) == (rows, Usage(1), "m", META)
    vector = pickle.loads(pickle.dumps(rows[1], protocol))
    assert (vector, vector.dtype) == (rows[1], "float32")
    ints = pickle.loads(pickle.dumps(Vectors(b"\x01\xff", 2, "int8"), protocol))
    assert (ints.dtype, ints[0].tolist()) == ("int8", [1, -1])


def test_vectors_as_a_dict():
    """to_dict has the shape of an answer's body; there are no unknown fields."""
    rows = vectors(ROWS[:1], usage=Usage(1), model="m")
    assert rows.extra == {}
    assert rows.to_dict() == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [1.0, 2.0]}],
        "model": "m",
        "usage": {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 0},
    }
    assert vectors().to_dict()["usage"] is None


def test_numpy_is_not_imported_unless_asked():
    """Making, slicing, comparing and pickling vectors does without NumPy."""
    program = (
        "import pickle, sys; from nimclient.records import Vectors; v = Vectors(bytes(16), 2);"
        "v[0], v[1:], v == v, v.tolist(), repr(v), pickle.loads(pickle.dumps(v)); assert 'numpy' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


# float16 -------------------------------------------------------------------------------------------------------------

halves = st.lists(st.floats(width=16, allow_nan=False), min_size=1, max_size=9)


@given(halves, st.slices(9))
def test_a_float16_vector_is_a_sequence_of_floats(values, where):
    """Items, slices, iteration, equality and NumPy see the numbers, not their bits."""
    vector = Vector(pack(f"<{len(values)}e", *values), "float16")
    assert (list(vector), vector.tolist(), len(vector)) == (values, values, len(values))
    assert [vector[place] for place in range(-len(values), len(values))] == values * 2
    assert vector[where] == values[where]
    assert vector[where].dtype == "float16"
    assert vector == values
    assert vector == Vector(array("f", values).tobytes())
    assert vector.numpy().dtype == np.float16
    assert vector.numpy().tolist() == values
    assert pickle.loads(pickle.dumps(vector)) == vector


def test_float16_vectors():
    """Half the bytes; everything that float32 vectors do."""
    wide = vectors()
    half = Vectors(pack("<8e", *[value for row in ROWS for value in row]), 2, "float16")
    assert (len(half), half.dimensions, half.buffer.nbytes * 2) == (4, 2, wide.buffer.nbytes)
    assert half.tolist() == ROWS
    assert half.numpy().dtype == np.float16
    assert half[1:3].tolist() == ROWS[1:3]
    assert half[::2].tolist() == ROWS[::2]
    assert half.search([1.0, 0.0], 2) == wide.search([1.0, 0.0], 2)
    assert pickle.loads(pickle.dumps(half)) == half
    assert half != wide
    assert half.zeros == ()
    assert Vectors(bytes(8), 2, "float16").zeros == (0, 1)
    assert "float16" in repr(half)
    assert repr(half[0]).startswith("Vector([1, 2]")
    with pytest.raises(ValueError, match="whole vectors"):
        Vectors(bytes(6), 2, "float16")
