"""Text completions as pure functions: prompts → calls, chunks → the completion that the plain call would have returned."""

import itertools
import math
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimclient import CompletionChunk
from nimclient._api.completions import CompletionAccumulator, completion_call, wire_prompt
from nimclient.errors import ConfigurationError, DecodeError
from nimclient.records.completions import Completion, decode_completion


def collect(*events: dict[str, Any]) -> Completion | None:
    accumulator = CompletionAccumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.completion()


# calls --------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["a", ["a", "b"], [1, 2], [[1, 2], [3]]])
def test_every_form_of_prompt_is_sent_as_it_is(prompt: Any) -> None:
    """A text, texts, token ids and lists of token ids go over the wire unchanged."""
    call = completion_call("completions.create", prompt, "m", {"max_tokens": 5, "suffix": None}, stream=False)
    assert call.fields == {"model": "m", "prompt": prompt, "max_tokens": 5}
    assert call.path == "/completions"


def test_tuples_and_ranges_become_lists() -> None:
    """Any sequence of texts or token ids will do."""
    assert wire_prompt(("a", "b")) == ["a", "b"]
    assert wire_prompt(range(3)) == [0, 1, 2]
    assert wire_prompt([(1, 2), range(2)]) == [[1, 2], [0, 1]]


@pytest.mark.parametrize(
    ("prompt", "place"),
    [
        ("", "prompt is empty"),
        ([], "prompt is empty"),
        (["a", ""], r"prompt\[1\] is empty"),
        (["a", 1], r"prompt\[1\] must be a str"),
        ([1, "a"], r"prompt\[1\] must be a token id"),
        ([1, True], r"prompt\[1\] must be a token id"),
        ([1, [2]], r"prompt\[1\] must be a token id"),
        ([[1], "a"], r"prompt\[1\] must be a list of token ids, not str"),
        ([[1], 2], r"prompt\[1\] must be a list of token ids, not int"),
        ([[1], []], r"prompt\[1\] has no token ids"),
        ([[1, 2.0]], r"prompt\[0\]\[1\] must be a token id"),
        ([{"a": 1}], r"prompt\[0\] must be a token id"),
    ],
)
def test_prompts_that_cannot_be_sent(prompt: Any, place: str) -> None:
    """What is empty or mixed is a ConfigurationError that names the place."""
    with pytest.raises(ConfigurationError, match=place) as caught:
        wire_prompt(prompt)
    assert caught.value.path is not None


@pytest.mark.parametrize("prompt", [5, {"a": 1}, b"bytes", None])
def test_other_types_are_type_errors(prompt: Any) -> None:
    """A prompt of another type is a TypeError."""
    with pytest.raises(TypeError, match="prompt takes"):
        completion_call("completions.create", prompt, "m", {}, stream=False)


def test_a_prompt_may_be_embeddings_alone() -> None:
    """None is a prompt beside prompt_embeds only."""
    call = completion_call("completions.create", None, "m", {"prompt_embeds": "AAAA"}, stream=False)
    assert call.fields == {"model": "m", "prompt_embeds": "AAAA"}


def test_options_go_over_the_wire() -> None:
    """Options of completions are sent under their names, unknown ones are a TypeError, extra_body comes last."""
    options = {"echo": True, "logprobs": 0, "best_of": 2, "n": 2, "suffix": "z", "return_token_ids": True}
    call = completion_call("completions.create", "a", None, {**options, "extra_body": {"n": 3}}, stream=False)
    assert call.fields == {"prompt": "a", **options, "n": 3}
    with pytest.raises(TypeError, match="unexpected option 'tools'"):
        completion_call("completions.create", "a", "m", {"tools": []}, stream=False)


def test_a_stream_asks_for_usage() -> None:
    """A stream adds stream and stream_options, unless usage is not wanted."""
    call = completion_call("completions.stream", "a", "m", {}, stream=True)
    assert call.fields == {"model": "m", "prompt": "a", "stream": True, "stream_options": {"include_usage": True}}
    assert call.droppable_fields == ("stream", "stream_options")
    call = completion_call("completions.stream", "a", "m", {"stream_usage": False}, stream=True)
    assert call.fields == {"model": "m", "prompt": "a", "stream": True}


