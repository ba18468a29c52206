"""Parsed and ToolRun: what parse and run_tools give back."""

import enum
import pickle
from datetime import date
from uuid import UUID

import attrs
import pytest

from nimclient.records import ChatCompletion, Message, Parsed, ToolCall, ToolRun
from nimclient.records.chat import decode_chat
from support.schemas import plain

COMPLETION = decode_chat({"id": "c", "choices": [{"message": {"role": "assistant", "content": "1"}}], "new": 1})


class Color(enum.Enum):
    RED = "red"


@attrs.frozen
class Point:
    x: int
    _y: int


def test_a_parsed_value_carries_its_completion():
    """meta and extra are the completion's; to_dict has both."""
    parsed = Parsed(Color.RED, COMPLETION)
    assert (parsed.meta, parsed.extra) == (None, {"new": 1})
    assert parsed.to_dict() == {"value": "red", "completion": COMPLETION.to_dict()}
    assert pickle.loads(pickle.dumps(parsed)) == parsed


def test_a_tool_run_is_the_conversation():
    """Messages come as a tuple; meta and extra are the last completion's."""
    run = ToolRun(COMPLETION, [Message("user", "hi")], 1)
    assert run.messages == (Message("user", "hi"),)
    assert (run.meta, run.extra) == (None, {"new": 1})
    assert run.to_dict() == {
        "completion": COMPLETION.to_dict(),
        "messages": [{"role": "user", "content": "hi"}],
        "rounds": 1,
    }


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (Point(1, 2), {"x": 1, "y": 2}),
        ({Color.RED: 1, 5: (1, 2)}, {"red": 1, "5": [1, 2]}),
        ([date(2026, 1, 2), UUID(int=0)], ["2026-01-02", "00000000-0000-0000-0000-000000000000"]),
        (frozenset({1}), [1]),
        (Message("user", "x"), {"role": "user", "content": "x"}),
        (1.5, 1.5),
    ],
)
def test_values_as_json(value, json):
    """Records of any make become objects, sets and tuples lists, keys text."""
    assert plain(value) == json


def test_what_is_not_known_is_left_as_it_is():
    """The JSON encoder has the last word."""
    thing = object()
    assert plain([thing]) == [thing]


@pytest.mark.parametrize(("finish", "cut"), [("length", True), ("tool_calls", False), (None, False)])
def test_only_the_last_call_of_an_answer_that_ended_at_its_limit_may_be_cut_off(finish, cut):
    """Empty arguments mean none, but not where the token limit came first."""
    calls = [{"id": str(i), "function": {"name": "f", "arguments": ""}} for i in range(2)]
    reply: ChatCompletion = decode_chat(
        {"choices": [{"message": {"role": "assistant", "tool_calls": calls}, "finish_reason": finish}]}
    )
    assert [call.cut_off for call in reply.tool_calls] == [False, cut]
    assert reply.tool_calls[0] == ToolCall("0", "f", "")
