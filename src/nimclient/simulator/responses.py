"""OpenAI's Responses API (`/v1/responses`): a request is translated into a chat request, the answer into output items.

Order and names of the stream's events are those of vLLM 0.32. Nothing is stored: `previous_response_id` is a 404 and
`background` a 400, as in vLLM without its store.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from .chat import ChatAnswer, ChatChoice
from .dialects import CREATED
from .fields import Fields
from .rejections import Rejection
from .wire import Frame, event

_ECHOED: Final = (
    *("instructions", "metadata", "temperature", "top_p", "tools", "tool_choice", "parallel_tool_calls"),
    *("max_output_tokens", "text", "reasoning", "truncation", "service_tier", "user"),
)
_SAME_IN_CHAT: Final = (
    *("model", "stream", "temperature", "top_p", "user", "parallel_tool_calls", "seed", "chat_template_kwargs"),
    *("include_reasoning", "cache_salt"),
)


def chat_body(body: dict[str, Any]) -> dict[str, Any]:
    """The chat request that a Responses request asks for. Rejection (400, 404) for what is invalid or unsupported."""
    fields = Fields(body)
    if (previous := fields.text("previous_response_id")) is not None:
        message = f"Response with id '{previous}' not found."
        raise Rejection(404, message, type="invalid_request_error", param="response_id")
    if fields.flag("background"):
        raise Rejection(
            400, "This server does not support store=True, which background=True needs.", param="background"
        )
    chat = {name: body[name] for name in _SAME_IN_CHAT if body.get(name) is not None}
    chat["messages"] = _messages(fields)
    if (limit := fields.integer("max_output_tokens", min=1)) is not None:
        chat["max_completion_tokens"] = limit
    if effort := Fields(fields.object("reasoning") or {}, "reasoning").text("effort"):
        chat["reasoning_effort"] = effort
    if tools := fields.objects("tools"):
        chat["tools"] = [_chat_tool(Fields(tool, f"tools.{at}")) for at, tool in enumerate(tools)]
        if (choice := fields.given("tool_choice")) is not None:
            chat["tool_choice"] = _chat_choice(choice)
    if form := Fields(fields.object("text") or {}, "text").object("format"):
        chat["response_format"] = _chat_format(form)
    return chat


def _messages(fields: Fields) -> list[dict[str, Any]]:
    """The instructions and the input, a text or a list of items, as chat messages."""
    instructions = fields.text("instructions")
    messages: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    given = fields.given("input")
    if given is None:
        raise fields.missing("input")
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    for at, item in enumerate(fields.objects("input") or ()):
        messages += _from_item(Fields(item, f"input.{at}"))
    return messages


def _from_item(item: Fields) -> list[dict[str, Any]]:
    """The messages of one input item; reasoning items are ignored."""
    match item.text("type") or "message":
        case "message":
            return [{"role": item.need_text("role"), "content": _content(item)}]
        case "function_call":
            function = {"name": item.need_text("name"), "arguments": item.text("arguments") or "{}"}
            call = {"id": item.text("call_id"), "type": "function", "function": function}
            return [{"role": "assistant", "content": None, "tool_calls": [call]}]
        case "function_call_output":
            return [{"role": "tool", "tool_call_id": item.need_text("call_id"), "content": _content(item, "output")}]
        case "reasoning":
            return []
        case other:
            raise Rejection(400, f"Unknown input item type: {other}", param=item.path("type"))


def _content(item: Fields, name: str = "content") -> Any:
    """Content parts under their names in chat."""
    given = item.given(name)
    if not isinstance(given, list):
        return given
    return [_chat_part(part) for part in item.objects(name) or ()]


def _chat_part(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") == "input_image":
        return {"type": "image_url", "image_url": {"url": part.get("image_url")}}
    if part.get("type") == "input_file":
        return {"type": "file", "file": part}
    return part


def _chat_tool(tool: Fields) -> dict[str, Any]:
    if (kind := tool.text("type")) != "function":
        raise Rejection(400, f"Tools of the type {kind} are not supported.", param=tool.path("type"))
    named = {name: tool.given(name) for name in ("name", "description", "parameters", "strict")}
    return {"type": "function", "function": {name: value for name, value in named.items() if value is not None}}


def _chat_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    return {"type": "function", "function": {"name": cast("dict[str, Any]", choice).get("name")}}


def _chat_format(form: dict[str, Any]) -> dict[str, Any]:
    if form.get("type") != "json_schema":
        return form
    return {
        "type": "json_schema",
        "json_schema": {name: form[name] for name in ("name", "schema", "strict") if name in form},
    }


@dataclass(frozen=True, slots=True)
class ResponseWriter:
    """Writes the answer to one request; the response repeats much of `body`, the request."""

    body: dict[str, Any]
    answer: ChatAnswer
    model: str
    request_id: str

    @property
    def _choice(self) -> ChatChoice:
        return self.answer.choices[0]

    def response(self, status: str = "", output: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """The response object, complete unless a status is given."""
        cut = self._choice.finish_reason == "length"
        whole = not status
        echoed = {name: self.body.get(name) for name in _ECHOED}
        return {
            **echoed,
            "id": f"resp_{self.request_id}",
            "object": "response",
            "created_at": CREATED,
            "model": self.model,
            "status": status or ("incomplete" if cut else "completed"),
            "incomplete_details": {"reason": "max_output_tokens"} if cut and whole else None,
            "error": None,
            "output": self.output() if output is None else output,
            "usage": self._usage() if whole else None,
            "background": False,
            "store": False,
            "previous_response_id": None,
            "tools": self.body.get("tools") or [],
            "tool_choice": self.body.get("tool_choice") or "auto",
            "parallel_tool_calls": self.body.get("parallel_tool_calls") is not False,
        }

    def _usage(self) -> dict[str, Any]:
        usage = self.answer.usage
        return {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": len(self._choice.reasoning)},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }

    def output(self) -> list[dict[str, Any]]:
        """The output items: reasoning, then a message or function calls."""
        choice = self._choice
        items: list[dict[str, Any]] = []
        if choice.reasoning:
            items.append(self._item("rs", len(items), "reasoning", content=[_reasoning("".join(choice.reasoning))]))
        for call in choice.calls:
            items.append(self._call(len(items), call.name, call.arguments))
        if not choice.calls and (choice.content or choice.finish_reason != "length" or not choice.reasoning):
            items.append(
                self._item("msg", len(items), "message", role="assistant", content=[_text("".join(choice.content))])
            )
        return items

    def _item(self, prefix: str, at: int, kind: str, **rest: Any) -> dict[str, Any]:
        summary: dict[str, Any] = {"summary": []} if kind == "reasoning" else {}
        return {"id": f"{prefix}_{self.request_id}_{at}", "type": kind, "status": "completed", **summary, **rest}

    def _call(self, at: int, name: str, arguments: str) -> dict[str, Any]:
        call_id = f"call_{self.request_id}_{at}"
        return self._item("fc", at, "function_call", call_id=call_id, name=name, arguments=arguments)

    def frames(self) -> Iterator[Frame]:
        """The stream: the response begins, each item with its pieces, and the whole response. There is no [DONE]."""
        for number, (step, data) in enumerate(self._events()):
            yield Frame(
                step,
                event({**data, "sequence_number": number}, data["type"]),
                tokens=int(data["type"].endswith(".delta")),
            )

    def _events(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The events, each with the number of the token with which it is due."""
        for name in ("created", "in_progress"):
            yield 0, {"type": f"response.{name}", "response": self.response("in_progress", [])}
        step = 0
        tokens = {"reasoning": self._choice.reasoning, "message": self._choice.content}
        calls = iter(self._choice.calls)
        for at, item in enumerate(self.output()):
            is_call = item["type"] == "function_call"
            pieces = next(calls).tokens if is_call else tokens[item["type"]]
            empty: dict[str, Any] = {"arguments": ""} if is_call else {"content": []}
            begun = {**item, "status": "in_progress", **empty}
            yield step, {"type": "response.output_item.added", "output_index": at, "item": begun}
            for data in _item_events(item, pieces, {"item_id": item["id"], "output_index": at}):
                yield step, data
                step += data["type"].endswith(".delta")
            yield max(step - 1, 0), {"type": "response.output_item.done", "output_index": at, "item": item}
        yield max(step - 1, 0), {"type": "response.completed", "response": self.response()}


def _item_events(item: dict[str, Any], pieces: Any, place: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events between an item's first and last: its pieces, then the whole."""
    if item["type"] == "function_call":
        for piece in pieces:
            yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
        whole = {"name": item["name"], "arguments": item["arguments"]}
        yield {"type": "response.function_call_arguments.done", **place, **whole}
        return
    part = item["content"][0]
    name = "response.reasoning_text" if item["type"] == "reasoning" else "response.output_text"
    place = {**place, "content_index": 0}
    extra: dict[str, Any] = {"logprobs": []} if name == "response.output_text" else {}
    yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
    for piece in pieces:
        yield {"type": f"{name}.delta", **place, "delta": piece, **extra}
    yield {"type": f"{name}.done", **place, "text": part["text"], **extra}
    yield {"type": "response.content_part.done", **place, "part": part}


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _reasoning(text: str) -> dict[str, Any]:
    return {"type": "reasoning_text", "text": text}
