"""The chunks of a stream add up to the completion that the plain call would have returned, however servers cut it."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nimclient._streams.accumulate import MAX_CHOICES, ChatAccumulator
from nimclient.errors import DecodeError, ToolError
from nimclient.records.chat import ToolCall, Usage, decode_chat
from support.memory import allocations

MAX_TOOL_CALLS = 2**14


def collect(*events):
    accumulator = ChatAccumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.completion()


def delta(finish=None, index=0, **fields):
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}]}


def call_delta(*calls, finish=None):
    return delta(finish, tool_calls=list(calls))


def piece(arguments=None, **fields):
    """A tool-call delta; `name` goes into its function."""
    function = {k: v for k, v in (("name", fields.pop("name", ...)), ("arguments", arguments)) if v is not ...}
    return {**fields, "function": function}


# the property: cut at random, the same completion --------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
tokens = st.fixed_dictionaries(
    {"token": words, "logprob": st.floats(-100, 0), "bytes": st.none() | st.lists(st.integers(0, 255), max_size=3)},
    optional={"top_logprobs": st.just([{"token": "t", "logprob": -1.0}])},
)
arguments = words.map(
    lambda text: f"{{{text}"
)  # an object, maybe unfinished: a whole "0" after a "0" would be a repetition
calls = st.fixed_dictionaries({"name": st.text("abc_", min_size=1), "arguments": arguments})
choices = st.fixed_dictionaries(
    {
        "content": words,
        "reasoning": words,
        "reasoning_name": st.sampled_from(["reasoning", "reasoning_content"]),
        "refusal": words,
        "calls": st.lists(calls, max_size=3),
        "logprobs": st.lists(tokens, max_size=4),
        "token_ids": st.lists(st.integers(0, 9), max_size=4),
        "finish_reason": st.sampled_from(["stop", "length", "tool_calls"]),
        "stop_reason": st.none() | st.integers(0, 9) | st.just("END"),
    }
)
usages = st.fixed_dictionaries({"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)})


def plain_choice(index, spec):
    calls = [
        {"id": f"id-{index}-{i}", "type": "function", "function": {"name": c["name"], "arguments": c["arguments"]}}
        for i, c in enumerate(spec["calls"])
    ]
    beside = bool(calls or spec["reasoning"] or spec["refusal"])
    message = {"role": "assistant", "content": spec["content"] or (None if beside else "")}
    message |= {spec["reasoning_name"]: spec["reasoning"]} if spec["reasoning"] else {}
    message |= {"refusal": spec["refusal"]} if spec["refusal"] else {}
    message |= {"tool_calls": calls} if calls else {}
    choice = {"index": index, "message": message, "finish_reason": spec["finish_reason"]}
    choice |= {"logprobs": {"content": spec["logprobs"]}} if spec["logprobs"] else {}
    choice |= {"token_ids": spec["token_ids"]} if spec["token_ids"] else {}
    return choice | ({"stop_reason": spec["stop_reason"]} if spec["stop_reason"] is not None else {})


def cut(draw, whole):
    """`whole` in pieces that are not empty."""
    places = draw(st.sets(st.integers(1, max(len(whole) - 1, 1)), max_size=4)) if len(whole) > 1 else ()
    return [whole[a:b] for a, b in itertools.pairwise([0, *sorted(places), len(whole)]) if a < b]


def chunk_choices(draw, index, plain):
    """The same choice as a list of chunk choices."""
    message = plain["message"]
    deltas = [{"role": "assistant", **draw(st.sampled_from([{}, {"content": ""}, {"content": None}]))}]
    for name in ("reasoning", "reasoning_content", "refusal", "content"):
        deltas += [{name: part} for part in cut(draw, message.get(name) or "")]
    for position, call in enumerate(message.get("tool_calls", ())):
        first, *rest = cut(draw, call["function"]["arguments"]) or [""]
        nulls = draw(st.sampled_from([{}, {"id": None, "type": None}, {"id": "", "type": "function"}]))
        deltas.append(
            {"tool_calls": [{**call, "index": position, "function": {**call["function"], "arguments": first}}]}
        )
        deltas += [{"tool_calls": [{"index": position, **nulls, "function": {"arguments": part}}]} for part in rest]
    result = [{"index": index, "delta": part, "finish_reason": None} for part in deltas]
    for part in cut(draw, plain.get("logprobs", {}).get("content", [])):
        result[draw(st.integers(0, len(result) - 1))].setdefault("logprobs", {"content": []})["content"] += part
    tokens_first = sorted(draw(st.integers(0, len(result) - 1)) for _ in plain.get("token_ids", ()))
    for place, token in zip(tokens_first, plain.get("token_ids", ()), strict=True):
        result[place].setdefault("token_ids", []).append(token)
    ordered = iter(plain.get("logprobs", {}).get("content", []))
    for choice in result:  # the pieces were put at random places: their tokens go in order
        if "logprobs" in choice:
            choice["logprobs"] = {"content": [next(ordered) for _ in choice["logprobs"]["content"]]}
    last = {
        "index": index,
        "delta": draw(st.sampled_from([{}, {"content": ""}])),
        "finish_reason": plain["finish_reason"],
    }
    return [*result, last | {k: plain[k] for k in ("stop_reason",) if k in plain}]


def may_change(plain):
    """Whether events are brought into the usual form: of a text that may begin with a tag of reasoning, and of tool calls."""
    first = (plain["message"]["content"] or "")[:1]
    return first == "<" or first.isspace() or bool(plain["message"].get("tool_calls"))


@st.composite
def streamed_completions(draw):
    """A plain answer and a stream of the same."""
    plain_choices = [plain_choice(i, spec) for i, spec in enumerate(draw(st.lists(choices, min_size=1, max_size=3)))]
    top = {"id": "c1", "created": 7, "model": "m"} | draw(st.sampled_from([{}, {"system_fingerprint": "fp"}]))
    usage = draw(st.none() | usages)
    queues = [chunk_choices(draw, choice["index"], choice) for choice in plain_choices]
    events = []
    while any(queues):
        queue = draw(st.sampled_from([q for q in queues if q]))
        noise = draw(st.sampled_from([{}, {}, {"usage": None}, {"usage": usage and {"prompt_tokens": 1}}]))
        events.append({**top, "object": "chat.completion.chunk", "choices": [queue.pop(0)], **noise})
        if draw(st.integers(0, 5)) == 0:
            events.append({**top, "object": "chat.completion.chunk", "choices": []})
    if draw(st.booleans()):
        events[-1]["nvext"] = top["nvext"] = {"worker_id": 3}
    if usage is not None:
        events.append({"id": "c1", "object": "chat.completion.chunk", "choices": [], "usage": usage})
    return {**top, "object": "chat.completion", "choices": plain_choices, "usage": usage}, events


@settings(deadline=None)
@given(streamed_completions())
def test_a_completion_cut_at_random_adds_up_to_the_plain_answer(case):
    """Chunks in any cut and any interleaving of choices give what decode_chat gives of the plain answer."""
    plain, events = case
    accumulator = ChatAccumulator()
    before = json.dumps(events)
    texts = [accumulator.add(event)[0] for event in events]
    completion = accumulator.completion()
    assert completion == decode_chat(plain)
    assert "".join(texts) == completion.text
    assert accumulator.finished
    if not any(may_change(choice) for choice in plain["choices"]):
        assert json.dumps(events) == before, "the events were changed"


# what one event adds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "added"),
    [
        (delta(content="hi"), ("hi", True)),
        (delta(content=""), ("", False)),
        (delta(content=None), ("", False)),
        (delta(role="assistant"), ("", False)),
        (delta(role="assistant", content=""), ("", False)),
        (delta(role="assistant", content="hi"), ("hi", True)),
        (delta(reasoning="hm"), ("", True)),
        (delta(reasoning_content="hm"), ("", True)),
        (delta(refusal="no"), ("", True)),
        (delta(audio={"data": "x"}), ("", True)),
        (call_delta(piece("", index=0, id="a", name="f")), ("", True)),
        (delta(content="other", index=1), ("", True)),
        (delta(content=[{"text": "x"}]), ("", True)),
        (delta(finish="stop"), ("", False)),
        ({"choices": []}, ("", False)),
        ({"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 0, "delta": {"content": "b"}}]}, ("ab", True)),
    ],
)
def test_add_tells_the_text_and_whether_there_is_content(event, added):
    """A role alone, an empty piece or an end is no content; text is that of choice 0."""
    assert ChatAccumulator().add(event) == added


def test_nothing_is_no_completion():
    """Before the first choice there is no completion, and nothing is finished."""
    accumulator = ChatAccumulator()
    accumulator.add({"id": "c", "choices": [], "usage": {"prompt_tokens": 1}})
    assert accumulator.completion() is None
    assert accumulator.finished is False


@pytest.mark.parametrize(
    ("event", "finished"),
    [
        (delta(finish="stop"), True),
        (delta(finish=None), False),
        (delta(finish=""), False),
        ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, True),
        ({"choices": [{"index": 0, "finish_reason": "stop"}]}, True),
        ({"choices": [{"finish_reason": "length"}]}, True),
        ({"choices": [{"index": 0, "delta": {}}]}, False),
    ],
)
def test_a_choice_is_finished_by_its_finish_reason_alone(event, finished):
    """A finish_reason counts whatever else the choice has or lacks; null and empty do not."""
    accumulator = ChatAccumulator()
    accumulator.add(event)
    assert accumulator.finished is finished


def test_a_choice_that_begins_later_is_not_finished():
    """With n > 1 the stream is finished when every choice is, also when one ends before another begins."""
    accumulator = ChatAccumulator()
    accumulator.add(delta("stop", content="a"))
    assert accumulator.finished
    accumulator.add(delta(content="b", index=1))
    assert not accumulator.finished
    accumulator.add(delta("stop", index=1))
    assert accumulator.finished


def test_text_after_the_finish_reason_is_kept():
    """A finish_reason that comes early or twice loses nothing; the last one counts."""
    completion = collect(delta("stop", content="a"), delta(content="b"), delta("length"))
    assert (completion.text, completion.finish_reason) == ("ab", "length")


def test_interleaved_choices_are_kept_apart_and_sorted():
    """With n > 1 every choice has its own text, in the order of the indexes."""
    completion = collect(
        *(delta(content=text, index=i) for text, i in [("x", 2), ("a", 0), ("m", 1), ("b", 0), ("y", 2)])
    )
    assert [(c.index, c.message.text) for c in completion.choices] == [(0, "ab"), (1, "m"), (2, "xy")]


@pytest.mark.parametrize("index", [None, "0", 0, False, [], 0.0, ...])
def test_a_choice_without_a_usable_index_is_the_first(index):
    """A missing or impossible index is read as 0."""
    choice = {"delta": {"content": "b"}} | ({} if index is ... else {"index": index})
    assert collect(delta(content="a"), {"choices": [choice]}).text == "ab"


@pytest.mark.parametrize(
    "event",
    [
        {"choices": None},
        {"choices": "x"},
        {"choices": 5},
        {"choices": {"index": 0}},
        {"choices": [1, None, "x", []]},
        {"choices": [{"index": 0, "delta": "text"}]},
        {"choices": [{"index": 0, "delta": ["content"]}]},
        {"choices": [{"index": 0, "delta": {"content": 5}}]},
        {"choices": [{"index": 0, "delta": {"content": {"a": 1}}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": "x"}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [None, 5]}}]},
        {"choices": [{"index": 0, "delta": {}, "logprobs": "x"}]},
        {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": "x"}}]},
        {"choices": [{"index": 0, "delta": {}, "token_ids": "x"}]},
    ],
)
def test_wrong_types_never_fail_a_stream(event):
    """What is not of the protocol's type is passed over; the text before and after it is kept."""
    assert collect(delta(content="a"), event, delta(content="b")).text == "ab"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.sampled_from(["", "a", "0", "1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "index",
                    "delta",
                    "content",
                    "role",
                    "tool_calls",
                    "function",
                    "name",
                    "id",
                    "arguments",
                    "logprobs",
                    "finish_reason",
                    "token_ids",
                    "usage",
                    "reasoning",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.lists(st.lists(json_values, max_size=3), max_size=4))
def test_any_json_in_the_choices_adds_up_without_an_error(all_choices):
    """No JSON whatever makes the accumulator or its completion fail."""
    accumulator = ChatAccumulator()
    for choices_of_event in all_choices:
        text, content = accumulator.add({"choices": choices_of_event})
        assert isinstance(text, str)
        assert isinstance(content, bool)
    begun = any(isinstance(choice, dict) for choices_of_event in all_choices for choice in choices_of_event)
    assert (accumulator.completion() is not None) is begun


# usage and other fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([delta(content="a"), {"choices": [], "usage": {"prompt_tokens": 9}}], id="last chunk"),
        pytest.param(
            [{**delta(content="a"), "usage": {"prompt_tokens": n}} for n in (7, 8, 9)],
            id="every chunk: the last counts",
        ),
        pytest.param(
            [{**delta(content="a"), "usage": {"prompt_tokens": 9}}, {**delta(content="b"), "usage": None}],
            id="null afterwards changes nothing",
        ),
        pytest.param([{"choices": [], "usage": {"prompt_tokens": 9}}, delta(content="a")], id="before any choice"),
        pytest.param(
            [delta(content="a"), *[{"choices": [], "usage": {"prompt_tokens": n}} for n in (1, 9)]], id="twice"
        ),
    ],
)
def test_there_is_one_usage_the_last(events):
    """The last usage that is not null counts, wherever it is sent."""
    assert collect(*events).usage == Usage(prompt_tokens=9)


