"""`with_structured_output`: the schema of any Python type for the server, and the parser of its answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from operator import itemgetter
from typing import Any, cast

from langchain_core.exceptions import ModelRefusalError, OutputParserException
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import BaseOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from nimclient._base.types import JsonDict

CHOICE = "choice"
"""The property with the member of an enum: servers require an object at the root."""


def output_schema(schema: Any) -> JsonDict:
    """The JSON schema of a pydantic class (v1 or v2), TypedDict or enum; a dict is returned unchanged.

    Raises ValueError for an enum whose values are not str, and for a type without a schema.
    """
    if isinstance(schema, Mapping):
        given = dict(cast(Mapping[str, Any], schema))
        return dict(convert_to_json_schema(given)) if "function" in given or "parameters" in given else given
    if is_enum(schema):
        return _enum_schema(schema)
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        kind: Any = schema
        described: JsonDict = kind.model_json_schema() if hasattr(kind, "model_json_schema") else kind.schema()
        return described
    return dict(convert_to_json_schema(schema))


def is_enum(schema: Any) -> bool:
    """Whether it is an enum class."""
    return isinstance(schema, type) and issubclass(schema, Enum)


def _enum_schema(schema: type[Enum]) -> JsonDict:
    values = [member.value for member in schema]
    if not all(isinstance(value, str) for value in values):
        raise ValueError(
            "Enum schema must only contain string choices. Use StrEnum or ensure all member values are strings."
        )
    return {
        "type": "object",
        "properties": {CHOICE: {"type": "string", "enum": values}},
        "required": [CHOICE],
        "additionalProperties": False,
    }


def schema_name(schema: Any) -> str:
    """A name for the schema that servers accept."""
    if isinstance(schema, Mapping):
        described = cast(Mapping[str, Any], schema)
        title = described.get("title") or described.get("name")
    else:
        title = getattr(schema, "__name__", "")
    name = "" if is_enum(schema) else str(title or "")
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:64] or "response"


def response_format(schema: Any, strict: bool | None) -> JsonDict:
    """The `response_format` for the schema."""
    wanted = {"name": schema_name(schema), "schema": output_schema(schema), "strict": strict is not False}
    return {"type": "json_schema", "json_schema": wanted}


def traced_format(schema: Any, method: str, strict: bool | None) -> JsonDict:
    """The requested output for LangChain's traces."""
    shown = output_schema(schema) | {"title": "response"} if is_enum(schema) else schema
    return {"kwargs": {"method": method, "strict": strict}, "schema": shown}


def json_parser(schema: Any) -> BaseOutputParser[Any]:
    """The parser of a JSON answer."""
    if is_enum(schema):
        return EnumParser(enum=schema)
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return ModelParser(pydantic_object=schema)
    return ObjectParser()


def tool_parser(schema: Any, tool: Mapping[str, Any]) -> Runnable[Any, Any]:
    """The parser of an answer that calls one tool."""
    name = tool["function"]["name"]
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticToolsParser(tools=[schema], first_tool_only=True)
    parser = JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
    if is_enum(schema):
        return parser | RunnableLambda(EnumParser(enum=schema).member)
    return parser


def output_tool(schema: Any, strict: bool | None) -> JsonDict:
    """The tool whose arguments are the output."""
    if is_enum(schema):
        described = {**_enum_schema(schema), "title": schema.__name__, "description": schema.__doc__ or ""}
        return convert_to_openai_tool(described, strict=strict)
    wanted: Any = schema
    if isinstance(schema, Mapping):
        given = dict(cast(Mapping[str, Any], schema))
        wanted = {"title": schema_name(given), "description": "", **given} if given.get("type") == "object" else given
    return convert_to_openai_tool(wanted, strict=strict)


def with_raw(model: Runnable[Any, Any], parser: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """The raw answer, the parsed value, and the parsing error."""
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=_nothing)
    failed = RunnablePassthrough.assign(parsed=_nothing)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def _nothing(_: Any) -> None:
    return None


def _was_cut_off(result: Sequence[Generation]) -> bool:
    """Whether the answer was truncated by the token limit."""
    message = _message_of(result)
    return message is not None and message.response_metadata.get("finish_reason") == "length"


def _message_of(result: Sequence[Generation]) -> BaseMessage | None:
    first = result[0]
    return first.message if isinstance(first, ChatGeneration) else None


def _check_refusal(result: Sequence[Generation]) -> None:
    message = _message_of(result)
    if isinstance(message, AIMessage) and (refusal := message.additional_kwargs.get("refusal")):
        raise ModelRefusalError(f"the model refused: {refusal}", raw_message=message)


class ObjectParser(JsonOutputParser):
    """Parses an object; in a stream, the part received so far."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """The object. Raises OutputParserException if the text is not JSON, ModelRefusalError for a refusal."""
        _check_refusal(result)
        return super().parse_result(result, partial=partial)


class ModelParser(PydanticOutputParser[Any]):
    """Parses an instance of a pydantic class; None if the answer was truncated by the token limit."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """The instance. Raises OutputParserException if the text does not fit, ModelRefusalError for a refusal."""
        _check_refusal(result)
        try:
            return super().parse_result(result, partial=partial)
        except OutputParserException:
            if _was_cut_off(result):
                return None
            raise


class EnumParser(JsonOutputParser):
    """Parses a member of an enum, wrapped or not; None if the answer was truncated by the token limit."""

    enum: type[Enum]

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """The member. Raises OutputParserException for anything else, ModelRefusalError for a refusal."""
        _check_refusal(result)
        try:
            return self.member(super().parse_result(result, partial=partial))
        except OutputParserException:
            bare = result[0].text.strip().strip('"')
            if any(member.value == bare for member in self.enum):
                return self.enum(bare)
            if partial or _was_cut_off(result):
                return None
            raise

    def member(self, value: Any) -> Enum:
        """The member with this value. Raises OutputParserException if there is none."""
        choice: Any = cast(Mapping[str, Any], value).get(CHOICE) if isinstance(value, Mapping) else value
        try:
            return self.enum(choice)
        except ValueError as error:
            raise OutputParserException(f"{choice!r} is not a member of {self.enum.__name__}") from error
