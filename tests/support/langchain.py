"""What a NIM answers, for tests of LangChain's classes: written as servers write it."""

from typing import Any

MODEL = "nvidia/nemotron-3-nano-30b-a3b"


def reply(content: str | None = "Hello", **message: Any) -> dict[str, Any]:
    """A chat completion whose message has these fields."""
    return completion({"role": "assistant", "content": content, **message})


def completion(message: dict[str, Any], finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion of one message."""
    return {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        **more,
    }


def event(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    """One event of a stream."""
    return {
        "id": "chatcmpl-7",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        **more,
    }


def usage(prompt: int = 5, completion: int = 2, **details: Any) -> dict[str, Any]:
    """The event that tells what a stream used."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {"id": "chatcmpl-7", "model": MODEL, "choices": [], "usage": {**counts, **details}}


def tool_call(name: str, arguments: str, id: str = "call_1") -> dict[str, Any]:
    """A call as the wire has it."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
