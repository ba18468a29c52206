"""Chat answers in vLLM's JSON: one body, or the events of a stream with the time each is due.

Order of a stream as vLLM sends it: a role chunk for each choice, then its tokens, a finish chunk, the usage chunk
without choices if requested, and `[DONE]`.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from .chat import ChatAnswer, ChatChoice, ChatRequest
from .dialects import CREATED, ChatShape
from .logprobs import chat_entry
from .template import rendered
from .vocabulary import Vocabulary
from .wire import DONE, Frame, event

_PLAIN_SHAPE: Final = ChatShape()
_WRITTEN_NULLS: Final = ("refusal", "logprobs", "content")


@dataclass(frozen=True, slots=True)
class ChatWriter:
    """Writes the answer to one request; `request_id` becomes part of every id in it.

    `vocabulary`: where the ids of tokens are from, if the answer has them.
    """

    request: ChatRequest
    answer: ChatAnswer
    model: str
    request_id: str
    shape: ChatShape = _PLAIN_SHAPE
    vocabulary: Vocabulary | None = None

    def usage(self, completion_tokens: int | None = None) -> dict[str, Any]:
        """The usage record of the tokens given, else of the whole answer."""
        choices, whole = self.answer.choices, self.answer.usage
        complete = whole.completion_tokens if completion_tokens is None else completion_tokens
        usage: dict[str, Any] = {
            "prompt_tokens": whole.prompt_tokens,
            "total_tokens": whole.prompt_tokens + complete,
            "completion_tokens": complete,
        }
        if whole.cached_tokens or not self.shape.nulls:  # vLLM has no details for a prompt without cached tokens
            usage["prompt_tokens_details"] = {"cached_tokens": whole.cached_tokens}
        if completion_tokens is None and any(choice.reasoning for choice in choices):
            usage["completion_tokens_details"] = {"reasoning_tokens": sum(len(choice.reasoning) for choice in choices)}
        return usage

    def body(self) -> dict[str, Any]:
        """The body of a plain answer; vLLM includes nulls."""
        body: dict[str, Any] = {
            "id": f"chatcmpl-{self.request_id}",
            "object": "chat.completion",
            "created": CREATED,
            "model": self.model,
            "choices": [self._choice(at, choice) for at, choice in enumerate(self.answer.choices)],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {"prompt_tokens_details": None, **self.usage()},
            "prompt_logprobs": None,
            "prompt_token_ids": self._prompt_ids(),
            "kv_transfer_params": None,
        }
        return body if self.shape.nulls else _without_nulls(body)

    def _choice(self, at: int, choice: ChatChoice) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(choice.content) if choice.content or not self._is_empty(choice) else None,
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            self.shape.reasoning: "".join(choice.reasoning) or None,
        }
        if choice.calls:
            message["tool_calls"] = [
                {
                    "id": self._call_id(at, position),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for position, call in enumerate(choice.calls)
            ]
        return {
            "index": at,
            "message": message,
            "logprobs": self._logprobs(choice.content, 0),
            "finish_reason": choice.finish_reason,
            "stop_reason": choice.stop_reason,
            "token_ids": self._ids_of((*choice.reasoning, *choice.content, *_call_tokens(choice))),
        }

    def _is_empty(self, choice: ChatChoice) -> bool:
        """Whether content is null: with tool calls, and if the token limit was reached during the reasoning."""
        return bool(choice.calls) or (bool(choice.reasoning) and choice.finish_reason == "length")

    def _logprobs(self, tokens: Sequence[str], start: int) -> dict[str, Any] | None:
        top = self.request.top_logprobs
        if top is None or not tokens:
            return None
        return {"content": [chat_entry(token, start + at, top) for at, token in enumerate(tokens)]}

    def _call_id(self, at: int, position: int) -> str:
        return f"chatcmpl-tool-{zlib.crc32(f'{self.request_id} {at} {position}'.encode()):08x}"

    def _ids_of(self, tokens: Sequence[str]) -> list[int] | None:
        return None if self.vocabulary is None else self.vocabulary.ids_of(tokens)

    def _prompt_ids(self) -> list[int] | None:
        return self._ids_of(rendered(self.request.messages, (self.request.begun or "").rstrip()))

    def frames(self) -> Iterator[Frame]:
        """The stream; token k (from 0) of every choice is due at the same time."""
        steps = [list(self._deltas(at, choice)) for at, choice in enumerate(self.answer.choices)]
        sent = 0
        prompt = {} if self.vocabulary is None else {"prompt_token_ids": self._prompt_ids()}
        for at, deltas in enumerate(steps):
            if self.shape.role_event:
                role = {"index": at, **_delta({"role": "assistant", "content": ""})}
                yield self._chunk(0, 0, role, **({} if at else prompt))
            elif deltas:
                deltas[0]["delta"]["role"] = "assistant"
        last = max(0, *(len(deltas) - 1 for deltas in steps))
        for step in range(last + 1):
            for at, deltas in enumerate(steps):
                if step < len(deltas):
                    sent += 1
                    yield self._chunk(step, sent, {"index": at, **deltas[step]})._replace(tokens=1)
                if step == max(len(deltas) - 1, 0):
                    yield self._chunk(step, sent, self._finish(at))
        if self.request.sampling.include_usage:
            yield Frame(last, event({**self._head(), "choices": [], "usage": self.usage()}))
        yield Frame(last, DONE)

    def _deltas(self, at: int, choice: ChatChoice) -> Iterator[dict[str, Any]]:
        if self.vocabulary is None:
            yield from self._pieces(at, choice)
            return
        tokens = [*choice.reasoning, *choice.content, *_call_tokens(choice)]
        for token, piece in zip(tokens, self._pieces(at, choice), strict=True):
            yield {**piece, "token_ids": self.vocabulary.ids_of([token])}

    def _pieces(self, at: int, choice: ChatChoice) -> Iterator[dict[str, Any]]:
        for token in choice.reasoning:
            yield _delta({self.shape.reasoning: token})
        for position, token in enumerate(choice.content):
            yield _delta({"content": token}, self._logprobs([token], position))
        for position, call in enumerate(choice.calls):
            name = {"name": call.name, "arguments": ""}
            first = {"index": position, "id": self._call_id(at, position), "type": "function", "function": name}
            yield _delta({"tool_calls": [first]})
            for token in call.tokens:
                more = {"index": position, "function": {"arguments": token}}
                yield _delta({"tool_calls": [more]})

    def _finish(self, at: int) -> dict[str, Any]:
        choice = self.answer.choices[at]
        finish: dict[str, Any] = {"index": at, "delta": {}, "finish_reason": choice.finish_reason, "logprobs": None}
        return finish | {"delta": {"content": ""}, "stop_reason": choice.stop_reason} if self.shape.nulls else finish

    def _head(self) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.request_id}",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": self.model,
        }

    def _chunk(self, step: int, sent: int, choice: dict[str, Any], **extra: Any) -> Frame:
        chunk = {**self._head(), "choices": [choice], **extra}
        if self.request.sampling.continuous_usage:
            chunk["usage"] = self.usage(sent)
        return Frame(step, event(chunk))


def _call_tokens(choice: ChatChoice) -> list[str]:
    """The tokens of its calls, the name of each in one."""
    return [token for call in choice.calls for token in (call.name, *call.tokens)]


def _delta(delta: dict[str, Any], logprobs: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"delta": delta, "logprobs": logprobs, "finish_reason": None}


def _without_nulls(value: Any) -> Any:
    """JSON without null values, except for the fields that Dynamo always includes."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {key: _without_nulls(item) for key, item in fields.items() if item is not None or key in _WRITTEN_NULLS}
    return [_without_nulls(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value