def test_absent_usage_is_none():
    """A server that sends no usage leaves None."""
    assert collect(delta(content="a")).usage is None


def test_fields_beside_the_choices_are_kept_from_any_event():
    """What the first, the last or an odd event says beside its choices lands in the completion, nulls excepted."""
    completion = collect(
        {"id": "c", "created": 1, "model": "m", "object": "x", "prompt_token_ids": [1], **delta(content="a")},
        {"id": "c", "created": 1, "model": "m", "object": "x", **delta(content="b")},
        {"id": "c", "created": 1, "model": "m", "object": "x", "metrics": {"queue": 2}, **delta(content="b")},
        {"id": "c", "created": 1, "model": "m2", "object": "x", "nvext": {"w": 3}, **delta("stop")},
        {"id": None, "created": 1, "model": "m2", "object": "x", "choices": []},
    )
    assert (completion.id, completion.model, completion.object) == ("c", "m2", "chat.completion")
    assert completion.extra == {"prompt_token_ids": [1], "metrics": {"queue": 2}, "nvext": {"w": 3}}


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_joined_under_either_name(name):
    """Reasoning pieces become .reasoning whichever of the two names the server uses."""
    completion = collect(
        delta(role="assistant", content="", **{name: "let "}), delta(**{name: "me"}), delta(content="ok")
    )
    assert (completion.reasoning, completion.text) == ("let me", "ok")


