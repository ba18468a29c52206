"""Reranking calls: NIM's objects and the documents of all others on the wire, handed back with their ranks."""

import json
from typing import Any

import pytest

from nimclient import ResponseMeta
from nimclient._api.ranking import (
    NIM,
    RERANK,
    RERANK_AT_ROOT,
    SLICE_BYTES,
    Form,
    Passage,
    check_ranking,
    forms,
    merged,
    ranking_call,
    slices,
)
from nimclient.errors import ConfigurationError, RerankMismatchError
from nimclient.records import Headers
from nimclient.records.media import Image
from nimclient.records.ranking import decode_ranking

META = ResponseMeta(200, Headers(), "http://host/v1/ranking")
PIXEL = "data:image/png;base64,iVBORw0KGgo="
PART = {"type": "image_url", "image_url": {"url": PIXEL}}


def texts(*documents: str) -> list[Passage]:
    return [Passage(document, None, document) for document in documents]


def call(form=NIM, passages=None, model="m", *, top_n=None, truncate=None, options=None):
    passages = texts("a", "b") if passages is None else passages
    return ranking_call(form, "q", passages, model, top_n=top_n, truncate=truncate, options=options or {})


@pytest.mark.parametrize(
    ("model", "truncate", "options", "fields"),
    [
        ("m", None, {}, {"model": "m"}),
        (None, None, {}, {}),
        ("m", "END", {"timeout": 3, "extra_headers": {"X": "y"}}, {"model": "m", "truncate": "END"}),
        ("m", None, {"extra_body": {"top_k": 1}}, {"model": "m", "top_k": 1}),
    ],
)
def test_nims_query_and_passages_are_objects(model, truncate, options, fields):
    """The body is NIM's, with only what was set; it has no top_n."""
    made = call(model=model, truncate=truncate, options=options, top_n=1)
    assert made.fields == {"query": {"text": "q"}, "passages": [{"text": "a"}, {"text": "b"}], **fields}
    assert json.loads(made.body) == made.fields
    assert (made.method, made.path, made.model, made.at_root) == ("POST", "/ranking", model, False)


@pytest.mark.parametrize(("form", "at_root"), [(RERANK, False), (RERANK_AT_ROOT, True)])
@pytest.mark.parametrize(("top_n", "sent"), [(None, {}), (1, {"top_n": 1}), (9, {"top_n": 2})])
def test_the_other_form(form, at_root, top_n, sent):
    """Query and documents are texts, top_n goes with them, no more than there are; truncate does not exist."""
    made = call(form, top_n=top_n, truncate="END")
    assert made.fields == {"model": "m", "query": "q", "documents": ["a", "b"], **sent}
    assert (made.path, made.at_root) == ("/rerank", at_root)


IMAGES: dict[str, tuple[Any, Any, Any]] = {
    "an image": (Image(PIXEL), {"image": PIXEL}, {"content": [PART]}),
    "a dict with an image": ({"image": Image(PIXEL)}, {"image": PIXEL}, {"content": [PART]}),
    "a dict with a URL": ({"image": PIXEL, "text": ""}, {"image": PIXEL}, {"content": [PART]}),
    "bytes": (
        Image(b"\x89PNG\r\n\x1a\n"),
        {"image": "data:image/png;base64,iVBORw0KGgo="},
        {"content": [PART]},
    ),
    "both": (
        {"text": "t", "image": Image(PIXEL)},
        {"text": "t", "image": PIXEL},
        {"content": [{"type": "text", "text": "t"}, PART]},
    ),
    "a dict with a text": ({"text": "t"}, {"text": "t"}, "t"),
}


@pytest.mark.parametrize(("document", "nim", "other"), IMAGES.values(), ids=IMAGES)
def test_images(document, nim, other):
    """An image alone goes without a text, since NIM 2.0 rejects an empty one; vLLM takes content parts."""
    passages = check_ranking("q", [document], None, None, {})
    assert call(NIM, passages).fields["passages"] == [nim]
    assert call(RERANK, passages).fields["documents"] == [other]
    assert passages[0].document is document


def test_the_answer_carries_the_documents():
    """Ranks come back with the documents that were sent, whatever becomes of the list meanwhile."""
    passages = texts("a", "b")
    made = call(passages=passages)
    passages.clear()
    ranking = made.decode({"rankings": [{"index": 0, "logit": -1.0}, {"index": 1, "logit": 2.0}]}, META)
    assert [(r.document, r.score) for r in ranking.results] == [("b", 2.0), ("a", -1.0)]
    assert ranking.meta == META


