"""vectors.search: the nearest vectors by cosine, with NumPy and without."""

import math
import sys
from array import array
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient.errors import ConfigurationError
from nimclient.records import Vector, Vectors

Search = Callable[..., list[tuple[int, float]]]


@pytest.fixture(params=["numpy", "plain"])
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Search:
    """Vectors.search, once with NumPy and once where an import of it fails."""
    if request.param == "plain":
        monkeypatch.setitem(sys.modules, "numpy", None)
    return Vectors.search


def floats(rows: Sequence[Sequence[float]]) -> Vectors:
    return Vectors(array("f", [number for row in rows for number in row]).tobytes(), len(rows[0]))


def test_the_best_come_first(search: Search) -> None:
    """Pairs of index and cosine, the length of a vector being of no matter."""
    found = search(floats([[1, 0], [0, 2], [3, 3], [-1, 0]]), [10, 0], k=3)
    assert [index for index, _ in found] == [0, 2, 1]
    assert [score for _, score in found] == pytest.approx([1.0, math.sqrt(0.5), 0.0])
    assert {type(index) for index, _ in found} == {int}
    assert {type(score) for _, score in found} == {float}


def test_k_beyond_the_number_of_vectors_gives_all(search: Search) -> None:
    """Ten are asked for by default."""
    vectors = floats([[1.0, number] for number in range(30)])
    assert len(search(vectors, [1, 0])) == 10
    assert len(search(vectors, [1, 0], k=1000)) == 30
    assert search(Vectors(b"", 0), [1.0], k=3) == []


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_k_is_a_whole_number(search: Search, k: Any) -> None:
    """At least one."""
    with pytest.raises(ConfigurationError, match=r"^k "):
        search(floats([[1, 0]]), [1, 0], k=k)


def test_equal_scores_keep_the_order_of_the_vectors(search: Search) -> None:
    """Also among many, whatever order a library sums in."""
    row = [0.1, 0.7, -0.3, 0.2, 0.9]
    assert [index for index, _ in search(floats([row] * 3000), row, k=3000)] == list(range(3000))


def test_a_vector_that_is_zero_is_never_found(search: Search) -> None:
    """Its cosine is not defined: it is left out, with k of all the others, too."""
    assert [index for index, _ in search(floats([[0, 0], [-1, 0], [1, 0]]), [1, 0], k=3)] == [2, 1]


def test_a_vector_that_is_not_finite_is_never_found(search: Search) -> None:
    """Neither NaN nor infinity comes before the others; no answer of a server has them."""
    nan, inf = float("nan"), float("inf")
    assert [index for index, _ in search(floats([[nan, 1], [inf, -inf], [inf, 1], [1, 0]]), [1, 1])] == [3]


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ([0.0, 0.0], ConfigurationError, "only zeros"),
        ([1.0], ConfigurationError, "query has 1 numbers, and the vectors have 2"),
        ([], ConfigurationError, "query has 0 numbers"),
        ([float("nan"), 1.0], ConfigurationError, "NaN or infinity"),
        ([1.0, float("inf")], ConfigurationError, "NaN or infinity"),
        ("what is it?", TypeError, "embed a text first"),
        (5, TypeError, "takes a Vector or a sequence of numbers, not int"),
        ([[1.0, 0.0]], TypeError, "takes one Vector"),
        ([None, 1], TypeError, "takes one Vector"),
    ],
)
def test_a_query_that_cannot_be_compared(search: Search, query: Any, error: type[Exception], words: str) -> None:
    """Says what is wrong with it."""
    with pytest.raises(error, match=words):
        search(floats([[1, 0]]), query)


def test_several_vectors_are_no_query(search: Search) -> None:
    """One at a time."""
    vectors = floats([[1, 0], [0, 1]])
    with pytest.raises(TypeError, match="takes one Vector"):
        search(vectors, vectors)


def test_queries_of_any_make(search: Search) -> None:
    """A Vector, a list, a tuple, an array and a generator give the same."""
    vectors = floats([[1, 0], [0, 1]])
    for query in (vectors[1], [0.0, 1.0], (0, 1), array("d", [0, 1]), (float(number) for number in (0, 1))):
        assert search(vectors, query, k=1) == [(1, 1.0)]