def test_reasoning_alone_has_no_content():
    """A completion of reasoning only has null content, as the plain answer has."""
    completion = collect(delta(reasoning="hm"))
    assert completion.message.content is None
    assert completion.text == ""


def test_refusals_and_unknown_delta_fields_are_kept():
    """A refusal is joined; what we do not know is kept in the message's extra, the last value winning."""
    completion = collect(delta(refusal="I "), delta(refusal="won't", audio={"id": 1}), delta(audio={"id": 2}))
    assert completion.message.refusal == "I won't"
    assert completion.message.extra == {"audio": {"id": 2}}


def test_log_probabilities_and_token_ids_are_appended():
    """Lists that servers send piecewise are put together."""
    choice = {"index": 0, "delta": {"content": "a"}}
    first = {**choice, "logprobs": {"content": [{"token": "a", "logprob": -1.0}], "refusal": None}, "token_ids": [1]}
    second = {**choice, "logprobs": {"content": [{"token": "b", "logprob": -2.0}]}, "token_ids": [2, 3]}
    completion = collect({"choices": [first]}, {"choices": [second]})
    assert [token.token for token in completion.logprobs.content] == ["a", "b"]
    assert completion.choices[0].extra["token_ids"] == [1, 2, 3]


def test_a_template_is_looked_for_ever_less_often():
    """Of events that add one text each, which nothing like them follows: in the first, second, fourth, eighth, …"""
    accumulator = ChatAccumulator()
    found = []
    for number in range(1, 20):
        event = delta(content=str(number))
        accumulator.add(event)
        accumulator.learn(b"data: " + json.dumps(event).encode(), event)
        if accumulator.knows:
            found.append(number)
    assert found == [1, 2, 4, 8, 16]
    assert accumulator.completion().text == "".join(map(str, range(1, 20)))


