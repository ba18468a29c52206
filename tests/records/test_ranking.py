"""Answers of rerankers: every document ranked once, sorted by score, ties in the order they were sent."""

import itertools
import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimclient import ResponseMeta
from nimclient.errors import DecodeError, RerankMismatchError
from nimclient.records import Headers
from nimclient.records.chat import Usage
from nimclient.records.ranking import RankedDocument, decode_ranking

META = ResponseMeta(200, Headers([(b"X-Request-Id", b"r-1")]), "http://host/v1/ranking")


def rankings(*pairs, **rest):
    return {"rankings": [{"index": index, "logit": logit} for index, logit in pairs], **rest}


def test_a_ranking_is_sorted_with_its_documents():
    """Highest score first, each with the document the caller passed; the logit is the score."""
    answer = decode_ranking(
        rankings((0, -7.25), (1, 2.5), usage={"prompt_tokens": 14}, model="m", odd=1), ["a", "b"], META
    )
    assert answer.results == (RankedDocument(1, 2.5, 2.5, None, "b"), RankedDocument(0, -7.25, -7.25, None, "a"))
    assert (answer.usage, answer.model, answer.extra, answer.meta) == (Usage(14), "m", {"odd": 1}, META)


FORMS = {
    "logit": lambda ranks: {"rankings": ranks},
    "relevance_score": lambda ranks: {"results": ranks},
    "score": lambda ranks: ranks,
}


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3), max_size=8),
    st.randoms(),
    st.sampled_from(sorted(FORMS)),
)
def test_results_are_sorted_and_complete_whatever_the_order(logits, random, measure):
    """Any order on the wire, in any form, gives all documents, scores falling, equal scores in the order they were sent."""
    pairs = list(enumerate(logits))
    random.shuffle(pairs)
    body = FORMS[measure]([{"index": index, measure: score} for index, score in pairs])
    answer = decode_ranking(body, list("abcdefgh"[: len(logits)]))
    assert answer.measure == (measure if logits else "score")
    results = answer.results
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
        pytest.param([(0, 1.0), ("b", 2.0)], "index 'b' is not", "rankings[1].index", id="text"),
        pytest.param([(0, 1.0), (0.5, 2.0)], "index 0.5 is not", "rankings[1].index", id="float"),
        pytest.param([(0, 1.0), (None, 2.0)], "index None is not", "rankings[1].index", id="null"),
        pytest.param([(0, math.nan), (1, 2.0)], "nan is not a finite number", "rankings[0].logit", id="NaN"),
        pytest.param([(0, math.inf), (1, 2.0)], "inf is not a finite", "rankings[0].logit", id="infinity"),
        pytest.param([(0, "high"), (1, 2.0)], "'high' is not a finite", "rankings[0].logit", id="score as text"),
        pytest.param([(0, None), (1, 2.0)], "None is not a finite", "rankings[0].logit", id="no score"),
        pytest.param([(0, True), (1, 2.0)], "True is not a finite", "rankings[0].logit", id="score as boolean"),
    ],
)
def test_what_does_not_fit_the_documents_is_a_mismatch(pairs, words, path):
    """F105: missing, repeated, unknown indexes and scores that are no finite numbers."""
    with pytest.raises(RerankMismatchError, match=words) as caught:
        decode_ranking(rankings(*pairs), ["a", "b"], META)
    assert caught.value.path == path
    assert (caught.value.status, caught.value.request_id) == (200, "r-1")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (None, "body"),
        ("a", "body"),
        ({}, "rankings"),
        ({"results": None}, "results"),
        ({"data": {}}, "data"),
        (["x"], "body[0]"),
        ({"rankings": None}, "rankings"),
        ({"rankings": {}}, "rankings"),
        ({"rankings": ["x"]}, "rankings[0]"),
        ({"rankings": [None]}, "rankings[0]"),
    ],
)
def test_without_rankings_there_is_no_answer(body, path):
    """A missing spine is a DecodeError that is no mismatch."""
    with pytest.raises(DecodeError) as caught:
        decode_ranking(body, ["a"], META)
    assert type(caught.value) is DecodeError
    assert caught.value.path == path


