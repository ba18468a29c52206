"""Decodes the events of a stream, and handles responses in the other form than requested.

A server that ignores `stream` sends one JSON body, and some gateways send events for a plain call. Both are accepted: the
first byte shows the form, whatever the Content-Type says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from nimclient._base.json import excerpt, loads
from nimclient._base.types import Json, JsonDict, is_object
from nimclient._base.values import ResponseMeta
from nimclient._retry.faults import ended_early, is_fault, raise_plain_fault, read_fault, stream_fault
from nimclient._retry.wording import ABORT, ERROR
from nimclient._streams.sse import ENDS, Event, parse_events
from nimclient._streams.surrogates import SurrogateJoiner
from nimclient.errors import DecodeError
from nimclient.records._decode import object_or_empty, objects

DONE = b"[DONE]"
BOM = b"\xef\xbb\xbf"
SURROGATE = b"\\ud"
_FIELDS = (b"data", b"event", b":", b"id:", b"retry:", b"error:")


def is_plain(data: bytes) -> bool:
    """Whether a body starting with this data is JSON, not a stream, whose lines never begin with a brace or a bracket."""
    return data.removeprefix(BOM).lstrip()[:1] in (b"{", b"[")


def begins_with_event(body: bytes | bytearray, last: bytes = b"") -> bool:
    """Whether the first line is a whole event without `data:`: the body has one in each line (NDJSON).

    False if that line had ended before the `last` data, and so was looked at before.
    """
    if last and body.find(b"\n", 0, max(0, len(body) - len(last))) >= 0:
        return False
    line, end, _ = bytes(body).lstrip().partition(b"\n")
    try:
        choices = objects(object_or_empty(loads(line)).get("choices")) if end else []
    except DecodeError:
        return False
    return bool(choices) and ("delta" in choices[0] or ("text" in choices[0] and not choices[0].get("finish_reason")))


def is_event_stream(data: bytes) -> bool:
    """Whether a body contains a line of an event stream."""
    return any(line.startswith(_FIELDS) for line in data.removeprefix(BOM).splitlines())


def not_an_answer(meta: ResponseMeta, data: bytes, wanted: str = "a stream") -> DecodeError:
    """The error for a body that is neither a stream nor a JSON object: a proxy's HTML page, a text, a list."""
    kind = meta.headers.get("content-type", "").partition(";")[0].strip() or "no content type"
    words = excerpt(data)
    shown = f"begins {words[:80]!r}" if words else "is empty"
    return DecodeError(f"{wanted} was requested, but the response ({kind}) {shown}", path="body", excerpt=words)


def stray_words(block: bytes) -> str:
    """The text in the last lines of a block, if they belong to no event: what a gateway wrote into a stream that it ended.

    StreamFaultError if it is an error object.
    """
    pieces = [piece for lines in block.split(b"\n\n") if (piece := lines.strip(b"\n")) and not piece.startswith(ENDS)]
    block = pieces[-1] if pieces else b""
    words = b"\n".join(line for line in block.split(b"\n") if not line.startswith(_FIELDS)).strip()
    with suppress(DecodeError):
        if is_plain(words) and is_fault(value := loads(words)):
            raise stream_fault(value)
    return read_fault(words.decode("utf-8", "replace")).message if words else _unknown_event(block)


def _unknown_event(block: bytes) -> str:
    """The data of the last event if it is an object that has no part in an answer: a gateway's own word for a failure."""
    data = next((event.data for event in reversed(parse_events(block)) if event.data.strip() != DONE), b"")
    with suppress(DecodeError):
        value = object_or_empty(loads(data)) if is_plain(data) else {}
        if value and not value.get("choices") and not value.get("usage"):
            return excerpt(data)
    return ""


def is_streamed(data: bytes) -> bool:
    """Whether a body is a stream of events and not JSON."""
    return data.lstrip(b"\xef\xbb\xbf\r\n").startswith((b"data:", *_FIELDS[1:]))


def plain_answer(data: bytes, meta: ResponseMeta) -> JsonDict:
    """The body of a server that ignored `stream`. Raises DecodeError; for an error object the error of a plain call."""
    value = loads(data)
    raise_plain_fault(value, meta, f"POST {urlsplit(meta.url).path}")
    if not is_object(value):
        raise not_an_answer(meta, data)
    return value


