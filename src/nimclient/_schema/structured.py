"""Structured output: the forms in which servers accept a schema, and decoding an answer's text into a value.

Every current server accepts `json_schema`. vLLM from 0.12 and NIM 2.x ignore `guided_json` and `nvext` with a
200 and free text, so those are never tried before a server has rejected the first, and every answer is checked here.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

from attrs import frozen

from nimclient._base import json as _json
from nimclient._base.types import Json, JsonDict, is_object
from nimclient._schema.json_schema import Schema
from nimclient._schema.schema import schema_of, shape_of
from nimclient._schema.shapes import Misfit, Shape, converted, identity
from nimclient.errors import (
    ConfigurationError,
    DecodeError,
    OutputInvalidError,
    OutputRefusedError,
    OutputTruncatedError,
)
from nimclient.records._tags import RAW_CONTENT
from nimclient.records.chat import ChatCompletion

Via: TypeAlias = Literal["json_schema", "structured_outputs", "guided_json", "nvext", "json_object"]

FORMS: tuple[Via, ...] = ("json_schema", "guided_json", "nvext", "structured_outputs", "json_object")
"""In the order in which they are tried. A server old enough to reject the first accepts one of the next two: old vLLM
ignores `structured_outputs`, which no server supports without `json_schema`."""

FORMAT_OPTIONS = ("response_format", "guided_json")
"""Options that `parse` sets itself."""

FORM_NAMES: Mapping[Via, tuple[str, ...]] = {
    "json_schema": ("response_format", "json_schema"),
    "structured_outputs": ("structured_outputs",),
    "guided_json": ("guided_json",),
    "nvext": ("nvext",),
    "json_object": ("response_format", "json_object"),
}
"""What an error names if a form is not supported."""

_LANGUAGE = re.compile(r"[A-Za-z][\w-]*[ \t]*\n|(?:json|JSON)[\w-]*\s*")
_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"?|[{}\[\]]')
"""A string, which may contain brackets (an unclosed one ends with its line), or a bracket."""
_LONG_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\]]', re.S)
"""The same, of strings with line ends in them."""

_END_OF_THINKING = re.compile(r"</(?:think|thinking|thought)>")

_MAX_DESCENT = 3
_MAX_UNCLOSED = 8


@frozen
class Output:
    """The requested output: its shape, name and schema. `wrapped`: the value is below the key "value"."""

    shape: Shape
    name: str
    schema: JsonDict
    wrapped: bool


def output_of(form: Any) -> Output:
    """The requested output for a type, or for a JSON schema as a dict. Servers require an object as the root of a schema:
    everything else is wrapped. ConfigurationError for a type without a JSON form."""
    if is_object(form):
        shape: Shape = Schema(form)
        name = form.get("title")
    else:
        shape = shape_of(form)
        name = getattr(form, "__name__", None)
    schema = schema_of(shape)
    if not shape.is_object:
        inner = {key: value for key, value in schema.items() if key not in ("$defs", "definitions", "$schema")}
        rest = {key: value for key, value in schema.items() if key not in inner}
        properties = {"value": inner}
        schema = {
            "type": "object",
            "properties": properties,
            "required": ["value"],
            "additionalProperties": False,
            **rest,
        }
    return Output(shape, _server_name(name), schema, wrapped=not shape.is_object)


def _server_name(name: Any) -> str:
    return (re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64] if isinstance(name, str) else "") or "output"


def form_fields(via: Via, output: Output, options: Mapping[str, Any]) -> JsonDict:
    """The options that request the output in this form; the caller's other settings are kept."""
    match via:
        case "json_schema":
            wanted = {"name": output.name, "schema": output.schema, "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": wanted}}
        case "structured_outputs":
            return {"structured_outputs": {**(options.get("structured_outputs") or {}), "json": output.schema}}
        case "guided_json":
            return {"guided_json": output.schema}
        case "nvext":
            return {"nvext": {**(options.get("nvext") or {}), "guided_json": output.schema}}
        case _:
            return {"response_format": {"type": "json_object"}}


