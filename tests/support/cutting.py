"""Plain chat answers made at random, and the same answers cut at random: into chunks as servers do, and into reads.

Everything is drawn by hypothesis, so that a failure is shown in its smallest form.
"""

import json
from typing import Any

from hypothesis import strategies as st

_WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
_TAGGED = st.sampled_from(
    ["<think>hm</think>yes", "<think>\nhm\n</think>\n\nyes", "<think>hm", "<thin", "a<think>b</think>"]
)
_NAMES = st.text("abc_", min_size=1, max_size=5)
_TOKEN = st.fixed_dictionaries(
    {"token": _WORDS, "logprob": st.floats(-20, 0), "bytes": st.none() | st.just([104, 105])}
)
_CALL = st.fixed_dictionaries({"name": _NAMES, "arguments": _WORDS})


@st.composite
def plain_answers(draw: st.DrawFn) -> dict[str, Any]:
    """What `create` answers: one to three choices with text, reasoning, a refusal, tool calls, log probabilities."""
    choices = [_choice(draw, index) for index in range(draw(st.integers(1, 3)))]
    answer = {"id": "c1", "object": "chat.completion", "created": 7, "model": "m", "choices": choices}
    if draw(st.booleans()):
        answer["usage"] = {"prompt_tokens": 3, "completion_tokens": draw(st.integers(0, 99)), "total_tokens": 9}
    return answer


def _choice(draw: st.DrawFn, index: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": draw(_WORDS | _TAGGED)}
    if said := draw(_WORDS):
        message[draw(st.sampled_from(["reasoning", "reasoning_content"]))] = said
    if said := draw(_WORDS):
        message["refusal"] = said
    if calls := draw(st.lists(_CALL, max_size=3)):
        message["tool_calls"] = [
            {"id": f"id-{index}-{at}", "type": "function", "function": call} for at, call in enumerate(calls)
        ]
    if not message["content"] and len(message) > 2:
        message["content"] = None
    choice: dict[str, Any] = {"index": index, "message": message}
    if tokens := draw(st.lists(_TOKEN, max_size=3)):
        choice["logprobs"] = {"content": tokens}
    choice["finish_reason"] = draw(st.sampled_from(["stop", "length", "tool_calls"]))
    if (reason := draw(st.none() | st.just("END") | st.integers(0, 9))) is not None:
        choice["stop_reason"] = reason
    return choice


def cut_into_chunks(draw: st.DrawFn, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The same answer as events: choices interleaved, tool calls in one of the shapes that servers send."""
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    queues = [_pieces(draw, choice) for choice in answer["choices"]]
    events: list[dict[str, Any]] = []
    while waiting := [queue for queue in queues if queue]:
        count = draw(st.integers(1, 2))  # two choices may share an event
        chosen = [queue.pop(0) for queue in draw(st.permutations(waiting))[:count]]
        noise = draw(st.sampled_from([{}, {}, {"usage": None}, {"prompt_token_ids": None}]))
        events.append({**head, "choices": chosen, **noise})
    if "usage" in answer:
        events.append({**head, "choices": [], "usage": answer["usage"]})
    return events


def _pieces(draw: st.DrawFn, choice: dict[str, Any]) -> list[dict[str, Any]]:
    message = choice["message"]
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", **draw(st.sampled_from([{}, {"content": ""}, {"content": None}]))}
    ]
    for name in ("reasoning", "reasoning_content", "refusal", "content"):
        deltas += [{name: part} for part in _parts(draw, message.get(name) or "")]
    deltas += _call_deltas(draw, message.get("tool_calls", []))
    pieces = [{"index": choice["index"], "delta": delta, "finish_reason": None} for delta in deltas]
    for token in choice.get("logprobs", {}).get("content", []):
        pieces[-1].setdefault("logprobs", {"content": []})["content"].append(token)
    rest = {key: choice[key] for key in ("finish_reason", "stop_reason") if key in choice}
    if draw(st.booleans()):  # the end comes with the last token, or on its own
        return [*pieces[:-1], pieces[-1] | rest]
    return [*pieces, {"index": choice["index"], "delta": draw(st.sampled_from([{}, {"content": ""}])), **rest}]


def _call_deltas(draw: st.DrawFn, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if calls and draw(st.booleans()):  # all of them at once
        return [{"tool_calls": [{"index": at, **call} for at, call in enumerate(calls)]}]
    queues = [_parts_of_call(draw, at, call) for at, call in enumerate(calls)]
    deltas: list[dict[str, Any]] = []
    begun = 0
    while waiting := [queue for queue in queues[: begun + 1] if queue]:  # later calls begin after earlier ones
        queue = draw(st.sampled_from(waiting))
        begun = max(begun, 1 + next(at for at, other in enumerate(queues) if other is queue))
        deltas.append({"content": None, "tool_calls": [queue.pop(0)]})
    return deltas


def _parts_of_call(draw: st.DrawFn, at: int, call: dict[str, Any]) -> list[dict[str, Any]]:
    name = call["function"]["name"]
    parts = _parts(draw, call["function"]["arguments"])
    first = {**call, "index": at, "function": {"name": name, **draw(st.sampled_from([{}, {"arguments": ""}]))}}
    repeated = draw(st.sampled_from([{}, {"name": name}, {"name": None}, {"name": ""}]))
    beside = draw(st.sampled_from([{}, {"id": None, "type": None}, {"id": call["id"]}, {"type": "function"}]))
    return [first, *({"index": at, **beside, "function": {**repeated, "arguments": part}} for part in parts)]


def _parts(draw: st.DrawFn, text: str) -> list[str]:
    """A text in pieces that are not empty."""
    parts = []
    while text:
        size = draw(st.integers(1, len(text)))
        parts.append(text[:size])
        text = text[size:]
    return parts


def written(draw: st.DrawFn, events: list[dict[str, Any]]) -> bytes:
    """Events as bytes, with comments between them, one kind of line end, and [DONE] or not."""
    blocks = []
    for event in events:
        blocks += draw(st.sampled_from([[], [], [": ping"]]))
        blocks.append(f"data: {json.dumps(event, ensure_ascii=draw(st.booleans()))}")
    if draw(st.booleans()):
        blocks.append("data: [DONE]")
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return "".join(block + 2 * end for block in blocks).encode()


def cut_into_reads(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Bytes as a network may deliver them."""
    places = sorted(draw(st.sets(st.integers(1, max(len(data) - 1, 1)), max_size=6)))
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True) if start < stop]
