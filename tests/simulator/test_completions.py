from typing import Any

import pytest

from nimclient.simulator.completions import continuation
from nimclient.simulator.text import count_tokens

from .raw import CHAT, RawClient

PROMPT = "the cat sat on the mat and the dog sat on the rug"


async def test_a_completion_goes_on_with_the_prompts_words(raw: RawClient) -> None:
    """The text is sixteen tokens of the prompt's own words, the same every time."""
    status, body, _ = await raw.complete(PROMPT)
    choice = body["choices"][0]
    assert status == 200
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-")
    assert set(choice["text"].split()) <= set(PROMPT.split())
    assert choice["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 16
    assert (await raw.complete(PROMPT)).body["choices"] == body["choices"]


async def test_each_prompt_has_its_samples(raw: RawClient) -> None:
    """Prompt p and sample k stand at index p*n+k, and samples differ."""
    choices = (await raw.complete([PROMPT, "short"], n=2, echo=True)).body["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert choices[0]["text"].startswith(PROMPT)
    assert choices[3]["text"].startswith("short ")
    assert choices[0]["text"] != choices[1]["text"]


async def test_the_stream_is_the_plain_text_in_pieces(raw: RawClient) -> None:
    """Text pieces, a finish chunk for each choice, the usage chunk and [DONE]; the echo comes first."""
    options: dict[str, Any] = {"prompt": [PROMPT, "a b a c"], "max_tokens": 5, "echo": True, "logprobs": 1}
    plain = (await raw.complete(**options)).body
    events = await raw.stream("/v1/completions", {"model": CHAT, **options, "stream_options": {"include_usage": True}})
    assert events[-1] == "[DONE]"
    assert events[-2]["choices"] == []
    assert events[-2]["usage"]["total_tokens"] == plain["usage"]["total_tokens"]
    for expected in plain["choices"]:
        mine = [chunk["choices"][0] for chunk in events[:-2] if chunk["choices"][0]["index"] == expected["index"]]
        assert "".join(choice["text"] for choice in mine) == expected["text"]
        assert [choice["finish_reason"] for choice in mine] == [None] * (len(mine) - 1) + ["length"]
        joined = [value for choice in mine[:-1] for value in choice["logprobs"]["token_logprobs"]]
        offsets = [value for choice in mine[:-1] for value in choice["logprobs"]["text_offset"]]
        assert joined == expected["logprobs"]["token_logprobs"]
        assert offsets == expected["logprobs"]["text_offset"]


async def test_continuous_usage_is_in_every_chunk(raw: RawClient) -> None:
    """With continuous usage each chunk carries a usage record."""
    body = {"model": CHAT, "prompt": PROMPT, "stream_options": {"continuous_usage_stats": True}}
    assert all("usage" in chunk for chunk in (await raw.stream("/v1/completions", body))[:-1])


async def test_an_echo_alone_is_possible(raw: RawClient) -> None:
    """With echo no new token need be asked for: the answer is the prompt, whose first token has no probability."""
    choice = (await raw.complete(PROMPT, echo=True, max_tokens=0, logprobs=-1)).body["choices"][0]
    assert choice["text"] == PROMPT
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert len(choice["logprobs"]["top_logprobs"][1]) == 20
    events = await raw.stream("/v1/completions", {"model": CHAT, "prompt": PROMPT, "echo": True, "max_tokens": 0})
    assert [chunk["choices"][0]["text"] for chunk in events[:-1]] == [PROMPT, ""]


async def test_an_empty_stream_still_finishes(raw: RawClient) -> None:
    """When the text stops at once there is only the finish chunk."""
    events = await raw.stream("/v1/completions", {"model": CHAT, "prompt": "a b a b a b", "stop": " "})
    assert [chunk["choices"][0]["finish_reason"] for chunk in events[:-1]] == ["stop"]


async def test_logprobs_are_columns(raw: RawClient) -> None:
    """Offsets point into the text and the columns have one entry a token."""
    choice = (await raw.complete(PROMPT, logprobs=0)).body["choices"][0]
    columns = choice["logprobs"]
    for offset, token in zip(columns["text_offset"], columns["tokens"], strict=True):
        assert choice["text"][offset : offset + len(token)] == token
    assert all(list(top) == [token] for top, token in zip(columns["top_logprobs"], columns["tokens"], strict=True))


async def test_prompts_may_be_token_ids(raw: RawClient) -> None:
    """Ids from /tokenize stand for their text, alone or in lists."""
    ids = (await raw.post("/tokenize", {"prompt": PROMPT})).body["tokens"]
    by_text = (await raw.complete(PROMPT)).body["choices"]
    assert (await raw.complete(ids)).body["choices"] == by_text
    assert (await raw.complete([ids])).body["choices"] == by_text


async def test_completions_may_be_constrained(raw: RawClient) -> None:
    """A constraint holds for completions too."""
    choice = (await raw.complete("red or blue?", structured_outputs={"choice": ["blue", "green"]})).body["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("blue", "stop")
    choice = (await raw.complete("go on", response_format={"type": "json_object"}, max_tokens=200)).body["choices"][0]
    assert choice["text"].startswith('{"answer": ')


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suffix": "x"}, "suffix is not currently supported"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": [1.5]}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [["x"]]}, "prompt"),
        ({"prompt": [1]}, "was not handed out"),
        ({"prompt": ["x"] * 1025}, "between 1 and 1024"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 131_072}, "is too large"),
    ],
)
async def test_wrong_options_are_rejected(raw: RawClient, options: Any, message: str) -> None:
    """What vLLM rejects is rejected, with the field in the message."""
    status, body, _ = await raw.complete(**{"prompt": PROMPT, **options})
    assert status == 400
    assert message in body["error"]["message"]


@pytest.mark.parametrize("tokens", [0, 1, 16, 500])
def test_a_continuation_is_long_enough(tokens: int) -> None:
    """A continuation has more tokens than are wanted of it, and none when none are wanted."""
    text = continuation("one", tokens, 0)
    assert (count_tokens(text) > tokens) if tokens else text == ""
