"""Answers of rerankers: every document ranked once, sorted by score, ties in the order they were sent."""

import itertools
import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient._wire import Headers, ResponseMeta
from nimclient.errors import DecodeError, RerankMismatchError
from nimclient.records.chat import Usage
from nimclient.records.ranking import RankedDocument, decode_nim_ranking

META = ResponseMeta(200, Headers([(b"X-Request-Id", b"r-1")]), "http://host/v1/ranking")


def rankings(*pairs, **rest):
    return {"rankings": [{"index": index, "logit": logit} for index, logit in pairs], **rest}


def test_a_ranking_is_sorted_with_its_documents():
    """Highest score first, each with the document the caller passed; the logit is the score."""
    answer = decode_nim_ranking(
        rankings((0, -7.25), (1, 2.5), usage={"prompt_tokens": 14}, model="m", odd=1), ["a", "b"], META
    )
    assert answer.results == (RankedDocument(1, 2.5, 2.5, None, "b"), RankedDocument(0, -7.25, -7.25, None, "a"))
    assert (answer.usage, answer.model, answer.extra, answer.meta) == (Usage(14), "m", {"odd": 1}, META)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3), max_size=8), st.randoms())
def test_results_are_sorted_and_complete_whatever_the_order(logits, random):
    """Any order on the wire gives all documents, scores falling, equal scores in the order they were sent."""
    pairs = list(enumerate(logits))
    random.shuffle(pairs)
    results = decode_nim_ranking(rankings(*pairs), list("abcdefgh"[: len(logits)])).results
    assert sorted(r.index for r in results) == list(range(len(logits)))
    assert all((a.score, -a.index) > (b.score, -b.index) for a, b in itertools.pairwise(results))
    assert all(r.document == "abcdefgh"[r.index] and r.score == logits[r.index] for r in results)
    assert all(type(r.score) is float for r in results)


@pytest.mark.parametrize(
    ("pairs", "words", "path"),
    [
        pytest.param([(0, 1.0)], "1 ranks for 2 documents", "rankings", id="fewer"),
        pytest.param([(0, 1.0), (1, 1.0), (1, 2.0)], "3 ranks for 2 documents", "rankings", id="more"),
        pytest.param([(0, 1.0), (0, 2.0)], "document 0 is ranked twice", "rankings[1]", id="twice"),
        pytest.param([(0, 1.0), (2, 2.0)], "index 2 is not one of 2", "rankings[1].index", id="unknown"),
        pytest.param([(0, 1.0), (-1, 2.0)], "index -1 is not", "rankings[1].index", id="negative"),
        pytest.param([(0, 1.0), (True, 2.0)], "index True is not", "rankings[1].index", id="boolean"),
        pytest.param([(0, 1.0), ("1", 2.0)], "index '1' is not", "rankings[1].index", id="text"),
        pytest.param([(0, 1.0), (1.0, 2.0)], "index 1.0 is not", "rankings[1].index", id="float"),
        pytest.param([(0, 1.0), (None, 2.0)], "index None is not", "rankings[1].index", id="null"),
        pytest.param([(0, math.nan), (1, 2.0)], "nan is not a finite number", "rankings[0].logit", id="NaN"),
        pytest.param([(0, math.inf), (1, 2.0)], "inf is not a finite", "rankings[0].logit", id="infinity"),
        pytest.param([(0, "1.5"), (1, 2.0)], "'1.5' is not a finite", "rankings[0].logit", id="score as text"),
        pytest.param([(0, None), (1, 2.0)], "None is not a finite", "rankings[0].logit", id="no score"),
        pytest.param([(0, True), (1, 2.0)], "True is not a finite", "rankings[0].logit", id="score as boolean"),
    ],
)
def test_what_does_not_fit_the_documents_is_a_mismatch(pairs, words, path):
    """F105: missing, repeated, unknown indexes and scores that are no finite numbers."""
    with pytest.raises(RerankMismatchError, match=words) as caught:
        decode_nim_ranking(rankings(*pairs), ["a", "b"], META)
    assert caught.value.path == path
    assert (caught.value.status, caught.value.request_id) == (200, "r-1")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (None, "body"),
        ([], "body"),
        ({}, "rankings"),
        ({"results": []}, "rankings"),
        ({"rankings": None}, "rankings"),
        ({"rankings": {}}, "rankings"),
        ({"rankings": ["x"]}, "rankings[0]"),
        ({"rankings": [None]}, "rankings[0]"),
    ],
)
def test_without_rankings_there_is_no_answer(body, path):
    """A missing spine is a DecodeError that is no mismatch."""
    with pytest.raises(DecodeError) as caught:
        decode_nim_ranking(body, ["a"], META)
    assert type(caught.value) is DecodeError
    assert caught.value.path == path


def test_an_answer_as_a_dict_and_as_a_pickle():
    """to_dict is plain JSON without nulls; pickles are equal and keep meta."""
    answer = decode_nim_ranking(rankings((0, 1.5), usage={"prompt_tokens": 1}, odd=1), ["a"], META)
    assert json.loads(json.dumps(answer.to_dict())) == {
        "results": [{"index": 0, "score": 1.5, "logit": 1.5, "document": "a"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 0},
        "odd": 1,
    }
    twin = pickle.loads(pickle.dumps(answer))
    assert (twin, twin.meta) == (answer, META)