def test_a_token_takes_little_memory():
    """Of a long answer a token is kept with some bytes beyond its text, and the text is whole at each length."""
    accumulator = ChatAccumulator()
    blocks = [b"data: " + json.dumps(delta(content=f"{number:04}")).encode() for number in range(4000)]
    accumulator.add(json.loads(blocks[0][6:]))
    accumulator.learn(blocks[0], json.loads(blocks[0][6:]))
    with allocations() as kept:
        for number, block in enumerate(blocks[1:], 2):
            assert accumulator.add_alike(block) is not None
            if number in (2, 65, 66, 67, 130, 131, 500):
                assert accumulator.completion().text == "".join(f"{n:04}" for n in range(number))
        assert kept() < 12 * len(blocks)
    assert accumulator.completion().text == "".join(f"{number:04}" for number in range(4000))


# tool calls ----------------------------------------------------------------------------------------------------------

ADD = ToolCall("a", "add", '{"a":1}')
SUB = ToolCall("b", "sub", '{"b":2}')


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [
                call_delta(piece("", index=0, id="a", type="function", name="add")),
                call_delta(piece('{"a"', index=0)),
                call_delta(piece(":1}", index=0)),
            ],
            [ADD],
            id="normal",
        ),
        pytest.param([call_delta(piece('{"a":1}', index=0, id="a", name="add"))], [ADD], id="whole call in one delta"),
        pytest.param(
            [call_delta(piece('{"a":1}', index=0, id="a", name="add"), piece('{"b":2}', index=1, id="b", name="sub"))],
            [ADD, SUB],
            id="two calls in one delta",
        ),
        pytest.param(
            [
                call_delta(piece('{"a"', index=0, id="a", name="add"), piece(":1}", index=0)),
            ],
            [ADD],
            id="two entries of one index in one chunk",
        ),
        pytest.param(
            [
                call_delta(piece('{"a"', index=0, id="a", name="add")),
                call_delta(piece(":1}", index=0, id=None, type=None, name=None)),
            ],
            [ADD],
            id="explicit nulls later",
        ),
        pytest.param(
            [
                call_delta(piece(None, index=0, id="", type="", name="")),
                call_delta(piece('{"a":1}', index=0, id="a", type="function", name="add")),
            ],
            [ADD],
            id="empty strings first",
        ),
        pytest.param(
            [call_delta(piece(part, index=0, name="add")) for part in ('{"a"', ":1}")],
            [ToolCall("call_0", "add", '{"a":1}')],
            id="name in every delta, no id (vLLM 0.8)",
        ),
        pytest.param(
            [
                call_delta(piece('{"a":1}', index=0, id="a", name="add")),
                call_delta(piece('{"b":2}', index=0, id="b", name="sub")),
            ],
            [ADD, SUB],
            id="used index, new id",
        ),
        pytest.param(
            [call_delta(piece('{"a":1}', index=0, name="add"), piece('{"b":2}', index=1, name="sub"))],
            [ToolCall("call_0", "add", '{"a":1}'), ToolCall("call_1", "sub", '{"b":2}')],
            id="ids made up",
        ),
        pytest.param(
            [
                call_delta(piece('{"a"', index=0, id="a", name="add")),
                call_delta(piece('{"b"', index=1, id="b", name="sub")),
                call_delta(piece(":1}", index=0), piece(":2}", index=1)),
            ],
            [ADD, SUB],
            id="interleaved",
        ),
        pytest.param(
            [call_delta(piece('{"a"', index="0", id="a", name="add")), call_delta(piece(":1}", index=0))],
            [ADD],
            id="index as text",
        ),
        pytest.param(
            [call_delta(piece('{"a"', id="a", name="add")), call_delta(piece(":1}", id="a"))],
            [ADD],
            id="no index, same id",
        ),
        pytest.param(
            [call_delta(piece('{"a"', index=None, id="a", name="add")), call_delta(piece(":1}", index=None))],
            [ADD],
            id="no index, no id: goes on",
        ),
        pytest.param(
            [
                call_delta(piece('{"a":1}', id="a", name="add")),
                call_delta(piece('{"b"', id="b", name="sub")),
                call_delta(piece(":2}")),
            ],
            [ADD, SUB],
            id="no index, new id: the next call",
        ),
        pytest.param(
            [call_delta(piece('{"a":1}', name="add"), piece('{"b":2}', name="sub"))],
            [ToolCall("call_0", "add", '{"a":1}'), ToolCall("call_1", "sub", '{"b":2}')],
            id="neither index nor id, names",
        ),
        pytest.param(
            [call_delta(piece('{"a":1}', index=0, name="add")), call_delta(piece('{"a":2}', index=0, name="add"))],
            [ToolCall("call_0", "add", '{"a":1}'), ToolCall("call_1", "add", '{"a":2}')],
            id="one index, no ids, the same name after complete arguments: the next call",
        ),
        pytest.param(
            [call_delta(piece('{"a":1}', index=0)), call_delta(piece("", index=0, id="a", name="add"))],
            [ADD],
            id="arguments before the name",
        ),
        pytest.param(
            [call_delta(piece("", index=0, id="functions.add:0", name="add"))],
            [ToolCall("functions.add:0", "add", "")],
            id="no arguments, Kimi's id",
        ),
        pytest.param([call_delta(piece({"a": 1}, index=0, id="a", name="add"))], [ADD], id="arguments as an object"),
        pytest.param(
            [call_delta({"index": 0, "id": "a", "function": None}), call_delta(piece("{}", index=0, name="f"))],
            [ToolCall("a", "f", "{}")],
            id="function null",
        ),
        pytest.param(
            [call_delta({**piece("{}", index=0, id="a", name="f"), "extra_content": {"s": 1}})],
            [ToolCall("a", "f", "{}", extra={"extra_content": {"s": 1}})],
            id="unknown fields kept",
        ),
    ],
)
def test_tool_calls_are_merged_in_every_shape_seen(events, expected):
    """All the deviations that servers are known for give whole calls."""
    assert list(collect(*events).tool_calls) == expected