# records --------------------------------------------------------------------------------

ANSWER: dict[str, Any] = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "text": "ab",
            "logprobs": {
                "text_offset": [0, 1],
                "token_logprobs": [None, -0.1],
                "tokens": ["a", "b"],
                "top_logprobs": [None, {"b": -0.1, "c": -3.0}],
                "odd": 1,
            },
            "finish_reason": "length",
            "stop_reason": "END",
            "token_ids": [1, 2],
            "prompt_token_ids": [7, 8],
            "prompt_logprobs": [None, {"8": {"logprob": -1.0, "rank": 1, "decoded_token": "x"}}],
            "new": "field",
        },
        {"index": 1, "text": ""},
    ],
    "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4},
    "system_fingerprint": "fp",
    "kv_transfer_params": {"a": 1},
}


def test_an_answer_is_decoded_whole() -> None:
    """Every field has its place, unknown ones are in extra, and to_dict gives the answer back."""
    completion = decode_completion(ANSWER)
    assert (completion.text, completion.finish_reason, completion.model) == ("ab", "length", "m")
    assert completion.logprobs is not None
    assert completion.logprobs.tokens == ("a", "b")
    assert completion.logprobs.token_logprobs == (None, -0.1)
    assert completion.logprobs.top_logprobs == (None, {"b": -0.1, "c": -3.0})
    assert completion.logprobs.text_offset == (0, 1)
    assert completion.logprobs.extra == {"odd": 1}
    assert completion.logprobs.to_dict() == ANSWER["choices"][0]["logprobs"]
    choice = completion.choices[0]
    assert (choice.token_ids, choice.prompt_token_ids, choice.stop_reason) == ((1, 2), (7, 8), "END")
    assert choice.prompt_logprobs is not None
    assert choice.prompt_logprobs[1]["8"]["rank"] == 1
    assert choice.extra == {"new": "field"}
    assert choice.to_dict() == ANSWER["choices"][0]
    assert completion.usage is not None
    assert completion.usage.total_tokens == 4
    assert completion.extra == {"kv_transfer_params": {"a": 1}}
    assert completion.to_dict() == ANSWER
    assert pickle.loads(pickle.dumps(completion)) == completion


def test_an_answer_without_choices_is_empty() -> None:
    """The short-cuts of an answer without choices are empty."""
    completion = decode_completion({"choices": []})
    assert (completion.text, completion.finish_reason, completion.logprobs) == ("", None, None)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (None, "body"),
        ({}, "choices"),
        ({"choices": {}}, "choices"),
        ({"choices": [1]}, r"choices\[0\]"),
        ({"choices": [{"text": "a"}, {"message": {}}]}, r"choices\[1\].text"),
        ({"choices": [{"text": None}]}, r"choices\[0\].text"),
    ],
)
def test_the_spine_is_strict(value: Any, path: str) -> None:
    """An answer without choices, or with one that has no text, is a DecodeError with the path."""
    with pytest.raises(DecodeError, match=path):
        decode_completion(value)


def test_leaves_are_tolerant() -> None:
    """Wrong types in leaves never fail an answer."""
    completion = decode_completion(
        {"choices": [{"text": "a", "index": "0", "logprobs": {"tokens": 1}, "token_ids": 5}], "usage": [], "id": 1}
    )
    assert completion.choices[0].index == 0
    assert completion.choices[0].token_ids is None
    assert completion.usage is None


