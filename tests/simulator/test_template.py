"""The simulator continues a final message where both fields say so, and begins a new turn where they do not, as vLLM does."""

from typing import Any

import aiohttp
import pytest

from nimclient.simulator import Simulator

from .raw import CHAT, PARIS, RawClient

BOTH = {"continue_final_message": True, "add_generation_prompt": False}


def begun(text: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": PARIS}, {"role": "assistant", "content": text}]


@pytest.fixture
async def whole(raw: RawClient) -> Any:
    """The plain answer, with its token ids."""
    return (await raw.chat(return_token_ids=True)).body


@pytest.mark.parametrize("tokens", range(1, 15))
async def test_the_rest_of_an_answer(raw: RawClient, whole: Any, tokens: int) -> None:
    """At a token border the rest follows, and the beginning counts as prompt."""
    text, usage = whole["choices"][0]["message"]["content"], whole["usage"]
    ids = whole["choices"][0]["token_ids"][:tokens]
    beginning = (await raw.post("/detokenize", {"tokens": ids})).body["prompt"]
    body = (await raw.chat(messages=begun(beginning), **BOTH)).body
    assert beginning + body["choices"][0]["message"]["content"] == text
    assert body["usage"]["prompt_tokens"] == usage["prompt_tokens"] + tokens
    assert body["usage"]["completion_tokens"] == usage["completion_tokens"] - tokens


async def test_the_same_by_token_ids(raw: RawClient, whole: Any) -> None:
    """A text completion of the ids of prompt and beginning has the ids of the rest."""
    ids, prompt = whole["choices"][0]["token_ids"], whole["prompt_token_ids"]
    assert (len(prompt), len(ids)) == (whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"])
    body = (await raw.complete([*prompt, *ids[:4]], max_tokens=99, return_token_ids=True)).body
    assert body["choices"][0]["token_ids"] == ids[4:]
    assert body["choices"][0]["prompt_token_ids"] == [*prompt, *ids[:4]]
    assert body["usage"]["prompt_tokens"] == len(prompt) + 4
    events = await raw.stream(
        "/v1/completions", {"model": CHAT, "prompt": [*prompt, *ids[:4]], "max_tokens": 99, "return_token_ids": True}
    )
    assert [number for event in events[:-2] for number in event["choices"][0]["token_ids"]] == ids[4:]


async def test_token_ids_of_a_stream(raw: RawClient, whole: Any) -> None:
    """The first event has those of the prompt, each other those of its text; without the field there are none."""
    events = await raw.stream_chat(return_token_ids=True)
    assert [event.get("prompt_token_ids") for event in events[:2]] == [whole["prompt_token_ids"], None]
    found = [number for event in events[:-1] for number in event["choices"][0].get("token_ids", ())]
    assert found == whole["choices"][0]["token_ids"]
    assert all("token_ids" not in event["choices"][0] for event in (await raw.stream_chat())[:-1])


@pytest.mark.parametrize("fields", [{}, {"add_generation_prompt": False}, {"continue_final_message": False}])
async def test_a_new_turn(raw: RawClient, whole: Any, fields: dict[str, Any]) -> None:
    """Without both fields the answer begins again, in silence."""
    body = (await raw.chat(messages=begun("Based on"), **fields)).body
    assert body["choices"][0]["message"]["content"] == whole["choices"][0]["message"]["content"]
    assert body["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"] + 2 + 4


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("", "Based on the text given: Paris"),
        ("Based  ", " on the text given: Paris"),
        ("Bas", " on the text given: Paris"),
        ("Based on the te", " given: Paris"),
        ("I say: ", " Based on the text given: Paris"),
    ],
    ids=["nothing", "white space is trimmed", "a torn token", "a later one", "words of its own"],
)
async def test_where_it_continues(raw: RawClient, text: str, rest: str) -> None:
    """The template trims the beginning; the rest of a torn token is lost."""
    body = (await raw.chat(messages=begun(text), **BOTH)).body
    assert body["choices"][0]["message"]["content"].startswith(rest)


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        ("x", {"continue_final_message": True}, "are not compatible"),
        ("x", {"continue_final_message": True, "add_generation_prompt": True}, "Cannot set both"),
        (None, BOTH, "could not find any text"),
        ("x", {"continue_final_message": "content"}, "continue_final_message"),
    ],
)
async def test_what_is_rejected(raw: RawClient, content: Any, fields: dict[str, Any], message: str) -> None:
    """One field alone, both true, and a message without text are a 400."""
    status, body, _ = await raw.chat(messages=begun(content), **fields)
    assert status == 400
    assert message in body["error"]["message"]


async def test_stop_strings_are_found_in_new_text_only(raw: RawClient) -> None:
    """One that begins in the old text is not seen."""
    body = (await raw.chat(messages=begun("Based on the text"), stop="text given", **BOTH)).body
    assert body["choices"][0]["message"]["content"].startswith(" given: Paris")


@pytest.mark.parametrize(("dialect", "kind"), [("nim", "end"), ("vllm", "error"), ("dynamo", "end")])
async def test_an_interrupted_stream(session: aiohttp.ClientSession, dialect: str, kind: str) -> None:
    """It ends after so many tokens, the first time; the next one is whole."""
    async with Simulator(models=[CHAT], dialect=dialect, faults=f"{kind}@3=1") as sim:
        raw = RawClient(sim, session)
        events = await raw.stream_chat()
        texts = [event["choices"][0]["delta"].get("content") for event in events if "choices" in event]
        assert "".join(filter(None, texts)) == "Based on the"
        assert len(events) == len(texts) + (2 if kind == "error" else 0)
        assert (await raw.stream_chat())[-1] == "[DONE]"


async def test_a_reset_stream(session: aiohttp.ClientSession) -> None:
    """The connection is reset, also before the first token."""
    async with Simulator(models=[CHAT], faults=["reset@0=1", "reset@2=1"]) as sim:
        for _ in range(2):
            with pytest.raises(aiohttp.ClientError):
                await RawClient(sim, session).stream_chat()


@pytest.mark.parametrize("fault", ["reset", "reset@", "reset@x", "cut@3", "busy@3"])
def test_faults_of_streams_have_names(fault: str) -> None:
    """A name that is none says which there are."""
    with pytest.raises(ValueError, match="reset@TOKENS"):
        Simulator(faults=fault)
