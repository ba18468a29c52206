"""Pieces of texts that are too long, and the mean of their vectors."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient._bulk.pooling import parts_of, pieces_of, pooled


def test_the_mean_of_two_directions() -> None:
    """Vectors of length one give one of length one, nearer to the piece with more tokens."""
    mean = pooled([[1.0, 0.0], [0.0, 1.0]], [3, 1])
    assert mean == pytest.approx([3 / math.sqrt(10), 1 / math.sqrt(10)])


def test_vectors_that_are_not_normalized() -> None:
    """They give the plain mean: its length says something."""
    assert pooled([[2.0, 0.0], [0.0, 4.0]], [1, 3]) == [0.5, 3.0]


def test_half_precision_counts_as_normalized() -> None:
    """A length within 1 % of one is one that was rounded; vLLM draws the line there."""
    assert math.hypot(*pooled([[0.995, 0.0], [0.0, 1.004]], [1, 1])) == pytest.approx(1)
    assert math.hypot(*pooled([[0.98, 0.0], [0.0, 1.0]], [1, 1])) == pytest.approx(0.7, abs=0.01)


def test_opposite_vectors() -> None:
    """Their mean is zero throughout, which has no direction, rather than an error."""
    assert pooled([[1.0, 0.0], [-1.0, 0.0]], [1, 1]) == [0.0, 0.0]


@given(st.lists(st.integers(0), max_size=50), st.integers(1, 20))
def test_pieces(ids: list[int], limit: int) -> None:
    """They are all of the ids in order, each of the limit but the last."""
    pieces = pieces_of(ids, limit)
    assert [number for piece in pieces for number in piece] == ids
    assert all(len(piece) == limit for piece in pieces[:-1])
    assert len(pieces) == -(-len(ids) // limit)


@given(st.text("ab \n😀", min_size=2, max_size=300), st.data())
def test_parts(text: str, data: st.DataObject) -> None:
    """They are all of the text in order, none is empty, and none is twice as long as the others on average."""
    count = data.draw(st.integers(2, len(text)))
    parts = parts_of(text, count)
    assert "".join(parts) == text
    assert len(parts) == count
    assert all(parts)
    assert max(map(len, parts)) <= 2 * len(text) / count + 1


def test_parts_end_behind_white_space() -> None:
    """No word is cut where there is white space near."""
    assert parts_of("one two three four five six", 3) == ["one two ", "three four ", "five six"]
