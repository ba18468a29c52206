"""A chat request read and answered, without its JSON clothes: who says what, and why it ends.

Knows the rules of `/v1/chat/completions` as NIM 2.x (vLLM) applies them; the answer itself comes from `extract`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from .extract import Material, Message, answer, take_apart, thought, wants_thinking
from .fields import Fields
from .rejections import bad_field, invalid_field
from .sampling import Cut, Sampling, check_context, cut_text, read_sampling
from .structured import Constraint, constrained_text, read_constraint
from .text import count_tokens, pieces
from .toolcalls import ToolCall, ToolOffer, call_tool, read_tools

MAX_TOP_LOGPROBS: Final = 20  # vLLM's --max-logprobs

_TOKENS_PER_MESSAGE: Final = 4
_TEXT_PARTS: Final = ("text", "input_text", "output_text")
_NO_THINKING: Final = ("none", "minimal")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request. `top_logprobs` None is no logprobs at all; `seed` is the simulator's plus the request's."""

    messages: tuple[Message, ...]
    sampling: Sampling
    offer: ToolOffer
    constraint: Constraint | None = None
    thinking: bool = False
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class ChatChoice:
    """One reply as tokens: reasoning first, then either content or the arguments of a tool call."""

    reasoning: tuple[str, ...]
    content: tuple[str, ...]
    call: ToolCall | None
    finish_reason: str
    stop_reason: str | None

    @property
    def call_tokens(self) -> tuple[str, ...]:
        """The tokens of the call's arguments."""
        return () if self.call is None else tuple(pieces(self.call.arguments))

    @property
    def token_count(self) -> int:
        """How many tokens the reply took; naming a tool takes one."""
        call = 0 if self.call is None else 1 + len(self.call_tokens)
        return len(self.reasoning) + len(self.content) + call


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """All choices of one request and the tokens of its prompt."""

    choices: tuple[ChatChoice, ...]
    prompt_tokens: int


def read_messages(fields: Fields) -> tuple[Message, ...]:
    """The messages of a request; text parts are put together, other parts are ignored."""
    messages = fields.objects("messages")
    if messages is None:
        raise fields.missing("messages")
    if not messages:
        raise invalid_field("messages", "too_short", "List should have at least 1 item after validation, not 0")
    return tuple(_message(Fields(message, f"messages.{at}")) for at, message in enumerate(messages))


def _message(message: Fields) -> Message:
    role = message.need_text("role")
    content = message.given("content")
    if isinstance(content, list):
        return Message(role, "\n".join(_part_text(message, part) for part in message.objects("content") or ()).strip())
    return Message(role, message.text("content") or "")


def _part_text(message: Fields, part: dict[str, Any]) -> str:
    inner = Fields(part, message.path("content"))
    kind = inner.text("type") or "text"
    return inner.need_text("text") if kind in _TEXT_PARTS else ""


def prompt_tokens(messages: Sequence[Message]) -> int:
    """The tokens of a prompt: those of the texts and a few around each message."""
    return sum(count_tokens(message.text) + _TOKENS_PER_MESSAGE for message in messages)


def read_chat(fields: Fields) -> ChatRequest:
    """Check and collect a request; Rejection (400) names what is wrong."""
    messages = read_messages(fields)
    if fields.flag("add_generation_prompt") and fields.flag("continue_final_message"):
        raise bad_field("continue_final_message", "cannot be set together with `add_generation_prompt`.")
    return ChatRequest(
        messages=messages,
        sampling=read_sampling(fields, default_max=None),
        offer=read_tools(fields),
        constraint=read_constraint(fields),
        thinking=_thinking(fields, messages),
        top_logprobs=_top_logprobs(fields),
    )


def _thinking(fields: Fields, messages: Sequence[Message]) -> bool:
    kwargs = fields.object("chat_template_kwargs") or {}
    effort = fields.text("reasoning_effort")
    if fields.given("include_reasoning") is False:
        return False
    for switch in ("enable_thinking", "thinking"):
        if isinstance(kwargs.get(switch), bool):
            return bool(kwargs[switch])
    if "thinking_mode" in kwargs:
        return bool(kwargs["thinking_mode"] == "enabled")
    return effort not in _NO_THINKING if effort is not None else wants_thinking(messages)


def _top_logprobs(fields: Fields) -> int | None:
    wanted = fields.flag("logprobs")
    top = fields.integer("top_logprobs", min=-1, max=MAX_TOP_LOGPROBS)
    if top and not wanted:
        raise bad_field("top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.")
    if not wanted:
        return None
    return MAX_TOP_LOGPROBS if top == -1 else top or 0  # -1 is "all"; twenty is all the simulator makes up


def answer_chat(request: ChatRequest, seed: int, max_model_len: int) -> ChatAnswer:
    """Write the answer to a request; equal requests under equal seeds have equal answers."""
    count = prompt_tokens(request.messages)
    check_context(count, request.sampling.room_needed, max_model_len)
    material = take_apart(request.messages)
    answered = request.messages[-1].role == "tool"
    call = call_tool(request.offer, material.request, answered=answered)
    start = seed + request.sampling.seed
    return ChatAnswer(tuple(_choice(request, material, call, start + at) for at in range(request.sampling.n)), count)


def _choice(request: ChatRequest, material: Material, call: ToolCall | None, variant: int) -> ChatChoice:
    limit = request.sampling.max_tokens
    reasoning = pieces(thought(material)) if request.thinking else []
    if limit is not None and len(reasoning) >= limit:
        return ChatChoice(tuple(reasoning[:limit]), (), None, "length", None)
    room = None if limit is None else limit - len(reasoning)
    if call is not None:
        return _calling(request, tuple(reasoning), call, room)
    cut = _content(request, material, variant, room)
    return ChatChoice(tuple(reasoning), cut.tokens, None, cut.finish_reason, cut.stop_reason)


def _calling(request: ChatRequest, reasoning: tuple[str, ...], call: ToolCall, room: int | None) -> ChatChoice:
    tokens = pieces(call.arguments)
    if room is not None and len(tokens) + 1 > room:
        short = ToolCall(call.name, "".join(tokens[: room - 1]))
        return ChatChoice(reasoning, (), short, "length", None)
    # vLLM reports "stop", not "tool_calls", when the caller named the tool.
    return ChatChoice(reasoning, (), call, "stop" if request.offer.choice == "named" else "tool_calls", None)


def _content(request: ChatRequest, material: Material, variant: int, room: int | None) -> Cut:
    if request.constraint is None:
        return cut_text(answer(material, variant), request.sampling, room)
    text = constrained_text(request.constraint, material.request, lambda: answer(material, variant))
    tokens = pieces(text)  # neither stop strings nor padding may break what the grammar allows
    if room is not None and len(tokens) > room:
        return Cut(tuple(tokens[:room]), "length")
    return Cut(tuple(tokens), "stop")