def form_messages(via: Via, output: Output, messages: Sequence[JsonDict]) -> list[JsonDict]:
    """The messages for this form: `json_object` has no schema, so the last message states it."""
    if via != "json_object":
        return list(messages)
    schema = _json.dumps(output.schema, "the schema").decode()
    return with_request(
        messages, f"Answer with one JSON object and nothing else. It must fit this JSON schema: {schema}"
    )


def with_request(messages: Sequence[JsonDict], text: str) -> list[JsonDict]:
    """The messages with a request added at the end: in the last one if it is the user's, since many chat templates require
    alternating roles."""
    last = messages[-1]
    content = last.get("content")
    if last.get("role") != "user":
        return [*messages, {"role": "user", "content": text}]
    if isinstance(content, str):
        return [*messages[:-1], {**last, "content": f"{content}\n\n{text}"}]
    return [*messages[:-1], {**last, "content": [*cast(list[Any], content or []), {"type": "text", "text": text}]}]


def correction(messages: Sequence[JsonDict], error: OutputInvalidError) -> list[JsonDict]:
    """The messages for another try, with the invalid answer and its error."""
    answered = [*messages, {"role": "assistant", "content": error.text}] if error.text else messages
    return with_request(
        answered, f"That is not valid: {error}. Answer again, with the corrected JSON and nothing else."
    )


def read_output(output: Output, completion: ChatCompletion) -> Any:
    """The value of an answer. OutputRefusedError, OutputTruncatedError or OutputInvalidError if it has none."""
    message = completion.message
    raw = message.extra.get(RAW_CONTENT) if message is not None else None  # tags inside the JSON are not reasoning
    text = raw if isinstance(raw, str) else completion.text
    if message is not None and message.refusal:
        raise OutputRefusedError(f"the model refused: {message.refusal[:300]}", text=message.refusal)
    if completion.finish_reason == "content_filter":
        raise OutputRefusedError("the answer was withheld by a content filter", text=text)
    if completion.finish_reason == "length":
        raise OutputTruncatedError("the output was cut off by the token limit; raise max_tokens", text=text)
    if not text.strip() and message is not None and message.reasoning:
        return _from_reasoning(output, message.reasoning)
    if not text.strip():
        called = ", ".join(call.name for call in completion.tool_calls)
        problem = f"the model called a tool ({called}) and" if called else "the model"
        raise OutputInvalidError(f"{problem} gave no output (finish_reason {completion.finish_reason})", text=text)
    try:
        return _value(output, text)
    except Misfit as misfit:
        where = f" at {misfit.path}" if misfit.path else ""
        problem = misfit.problem[:500]
        raise OutputInvalidError(f"the output does not fit{where}: {problem}", text=text, path=misfit.path) from misfit


def _from_reasoning(output: Output, reasoning: str) -> Any:
    """The value if the server returned the whole answer as reasoning (vLLM with a reasoning parser may)."""
    try:
        return _fitting(output, _decoded(reasoning), [])
    except (DecodeError, Misfit):
        problem = "the model gave no output, only reasoning; switch thinking off, or raise max_tokens"
        raise OutputInvalidError(problem, text=reasoning) from None


def _value(output: Output, text: str) -> Any:
    """The value; if it should be wrapped, a server without constraints may have sent it unwrapped, or as plain text."""
    words = _after_thinking(text).strip()
    try:
        data = answer_json(text)
    except Misfit as no_json:
        if output.wrapped:
            try:
                return converted(output.shape, words)
            except Misfit:
                pass
        raise no_json
    if isinstance(data, str) and not output.wrapped:  # the object as a JSON string
        data = answer_json(data)
    return _fitting(output, data, [] if _is_json(words) or _is_json(text) else [words])


