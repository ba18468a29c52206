"""pydantic v2 models, recognized by two methods and never imported: they generate schemas and validate values themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from attrs import define, field

from nimclient._base.types import Json, JsonDict, is_array, is_object
from nimclient._schema.shapes import Book, Misfit, Shape, below
from nimclient.errors import ConfigurationError


def is_pydantic(kind: type) -> TypeGuard[Any]:
    """Whether a class is a pydantic v2 model, or has its interface."""
    return callable(getattr(kind, "model_json_schema", None)) and callable(getattr(kind, "model_validate", None))


@define(eq=False)
class PydanticModel(Shape):
    """A model: the schema is pydantic's, closed against unknown keys; conversion is pydantic's `model_validate`."""

    model: Any
    label: str = field(init=False)
    is_object: bool = field(init=False)
    written: JsonDict = field(init=False)
    """The schema as pydantic writes it."""

    def __attrs_post_init__(self) -> None:
        self.label = self.model.__name__
        written = self.written = self.model.model_json_schema()
        self.is_object = _root(written, written.get("$defs", {})).get("type") == "object"  # a RootModel may be a list

    def schema(self, book: Book) -> JsonDict:
        given: Mapping[str, Json] = self.written.get("$defs", {})
        written = {key: value for key, value in self.written.items() if key != "$defs"}
        definitions = {name: _closed(definition, book.strict) for name, definition in given.items()}
        schema: JsonDict = _closed(_root(written, given), book.strict)
        for name, definition in definitions.items():
            if book.definitions.setdefault(name, definition) != definition:
                raise ConfigurationError(f"two types within the output are called {name}; rename one of them")
        return schema

    def convert(self, value: Json, path: str) -> Any:
        try:
            return self.model.model_validate(value)
        except ValueError as error:
            inside, problem = _first_problem(error)
            for step in inside:
                path = f"{path}[{step}]" if isinstance(step, int) else below(path, str(step))
            raise Misfit(path, problem) from error


def _root(schema: JsonDict, definitions: Mapping[str, Json]) -> JsonDict:
    """The schema without a reference at its root, which recursive models have: the root must be an object."""
    for _ in range(len(definitions)):
        if "$ref" not in schema:
            break
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**definitions[schema["$ref"].rpartition("/")[2]], **rest}
    return schema


def _first_problem(error: ValueError) -> tuple[tuple[Any, ...], str]:
    """Where in the value the first problem is, and what it is."""
    errors = getattr(error, "errors", None)
    found = errors() if callable(errors) else None
    if is_array(found) and found and is_object(found[0]):
        return tuple(found[0].get("loc", ())), str(found[0].get("msg", error))
    return (), str(error)


def _closed(schema: Json, strict: bool) -> Any:
    """The schema with every object closed against unknown keys, unless it says otherwise."""
    if is_array(schema):
        return [_closed(item, strict) for item in schema]
    if not is_object(schema):
        return schema
    closed = {key: _inside(key, value, strict) for key, value in schema.items() if not (strict and key == "default")}
    if "$ref" in closed and len(closed) > 1:  # strict servers reject other keywords next to a reference
        closed = {"anyOf": [{"$ref": closed.pop("$ref")}], **closed}
    if "oneOf" in closed and closed.pop("discriminator", None) is not None:  # members that exclude each other
        closed["anyOf"] = closed.pop("oneOf")  # strict servers reject oneOf
    properties = schema.get("properties")
    if schema.get("type") == "object" and is_object(properties) and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
        if strict:
            closed["required"] = list(properties)
    return closed


def _inside(key: str, value: Json, strict: bool) -> Any:
    """The value of a keyword: schemas by name, schemas, or values that are left unchanged."""
    if key in ("properties", "$defs") and is_object(value):
        return {name: _closed(item, strict) for name, item in value.items()}
    return value if key in ("default", "enum", "const", "examples") else _closed(value, strict)
