"""Every option of chat completions is sent under its own name at its own place, byte for byte, and only when it is set."""

import asyncio
import json
from typing import get_type_hints

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError
from nimclient.records.params import ChatOptions
from nimclient.testing import FakeTransport
from support.wire import HELLO, MODEL, chat, chat_body

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
HINTS = {"agent_hints": {"priority": 5, "osl": 64, "speculative_prefill": True}, "annotations": ["timing"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "pt", "schema": {"type": "object"}, "strict": True}}

SENT = {
    "temperature": (0.5, b'"temperature":0.5'),
    "top_p": (0.9, b'"top_p":0.9'),
    "max_tokens": (16, b'"max_tokens":16'),
    "max_completion_tokens": (17, b'"max_completion_tokens":17'),
    "stop": (["END", "\n"], b'"stop":["END","\\n"]'),
    "seed": (7, b'"seed":7'),
    "n": (2, b'"n":2'),
    "frequency_penalty": (-0.5, b'"frequency_penalty":-0.5'),
    "presence_penalty": (1, b'"presence_penalty":1'),
    "logit_bias": ({"42": -100}, b'"logit_bias":{"42":-100}'),
    "user": ("ann", b'"user":"ann"'),
    "logprobs": (True, b'"logprobs":true'),
    "top_logprobs": (3, b'"top_logprobs":3'),
    "response_format": (
        FORMAT,
        b'"response_format":{"type":"json_schema","json_schema":{"name":"pt","schema":{"type":"object"},"strict":true}}',
    ),
    "tools": (
        [TOOL],
        b'"tools":[{"type":"function","function":{"name":"add","parameters":{"type":"object"}}}]',
    ),
    "tool_choice": ("any", b'"tool_choice":"required"'),
    "parallel_tool_calls": (False, b'"parallel_tool_calls":false'),
    "reasoning_effort": ("low", b'"reasoning_effort":"low"'),
    "top_k": (-1, b'"top_k":-1'),
    "min_p": (0.05, b'"min_p":0.05'),
    "repetition_penalty": (1.1, b'"repetition_penalty":1.1'),
    "length_penalty": (1.0, b'"length_penalty":1.0'),
    "use_beam_search": (True, b'"use_beam_search":true'),
    "min_tokens": (0, b'"min_tokens":0'),
    "ignore_eos": (False, b'"ignore_eos":false'),
    "stop_token_ids": ([1, 2], b'"stop_token_ids":[1,2]'),
    "include_stop_str_in_output": (True, b'"include_stop_str_in_output":true'),
    "skip_special_tokens": (False, b'"skip_special_tokens":false'),
    "spaces_between_special_tokens": (False, b'"spaces_between_special_tokens":false'),
    "bad_words": (("foo", "bär"), b'"bad_words":["foo","b\xc3\xa4r"]'),
    "allowed_token_ids": ([], b'"allowed_token_ids":[]'),
    "truncate_prompt_tokens": (-1, b'"truncate_prompt_tokens":-1'),
    "truncation_side": ("left", b'"truncation_side":"left"'),
    "prompt_logprobs": (1, b'"prompt_logprobs":1'),
    "logprob_token_ids": ([3], b'"logprob_token_ids":[3]'),
    "return_tokens_as_token_ids": (True, b'"return_tokens_as_token_ids":true'),
    "return_token_ids": (True, b'"return_token_ids":true'),
    "add_special_tokens": (True, b'"add_special_tokens":true'),
    "structured_outputs": ({"regex": "[0-9]{4}"}, b'"structured_outputs":{"regex":"[0-9]{4}"}'),
    "guided_json": ({"type": "object"}, b'"guided_json":{"type":"object"}'),
    "guided_regex": ("a+", b'"guided_regex":"a+"'),
    "guided_choice": (["a", "b"], b'"guided_choice":["a","b"]'),
    "guided_grammar": ('root ::= "a"', b'"guided_grammar":"root ::= \\"a\\""'),
    "guided_decoding_backend": ("xgrammar", b'"guided_decoding_backend":"xgrammar"'),
    "guided_whitespace_pattern": ("[ ]?", b'"guided_whitespace_pattern":"[ ]?"'),
    "priority": (0, b'"priority":0'),
    "request_id": ("r1", b'"request_id":"r1"'),
    "cache_salt": ("pepper", b'"cache_salt":"pepper"'),
    "kv_transfer_params": ({"do_remote_decode": True}, b'"kv_transfer_params":{"do_remote_decode":true}'),
    "ec_transfer_params": ({}, b'"ec_transfer_params":{}'),
    "vllm_xargs": ({"a": [1]}, b'"vllm_xargs":{"a":[1]}'),
    "nvext": (
        HINTS,
        b'"nvext":{"agent_hints":{"priority":5,"osl":64,"speculative_prefill":true},"annotations":["timing"]}',
    ),
    "chat_template": ("{{x}}", b'"chat_template":"{{x}}"'),
    "chat_template_kwargs": ({"enable_thinking": False}, b'"chat_template_kwargs":{"enable_thinking":false}'),
    "add_generation_prompt": (False, b'"add_generation_prompt":false'),
    "continue_final_message": (True, b'"continue_final_message":true'),
    "echo": (True, b'"echo":true'),
    "documents": ([{"text": "d"}], b'"documents":[{"text":"d"}]'),
    "include_reasoning": (False, b'"include_reasoning":false'),
    "thinking_token_budget": (-1, b'"thinking_token_budget":-1'),
    "reasoning_budget": (512, b'"reasoning_budget":512'),
    "return_prompt_text": (True, b'"return_prompt_text":true'),
    "mm_processor_kwargs": ({"num_crops": 4}, b'"mm_processor_kwargs":{"num_crops":4}'),
    "media_io_kwargs": ({"video": {"num_frames": 8}}, b'"media_io_kwargs":{"video":{"num_frames":8}}'),
    "extra_body": ({"new_field": None, "a": {"b": 1}}, b'"new_field":null,"a":{"b":1}'),
}
"""option → a value and what it must look like in the body"""

