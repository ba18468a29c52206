"""Reads chat requests and generates their answers, independent of their JSON form.

Knows the rules of `/v1/chat/completions` as NIM 2.x (vLLM) applies them; the answer itself comes from `extract`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from .catalog import ServedModel
from .extract import Material, PlainMessage, answer, take_apart, thought, wants_thinking
from .fields import Fields
from .prompt_schemas import without_schemas
from .rejections import Rejection, bad_field, invalid_field
from .sampling import Cut, Sampling, check_context, cut_text, read_sampling
from .structured import Constraint, constrained_text, in_words, read_constraint
from .template import rest_of
from .text import count_tokens, pieces
from .toolcalls import ToolOffer, WrittenCall, call_tools, read_tools
from .wire import TokenCounts

MAX_TOP_LOGPROBS: Final = 20  # vLLM's --max-logprobs

_TOKENS_PER_MESSAGE: Final = 4
_TEXT_PARTS: Final = ("text", "input_text", "output_text")
_SILENT_PARTS: Final = ("refusal", "thinking")
_MEDIA_PARTS: Final = {
    **dict.fromkeys(("image_url", "input_image", "image_embeds"), "image"),
    **dict.fromkeys(("input_audio", "audio_url", "audio_embeds"), "audio"),
    **dict.fromkeys(("video_url", "video_embeds"), "video"),
}
_NO_THINKING: Final = ("none", "minimal")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request. `top_logprobs` None is no logprobs at all; `seed` is the simulator's plus the request's.

    `begun`: the beginning of the answer, from a last message that is to be continued; it is not among the messages.
    """

    messages: tuple[PlainMessage, ...]
    sampling: Sampling
    offer: ToolOffer
    constraint: Constraint | None = None
    thinking: bool = False
    top_logprobs: int | None = None
    begun: str | None = None
    returns_ids: bool = False


@dataclass(frozen=True, slots=True)
class ChatChoice:
    """One answer as tokens: reasoning first, then either content or tool calls."""

    reasoning: tuple[str, ...]
    content: tuple[str, ...]
    calls: tuple[WrittenCall, ...]
    finish_reason: str
    stop_reason: str | None

    @property
    def token_count(self) -> int:
        """How many tokens the answer took; naming a tool takes one."""
        return len(self.reasoning) + len(self.content) + sum(1 + len(call.tokens) for call in self.calls)


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """All choices of one request, the tokens of its prompt, and how many of them the prefix cache held."""

    choices: tuple[ChatChoice, ...]
    prompt_tokens: int
    cached_tokens: int = 0

    @property
    def longest(self) -> int:
        """The tokens of the longest choice."""
        return max(choice.token_count for choice in self.choices)

    @property
    def usage(self) -> TokenCounts:
        """The tokens of the prompt and of all choices."""
        tokens = sum(choice.token_count for choice in self.choices)
        reasons = tuple(choice.finish_reason for choice in self.choices)
        return TokenCounts(self.prompt_tokens, tokens, reasons, self.cached_tokens)


def read_messages(fields: Fields, model: ServedModel | None = None) -> tuple[PlainMessage, ...]:
    """The messages of a request; text parts are joined. Rejection (400) for media that the model does not accept."""
    messages = fields.objects("messages")
    if messages is None:
        raise fields.missing("messages")
    if not messages:
        raise invalid_field("messages", "too_short", "List should have at least 1 item after validation, not 0")
    return tuple(_message(Fields(message, f"messages.{at}"), model) for at, message in enumerate(messages))


def _message(message: Fields, model: ServedModel | None) -> PlainMessage:
    role = message.need_text("role")
    calls = tuple(_called(call) for call in message.objects("tool_calls") or ())
    if not isinstance(message.given("content"), list):
        return PlainMessage(role, message.text("content") or "", calls)
    texts = [_part_text(Fields(part, message.path("content")), model) for part in message.objects("content") or ()]
    return PlainMessage(role, "\n".join(texts).strip(), calls)


def _called(call: dict[str, Any]) -> str:
    function = Fields(call, "messages.tool_calls").object("function") or {}
    return str(function.get("name", ""))


def _part_text(part: Fields, model: ServedModel | None) -> str:
    """The text of one content part, "" for media."""
    kind = part.text("type") or next((name for name in _MEDIA_PARTS if part.given(name) is not None), "text")
    if kind in _TEXT_PARTS:
        return part.need_text("text")
    if kind in _SILENT_PARTS:
        return ""
    media = _MEDIA_PARTS.get(kind)
    if media is None:
        raise Rejection(400, f"Unknown part type: {kind}", param=part.path("type"))
    if model is not None and not model.media:
        raise Rejection(400, f"{model.id} is not a multimodal model", param=part.path("type"))
    if model is not None and media not in model.media:
        raise Rejection(400, f"At most 0 {media}(s) may be provided in one prompt.", param=part.path("type"))
    return ""


def prompt_tokens(messages: Sequence[PlainMessage]) -> int:
    """The tokens of a prompt: those of the texts, and a few per message."""
    return sum(count_tokens(message.text) + _TOKENS_PER_MESSAGE for message in messages)


def read_chat(fields: Fields, model: ServedModel | None = None) -> ChatRequest:
    """Validate a request; Rejection (400) names what is wrong."""
    messages = read_messages(fields, model)
    begun = _begun(fields, messages)
    return ChatRequest(
        messages=messages if begun is None else messages[:-1],
        begun=begun,
        returns_ids=fields.flag("return_token_ids"),
        sampling=read_sampling(fields, default_max=None),
        offer=read_tools(fields),
        constraint=in_words(read_constraint(fields), [message.text for message in messages]),
        thinking=begun is None and _thinking(fields, messages, default=model is not None and model.reasons),
        top_logprobs=_top_logprobs(fields),
    )


