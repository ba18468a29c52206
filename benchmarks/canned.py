"""The answers of the canned server as bytes, built once and kept; also what a runner must get back.

Shapes and sizes follow vLLM, those of embeddings NIM. Nothing here does I/O.
"""

import base64
import random
import struct
from array import array
from functools import lru_cache
from typing import Any

import orjson

DIMENSIONS = 1024
MODEL = "canned"
PACED_MODEL = "canned-paced"
CALM_MODEL = "canned-calm"
BRISK_MODEL = "canned-brisk"
SLOW_MODEL = "canned-slow"
SLOW_SECONDS = 0.05
HTTP_CHUNK_BYTES = 16 * 1024
LAST_HTTP_CHUNK = b"0\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
    b"X-Request-Id: canned\r\n\r\n"
)
RAW_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n"
    b"X-Request-Id: canned\r\n\r\n"
)
COMPLETION_ID = "chatcmpl-5d1f0c3b9a7e4f2a8b6c0d9e1f2a3b4c"
CREATED = 1760000000
WORDS = (" the", " quick", " brown", " fox", " jumps", " over", " a", " lazy", " dog", ",", " then", " rests", ".")


def token(position: int) -> str:
    """The text of one generated token."""
    return WORDS[position % len(WORDS)]


@lru_cache
def answer_text(tokens: int) -> str:
    """The whole text of an answer of so many tokens."""
    return "".join(map(token, range(tokens)))


@lru_cache
def vector(position: int) -> "array[float]":
    """The float32 embedding of the text at this position of a request."""
    source = random.Random(position)
    return array("f", (source.uniform(-0.1, 0.1) for _ in range(DIMENSIONS)))


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """Token counts as vLLM reports them."""
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": None,
    }


def response(body: bytes, status: str = "200 OK") -> bytes:
    """A whole HTTP/1.1 response that keeps the connection open."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"X-Request-Id: canned\r\n\r\n" + body


def http_chunk(data: bytes) -> bytes:
    """One chunk of the chunked transfer encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache
def models_response() -> bytes:
    """GET /v1/models."""
    models = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": "vllm", "max_model_len": 4096}
        for name in (MODEL, PACED_MODEL)
    ]
    return response(orjson.dumps({"object": "list", "data": models}))


@lru_cache
def not_found_response() -> bytes:
    """Any path the benchmarks do not use."""
    return response(orjson.dumps({"detail": "Not Found"}), "404 Not Found")


@lru_cache
def chat_response(model: str, tokens: int) -> bytes:
    """A chat completion that is not streamed."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer_text(tokens),
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": [],
        "reasoning": None,
    }
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": "stop",
        "stop_reason": None,
        "token_ids": None,
    }
    body = {
        "id": COMPLETION_ID,
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [choice],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": usage(11, tokens),
        "prompt_logprobs": None,
        "kv_transfer_params": None,
    }
    return response(orjson.dumps(body))


def event(model: str, choices: list[dict[str, Any]], **more: object) -> bytes:
    """One server-sent event with a chat chunk."""
    chunk = {
        "id": COMPLETION_ID,
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "choices": choices,
        **more,
    }
    return b"data: %b\n\n" % orjson.dumps(chunk)


def delta_event(model: str, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    """One server-sent event that adds to the only choice."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason, "token_ids": None}
    return event(model, [choice])


def first_event(model: str) -> bytes:
    """The event that opens a stream: a role and no text yet."""
    return delta_event(model, {"role": "assistant", "content": ""})


@lru_cache
def token_events(model: str, tokens: int) -> tuple[bytes, ...]:
    """One event for each token."""
    return tuple(delta_event(model, {"content": token(position)}) for position in range(tokens))


def last_events(model: str, tokens: int) -> bytes:
    """What ends a stream: the finish reason, the usage every runner asks for, and the marker."""
    finish = delta_event(model, {"content": ""}, "stop")
    return finish + event(model, [], usage=usage(11, tokens)) + b"data: [DONE]\n\n"


@lru_cache
def stream_response(model: str, tokens: int) -> bytes:
    """A whole stream in large HTTP chunks that cut events anywhere, as a buffering proxy sends it."""
    events = first_event(model) + b"".join(token_events(model, tokens)) + last_events(model, tokens)
    starts = range(0, len(events), HTTP_CHUNK_BYTES)
    chunks = [http_chunk(events[start : start + HTTP_CHUNK_BYTES]) for start in starts]
    return STREAM_HEAD + b"".join(chunks) + LAST_HTTP_CHUNK


@lru_cache
def paced_writes(model: str, tokens: int) -> tuple[bytes, ...]:
    """The same stream as the separate writes of a server that sends each token when it is ready."""
    return (
        STREAM_HEAD + http_chunk(first_event(model)),
        *map(http_chunk, token_events(model, tokens)),
        http_chunk(last_events(model, tokens)) + LAST_HTTP_CHUNK,
    )


@lru_cache
def embeddings_response(model: str, count: int, encoding: str, dtype: str = "float32") -> bytes:
    """Embeddings of `count` texts, as a NIM sends them: base64 of float32 where asked for, else lists of numbers.

    Raw bytes as vLLM sends them: a chunk for each vector, without their length, of float16 where asked for.
    """
    vectors = map(vector, range(count))
    if encoding == "bytes_only":
        form = f"<{DIMENSIONS}{'e' if dtype == 'float16' else 'f'}"
        chunks = [http_chunk(struct.pack(form, *numbers)) for numbers in vectors]
        return RAW_HEAD + b"".join(chunks) + LAST_HTTP_CHUNK
    values = [
        base64.b64encode(numbers.tobytes()).decode() if encoding == "base64" else numbers.tolist()
        for numbers in vectors
    ]
    data = [{"index": index, "object": "embedding", "embedding": value} for index, value in enumerate(values)]
    body = {
        "object": "list",
        "model": model,
        "data": data,
        "usage": usage(24 * count, 0),
    }
    return response(orjson.dumps(body))
