"""Reranking calls: NIM's objects on the wire, and the documents handed back with their ranks."""

import json

import pytest

from nimclient._protocol.ranking import check_ranking, ranking_call
from nimclient._wire import Headers, ResponseMeta
from nimclient.errors import ConfigurationError

META = ResponseMeta(200, Headers(), "http://host/v1/ranking")


@pytest.mark.parametrize(
    ("model", "truncate", "options", "fields"),
    [
        ("m", None, {}, {"model": "m"}),
        (None, None, {}, {}),
        ("m", "END", {"timeout": 3, "extra_headers": {"X": "y"}}, {"model": "m", "truncate": "END"}),
        ("m", None, {"extra_body": {"top_k": 1}}, {"model": "m", "top_k": 1}),
    ],
)
def test_query_and_passages_are_objects(model, truncate, options, fields):
    """The body is NIM's, with only what was set."""
    call = ranking_call("q", ["a", "b"], model, truncate, options)
    assert call.fields == {"query": {"text": "q"}, "passages": [{"text": "a"}, {"text": "b"}], **fields}
    assert json.loads(call.body) == call.fields
    assert (call.method, call.path, call.model) == ("POST", "/ranking", model)


def test_the_answer_carries_the_documents():
    """Ranks come back with the documents that were sent, whatever becomes of the list meanwhile."""
    documents = ["a", "b"]
    call = ranking_call("q", documents, "m", None, {})
    documents.clear()
    ranking = call.decode({"rankings": [{"index": 0, "logit": -1.0}, {"index": 1, "logit": 2.0}]}, META)
    assert [(r.document, r.score) for r in ranking.results] == [("b", 2.0), ("a", -1.0)]
    assert ranking.meta == META


def test_documents_may_be_any_iterable():
    """They are read once and come back as a list."""
    assert check_ranking("q", iter(["a", "b"]), 1, "NONE", {}) == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("", ["a"], None, None, {}), ConfigurationError, "^query is empty"),
        ((None, ["a"], None, None, {}), ConfigurationError, "^query must be a str"),
        (("q", [], None, None, {}), ConfigurationError, "^documents is empty"),
        (("q", ["a", ""], None, None, {}), ConfigurationError, r"^documents\[1\] is empty"),
        (("q", [{"text": "a"}], None, None, {}), ConfigurationError, r"^documents\[0\] must be a str, not dict"),
        (("q", "abc", None, None, {}), TypeError, "^documents takes a list of str, not str"),
        (("q", ["a"], 0, None, {}), ConfigurationError, "^top_n is 0"),
        (("q", ["a"], "1", None, {}), ConfigurationError, "^top_n takes a whole number"),
        (("q", ["a"], None, "START", {}), ConfigurationError, "choose one of NONE, END"),
        (("q", ["a"], None, None, {"topn": 1}), TypeError, r"^rerank\(\) got an unexpected option 'topn'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(arguments, error, words):
    """Each wrong argument is named."""
    with pytest.raises(error, match=words):
        check_ranking(*arguments)
