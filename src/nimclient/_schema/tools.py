"""Tools: a Python function → its spec for models; a model's call → validated arguments; a result → text."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast, overload

from attrs import field, frozen

from nimclient._base import json as _json
from nimclient._base.types import Json, JsonDict, is_items
from nimclient._schema.containers import Described, RecordShape, Union
from nimclient._schema.docstrings import read_docstring
from nimclient._schema.record_types import FieldType, hints_of
from nimclient._schema.schema import record_of, schema_of
from nimclient._schema.shapes import Misfit, Shape, converted
from nimclient.errors import ConfigurationError, DecodeError, ToolError
from nimclient.records._plain import plain
from nimclient.records.chat import ToolCall

F = TypeVar("F", bound=Callable[..., Any])
ToolLike: TypeAlias = Callable[..., Any] | Mapping[str, Json]

_MARK = "__nim_tool__"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@frozen
class Tool:
    """A function that a model may call. `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: JsonDict
    function: Callable[..., Any]
    _record: RecordShape = field(repr=False)

    def spec(self) -> JsonDict:
        """The tool as it is sent."""
        described = {"description": self.description} if self.description else {}
        return {"type": "function", "function": {"name": self.name, **described, "parameters": self.parameters}}

    def bind(self, call: ToolCall) -> Callable[[], Any]:
        """The function bound to the call's arguments, converted to the annotated types.

        Raises ToolError, with the path, for arguments that are truncated, not an object, or invalid.
        """
        given = call.parse()
        shapes = {p.name: p.shape for p in self._record.properties}
        given = {name: _encoded_once(shapes[name], value) if name in shapes else value for name, value in given.items()}
        try:
            bound: Callable[[], Any] = converted(self._record, given)
        except Misfit as misfit:
            problem = f"argument {misfit.path} of {self.name}: {misfit.problem[:500]}"
            raise ToolError(problem, path=misfit.path) from misfit
        return bound


@overload
def tool(function: F, /) -> F: ...


@overload
def tool(*, name: str | None = None, description: str | None = None) -> Callable[[F], F]: ...


def tool(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, description: str | None = None
) -> Any:
    """Mark a function as a tool, optionally with another name or description: ``@tool`` or ``@tool(name=...)``.

    The function itself is unchanged. Functions without the mark are accepted as tools, too.
    """

    def mark(marked: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(marked):
            raise TypeError(f"@tool takes a function, not {type(marked).__name__}")
        setattr(marked, _MARK, (name, description))
        return marked

    return mark if function is None else mark(function)


def wire_tools(tools: object) -> list[JsonDict]:
    """The specs of functions and of functions marked with @tool; specs are sent unchanged."""
    if not is_items(tools):
        raise TypeError(f"tools takes a list of functions and specs, not {type(tools).__name__}")
    return [cast(JsonDict, item) if isinstance(item, Mapping) else tool_of(item).spec() for item in tools]


def tools_by_name(tools: object) -> dict[str, Tool]:
    """The tools to run, by name. ConfigurationError for a spec without a function, and for a name used twice."""
    if not is_items(tools):
        raise TypeError(f"tools takes a list of functions, not {type(tools).__name__}")
    found: dict[str, Tool] = {}
    for item in tools:
        if isinstance(item, Mapping):
            raise ConfigurationError("run_tools runs functions; a spec has none (use chat.create with specs)")
        made = tool_of(item)
        if made.name in found:
            raise ConfigurationError(f"two tools are called {made.name}; rename one with @tool(name=...)")
        found[made.name] = made
    if not found:
        raise ConfigurationError("tools is empty; pass at least one function")
    return found


def tool_of(function: object) -> Tool:
    """A function as a tool. ConfigurationError for one that cannot be described: *args, a type without a JSON form."""
    if not callable(function) or isinstance(function, type):
        raise ConfigurationError(f"a tool is a function or a spec, not {function!r:.60}")
    inner = _unwrapped(function)
    target = inner if inspect.isroutine(inner) else type(inner).__call__
    name, description = getattr(function, _MARK, None) or getattr(inner, _MARK, None) or (None, None)
    if name is None:
        name = str(getattr(inner, "__name__", type(inner).__name__))
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is not a name for a tool (letters, digits, _ and -); give one: @tool(name=...)"
        )
    documentation = read_docstring(inspect.getdoc(target))
    parameters = _parameters(function, name)
    record = record_of(
        name, functools.partial(_bound, function, parameters), _fields(target, parameters), documentation.parameters
    )
    return Tool(name, documentation.text if description is None else description, _schema(record), function, record)


def _unwrapped(function: Callable[..., Any]) -> Any:
    """The function or callable object inside partial objects and decorators, which has the annotations and the docstring."""
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = cast(functools.partial[Any], inner).func
    return inspect.unwrap(inner)


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    partial = isinstance(function, functools.partial)
    fixed: Mapping[str, Any] = cast(Any, function).keywords if partial else {}  # not an argument for the model
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in fixed]
    for p in parameters:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise ConfigurationError(f"tool {name}: {p} cannot be described to a model; name the parameters")
    return parameters


def _fields(target: Any, parameters: Sequence[inspect.Parameter]) -> list[FieldType]:
    outer: Mapping[str, Any] = inspect.getclosurevars(target).nonlocals if inspect.isfunction(target) else {}
    hints = hints_of(target, outer)
    return [
        FieldType(p.name, hints.get(p.name, Any), p.default is not p.empty, None if p.default is p.empty else p.default)
        for p in parameters
    ]


def _schema(record: RecordShape) -> JsonDict:
    schema = schema_of(record, strict=False)
    return schema if record.properties else {"type": "object", "properties": {}}


def _bound(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter], **arguments: Any
) -> Callable[[], Any]:
    positional = [arguments.pop(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_ONLY]
    return functools.partial(function, *positional, **arguments)


def _encoded_once(shape: Shape, value: Json) -> Json:
    """The value itself. vLLM before 0.18 encodes an argument whose schema is an anyOf or an object as JSON text."""
    shape = shape.shape if isinstance(shape, Described) else shape
    if (
        isinstance(value, str)
        and (isinstance(shape, Union) or value.lstrip()[:1] in ("{", "["))
        and not _takes(shape, value)
    ):
        try:
            decoded = _json.loads_text(value, "the argument")
        except DecodeError:
            return value
        return decoded if _takes(shape, decoded) else value
    return value


def _takes(shape: Shape, value: Json) -> bool:
    try:
        converted(shape, value)
    except Misfit:
        return False
    return True


def result_text(value: Any) -> str:
    """The result of a tool as the text of its message: a str unchanged, everything else as JSON.

    Raises ConfigurationError for a value without a JSON form.
    """
    if isinstance(value, str) and value:  # NIM rejects a tool message without text
        return value
    return _json.dumps(plain(value), "the result").decode()