NOT_SENT = {
    "echo_reasoning": True,
    "stream_usage": True,
    "resume": 0,
    "session_id": "s1",
    "extra_headers": {"X-Trace": "t"},
    "timeout": 30,
}
FIRST = {"tools", "tool_choice"}  # before `stream`, whatever the order of the arguments
HEAD = b'{"model":"%s","messages":[{"role":"user","content":"hi"}]' % MODEL.encode()
STREAM = b',"stream":true,"stream_options":{"include_usage":true}'


def expected(names, stream):
    first = b"".join(b"," + SENT[name][1] for name in SENT if name in names and name in FIRST)
    rest = b"".join(b"," + SENT[name][1] for name in SENT if name in names and name not in FIRST)
    return HEAD + first + (STREAM if stream else b"") + rest + b"}"


@pytest.fixture(params=[False, True], ids=["plain", "streamed"])
def posted(request, client, server):
    """Posts a chat with these options; returns the body of the request."""

    async def post(**options):
        if request.param:
            server.script(HELLO)
            reply = await client.chat.stream("hi", **options).final()
        else:
            server.script(chat())
            reply = await client.chat.create("hi", **options)
        assert reply.text == "Hello"
        return server.requests[-1].body

    post.stream = request.param
    return post


def test_the_table_is_complete():
    """No option is missing from it: `thinking` has tests of its own."""
    assert {*SENT, *NOT_SENT, "thinking"} == get_type_hints(ChatOptions).keys()


async def test_each_option_alone(posted):
    """One post for each option: what was said before and the option, nothing else; None is not sent."""
    for name, (value, _) in SENT.items():
        assert await posted(**{name: value}) == expected({name}, posted.stream), name
        assert await posted(**{name: None}) == expected((), posted.stream), name
    for name, value in NOT_SENT.items():
        assert await posted(**{name: value}) == expected((), posted.stream), name


async def test_all_options_together(posted):
    """All at once, in the caller's order, with extra_body last."""
    options = {name: value for name, (value, _) in SENT.items()}
    body = await posted(**options, **NOT_SENT)
    assert body == expected(SENT, posted.stream)
    assert json.loads(body)["nvext"] == HINTS


async def test_options_of_the_call_reach_the_request(posted, server):
    """extra_headers are headers; stream_usage=False leaves out stream_options."""
    await posted(extra_headers={"X-Trace": "t"})
    assert server.requests[-1].headers["x-trace"] == "t"
    body = json.loads(await posted(stream_usage=False))
    assert "stream_options" not in body


async def test_extra_body_has_the_last_word(posted):
    """It overrides options, fields of ours and the model."""
    body = json.loads(await posted(temperature=1, extra_body={"temperature": None, "model": "other", "messages": []}))
    assert (body["temperature"], body["model"], body["messages"]) == (None, "other", [])


TYPES = get_type_hints(ChatOptions)
NUMBERS = {name for name, hint in TYPES.items() if hint in (int | None, float | None)}


@pytest.mark.parametrize("name", sorted(TYPES.keys() - NUMBERS - {"timeout"}))
async def test_what_is_typed_as_something_else_is_not_refused_as_a_number(name):
    """The options that reject a bool for a number are those typed as one number."""
    client = AsyncClient(base_url="http://nim", model=MODEL, transport=FakeTransport(lambda request: chat_body()))
    (result,) = await asyncio.gather(client.chat.create("hi", **{name: True}), return_exceptions=True)
    assert "takes a number" not in str(result)


@pytest.mark.parametrize("name", sorted(NUMBERS))
async def test_a_bool_is_no_number(client, name):
    """True would be sent as a JSON true, or taken for 1: it is rejected before anything is sent."""
    with pytest.raises(ConfigurationError, match=f"^{name} takes a number, not True$"):
        await client.chat.create("hi", **{name: True})
    with pytest.raises(ConfigurationError, match=f"^{name} takes a number, not False$"):
        client.chat.stream("hi", **{name: False})
