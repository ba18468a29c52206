"""Embedding calls: what is sent, how the answer is read, and how texts are cut into slices."""

import json
from base64 import b64encode
from struct import pack

import pytest

from nimclient import ResponseMeta
from nimclient._api.embeddings import (
    check_batch,
    check_query,
    embeddings_call,
)
from nimclient.errors import ConfigurationError, EmbeddingMismatchError
from nimclient.records import Headers

META = ResponseMeta(200, Headers(), "http://host/v1/embeddings")
NAMED = {"input_type": None, "truncate": None, "dimensions": None, "encoding_format": None}


def call_of(texts=("a",), model="m", input_type_is_ours=False, **options):
    named = {name: options.pop(name, None) for name in NAMED}
    return embeddings_call(
        "embeddings.create", list(texts), model, **named, options=options, input_type_is_ours=input_type_is_ours
    )


def answer(*rows):
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    return json.dumps({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1}}).encode()


@pytest.mark.parametrize(
    ("options", "added", "droppable_fields"),
    [
        ({}, {}, ("encoding_format",)),
        ({"encoding_format": "base64"}, {}, ()),
        ({"encoding_format": "float"}, {"encoding_format": "float"}, ()),
        ({"input_type": "query"}, {"input_type": "query"}, ("encoding_format",)),
        (
            {"input_type": "query", "input_type_is_ours": True},
            {"input_type": "query"},
            ("encoding_format", "input_type"),
        ),
        ({"truncate": "END", "dimensions": 4}, {"truncate": "END", "dimensions": 4}, ("encoding_format",)),
        (
            {"embedding_type": "int8", "modality": "text"},
            {"embedding_type": "int8", "modality": "text"},
            ("encoding_format",),
        ),
        ({"prefix": ""}, {}, ("encoding_format",)),
        ({"prefix": "query: "}, {"input": ["query: a"]}, ("encoding_format",)),
        ({"user": None, "timeout": 3, "extra_headers": {}}, {}, ("encoding_format",)),
        ({"extra_body": {"dimensions": 2, "new": 1}}, {"dimensions": 2, "new": 1}, ("encoding_format",)),
    ],
)
def test_the_body_has_only_what_was_set(options, added, droppable_fields):
    """Base64 is asked for where the caller says nothing; what we add is named as ours."""
    call = call_of(**options)
    assert call.fields == {"model": "m", "input": ["a"], "encoding_format": "base64"} | added
    assert json.loads(call.body) == call.fields
    assert call.droppable_fields == droppable_fields
    assert (call.method, call.path, call.model) == ("POST", "/embeddings", "m")


def test_without_a_model_none_is_sent():
    """A call whose model is not known yet has no model field."""
    assert call_of(model=None).fields.keys() == {"input", "encoding_format"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_type": "document"}, "input_type is 'document'; choose one of query, passage"),
        ({"truncate": "end"}, "truncate is 'end'; choose one of NONE, START, END"),
        ({"encoding_format": "bytes"}, "choose one of float, base64"),
        ({"embedding_type": "float16"}, "choose one of float, int8, uint8, binary, ubinary"),
        ({"dimensions": 0}, "dimensions is 0"),
        ({"dimensions": 1.0}, "dimensions takes a whole number"),
        ({"prefix": 5}, "prefix must be a str"),
        ({"texts": []}, "texts is empty"),
        ({"texts": ["a", ""]}, r"texts\[1\] is empty"),
        ({"texts": ["\ud800"]}, r"body\.input\[0\] .*surrogate"),
        ({"extra_body": {"x": float("nan")}}, r"body\.x is nan"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(options, words):
    """Unknown words, impossible numbers and empty texts are ConfigurationErrors."""
    with pytest.raises(ConfigurationError, match=words):
        call_of(**options)


def test_a_str_or_an_unknown_option_is_a_type_error():
    """A str where a list belongs, and a misspelt option, are TypeErrors."""
    with pytest.raises(TypeError, match="texts takes a list of str"):
        embeddings_call("embeddings.create", "abc", "m", **NAMED, options={})
    with pytest.raises(TypeError, match=r"embeddings\.create\(\) got an unexpected option 'inputtype'"):
        call_of(inputtype="query")


@pytest.mark.parametrize("row", [[1.0, 2.0], b64encode(pack("<2f", 1, 2)).decode()])
def test_the_answer_is_read_as_vectors(row):
    """Base64 and numbers give the same vectors, counted and with usage and meta."""
    call = call_of(texts=["a", "b"])
    embeddings = call.decode(call.parse(answer(row, row)), META)
    assert embeddings.vectors.tolist() == [[1.0, 2.0]] * 2
    assert (embeddings.usage.prompt_tokens, embeddings.meta) == (1, META)


@pytest.mark.parametrize(
    ("options", "rows", "words"),
    [
        ({"texts": ["a", "b"]}, [[1.0]], "1 vectors for 2 texts"),
        ({"dimensions": 3}, [[1.0, 2.0]], "2 dimensions, but 3 were requested"),
        ({"embedding_type": "int8"}, [[1.5]], "not a vector of int8 numbers"),
    ],
)
def test_the_answer_is_checked_against_the_call(options, rows, words):
    """Count, dimensions and type of the vectors must be those that were asked for."""
    call = call_of(**options)
    with pytest.raises(EmbeddingMismatchError, match=words):
        call.decode(call.parse(answer(*rows)), META)


@pytest.mark.parametrize(
    ("embedding_type", "dtype"),
    [("float", "float32"), ("int8", "int8"), ("uint8", "uint8"), ("binary", "binary"), ("ubinary", "ubinary")],
)
def test_embedding_type_is_the_dtype_of_the_vectors(embedding_type, dtype):
    """NIM's embedding_type decides what the rows are read as."""
    call = call_of(embedding_type=embedding_type)
    assert call.decode(call.parse(answer([1, 2])), META).vectors.dtype == dtype


@pytest.mark.parametrize(("batch_size", "concurrency"), [(None, None), (1, 1), (64, 16)])
def test_batch_options_may_be_left_out(batch_size, concurrency):
    """None and whole numbers of at least 1 pass."""
    assert check_batch(batch_size, concurrency) is None


@pytest.mark.parametrize(
    ("batch_size", "concurrency", "words"),
    [
        (0, None, "batch_size is 0"),
        (None, 0, "concurrency is 0"),
        (1.5, None, "batch_size takes"),
        (None, True, "concurrency takes"),
    ],
)
def test_impossible_batch_options_are_refused(batch_size, concurrency, words):
    """Anything else is a ConfigurationError that names the option."""
    with pytest.raises(ConfigurationError, match=words):
        check_batch(batch_size, concurrency)


def test_a_query_is_one_text():
    """A list, or bytes, is a TypeError; an empty text a ConfigurationError."""
    assert check_query("hi") == "hi"
    for text in (["hi"], b"hi", None):
        with pytest.raises(TypeError, match="text takes a str"):
            check_query(text)
    with pytest.raises(ConfigurationError, match="text is empty"):
        check_query("")
