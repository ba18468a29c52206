import builtins
import random
from array import array

import numpy
import pytest

from nimclient import Vectors
from nimclient.cli import search
from nimclient.cli.search import Index

ROWS, SIZE = 50, 33


@pytest.fixture(params=["numpy", "plain"])
def way(request, monkeypatch):
    """With NumPy, and as where it is not installed."""
    if request.param == "plain":
        real = builtins.__import__

        def without_numpy(name, *rest, **more):
            if name == "numpy":
                raise ImportError(name)
            return real(name, *rest, **more)

        monkeypatch.setattr(builtins, "__import__", without_numpy)


def made_up() -> tuple[Vectors, list[float]]:
    source = random.Random(5)
    numbers = array("f", [source.gauss(0, 3) for _ in range(ROWS * SIZE)])
    return Vectors(numbers.tobytes(), SIZE), [source.gauss(0, 1) for _ in range(SIZE)]


def test_top_is_what_numpy_finds(way):
    """The nearest rows and their cosines are those of a NumPy reference, also for rows that are not of length one."""
    vectors, query = made_up()
    matrix = numpy.array(vectors.tolist())
    cosines = matrix @ query / numpy.linalg.norm(matrix, axis=1) / numpy.linalg.norm(query)
    best = numpy.argsort(-cosines)[:7]
    found = Index(vectors.buffer, vectors.dimensions).top(query, 7)
    assert [row for row, _ in found] == best.tolist()
    assert [score for _, score in found] == pytest.approx(cosines[best].tolist(), abs=1e-5)


def test_equal_rows_keep_their_order(way):
    """Rows of the same cosine come in their order, and no more rows than there are."""
    vectors = Vectors(array("f", [1, 0] * 3).tobytes(), 2)
    assert [row for row, _ in Index(vectors.buffer, 2).top([2.0, 0.0], 9)] == [0, 1, 2]


@pytest.mark.filterwarnings("error")
def test_zero_vectors_are_near_to_nothing(way):
    """A row or a query of zeros has cosine 0, not a division by zero."""
    vectors = Vectors(array("f", [0, 0, 0, 1]).tobytes(), 2)
    assert Index(vectors.buffer, 2).top([0.0, 1.0], 2) == [(1, 1.0), (0, 0.0)]
    assert [score for _, score in Index(vectors.buffer, 2).top([0.0, 0.0], 2)] == [0.0, 0.0]


def test_inner_product():
    """The inner product is there on every Python."""
    assert search._sum_of_products([1.0, 2.0], [3.0, 4.0]) == search.sum_of_products([1.0, 2.0], [3.0, 4.0]) == 11.0
