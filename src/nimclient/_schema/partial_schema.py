"""Values described by a JSON schema that are still being written: those of the caller's own schema, and pydantic models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nimclient._base.types import Json, JsonDict, is_array, is_object
from nimclient._schema.json_schema import resolved
from nimclient._schema.partial_json import UNKNOWN, OpenValue
from nimclient._schema.pydantic_models import PydanticModel

_UNCLEAR: JsonDict = {"not": {}}
"""Stands for a schema with several branches that the value may be meant for."""
_NOT_PLAIN = ("enum", "const", "format", "pattern", "contentEncoding", "contentMediaType", "not")
"""Keywords by which the beginning of a string may not fit the schema of the whole, or be read as another value."""
_MAX_BRANCHES = 50


class OpenSchema(OpenValue):
    """An object or a list of a schema, shown as plain JSON. `root` is the whole schema, for its references.

    `fills`: properties that did not arrive yet have their empty value; before all of them can, nothing is shown.
    """

    def __init__(self, schema: Json, root: JsonDict, *, is_object: bool, fills: bool = False) -> None:
        super().__init__(is_object=is_object)
        self._schema = _branch(schema, root, "object" if is_object else "array")
        self._root = root
        self._fills = fills

    def _item(self) -> Json:
        """The schema of the item that is being read."""
        if self._schema is _UNCLEAR:
            return _UNCLEAR
        if self.is_object:
            properties: Mapping[str, Json] = self._schema.get("properties", {})
            return properties.get(self.key, self._schema.get("additionalProperties", True))
        places: Sequence[Json] = self._schema.get("prefixItems", ())
        return places[len(self.items)] if len(self.items) < len(places) else self._schema.get("items", True)

    def opened(self, *, is_object: bool) -> OpenValue:
        """See OpenValue."""
        return OpenSchema(self._item(), self._root, is_object=is_object, fills=self._fills)

    def shows_text(self) -> bool:
        """See OpenValue."""
        schema = _branch(self._item(), self._root, "string")
        return not any(word in schema for word in _NOT_PLAIN)

    def shown(self, item: Any) -> Any:
        """See OpenValue."""
        shown = super().shown(item)
        if not self._fills:
            return shown
        if self._schema is _UNCLEAR:
            return UNKNOWN
        for name, schema in self._schema.get("properties", {}).items() if self.is_object else ():
            if name not in shown:
                empty = _empty(schema, self._root)
                if empty is not UNKNOWN:
                    shown[name] = empty
                elif name in self._schema.get("required", ()) or "default" in _object(schema):
                    return UNKNOWN
        return shown


class OpenModel(OpenSchema):
    """A pydantic model, shown when it accepts the JSON."""

    def __init__(self, shape: PydanticModel, *, is_object: bool) -> None:
        super().__init__(shape.written, shape.written, is_object=is_object, fills=True)
        self._shape = shape

    def shown(self, item: Any) -> Any:
        """See OpenValue."""
        shown = super().shown(item)
        try:
            return shown if shown is UNKNOWN else self._shape.convert(shown, "")
        except Exception:  # noqa: BLE001  # the model does not accept it yet, or not at all: `read_output` will tell
            return UNKNOWN


def _empty(schema: Json, root: JsonDict) -> Any:
    """The initial JSON value of a schema, UNKNOWN if it has none; None where null is allowed."""
    kinds = [kind for kind in ("null", "string", "array", "object") if _may_be(schema, root, kind)]
    if "null" in kinds:
        return None
    if len(kinds) != 1 or any(_may_be(schema, root, kind) for kind in ("boolean", "number", "integer")):
        return UNKNOWN
    if kinds == ["string"]:
        return UNKNOWN if any(word in _branch(schema, root, "string") for word in _NOT_PLAIN) else ""
    try:
        return OpenSchema(schema, root, is_object=kinds == ["object"], fills=True).shown(UNKNOWN)
    except RecursionError:  # an object that must contain itself
        return UNKNOWN


def _branch(schema: Json, root: JsonDict, kind: str) -> JsonDict:
    """The branch of the schema for values of this kind, _UNCLEAR if there are several."""
    for _ in range(_MAX_BRANCHES):
        known = _object(resolved(schema, root))
        branches = _branches(known)
        if not branches:
            return known
        fitting = [branch for branch in branches if _may_be(branch, root, kind)]
        if len(fitting) != 1:
            break
        schema = fitting[0]
    return _UNCLEAR


def _may_be(schema: Json, root: JsonDict, kind: str, depth: int = 0) -> bool:
    """Whether a value of this kind may fit the schema."""
    known = _object(resolved(schema, root))
    branches = _branches(known)
    if branches and depth < _MAX_BRANCHES:
        return any(_may_be(branch, root, kind, depth + 1) for branch in branches)
    kinds = known.get("type", kind)
    return kind in kinds if is_array(kinds) else bool(kind == kinds)


def _branches(schema: JsonDict) -> Sequence[Json]:
    found: Sequence[Json] = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf") or ()
    return found


def _object(schema: Json) -> JsonDict:
    """The schema as an object: true, or nothing, allows everything."""
    return schema if is_object(schema) else {}