def test_content_is_null_beside_tool_calls():
    """A completion of tool calls only has null content, and empty text."""
    completion = collect(delta(role="assistant", content=""), call_delta(piece("{}", index=0, id="a", name="f")))
    assert completion.message.content is None
    assert completion.text == ""


def test_a_call_sent_twice_is_never_silently_wrong():
    """A delta that comes twice is one; arguments that a repeated piece has made invalid raise ToolError when parsed."""
    whole, first = (call_delta(piece(text, index=0, id="a", name="add")) for text in ('{"a":1}', '{"a"'))
    (call,) = collect(whole, whole).tool_calls
    assert call.parse() == {"a": 1}
    (call,) = collect(first, whole).tool_calls
    with pytest.raises(ToolError, match="add"):
        call.parse()


def test_many_tool_calls_and_choices_take_linear_work_and_have_a_cap():
    """Twice as many calls or choices cost twice as much; above the cap there is an error of ours."""
    accumulator = ChatAccumulator()
    for number in range(MAX_TOOL_CALLS):
        accumulator.add(call_delta(piece("{}", id=f"id-{number}", name="f")))
    with pytest.raises(DecodeError, match="tool calls"):
        accumulator.add(call_delta(piece("{}", id="one more", name="f")))
    accumulator = ChatAccumulator()
    for number in range(MAX_CHOICES):
        accumulator.add(delta("stop", number))
    assert accumulator.finished
    with pytest.raises(DecodeError, match="choices"):
        accumulator.add(delta("stop", MAX_CHOICES))