def test_an_answer_as_a_dict_and_as_a_pickle():
    """to_dict is plain JSON without nulls; pickles are equal and keep meta."""
    answer = decode_ranking(rankings((0, 1.5), usage={"prompt_tokens": 1}, odd=1), ["a"], META)
    assert json.loads(json.dumps(answer.to_dict())) == {
        "results": [{"index": 0, "score": 1.5, "logit": 1.5, "document": "a"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 0},
        "odd": 1,
    }
    twin = pickle.loads(pickle.dumps(answer))
    assert (twin, twin.meta) == (answer, META)


JINA = {
    "results": [{"index": 1, "relevance_score": 0.9, "document": {"text": "b"}}, {"index": 0, "relevance_score": 0}]
}


def test_relevance_scores_have_a_field_of_their_own():
    """vLLM, Jina and Cohere: the score is a relevance_score and no logit; id and model are kept."""
    answer = decode_ranking({"id": "score-1", "model": "m", "usage": {"total_tokens": 9}, **JINA}, ["a", "b"], META)
    assert answer.results == (RankedDocument(1, 0.9, None, 0.9, "b"), RankedDocument(0, 0.0, None, 0.0, "a"))
    assert (answer.model, answer.measure, answer.extra) == ("m", "relevance_score", {"id": "score-1"})
    assert answer.usage.total_tokens == 9


@pytest.mark.parametrize("wrap", [lambda ranks: ranks, lambda ranks: {"data": ranks}], ids=["bare list", "data"])
def test_a_score_of_an_unknown_scale_is_neither(wrap):
    """Dynamo and SGLang send a bare list of scores, vLLM's score API one in data: neither logit nor relevance."""
    ranks = [{"index": 0, "score": -8.2, "document": "a"}, {"index": 1, "score": 5.3, "meta_info": {"id": "x"}}]
    answer = decode_ranking(wrap(ranks), ["a", "b"], META)
    assert answer.results == (RankedDocument(1, 5.3, None, None, "b"), RankedDocument(0, -8.2, None, None, "a"))
    assert (answer.measure, answer.model, answer.usage, answer.meta) == ("score", None, None, META)


def test_a_measure_is_that_of_all_ranks():
    """Logits and scores in one answer are a mismatch, whichever comes first; an empty answer has no measure."""
    for pair in ({"logit": 1.0}, {"relevance_score": 0.1}), ({"relevance_score": 0.1}, {"score": 3}):
        ranks = [{"index": index, **fields} for index, fields in enumerate(pair)]
        with pytest.raises(RerankMismatchError, match="None is not a finite number"):
            decode_ranking({"results": ranks}, ["a", "b"])
    assert decode_ranking({"results": []}, []).measure == "score"


@pytest.mark.parametrize(
    ("count", "top_n", "fits"),
    [(3, 2, True), (2, 2, True), (1, 2, False), (2, None, False), (3, 9, True), (2, 9, False)],
)
def test_the_best_of_all_may_be_all_there_is(count, top_n, fits):
    """Where top_n was sent, that many ranks or all of them are right; any other number is a mismatch."""
    ranks = {"results": [{"index": i, "relevance_score": 0.5} for i in range(count)]}
    if fits:
        assert len(decode_ranking(ranks, "abc", top_n=top_n).results) == count
    else:
        with pytest.raises(RerankMismatchError, match=f"{count} ranks for 3 documents"):
            decode_ranking(ranks, "abc", top_n=top_n)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"results": [{"index": 0, "relevance_score": "half"}]}, "results[0].relevance_score"),
        ({"results": [{"index": 0, "relevance_score": math.nan}]}, "results[0].relevance_score"),
        ({"results": [{"index": 0}]}, "results[0].relevance_score"),
        ([{"index": 1, "score": 1}], "body[0].index"),
        ([{"index": 0}], "body[0].score"),
        ([], "body"),
    ],
)
def test_other_forms_are_checked_alike(body, path):
    """F105 in every form: the path leads to what does not fit."""
    with pytest.raises(RerankMismatchError) as caught:
        decode_ranking(body, ["a"], META)
    assert caught.value.path == path
