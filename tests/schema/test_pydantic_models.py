"""pydantic models as output: known by their methods, with pydantic's own schema and checks."""

import subprocess
import sys
from typing import Any, ClassVar, Literal

import attrs
import pytest

from nimclient.errors import ConfigurationError
from nimclient.records.chat import decode_chat
from support.schemas import Misfit, convert, output_of, plain, read_output, schema_of

CLOSED = {"additionalProperties": False}


class Model:
    """Acts as a pydantic v2 model does."""

    answer: ClassVar[Any] = {"type": "object", "properties": {"default": {"type": "integer", "default": 3}}}

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    @classmethod
    def model_json_schema(cls) -> Any:
        return cls.answer

    @classmethod
    def model_validate(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("not a dict")
        if "problem" in value:
            error = ValueError("pydantic's words")
            error.errors = lambda: value["problem"]  # type: ignore[attr-defined]
            raise error
        return cls(**value)


def test_the_schema_is_the_models_closed():
    """Strict, unknown keys are excluded, all are required and defaults are dropped; a field may be called default."""
    field = {"type": "integer"}
    assert schema_of(Model) == {"type": "object", "properties": {"default": field}, "required": ["default"], **CLOSED}
    assert schema_of(Model, strict=False) == {
        "type": "object",
        "properties": {"default": {"type": "integer", "default": 3}},
        **CLOSED,
    }
    assert Model.answer["properties"]["default"]["default"] == 3


def test_what_a_model_says_of_other_keys_stays():
    """extra="allow" is the model's choice; values of enum and const are not looked into."""

    class Open(Model):
        answer: ClassVar[Any] = {
            "type": "object",
            "properties": {"a": {"enum": [{"default": 1}]}},
            "additionalProperties": True,
        }

    assert schema_of(Open) == Open.answer


def test_definitions_go_to_the_root():
    """A model within another type brings its definitions along; one that contains itself is inlined at the root."""

    class Nested(Model):
        answer: ClassVar[Any] = {
            "$ref": "#/$defs/N",
            "$defs": {"N": {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}},
        }

    node = {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}, "required": ["n"], **CLOSED}
    assert schema_of(Nested) == {**node, "$defs": {"N": node}}
    assert schema_of(list[Nested]) == {"type": "array", "items": node, "$defs": {"N": node}}

    class Other(Model):
        answer: ClassVar[Any] = {**Nested.answer, "$defs": {"N": {"type": "string"}}}

    with pytest.raises(ConfigurationError, match="two types within the output are called N"):
        schema_of(tuple[Nested, Other])


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        (5, "at", "not a dict"),
        ({"problem": []}, "at", "pydantic's words"),
        ({"problem": [{"loc": ("a", 0, "b"), "msg": "too short"}]}, "at.a[0].b", "too short"),
        ({"problem": [{}]}, "at", "pydantic's words"),
    ],
)
def test_what_a_model_objects_to_is_a_misfit(value, path, problem):
    """The path continues into the model where the error says so."""
    with pytest.raises(Misfit) as caught:
        convert(value, Model, "at")
    assert (caught.value.path, caught.value.problem) == (path, problem)


def test_a_real_model_goes_both_ways():
    """With pydantic itself: schema, conversion, error path, back to JSON, within other types."""
    pydantic = pytest.importorskip("pydantic")
    inner = pydantic.create_model("Inner", n=(int, ...))
    outer = pydantic.create_model("Outer", items=(list[inner], ...), name=(str, "x"))
    both = attrs.make_class("Both", {"model": attrs.field(type=outer)})
    schema = schema_of(both)
    assert schema["properties"]["model"]["required"] == ["items", "name"]
    assert schema["$defs"]["Inner"]["additionalProperties"] is False
    value = convert({"model": {"items": [{"n": 1}]}}, both)
    assert value.model == outer(items=[inner(n=1)])
    assert plain(value) == {"model": {"items": [{"n": 1}], "name": "x"}}
    with pytest.raises(Misfit, match=r"^model\.items\[0\]\.n: "):
        convert({"model": {"items": [{"n": "one"}]}}, both)


def test_pydantic_is_never_imported():
    """Asking for an attrs class loads none of it."""
    code = """
import sys
import nimclient._client
from nimclient._schema.structured import output_of
output_of(list[int])
assert "pydantic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_descriptions_beside_a_reference() -> None:
    """A field with a description whose type is a model: strict servers take no keyword beside a reference."""
    pydantic = pytest.importorskip("pydantic")
    inner = pydantic.create_model("Inner", x=(int, ...))
    outer = pydantic.create_model(
        "Outer", a=(inner, pydantic.Field(description="the first")), b=(inner, pydantic.Field(title="B"))
    )
    schema = schema_of(outer)
    assert schema["properties"]["a"] == {"anyOf": [{"$ref": "#/$defs/Inner"}], "description": "the first"}
    assert schema["properties"]["b"]["anyOf"] == [{"$ref": "#/$defs/Inner"}]
    assert convert({"a": {"x": 1}, "b": {"x": 2}}, outer).b.x == 2


def test_a_union_that_a_field_tells_apart() -> None:
    """Strict servers reject the oneOf and the discriminator of pydantic (openai-agents-python #1884, vercel/ai #12876)."""
    pydantic = pytest.importorskip("pydantic")
    cat = pydantic.create_model("Cat", kind=(Literal["cat"], ...))
    dog = pydantic.create_model("Dog", kind=(Literal["dog"], ...))
    owner = pydantic.create_model("Owner", pet=(cat | dog, pydantic.Field(discriminator="kind")))
    schema = schema_of(owner)
    assert schema["properties"]["pet"] == {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}], "title": "Pet"}
    assert convert({"pet": {"kind": "dog"}}, owner).pet == dog(kind="dog")


def test_a_root_model_of_a_list_is_wrapped() -> None:
    """The root of a schema is an object: RootModel[list[X]] is asked for below "value", and read with and without it."""
    pydantic = pytest.importorskip("pydantic")
    item = pydantic.create_model("Item", x=(int, ...))
    output = output_of(pydantic.RootModel[list[item]])
    assert output.wrapped
    assert output.schema["type"] == "object"
    assert output.schema["properties"]["value"]["type"] == "array"
    for text in ('{"value": [{"x": 1}]}', '[{"x": 1}]'):
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        assert read_output(output, decode_chat({"choices": [choice]})).root[0].x == 1


def test_a_root_model_of_a_model_is_the_object() -> None:
    """RootModel[X] and RootModel[dict] are objects themselves, without a reference at the root."""
    pydantic = pytest.importorskip("pydantic")
    item = pydantic.create_model("Item", x=(int, ...))
    for form in (pydantic.RootModel[item], pydantic.RootModel[dict[str, int]]):
        output = output_of(form)
        assert not output.wrapped
        assert output.schema["type"] == "object"
        assert "$ref" not in output.schema
