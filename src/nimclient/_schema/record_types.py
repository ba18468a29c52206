"""The fields of Python's record types (attrs classes, dataclasses, NamedTuples and TypedDicts) in one form."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NotRequired, Required, cast, get_args, get_origin

import attrs
from attrs import frozen

from nimclient._schema.docstrings import Documentation, read_docstring
from nimclient.errors import ConfigurationError


@frozen
class FieldType:
    """A field as its type declares it. `has_default` may be true without a `default` that can be shown (a factory)."""

    name: str
    hint: Any
    has_default: bool = False
    default: Any = None
    may_be_absent: bool = False


def fields_of(kind: Any) -> list[FieldType] | None:
    """The fields of a record type by their constructor names; None for any other type."""
    if attrs.has(kind):
        return _of_attrs(kind)
    if dataclasses.is_dataclass(kind):
        return _of_dataclass(kind)
    if hasattr(kind, "_fields") and issubclass(kind, tuple):
        return _of_named_tuple(kind)
    if hasattr(kind, "__required_keys__") and issubclass(kind, dict):
        return _of_typed_dict(kind)
    return None


def documentation_of(kind: type) -> Documentation:
    """The type's own docstring, not an inherited or generated one."""
    text = vars(kind).get("__doc__")
    return read_docstring(None if text is None or text.startswith(f"{kind.__name__}(") else text)


def hints_of(thing: Callable[..., Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluated annotations; `names` extend those of the module. ConfigurationError for an unknown name."""
    try:
        return typing.get_type_hints(thing, localns=dict(names), include_extras=True)
    except NameError as error:
        name = getattr(thing, "__qualname__", repr(thing))
        text = f"an annotation of {name} cannot be resolved: {error}; define the type at the top level of a module"
        raise ConfigurationError(text) from None


def _hints(kind: type) -> dict[str, Any]:
    return hints_of(kind, {kind.__name__: kind})


def _of_attrs(kind: Any) -> list[FieldType]:
    hints = _hints(kind)
    result: list[FieldType] = []
    for a in attrs.fields(kind):
        if a.init:
            given = a.default is not attrs.NOTHING
            shown = None if isinstance(a.default, cast(Any, attrs.Factory)) else a.default
            hint = hints.get(a.name, Any if a.type is None else a.type)
            result.append(FieldType(a.alias or a.name, hint, given, shown if given else None))
    return result


def _of_dataclass(kind: Any) -> list[FieldType]:
    hints = _hints(kind)
    missing = dataclasses.MISSING
    return [
        FieldType(
            f.name,
            hints[f.name],
            f.default is not missing or f.default_factory is not missing,
            None if f.default is missing else f.default,
        )
        for f in dataclasses.fields(kind)
        if f.init
    ]


def _of_named_tuple(kind: Any) -> list[FieldType]:
    hints = _hints(kind)
    defaults: Mapping[str, Any] = kind._field_defaults
    return [FieldType(n, hints.get(n, Any), n in defaults, defaults.get(n)) for n in kind._fields]


def _of_typed_dict(kind: Any) -> list[FieldType]:
    result: list[FieldType] = []
    for name, hint in _hints(kind).items():
        hint, marked = _unmarked(hint)
        required = marked if marked is not None else name in kind.__required_keys__
        result.append(FieldType(name, hint, has_default=not required, may_be_absent=not required))
    return result


def _unmarked(hint: Any) -> tuple[Any, bool | None]:
    """The hint without Required, NotRequired and ReadOnly around or below Annotated; whether it is required, if stated."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner, required = _unmarked(args[0])
        return Annotated[(inner, *args[1:])], required
    if origin is Required or origin is NotRequired:
        return _unmarked(args[0])[0], origin is Required
    if getattr(origin, "_name", None) == "ReadOnly":
        return _unmarked(args[0])
    return hint, None
