"""Answers that come as events: which JSON objects a stream carries, and the two answers that are not what was asked for.

A server that ignores `stream` answers a stream with one JSON body, and some gateways answer a plain call with events.
Both are read as what they are: the first byte tells, whatever the Content-Type says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar, cast

from nimclient._base import json as _json
from nimclient._base.types import JsonDict
from nimclient._base.values import ResponseMeta
from nimclient._retry.faults import refuse_fault, stream_fault
from nimclient._streams.sse import Event, SSEDecoder
from nimclient.errors import DecodeError, NimError, StreamInterruptedError
from nimclient.records._decode import object_or_empty, objects

DONE = b"[DONE]"
A = TypeVar("A", covariant=True)


class Accumulator(Protocol[A]):
    """What makes one plain answer of the events of a stream."""

    finished: bool

    def add(self, event: JsonDict) -> tuple[str, bool]:
        """Take one event in."""
        ...

    def adopt(self, answer: JsonDict) -> list[JsonDict]:
        """Take a plain answer for the whole of it; returns the events it amounts to."""
        ...

    def answer(self) -> JsonDict | None:
        """The JSON of the plain answer so far, None where there is nothing of it."""
        ...

    def completion(self, meta: ResponseMeta | None = None) -> A | None:
        """The record of the same."""
        ...


def is_plain(data: bytes) -> bool:
    """Whether a body that begins so is a JSON object and not a stream: no line of a stream begins with a brace."""
    return data.lstrip()[:1] == b"{"


def is_streamed(data: bytes) -> bool:
    """Whether a body is a stream of events and not JSON."""
    return data.lstrip(b"\xef\xbb\xbf\r\n").startswith((b"data:", b"event:", b":"))


def plain_answer(data: bytes) -> JsonDict:
    """The body of a server that ignored `stream`. Raises DecodeError, and StreamFaultError where it is an error object."""
    value = _json.loads(data)
    refuse_fault(value)
    return object_or_empty(value)


def chunks_of(answer: JsonDict) -> list[JsonDict]:
    """A plain answer as the events of a stream would have brought it: one for each choice, usage on the last."""
    head = {key: value for key, value in answer.items() if key not in ("choices", "usage")}
    if (kind := head.get("object")) == "chat.completion":
        head["object"] = f"{kind}.chunk"
    chunks: list[JsonDict] = [{**head, "choices": [_chunk_choice(c)]} for c in objects(answer.get("choices"))]
    if chunks and answer.get("usage") is not None:
        chunks[-1]["usage"] = answer["usage"]
    return chunks


def _chunk_choice(choice: JsonDict) -> JsonDict:
    if "message" not in choice:  # completions: a choice looks the same in a stream
        return choice
    delta = dict(object_or_empty(choice["message"]))
    calls = objects(delta.get("tool_calls"))
    if calls:
        delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls)]
    return {"index": choice.get("index"), "delta": delta, **_without(choice, "index", "message")}


def _without(data: JsonDict, *names: str) -> JsonDict:
    return {key: value for key, value in data.items() if key not in names}


def joined(data: bytes, accumulator: Accumulator[Any]) -> JsonDict:
    """The plain answer that a stream amounts to.

    Raises StreamFaultError, DecodeError, or StreamInterruptedError where it ends before the answer is complete; each
    carries the partial answer.
    """
    decoder = SSEDecoder()
    try:
        done = _add_all([*decoder.feed(data), *decoder.flush()], accumulator)
        answer = accumulator.answer()
        if answer is None or not (done or accumulator.finished):
            raise StreamInterruptedError("the answer came as a stream that ended before it was complete")
    except NimError as error:
        error.partial = accumulator.completion()
        raise
    return answer


def _add_all(events: list[bytes | Event], accumulator: Accumulator[Any]) -> bool:
    for event in decode_events(events):
        if event is None:
            return True
        refuse_fault(event)
        if "choices" in event:
            accumulator.add(event)
    return False


def decode_events(events: list[bytes | Event]) -> Iterable[JsonDict | None]:
    """The JSON objects of events; None stands for [DONE]. Raises where an event is broken or an error, not before.

    Events that one read brought are parsed together, which halves the cost. The zeros between them make sure that what
    is broken in one event cannot be mended by the next.
    """
    if len(events) > 1 and (values := _decode_together(events)) is not None:
        return values
    return (data for event in events if (data := _decode_event(event)) != {})


def _decode_together(events: list[bytes | Event]) -> list[JsonDict | None] | None:
    try:
        values: list[Any] = _json.loads(b"[" + b",0,".join(cast(list[bytes], events)) + b"]")
    except (TypeError, DecodeError):  # one of them is more than data, or not JSON
        return None
    found = values[::2]
    if len(values) != 2 * len(events) - 1 or any(values[1::2]) or set(map(type, found)) != {dict}:
        return None
    return found


def _decode_event(event: bytes | Event) -> JsonDict | None:
    payload = event if isinstance(event, bytes) else event.data
    if payload.strip() == DONE:
        return None
    name, comment = ("", "") if isinstance(event, bytes) else (event.name, event.comment)
    value = _json.loads(payload, "an event of the stream") if payload.strip() else None
    if name == "error":
        raise stream_fault(value, comment)
    if value is not None and not isinstance(value, dict):
        raise DecodeError("an event of the stream is not a JSON object", excerpt=_json.excerpt(payload))
    return object_or_empty(value)