def test_documents_may_be_any_iterable():
    """They are read once."""
    assert check_ranking("q", iter(["a", "b"]), 1, "NONE", {}) == texts("a", "b")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("", ["a"], None, None, {}), ConfigurationError, "^query is empty"),
        ((None, ["a"], None, None, {}), ConfigurationError, "^query must be a str"),
        (("q", [], None, None, {}), ConfigurationError, "^documents is empty"),
        (("q", ["a", ""], None, None, {}), ConfigurationError, r"^documents\[1\] is empty"),
        (
            ("q", ["a", 5], None, None, {}),
            ConfigurationError,
            r"^documents\[1\] must be a str, an Image or .*, not int",
        ),
        (("q", [{"text": "a", "url": "b"}], None, None, {}), ConfigurationError, r"^documents\[0\] has the key 'url'"),
        (("q", [{}], None, None, {}), ConfigurationError, r"^documents\[0\]\.text must be a str, not NoneType"),
        (("q", [{"text": ""}], None, None, {}), ConfigurationError, r"^documents\[0\]\.text is empty"),
        (
            ("q", [{"text": 5, "image": PIXEL}], None, None, {}),
            ConfigurationError,
            r"^documents\[0\]\.text must be a str",
        ),
        (
            ("q", [{"image": 5}], None, None, {}),
            ConfigurationError,
            r"^documents\[0\]\.image must be an Image or a URL",
        ),
        (("q", [{"image": ""}], None, None, {}), ConfigurationError, r"^documents\[0\]\.image must be"),
        (("q", [{"image": "cat.png"}], None, None, {}), ConfigurationError, "pass a Path for a local file"),
        (("q", "abc", None, None, {}), TypeError, "^documents takes a list of documents, not str"),
        (("q", {"text": "a"}, None, None, {}), TypeError, "^documents takes a list of documents, not dict"),
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


@pytest.mark.parametrize(
    ("told", "known", "endpoint", "expected"),
    [
        (None, None, None, (NIM, RERANK, RERANK_AT_ROOT)),
        (None, "nim", None, (NIM, RERANK, RERANK_AT_ROOT)),
        (None, "hosted", None, (NIM, RERANK, RERANK_AT_ROOT)),
        (None, "vllm", None, (RERANK, RERANK_AT_ROOT, NIM)),
        (None, "dynamo", None, (RERANK, RERANK_AT_ROOT, NIM)),
        ("nim", "nim", None, (NIM,)),
        ("hosted", "hosted", None, (NIM,)),
        ("vllm", "vllm", None, (RERANK, RERANK_AT_ROOT)),
        ("dynamo", "dynamo", None, (RERANK,)),
        (None, "hosted", "https://h/v1/x/reranking", (Form("https://h/v1/x/reranking", nim=True),)),
        ("nim", None, "https://h/v1/rerank", (Form("https://h/v1/rerank"),)),
    ],
)
def test_which_form_is_tried(told, known, endpoint, expected):
    """The caller's word and a URL of the model's own leave one kind; what is only known decides about the order."""
    assert forms(told, known, endpoint) == expected


@pytest.mark.parametrize(
    ("count", "batch_size", "expected"),
    [(1, None, [1]), (512, None, [512]), (513, None, [512, 1]), (5, 2, [2, 2, 1]), (3, 600, [3])],
)
def test_slices_by_count(count, batch_size, expected):
    """At most 512 passages a request, or as many as the caller says."""
    assert [len(span) for span in slices(texts(*["a"] * count), batch_size)] == expected


def test_slices_by_size():
    """Pages as images are cut by their bytes as well; one that is larger than that goes alone."""
    large, small = Passage(None, "x" * (SLICE_BYTES + 1), 1), Passage("y" * (SLICE_BYTES // 2), None, 2)
    spans = list(slices([small, small, small, large, small], None))
    assert spans == [range(2), range(2, 3), range(3, 4), range(4, 5)]


def test_slices_are_merged_by_score():
    """Indexes are those of the whole list, equal scores keep the order; usage adds up."""
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    first = decode_ranking({"rankings": [{"index": 0, "logit": 1}, {"index": 1, "logit": -2}], "usage": usage}, "ab")
    second = decode_ranking({"rankings": [{"index": 0, "logit": 5}, {"index": 1, "logit": 1}], "usage": usage}, "cd")
    whole = merged({2: second, 0: first})
    assert [(r.index, r.score, r.document) for r in whole.results] == [
        (2, 5.0, "c"),
        (0, 1.0, "a"),
        (3, 1.0, "d"),
        (1, -2.0, "b"),
    ]
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 6


def test_logits_and_scores_are_never_merged():
    """Slices that were answered in different kinds of scores cannot be sorted together."""
    logits = decode_ranking({"rankings": [{"index": 0, "logit": 0.5}]}, "a")
    scores = decode_ranking({"results": [{"index": 0, "relevance_score": 0.5}]}, "b")
    bare = decode_ranking([{"index": 0, "score": 0.5}], "c")
    for one, other in ((logits, scores), (scores, bare), (bare, logits)):
        with pytest.raises(RerankMismatchError, match="different kinds of scores"):
            merged({0: one, 1: other})