def chunks_of(answer: JsonDict) -> list[JsonDict]:
    """The events equivalent to a plain answer: one for each choice, usage on the last."""
    head = {key: value for key, value in answer.items() if key not in ("choices", "usage")}
    if (kind := head.get("object")) == "chat.completion":
        head["object"] = f"{kind}.chunk"
    chunks: list[JsonDict] = [{**head, "choices": [_chunk_choice(c)]} for c in objects(answer.get("choices"))]
    if chunks and answer.get("usage") is not None:
        chunks[-1]["usage"] = answer["usage"]
    return chunks


def _chunk_choice(choice: JsonDict) -> JsonDict:
    if "message" not in choice:  # completions: a choice has the same form in a stream
        return choice
    delta = dict(object_or_empty(choice["message"]))
    calls = objects(delta.get("tool_calls"))
    if calls:
        delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(calls)]
    return {"index": choice.get("index"), "delta": delta, **_without(choice, "index", "message")}


def _without(data: JsonDict, *names: str) -> JsonDict:
    return {key: value for key, value in data.items() if key not in names}


def decode_events(block: bytes, joiner: SurrogateJoiner) -> Iterator[JsonDict | None]:
    """The JSON objects of a block of events; None stands for [DONE]. An error or invalid event raises after those before."""
    for event in parse_events(block):
        may_have_halves = SURROGATE in event.data.lower()
        for value in _values(event, keep_surrogates=True):
            if is_object(value):
                whole = joiner.join(value) if joiner.halves or may_have_halves else value
                if (ABORT in event.data or ERROR in event.data) and (fault := ended_early(whole)):
                    yield _without_end(whole)
                    raise fault
                yield whole
            elif value is None:
                yield None
            else:
                raise DecodeError("an event of the stream is not a JSON object", excerpt=excerpt(event.data))


def _without_end(event: JsonDict) -> JsonDict:
    """The event without its finish_reason: the text in it is part of an answer that has not ended."""
    return {**event, "choices": [{**choice, "finish_reason": None} for choice in objects(event["choices"])]}


def decode_untyped(block: bytes) -> Iterator[Json]:
    """The data of a block's events, a str if it is not JSON; None stands for [DONE]. Raises StreamFaultError."""
    for event in parse_events(block):
        if event.data.strip() == DONE:
            yield None
            continue
        try:
            values = _values(event)
        except DecodeError:
            values = [event.data.decode("utf-8", "replace")]
        for value in values:
            if object_or_empty(value).get("error"):
                raise stream_fault(value, event.comment)
            yield value


def _values(event: Event, *, keep_surrogates: bool = False) -> list[Json]:
    """The JSON values of an event: one, none, or several if the server omits the blank line between events."""
    data = event.data.strip()
    if data.startswith(b"data:"):  # put into an event twice
        data = data[5:].strip()
    if data.startswith(DONE):
        return [None]
    if (not data and not event.name) or data.startswith(b":"):  # `data: : OPENROUTER PROCESSING`
        return []
    try:
        value = loads(data, "an event of the stream", keep_surrogates=keep_surrogates) if data else None
    except DecodeError:
        values = _values_of_lines(data, keep_surrogates)
        if values is not None:
            return values
        if event.name in ("", "message") or (is_plain(data) and event.name != "error"):
            raise
        if event.name != "error":  # `event: ping`, `data: ok`
            return []
        value = data.decode("utf-8", "replace")
    if event.name == "error":
        raise stream_fault(value, event.comment)
    return [] if value is None else [value]


def _values_of_lines(data: bytes, keep_surrogates: bool) -> list[Json] | None:
    """The values of data in which every line is one; None for other data. A null or a comment among them is no value."""
    lines = [line for line in data.split(b"\n") if line.strip() not in (b"", b"null") and not line.startswith(b":")]
    if data.count(b"\n") < 1:
        return None
    try:
        return [None if line.strip() == DONE else loads(line, keep_surrogates=keep_surrogates) for line in lines]
    except DecodeError:
        return None