def test_a_numpy_query() -> None:
    """Of any floating type."""
    assert floats([[1, 0], [0, 1]]).search(numpy.array([0, 1], "f2"), k=1) == [(1, 1.0)]


def test_huge_and_tiny_numbers(search: Search) -> None:
    """Neither squares that overflow float32 nor such that vanish in it matter."""
    vectors = floats([[1e30, 1e30], [1e-30, 0], [0, 3e38]])
    found = search(vectors, [1e200, 1e200])
    assert [index for index, _ in found] == [0, 1, 2]
    assert [score for _, score in found] == pytest.approx([1.0, math.sqrt(0.5), math.sqrt(0.5)])


@pytest.mark.parametrize(("dtype", "format"), [("int8", "b"), ("uint8", "B")])
def test_rows_of_whole_numbers(search: Search, dtype: Any, format: str) -> None:
    """int8 and uint8 are compared as the numbers that they are, with a query of either make."""
    rows = [[1, 2, 3], [100, 90, 1], [0, 0, 7]]
    vectors = Vectors(array(format, [number for row in rows for number in row]).tobytes(), 3, dtype)
    expected = floats(rows)
    for query in (vectors[1], [0.5, 0.1, 0.9]):
        found = search(vectors, query)
        assert [index for index, _ in found] == [index for index, _ in search(expected, list(query))]
        assert [score for _, score in found] == pytest.approx([score for _, score in search(expected, list(query))])


@pytest.mark.parametrize("dtype", ["binary", "ubinary"])
def test_packed_rows_are_compared_bit_by_bit(search: Search, dtype: Any) -> None:
    """Bits stand for -1 and 1, as numpy.packbits packs them; `binary` is that minus 128. A query may have bits or numbers."""
    random = Random(5)
    rows = [[random.choice((-1.0, 1.0)) for _ in range(32)] for _ in range(9)]
    packed = [
        bytes(sum((row[8 * place + bit] > 0) << (7 - bit) for bit in range(8)) for place in range(4)) for row in rows
    ]
    flip = 0x80 if dtype == "binary" else 0
    vectors = Vectors(bytes(byte ^ flip for row in packed for byte in row), 4, dtype)
    expected = floats(rows)
    query = [random.gauss(0, 1) for _ in range(32)]
    for mine, theirs in ((vectors[3], rows[3]), (Vector(packed[3], "ubinary"), rows[3]), (query, query)):
        found, wanted = search(vectors, mine, k=9), search(expected, theirs, k=9)
        assert [index for index, _ in found] == [index for index, _ in wanted]
        assert [score for _, score in found] == pytest.approx([score for _, score in wanted])
    with pytest.raises(ConfigurationError, match=r"the vectors have 32 \(4 bytes of 8 bits\)"):
        search(vectors, [1.0] * 4)


@given(
    st.integers(1, 9).flatmap(
        lambda width: st.lists(
            st.lists(st.floats(-1e6, 1e6, width=32), min_size=width, max_size=width), min_size=2, max_size=20
        )
    )
)
def test_numpy_and_plain_python_agree(rows: list[list[float]]) -> None:
    """The same scores within rounding, for any numbers; the last row is the query."""
    if not any(rows[-1]):
        return
    vectors = floats(rows)
    fast = vectors.search(rows[-1], k=len(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numpy", None)
        plain = vectors.search(rows[-1], k=len(rows))
    assert dict(fast) == pytest.approx(dict(plain), abs=1e-9)
    assert fast[0][1] == pytest.approx(1.0)


def test_many_vectors_go_through_numpy_in_blocks() -> None:
    """More numbers than one block holds: the best is found wherever it lies."""
    count, width = 3000, 1024
    matrix = numpy.ones((count, width), "f4")
    matrix[:, 0] = numpy.arange(count)
    vectors = Vectors(matrix.tobytes(), width)
    assert [index for index, _ in vectors.search([1.0] + [0.0] * (width - 1), k=2)] == [2999, 2998]