def _fitting(output: Output, data: Json, others: Sequence[Json]) -> Any:
    """Convert the JSON, with or without its wrapper."""
    if not output.wrapped:
        return converted(output.shape, data)
    inside = [data["value"]] if is_object(data) and data.keys() == {"value"} else []
    problem: Misfit | None = None
    for value in (*inside, data, *others):
        try:
            return converted(output.shape, value)
        except Misfit as misfit:
            problem = problem or misfit
    assert problem is not None
    raise problem


def answer_json(text: str) -> Json:
    """The JSON in an answer: alone, after the model's reasoning, in a code fence, or one object (or list) within text.

    Misfit if there is none, or several that differ. Linear in the length of the text.
    """
    answer = _after_thinking(text)
    for whole in dict.fromkeys((text, answer)):
        try:
            return _decoded(whole)
        except DecodeError:
            pass
    for words in dict.fromkeys((answer, text)):  # the text: the end tag of reasoning may be in a string
        for pieces in (_fenced(words), _spans(words, "{", "}"), _spans(words, "[", "]")):
            found = _distinct(pieces)
            if len(found) == 1:
                return found[0]
            if found:
                raise Misfit("", f"the output is not JSON: it has {len(found)} values that differ")
    try:
        return _decoded(text)
    except DecodeError as error:
        raise Misfit("", error.message) from error


def _decoded(text: str) -> Json:
    return _json.loads_written(text, "the output")


def _distinct(pieces: Iterable[str]) -> list[Json]:
    """The distinct JSON values of pieces of text."""
    found: dict[Hashable, Json] = {}
    for piece in pieces:
        try:
            value = _decoded(piece)
            found.setdefault(identity(value), value)
        except (DecodeError, RecursionError):
            continue
    return list(found.values())


def _fenced(text: str) -> Iterator[str]:
    """The content of code fences of either kind, without their language."""
    for mark in ("```", "~~~"):
        for block in text.split(mark)[1::2]:
            language = _LANGUAGE.match(block)
            yield block if language is None else block[language.end() :]


def _spans(text: str, opening: str, closing: str, depth: int = _MAX_DESCENT) -> Iterator[str]:
    """Pieces between matching brackets; brackets in strings are ignored.

    Closed pieces that are not JSON are searched, a few levels deep; unclosed brackets are skipped, a few times.
    """
    start = text.find(opening)
    passed_over = looked_far = 0
    while start >= 0 and passed_over < _MAX_UNCLOSED:
        if looked_far < _MAX_UNCLOSED:
            looked_far += 1
            end = _closing(text, start, opening, closing, _LONG_TOKEN)
            if end is not None and _is_json(text[start:end]):
                yield text[start:end]
                start = text.find(opening, end)
                continue
        end = _closing(text, start, opening, closing)
        if end is None:
            passed_over += 1
            start = text.find(opening, start + 1)
            continue
        piece = text[start:end]
        if _is_json(piece):
            yield piece
        elif depth > 0:
            yield from _spans(piece[1:-1], opening, closing, depth - 1)
        start = text.find(opening, end)


def _closing(text: str, start: int, opening: str, closing: str, tokens: re.Pattern[str] = _TOKEN) -> int | None:
    """The position at which the bracket at `start` is closed, None if it is not."""
    depth = 0
    for found in tokens.finditer(text, start):
        token = found[0]
        if token == opening:
            depth += 1
        elif token == closing:
            depth -= 1
            if depth == 0:
                return found.end()
    return None


def _is_json(text: str) -> bool:
    try:
        _decoded(text)
    except DecodeError:
        return False
    return True


def _after_thinking(text: str) -> str:
    """The text after the model's reasoning; many chat templates put the start tag into the prompt."""
    return _END_OF_THINKING.split(text)[-1]


def check_no_format(options: Mapping[str, Any]) -> None:
    """ConfigurationError for an option that `parse` sets itself."""
    for name in FORMAT_OPTIONS:
        if options.get(name) is not None:
            raise ConfigurationError(f"chat.parse sets {name} itself; pass the type, and via= for the form")
