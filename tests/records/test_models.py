"""What servers say of their models: only the id is certain."""

import json
import pickle

import pytest

from nimclient import ResponseMeta
from nimclient.errors import DecodeError
from nimclient.records import Headers
from nimclient.records.models import Model, ModelList, decode_model, decode_models

META = ResponseMeta(200, Headers(), "http://host/v1/models")
VLLM = {
    "id": "base",
    "object": "model",
    "created": 1,
    "owned_by": "vllm",
    "root": "/models/base",
    "parent": None,
    "max_model_len": 4096,
    "permission": [{"id": "p"}],
}


def test_vllms_entry_is_read():
    """Known fields land in their places, the rest in extra."""
    (model,) = decode_models({"object": "list", "data": [VLLM]}, META)
    assert model == Model(
        "base",
        owned_by="vllm",
        max_model_len=4096,
        created=1,
        listed=True,
        extra={"root": "/models/base", "permission": [{"id": "p"}]},
    )
    assert (model.kind, model.parent) == ("unknown", None)


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        ([], ()),
        ([{"id": "a"}, {"id": "b"}], ("a", "b")),
        ([{"id": "b"}, {"id": "a"}, {"id": "b", "owned_by": "x"}], ("b", "a")),
        ([{"id": ""}, {"id": None}, {"id": 5}, {}, {"id": "a"}], ("a",)),
        ([{"id": "lora", "parent": "a"}], ("lora",)),
        ([{"id": "a", "max_model_len": "long", "created": True, "owned_by": 5}], ("a",)),
    ],
)
def test_entries_without_an_id_are_passed_over(data, ids):
    """The server's order is kept, repeated ids appear once, wrong types elsewhere are None."""
    models = decode_models({"data": data})
    assert models.ids == ids
    assert [model.owned_by for model in models] == [None] * len(ids)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (None, "body"),
        ([{"id": "a"}], "body"),
        ({}, "data"),
        ({"data": None}, "data"),
        ({"data": {"id": "a"}}, "data"),
        ({"data": [{"id": "a"}, "b"]}, "data[1]"),
    ],
)
def test_without_a_list_of_objects_there_is_no_list(body, path):
    """A missing spine is a DecodeError with its path."""
    with pytest.raises(DecodeError) as caught:
        decode_models(body, META)
    assert (caught.value.path, caught.value.status) == (path, 200)


def test_a_list_is_a_sequence_with_meta():
    """Items, slices, iteration, equality, hash, repr, unknown fields, to_dict and pickles."""
    models = decode_models({"object": "list", "data": [{"id": "a"}, {"id": "b"}], "odd": 1}, META)
    a, b = models
    assert (len(models), models[0], models[-1], models[:1], list(models)) == (2, a, b, (a,), [a, b])
    assert (models.meta, models.extra) == (META, {"odd": 1})
    assert models == ModelList([a, b])
    assert models != ModelList([b, a])
    assert models != [a, b]
    assert hash(models) == hash(ModelList([a, b]))
    assert [line.split()[0] for line in repr(models).splitlines()[2:]] == ["a", "b"]
    assert json.loads(json.dumps(models.to_dict()))["data"][0]["id"] == "a"
    assert decode_models(models.to_dict()).ids == ("a", "b")
    twin = pickle.loads(pickle.dumps(models))
    assert (twin, twin.meta, twin.extra) == (models, META, {"odd": 1})
    assert ModelList([]).extra == {}


def test_one_model_is_read_with_meta():
    """GET /models/{id} gives the model itself."""
    model = decode_model(VLLM, META)
    assert (model.id, model.max_model_len, model.meta, model.listed) == ("base", 4096, META, True)
    assert pickle.loads(pickle.dumps(model)) == model


@pytest.mark.parametrize(
    ("body", "path"), [(None, "body"), ([], "body"), ({}, "id"), ({"id": ""}, "id"), ({"id": 5}, "id")]
)
def test_a_model_without_an_id_is_none(body, path):
    """The id is the one thing a model must have."""
    with pytest.raises(DecodeError) as caught:
        decode_model(body, META)
    assert caught.value.path == path


def test_a_model_as_a_dict():
    """to_dict has what is set, unknown fields merged in, without meta."""
    model = Model("a", "chat", aliases=("b",), listed=True, extra={"root": "/x"}, meta=META)
    assert model.to_dict() == {
        "id": "a",
        "kind": "chat",
        "supports_tools": False,
        "supports_structured_output": False,
        "supports_thinking": False,
        "supports_images": False,
        "aliases": ["b"],
        "deprecated": False,
        "listed": True,
        "root": "/x",
    }
    assert "aliases" not in Model("a").to_dict()
