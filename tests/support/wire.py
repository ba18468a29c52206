"""Fragments of HTTP and of NIM's answers, as bytes, for the scripts of the fault server."""

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"
MODEL = "test-model"


def http(body: bytes = b"", status: int = 200, *headers: str, type: str | None = "application/json") -> bytes:
    """A whole answer with its Content-Length."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    if type is not None:
        lines.append(f"Content-Type: {type}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer(value: Any, status: int = 200, *headers: str) -> bytes:
    """A whole answer with a JSON body."""
    return http(json.dumps(value).encode(), status, *headers)


def chat_body(text: str = "Hello", **extra: Any) -> dict[str, Any]:
    """What chat completions answer."""
    return {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        **extra,
    }


def chat(text: str = "Hello", **extra: Any) -> bytes:
    """A whole chat answer."""
    return answer(chat_body(text, **extra))


def error(status: int, message: str = "no", *headers: str, **fields: Any) -> bytes:
    """A rejection with an error object of vLLM's and OpenAI's shape."""
    return answer({"error": {"message": message, "type": "SomeError", "code": status, **fields}}, status, *headers)


def head(status: int = 200, *headers: str, type: str = "text/event-stream") -> bytes:
    """The head of an answer with a chunked body."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {type}", "Transfer-Encoding: chunked", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def chunk(*parts: bytes) -> bytes:
    """One chunk of a chunked body."""
    data = b"".join(parts)
    return b"%x\r\n%s\r\n" % (len(data), data)


def sse(value: Any) -> bytes:
    """A JSON value as an event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def token(text: str | None, finish: str | None = None, index: int = 0, **extra: Any) -> bytes:
    """An event of a chat stream that adds text to a choice, or ends it."""
    delta = {} if text is None else {"content": text}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return sse({"id": "chat-1", "object": "chat.completion.chunk", "model": MODEL, "choices": [choice], **extra})


ROLE = sse({"id": "chat-1", "model": MODEL, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
STOP = token(None, "stop")
USAGE = sse({"model": MODEL, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})


def stream(*events: bytes) -> bytes:
    """A whole streamed answer: each event in a chunk of its own, then the end of the body."""
    return head() + b"".join(chunk(event) for event in events) + END


HELLO = stream(ROLE, token("Hel"), token("lo"), STOP, USAGE, DONE)
"""A good stream that says Hello."""


def vectors(rows: Sequence[Sequence[float]], **extra: Any) -> dict[str, Any]:
    """What embeddings answer, in base64."""
    data = [
        {"object": "embedding", "index": i, "embedding": base64.b64encode(struct.pack(f"<{len(r)}f", *r)).decode()}
        for i, r in enumerate(rows)
    ]
    usage = {"prompt_tokens": len(rows), "total_tokens": len(rows)}
    return {"object": "list", "model": MODEL, "data": data, "usage": usage, **extra}


def embedded(texts: Sequence[str], dimensions: int = 2) -> dict[str, Any]:
    """The answer for texts that are numbers: each vector begins with its text's."""
    return vectors([[float(text)] + [1.0] * (dimensions - 1) for text in texts])
