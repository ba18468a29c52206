"""What all records have in common: a short repr and a JSON object."""

import pytest

from nimclient.errors import DecodeError
from nimclient.records import (
    ChatCompletion,
    Choice,
    Failure,
    Message,
    Metadata,
    Model,
    ModelInfo,
    Progress,
    ToolCall,
    Usage,
)


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (Usage(), "Usage()"),
        (Usage(3, 0, 3), "Usage(prompt_tokens=3, total_tokens=3)"),
        (Message("user", ""), "Message(role='user')"),
        (Message("user", "hi", extra={"odd": [1]}), "Message(role='user', content='hi', extra={'odd': [1]})"),
        (Model("m"), "Model(id='m')"),
        (Metadata("nim", models=(ModelInfo("m"),)), "Metadata(server='nim', models=(ModelInfo(short_name='m'),))"),
        (
            ChatCompletion(None, None, (Choice(0, Message("assistant", "Hi"), "stop"),)),
            "ChatCompletion(text='Hi', finish_reason='stop')",
        ),
        (ToolCall("a", "f", "{}", cut_off=True), "ToolCall(id='a', name='f', arguments='{}', cut_off=True)"),
        (Failure(0, None, DecodeError("no"), text="secret"), "Failure(index=0, error=DecodeError('no'))"),
        (Progress(0, None, 0, 0, 0.0), "Progress(done=0, requests=0, tokens=0, seconds=0.0)"),
    ],
)
def test_a_repr_says_what_is_there(record: object, shown: str) -> None:
    """None, what is empty and what is a default are left out."""
    assert repr(record) == shown


def test_a_repr_stays_short() -> None:
    """Long texts and lists are cut, deep values too, however deep."""
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    for content in ("x" * 10_000_000, ["y"] * 1_000_000, deep, [{"text": deep}], [{str(i): i for i in range(9999)}]):
        assert len(repr(Message("user", content))) < 1000
    assert repr(Message("user", "x" * 401)) == f"Message(role='user', content='{'x' * 400}'…)"
    assert repr(Message("user", [1] * 21)).endswith("1, 1, 1, …])")


def test_a_json_object_has_what_is_set_and_what_is_unknown() -> None:
    """None and empty defaults are not in it; unknown fields are, at the end; zero and empty texts are."""
    assert Usage(extra={"cost": 1}).to_dict() == {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "cost": 1,
    }
    assert Message("user", "", extra={"odd": None}).to_dict() == {"role": "user", "content": "", "odd": None}
