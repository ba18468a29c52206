"""Turns rows into chat requests, and their results into lines: JSON objects with the number, id and answer of a row.

The id of a request is derived from all that is sent for its row, so that a changed row, template, model or option is
detected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from attrs import evolve, field, frozen

from nimclient import Message
from nimclient._resources.bulk import JsonDict, chat_fields
from nimclient._resources.bulk import json as _json
from nimclient.errors import APIStatusError, ConfigurationError, NimError, OutputError
from nimclient.jobs.answers import FINAL_STATUSES, Found, LineForm, line_of
from nimclient.jobs.checkpoint import is_count
from nimclient.jobs.rows import Row, TemplateFields
from nimclient.prompts import ChatPrompt
from nimclient.records.batch import Failure
from nimclient.records.chat import ChatCompletion


@frozen
class RowRequest:
    """The request of one row: the row's number, id and line in the source, an id of its own derived from what is sent, and
    the messages or why there are none. `weight`: its bytes.
    """

    index: int
    name: str
    id: str
    line: int | None
    messages: Sequence[Message] = field(default=(), repr=False)
    problem: NimError | None = None
    weight: int = 0

    @property
    def key(self) -> str:
        """The row's number."""
        return str(self.index)


def prompt_of(template: str | ChatPrompt, system: str | None) -> ChatPrompt:
    """The whole prompt. ConfigurationError for braces that make no name, and for a template without a name."""
    prompt = template if isinstance(template, ChatPrompt) else ChatPrompt([template])
    if system is not None:
        prompt = ChatPrompt([("system", system)]) + prompt
    if not prompt.variables:
        raise ConfigurationError("the template names no field of a row: write one in braces, such as {text}")
    return prompt


@frozen
class RowTemplate:
    """What is asked about each row. `options` are those of a chat; `schema`: that of the answers, None for text."""

    prompt: ChatPrompt
    model: str
    options: Mapping[str, Any]
    schema: JsonDict | None

    def with_fields(self, row: Row) -> Row:
        """The row; of one that is a text, that with the one field "text"."""
        if row.text is None:
            return row
        return evolve(TemplateFields(self.prompt.variables, None).row({"text": row.text}, row.line), id=row.id)

    def request(self, index: int, row: Row) -> RowRequest:
        """The request of a row."""
        name = str(index) if row.id is None else row.id
        problem = row.problem
        if problem is None:
            try:
                messages = self._messages(row.record or {})
                sent = _json.dumps([chat_fields(messages, self.model, self.options), self.schema])
                return RowRequest(index, name, _digest(sent), row.line, messages, weight=len(sent))
            except ConfigurationError as error:
                problem = error
        if not isinstance(problem, ConfigurationError):  # another attempt would read the same
            problem = ConfigurationError(str(problem))
        return RowRequest(index, name, _digest(str(problem).encode()), row.line, problem=problem)

    def _messages(self, record: Mapping[str, Any]) -> list[Message]:
        lists = self.prompt.placeholders
        values = {name: value if name in lists else shown(value) for name, value in record.items()}
        return self.prompt.format(**values)


def shown(value: object) -> str:
    """A value as text: a str as it is, lists, objects and booleans as JSON, anything else as Python shows it."""
    if isinstance(value, (bool, list, tuple, dict)):
        return _json.dumps(value).decode()
    return str(value)


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=12).hexdigest()


def row_line(request: RowRequest, completion: ChatCompletion, output: JsonDict) -> bytes:
    """The line of an answer. `output`: its "text" or "value"."""
    record: JsonDict = {"index": request.index, "id": request.name, **output}
    if completion.reasoning:
        record["reasoning"] = completion.reasoning
    if refusal := completion.choices[0].message.refusal:
        record["refusal"] = refusal
    if completion.tool_calls:
        record["tool_calls"] = [call.to_dict() for call in completion.tool_calls]
    record["finish_reason"] = completion.finish_reason
    record["model"] = completion.model
    record["usage"] = None if completion.usage is None else completion.usage.to_dict()
    return line_of({**record, "digest": request.id})


def row_failure(request: RowRequest, error: NimError) -> bytes:
    """The line of a failure, with what the model wrote if that was the failure."""
    text = error.text if isinstance(error, OutputError) else None
    record = Failure(request.index, request.name, error, text).to_dict()
    if isinstance(error, APIStatusError):
        record["status"] = error.status
    if request.line is not None:
        record["line"] = request.line
    return _json.dumps({**record, "digest": request.id}) + b"\n"


def _map_line(record: Any) -> Found:
    index, digest = record["index"], record["digest"]
    if not is_count(index):
        raise TypeError("index is not a row number")
    is_final = record.get("status") in FINAL_STATUSES or record.get("type") == ConfigurationError.__name__
    return Found(str(index), digest, is_final, is_truncated=record.get("finish_reason") == "length")


MAP_LINES = LineForm("a map", b'{"index":', _map_line)
