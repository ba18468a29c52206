"""A call as a value: encoded once, and encoded anew without the fields that a server refuses."""

import json

import pytest

from nimclient._api.call import Call
from nimclient._api.chat import chat_call
from nimclient._api.models import get_call, list_call
from nimclient._retry.policy import Replay
from nimclient.errors import ConfigurationError
from nimclient.records.models import decode_model, decode_models


def test_a_call_without_fields_has_no_body():
    """A GET is sent without a body, and may be replayed freely."""
    call = Call("GET", "/models", decode_models)
    assert (call.body, call.replay) == (None, Replay.SAFE)


def test_making_a_call_encodes_its_body():
    """The bytes are those of the fields; what JSON cannot carry is refused with its path."""
    assert json.loads(Call("POST", "/x", decode_models, {"a": [1]}).body) == {"a": [1]}
    with pytest.raises(ConfigurationError) as caught:
        Call("POST", "/x", decode_models, {"a": {1}})
    assert caught.value.path == "body.a"


@pytest.mark.parametrize(
    ("refused", "left", "droppable_fields"),
    [
        ({"stream_options"}, {"model", "messages", "stream"}, ("stream",)),
        ({"stream"}, {"model", "messages"}, ("stream_options",)),
        ({"stream", "stream_options"}, {"model", "messages"}, ()),
        ({"other"}, {"model", "messages", "stream", "stream_options"}, ("stream", "stream_options")),
    ],
)
def test_refused_fields_are_dropped_and_the_body_made_anew(refused, left, droppable_fields):
    """A call without some fields is the same call with another body; stream_options never goes without stream."""
    call = chat_call("chat.stream", "hi", "m", {}, stream=True)
    fewer = call.without(frozenset(refused))
    assert json.loads(fewer.body).keys() == fewer.fields.keys() == left
    assert fewer.droppable_fields == droppable_fields
    assert "stream_options" in call.fields
    assert (fewer.path, fewer.model, fewer.replay) == (call.path, call.model, call.replay)


def test_dropping_fields_of_a_call_without_a_body_changes_nothing():
    """There is nothing to drop from a GET."""
    assert json.loads(Call("GET", "/models", decode_models).without(frozenset({"stream"})).body) == {}


def test_secrets_do_not_show_in_the_repr_of_a_call():
    """Headers are not shown."""
    assert "S3CRET" not in repr(Call("POST", "/x", decode_models, {}, headers={"X": "S3CRET"}))


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("m", "/models/m"),
        ("meta/llama-3.1-8b-instruct", "/models/meta/llama-3.1-8b-instruct"),
        ("nv-rerank-qa-mistral-4b:1", "/models/nv-rerank-qa-mistral-4b:1"),
        ("a b?c#d%", "/models/a%20b%3Fc%23d%25"),
        ("modèle", "/models/mod%C3%A8le"),
    ],
)
def test_one_model_is_asked_for_by_its_id(model, path):
    """Slashes stay, what would end the path is quoted."""
    call = get_call(model)
    assert (call.method, call.path, call.decode) == ("GET", path, decode_model)


@pytest.mark.parametrize("model", ["", None, 5])
def test_an_impossible_id_is_refused(model):
    """A model id is a str that is not empty."""
    with pytest.raises(ConfigurationError, match="id must be a model id"):
        get_call(model)


def test_the_list_of_models_is_a_get():
    """GET /models."""
    assert (list_call().method, list_call().path, list_call().decode) == ("GET", "/models", decode_models)