def _begun(fields: Fields, messages: Sequence[PlainMessage]) -> str | None:
    """The text of the last message if it is to be continued; without both fields an answer is a new turn."""
    opens = fields.given("add_generation_prompt") is None or fields.flag("add_generation_prompt")
    if not fields.flag("continue_final_message"):
        return None
    if opens and fields.given("add_generation_prompt"):
        raise Rejection(400, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    if opens:
        raise Rejection(
            400,
            "continue_final_message and add_generation_prompt are not compatible. Use continue_final_message when you "
            "want the model to continue the final message, and add_generation_prompt when you want to add a header that "
            "will prompt it to start a new assistant message instead.",
        )
    if (fields.objects("messages") or [{}])[-1].get("content") is None:
        raise Rejection(
            400,
            "continue_final_message is set but we could not find any text to continue in the final message!",
        )
    return messages[-1].text


def _thinking(fields: Fields, messages: Sequence[PlainMessage], *, default: bool) -> bool:
    kwargs = fields.object("chat_template_kwargs") or {}
    effort = fields.text("reasoning_effort")
    if fields.given("include_reasoning") is False:
        return False
    for switch in ("enable_thinking", "thinking"):
        if isinstance(kwargs.get(switch), bool):
            return bool(kwargs[switch])
    if "thinking_mode" in kwargs:
        return bool(kwargs["thinking_mode"] == "enabled")
    return effort not in _NO_THINKING if effort is not None else wants_thinking(messages, default=default)


def _top_logprobs(fields: Fields) -> int | None:
    wanted = fields.flag("logprobs")
    top = fields.integer("top_logprobs", min=-1, max=MAX_TOP_LOGPROBS)
    if top and not wanted:
        raise bad_field("top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.")
    if not wanted:
        return None
    return MAX_TOP_LOGPROBS if top == -1 else top or 0  # -1 is "all"; the simulator generates twenty


def answer_chat(request: ChatRequest, seed: int, max_model_len: int) -> ChatAnswer:
    """Generate the answer to a request; equal requests under equal seeds have equal answers."""
    count = prompt_tokens(request.messages) + count_tokens((request.begun or "").rstrip())
    check_context(count, request.sampling.room_needed, max_model_len)
    material = take_apart(_without_schemas(request))
    calls = call_tools(request.offer, material.request, called=_calls_so_far(request.messages))
    start = seed + request.sampling.seed
    return ChatAnswer(tuple(_choice(request, material, calls, start + at) for at in range(request.sampling.n)), count)


def _without_schemas(request: ChatRequest) -> Sequence[PlainMessage]:
    """The messages without their instructions on the JSON to write, which are not their subject."""
    if request.constraint is None or request.constraint.kind not in ("json", "json_object"):
        return request.messages
    messages = [replace(message, text=without_schemas(message.text)) for message in request.messages]
    return [message for message in messages if message.text] or request.messages


def _calls_so_far(messages: Sequence[PlainMessage]) -> list[str]:
    """The tools that were called since the last user message."""
    names: list[str] = []
    for message in messages:
        names = [] if message.role == "user" else [*names, *message.calls]
        if message.role == "tool" and not names:
            names = [""]  # a result of a call that is not in the history
    return names


def _choice(request: ChatRequest, material: Material, calls: tuple[WrittenCall, ...], variant: int) -> ChatChoice:
    limit = request.sampling.max_tokens
    reasoning = pieces(thought(material)) if request.thinking else []
    if limit is not None and len(reasoning) >= limit:
        return ChatChoice(tuple(reasoning[:limit]), (), (), "length", None)
    room = None if limit is None else limit - len(reasoning)
    if calls and request.begun is None:
        return _calling(request, tuple(reasoning), calls, room)
    cut = _content(request, material, variant, room)
    return ChatChoice(tuple(reasoning), cut.tokens, (), cut.finish_reason, cut.stop_reason)


def _calling(
    request: ChatRequest, reasoning: tuple[str, ...], calls: tuple[WrittenCall, ...], room: int | None
) -> ChatChoice:
    kept: list[WrittenCall] = []
    for call in calls:
        if room is not None and len(call.tokens) + 1 > room:
            short = [WrittenCall(call.name, "".join(call.tokens[: room - 1]))] if room else []
            return ChatChoice(reasoning, (), (*kept, *short), "length", None)
        kept.append(call)
        room = None if room is None else room - len(call.tokens) - 1
    # vLLM reports "stop", not "tool_calls", when the caller named the tool.
    return ChatChoice(reasoning, (), tuple(kept), "stop" if request.offer.choice == "named" else "tool_calls", None)


def _content(request: ChatRequest, material: Material, variant: int, room: int | None) -> Cut:
    if request.constraint is None:
        text = answer(material, variant)
        return cut_text(text if request.begun is None else rest_of(text, request.begun), request.sampling, room)
    text = constrained_text(request.constraint, material.everything, lambda: answer(material, variant))
    tokens = pieces(text)  # stop strings and padding must not break constrained output
    if room is not None and len(tokens) > room:
        return Cut(tuple(tokens[:room]), "length")
    return Cut(tuple(tokens), "stop")
