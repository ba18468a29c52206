"""Reads the whole body of a response and decodes it: JSON, events that were not asked for, or raw bytes of vectors.

What few answers need is imported when one does: it would be a tenth of the time until the first answer of a program.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from nimclient._api.call import Call
from nimclient._base.json import excerpt
from nimclient._base.types import Json, JsonDict
from nimclient._base.values import ResponseMeta, path_of
from nimclient._engine.call_state import CallState
from nimclient._engine.shared_state import SharedState
from nimclient._retry.wording import ABORT, ERROR
from nimclient._streams.response import Response
from nimclient.errors import DecodeError, NimError
from nimclient.records._decode import object_or_empty, objects

if TYPE_CHECKING:
    from nimclient._streams.accumulate import Accumulator

T = TypeVar("T")

_RAW = "application/octet-stream"
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_TELLING = 16  # bytes; fewer are too few to tell


async def read_answer(core: SharedState, state: CallState[T], response: Response) -> T:
    """The record of a JSON body, of the events that some servers send although not requested, or of raw bytes."""
    call = state.call
    streams = call.accumulator
    if streams is not None and (response.head.headers.find(b"content-type") or "").startswith("text/event-stream"):
        return await _read_events(call, response)
    data = await response.body.read_all(response.limits.max_body)
    if streams is not None and data[:1] != b"{":
        from nimclient._streams.events import is_streamed

        if is_streamed(data):  # whatever the header says
            return await _read_events(call, response, data)
    meta = response.meta()
    if call.decode_raw is not None and is_raw(meta.headers.get("content-type")) and not is_text(data):
        core.learn_raw(state.target.url, call, is_raw=True)
        return call.decode_raw(data, meta)
    try:
        value = call.parse(data)
    except NimError:
        from nimclient._streams.events import begins_with_event, is_plain, not_an_answer

        if streams is not None and begins_with_event(data):
            return await _read_events(call, response, data)
        if is_plain(data) or not data.strip():
            raise
        raise not_an_answer(meta, data, "JSON") from None
    if isinstance(value, dict) and ("choices" not in value or "error" in value):
        from nimclient._retry.faults import is_fault, raise_plain_fault

        if is_fault(value):
            raise_plain_fault(value, meta, f"{call.method} {path_of(meta.url)}")
    if streams is not None and (ABORT in data or ERROR in data):
        _check_end(value, streams(), meta)
    core.dialects.read(state.target.server, call.path, value)
    if call.decode_raw is not None:  # it ignores or rejects what would have made them raw
        core.learn_raw(state.target.url, call, is_raw=False)
    if streams is not None and isinstance(value, dict):
        answer: Any = value  # pyright: ignore[reportUnknownVariableType]  # a cast costs a call
        choices: Any = answer.get("choices")
        if isinstance(choices, list) and choices[1:] and call.choices == 1:
            value = {**answer, "choices": _joined(objects(answer["choices"]))}
    try:
        return call.decode(value, meta)
    except DecodeError as error:
        if streams is not None and not object_or_empty(value).get("choices"):  # it is no answer: show what it is
            from nimclient._retry.faults import advise

            advise(error, f"the response begins {excerpt(data)!r}")
        raise


async def _read_events(call: Call[T], response: Response, data: bytes | None = None) -> T:
    """The record of events; see `_streams.unasked`, which few programs need."""
    from nimclient._streams.unasked import read_events

    assert call.accumulator is not None
    return call.decode(*await read_events(response, call.accumulator(), call.choices, data))


def _joined(choices: list[JsonDict]) -> list[JsonDict]:
    """The choices; one, if only one was asked for, and its text and its tool calls are in choices of their own (Copilot)."""
    messages = [object_or_empty(choice.get("message")) for choice in choices]
    if not any(message.get("tool_calls") for message in messages[1:]):
        return choices
    content = next((message["content"] for message in messages if message.get("content")), None)
    calls = [call for message in messages for call in objects(message.get("tool_calls"))]
    return [{**choices[0], "message": {**messages[0], "content": content, "tool_calls": calls}}]


def _check_end(value: Json, accumulator: Accumulator[Any], meta: ResponseMeta) -> None:
    """Raise for an answer that the server ended early, with what there is of it."""
    from nimclient._retry.faults import ended_early

    answer = object_or_empty(value)
    if fault := ended_early(answer):
        accumulator.adopt(answer)
        fault.partial = accumulator.completion(meta)
        raise fault


def is_raw(content_type: str | None) -> bool:
    """Whether a body of this type is bytes and nothing else."""
    return content_type is not None and content_type.partition(";")[0].strip().lower() == _RAW


def is_text(data: bytes) -> bool:
    """Whether a body that is said to be bytes is text: JSON, or a gateway's words. The first few bytes of numbers show it."""
    if len(data) < _TELLING or _NO_TEXT.search(data) is not None:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