# at every step ---------------------------------------------------------------------------------------------------------


class Growing(RuleBasedStateMachine):
    """Pieces of up to three choices in any order. At every step the answer is what was sent so far, as a plain answer."""

    def __init__(self):
        super().__init__()
        self.accumulator = ChatAccumulator()
        self.choices = {}
        self.usage = None

    def message(self, index):
        choice = self.choices.setdefault(
            index, {"index": index, "message": {"role": "assistant"}, "finish_reason": None}
        )
        return choice["message"]

    def open(self):
        return [index for index in range(3) if self.choices.get(index, {}).get("finish_reason") is None]

    def calling(self):
        return [index for index in self.open() if self.choices.get(index, {}).get("message", {}).get("tool_calls")]

    @precondition(open)
    @rule(
        data=st.data(),
        name=st.sampled_from(["content", "reasoning", "refusal"]),
        text=st.sampled_from("ab\u00e9\U0001f642 "),
    )
    def text(self, data, name, text):
        index = data.draw(st.sampled_from(self.open()))
        message = self.message(index)
        message[name] = (message.get(name) or "") + text
        self.accumulator.add(delta(None, index, **{name: text}))

    @precondition(open)
    @rule(data=st.data(), name=st.sampled_from(["f", "g"]), arguments=st.sampled_from(["", "{", '{"a":']))
    def call(self, data, name, arguments):
        """A call begins, under an index and with an id of its own."""
        index = data.draw(st.sampled_from(self.open()))
        calls = self.message(index).setdefault("tool_calls", [])
        begun = {"id": f"{index}-{len(calls)}", "type": "function", "function": {"name": name, "arguments": arguments}}
        self.accumulator.add(delta(None, index, tool_calls=[{"index": len(calls), **begun}]))
        calls.append(begun)

    @precondition(calling)
    @rule(data=st.data(), more=st.text("abc", min_size=1, max_size=4), named=st.booleans())
    def arguments(self, data, more, named):
        """Any call of any open choice continues, by its index alone or by its id as well."""
        index = data.draw(st.sampled_from(self.calling()))
        calls = self.message(index)["tool_calls"]
        place = data.draw(st.integers(0, len(calls) - 1))
        if more == calls[place]["function"]["arguments"]:
            return  # the whole of it sent again is a repeat, as some gateways do: no JSON object begins with one piece twice
        part = {"index": place, "function": {"arguments": more}} | ({"id": calls[place]["id"]} if named else {})
        self.accumulator.add(delta(None, index, tool_calls=[part]))
        calls[place]["function"]["arguments"] += more

    @precondition(open)
    @rule(data=st.data(), reason=st.sampled_from(["stop", "length"]))
    def finish(self, data, reason):
        index = data.draw(st.sampled_from(self.open()))
        self.message(index)
        self.choices[index]["finish_reason"] = reason
        self.accumulator.add(delta(reason, index))

    @rule(tokens=st.integers(0, 99))
    def tokens(self, tokens):
        self.usage = {"prompt_tokens": 1, "completion_tokens": tokens}
        self.accumulator.add({"choices": [], "usage": self.usage})

    @invariant()
    def the_answer_so_far_is_the_model(self):
        found = self.accumulator.completion()
        if not self.choices:
            return
        assert self.accumulator.finished == all(c["finish_reason"] is not None for c in self.choices.values())
        plain = {"choices": [self.choices[index] for index in sorted(self.choices)]}
        wanted = decode_chat(plain | ({} if self.usage is None else {"usage": self.usage}))
        assert len(found.choices) == len(wanted.choices)
        for mine, other in zip(found.choices, wanted.choices, strict=True):
            assert mine.index == other.index
            assert mine.finish_reason == other.finish_reason
            assert mine.message.text == other.message.text
            assert mine.message.reasoning == other.message.reasoning
            assert mine.message.tool_calls == other.message.tool_calls
        assert found.usage == wanted.usage


TestGrowing = Growing.TestCase
TestGrowing.settings = settings(stateful_step_count=20)