def test_a_chunk_shows_its_event() -> None:
    """A chunk builds what it is asked for out of the event."""
    event = {**ANSWER, "choices": ANSWER["choices"][:1]}
    chunk = CompletionChunk(event, "ab")
    assert (chunk.text, chunk.finish_reason, chunk.meta) == ("ab", "length", None)
    assert chunk.logprobs is not None
    assert chunk.choices[0].text == "ab"
    assert chunk.usage is not None
    assert chunk.extra["system_fingerprint"] == "fp"
    assert chunk.to_dict() == event
    assert pickle.loads(pickle.dumps(chunk)) == chunk
    assert chunk != CompletionChunk({"choices": []}, "")
    assert chunk != "ab"
    assert "cmpl-1" in repr(chunk)
    usage = CompletionChunk({"choices": []}, "")
    assert (usage.choices, usage.finish_reason, usage.logprobs) == ((), None, None)
    with pytest.raises(TypeError):
        hash(chunk)


# the property: cut at random, the same completion -------------------------------------------------------------

words = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
tokens = st.fixed_dictionaries(
    {
        "text": words,
        "logprob": st.none() | st.floats(-100, 0),
        "top": st.none() | st.dictionaries(words, st.floats(-9, 0), max_size=2),
        "id": st.integers(0, 9),
    }
)
choices = st.fixed_dictionaries(
    {
        "tokens": st.lists(tokens, max_size=6),
        "logprobs": st.booleans(),
        "token_ids": st.booleans(),
        "prompt_token_ids": st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=3),
        "finish_reason": st.sampled_from(["stop", "length"]),
        "stop_reason": st.none() | st.integers(0, 9) | st.just("END"),
    }
)
usages = st.fixed_dictionaries({"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)})


def logprobs_of(found: list[dict[str, Any]], start: int) -> dict[str, Any]:
    texts = [token["text"] for token in found]
    offsets = list(itertools.accumulate(map(len, texts), initial=start))[:-1]
    return {
        "tokens": texts,
        "token_logprobs": [token["logprob"] for token in found],
        "top_logprobs": [token["top"] for token in found],
        "text_offset": offsets,
    }


def piece_of(spec: dict[str, Any], index: int, found: list[dict[str, Any]], start: int) -> dict[str, Any]:
    """A choice with these tokens, as a plain answer or an event has it."""
    piece: dict[str, Any] = {"index": index, "text": "".join(token["text"] for token in found)}
    if spec["logprobs"]:
        piece["logprobs"] = logprobs_of(found, start)
    if spec["token_ids"] and found:
        piece["token_ids"] = [token["id"] for token in found]
    return piece


@settings(deadline=None)
@given(st.lists(choices, min_size=1, max_size=3), usages, st.data())
def test_chunks_add_up_to_the_plain_answer(specs: Any, usage: Any, data: st.DataObject) -> None:
    """However a completion is cut into events and its choices interleaved, the accumulator gives the plain one."""
    head = {"id": "c", "object": "text_completion", "created": 1, "model": "m"}
    plain = {**head, "usage": usage, "choices": []}
    streams: list[list[dict[str, Any]]] = []
    for index, spec in enumerate(specs):
        whole = piece_of(spec, index, spec["tokens"], 0)
        end = {"finish_reason": spec["finish_reason"], "stop_reason": spec["stop_reason"]}
        first = {"prompt_token_ids": spec["prompt_token_ids"]}
        plain["choices"].append({**whole, **end, **first})
        cuts = sorted(data.draw(st.sets(st.integers(0, len(spec["tokens"])), max_size=3)))
        edges = [0, *cuts, len(spec["tokens"])]
        events, start = [], 0
        for low, high in itertools.pairwise(edges):
            found = spec["tokens"][low:high]
            events.append({**piece_of(spec, index, found, start), "finish_reason": None})
            start += sum(len(token["text"]) for token in found)
        events[0].update(first)
        events[-1].update(end)
        streams.append(events)
    order = data.draw(st.permutations([i for i, events in enumerate(streams) for _ in events]))
    queues = [iter(events) for events in streams]
    accumulator = CompletionAccumulator()
    text = ""
    for index in order:
        assert not accumulator.finished or index not in accumulator.choices
        text += accumulator.add({**head, "choices": [next(queues[index])]})[0]
    assert accumulator.finished
    accumulator.add({**head, "choices": [], "usage": usage})
    assert accumulator.completion() == decode_completion(plain)
    assert text == plain["choices"][0]["text"]


def event(**choice: Any) -> dict[str, Any]:
    return {"choices": [choice]}


def test_content_is_text_or_token_ids() -> None:
    """An event without new text or token ids carries no content."""
    accumulator = CompletionAccumulator()
    assert accumulator.add(event(index=0, text="")) == ("", False)
    assert accumulator.add(event(index=1, text="b")) == ("", True)
    assert accumulator.add(event(index=0, text="a")) == ("a", True)
    assert accumulator.add(event(index=0, text="", token_ids=[1])) == ("", True)
    assert accumulator.add(event(index=0, text="", finish_reason="stop")) == ("", False)
    assert not accumulator.finished
    accumulator.add(event(index=1, text="", finish_reason="stop"))
    assert accumulator.finished


def test_odd_events_do_no_harm() -> None:
    """Choices that are no objects, indexes that are no numbers and logprobs of odd shapes are taken as far as they go."""
    completion = collect(
        {"choices": None},
        {"choices": [5, {"text": "a", "index": None}]},
        event(index="x", text="b", logprobs={"tokens": ["b"], "note": "n", "nothing": None}),
        event(index=0, text=None, logprobs=[], token_ids="odd"),
        event(index=0, text=7, finish_reason="stop"),
    )
    assert completion is not None
    assert completion.text == "ab"
    assert completion.logprobs is not None
    assert (completion.logprobs.tokens, completion.logprobs.extra) == (("b",), {"note": "n"})


def test_events_in_the_form_of_a_chat_have_their_text() -> None:
    """A gateway that streams deltas in answer to a completion loses nothing; the chunk shows the text as well."""
    event = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    accumulator = CompletionAccumulator()
    assert accumulator.add(event) == ("a", True)
    assert CompletionChunk(event, "a").choices[0].text == "a"
    accumulator.add({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    completion = accumulator.completion()
    assert completion is not None
    assert (completion.text, completion.finish_reason) == ("a", "length")


def test_before_the_first_choice_there_is_nothing() -> None:
    """Without a choice there is no completion."""
    assert collect() is None
    assert collect({"choices": [], "usage": {}}) is None


def test_a_plain_answer_is_adopted() -> None:
    """A plain answer to a stream is the whole of it, and is handed out as events."""
    accumulator = CompletionAccumulator()
    events = accumulator.adopt(ANSWER)
    assert accumulator.completion() == decode_completion(ANSWER)
    assert [e["choices"][0]["text"] for e in events] == ["ab", ""]
    assert events[0]["object"] == "text_completion"
    assert events[1]["usage"] == ANSWER["usage"]
    with pytest.raises(DecodeError):
        accumulator.adopt({"choices": [{"message": {}}]})


CHAT_LOGPROBS = {
    "content": [
        {"id": 1, "token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1.5}]},
        {"id": 2, "token": "b", "bytes": [98], "logprob": None, "top_logprobs": []},
    ]
}


def test_log_probabilities_in_the_form_of_a_chat() -> None:
    """llama-server answers completions with the log probabilities of a chat: read all the same, in a stream too."""
    plain = decode_completion({"choices": [{"text": "ab", "logprobs": CHAT_LOGPROBS}]})
    pieces = [
        event(index=0, text=token["token"], logprobs={"content": [token]}, finish_reason=None)
        for token in CHAT_LOGPROBS["content"]
    ]
    for answer in (plain, collect(*pieces)):
        assert answer is not None
        assert answer.logprobs is not None
        assert answer.logprobs.tokens == ("a", "b")
        assert answer.logprobs.token_logprobs[0] == -0.5
        assert math.isnan(answer.logprobs.token_logprobs[1] or 0)
        assert answer.logprobs.top_logprobs == ({"b": -1.5}, {})
