"""A model's call of a function and its decoding. The arguments stay the text that the model wrote."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve, field, frozen

from nimclient._base import json as _json
from nimclient._base.types import Json, JsonDict, is_object
from nimclient.errors import DecodeError, ToolError
from nimclient.records._decode import object_or_empty, objects, text_or_none
from nimclient.records._record import WireRecord

FUNCTION = ("name", "arguments")
"""The fields of a call's `function`."""
_SIGNED = ("extra_content", "provider_specific_fields")
"""Where Gemini and LiteLLM put the signature of a call, without which its server rejects the history."""


@frozen(repr=False)
class ToolCall(WireRecord):
    """A function call requested by the model. `arguments` is raw JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str
    type: str = "function"
    cut_off: bool = field(default=False, kw_only=True)  # the answer ended at its token limit with this call

    def parse(self) -> JsonDict:
        """The arguments decoded. Empty text and null mean none. Raises ToolError if they are truncated or not an object."""
        arguments: Json = self.arguments
        for _ in range(2):  # vLLM before 0.18 encodes some schemas' arguments twice
            if not isinstance(arguments, str):
                break
            if not arguments.strip():
                if self.cut_off:
                    raise ToolError(f"the arguments of tool call {self.name!r} were cut off by the token limit")
                return {}
            try:
                arguments = _json.loads_written(arguments, f"tool call {self.name!r}")
            except DecodeError as error:
                raise ToolError(f"the arguments of tool call {self.name!r} are incomplete or not JSON") from error
        if arguments is None:
            return {}
        if not isinstance(arguments, dict):
            raise ToolError(f"the arguments of tool call {self.name!r} are not a JSON object")
        return object_or_empty(arguments)

    def to_dict(self) -> JsonDict:
        """The call as servers send and accept it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": self.type, "function": function, **self.extra}


def decode_tool_calls(value: Json) -> tuple[ToolCall, ...]:
    """The tool calls of a message; items that are not objects are skipped."""
    return tuple([_decode_tool_call(item) for item in objects([value] if is_object(value) else value)]) if value else ()


def function_of(call: JsonDict) -> JsonDict:
    """Name and arguments of a call, which some servers do not put into `function`."""
    function = call.get("function")
    return function if is_object(function) else {key: call[key] for key in FUNCTION if key in call}


def signature_of(call: ToolCall) -> JsonDict:
    """The fields of a call that have its signature."""
    return {name: call.extra[name] for name in _SIGNED if call.extra.get(name)}


def name_of(function: JsonDict) -> str:
    """The name, without tokens of the model's own format behind it: `f<|channel|>commentary` (gpt-oss)."""
    return (text_or_none(function.get("name")) or "").partition("<|")[0]


def last_cut_off(calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """The calls of an answer that ended at its token limit: the last one may be incomplete."""
    return (*calls[:-1], *(evolve(call, cut_off=True) for call in calls[-1:]))


def _decode_tool_call(value: JsonDict) -> ToolCall:
    function = function_of(value)
    data = {key: item for key, item in value.items() if key not in ("function", *FUNCTION)}
    arguments = function.get("arguments")
    if not isinstance(arguments, str):  # some servers send the object itself
        arguments = "" if arguments is None else _json.dumps(arguments).decode()
    return ToolCall(
        id=text_or_none(data.pop("id", None)) or "",
        name=name_of(function),
        arguments=arguments,
        type=text_or_none(data.pop("type", None)) or "function",
        extra=data,
    )
