"""Routes, bodies and documents of the dialects, byte for byte where it matters; real servers are compared elsewhere."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from nimclient.simulator import Simulator

from .raw import CHAT, EMBED, PARIS

Opened = Callable[..., Any]
MESSAGES = [{"role": "user", "content": PARIS}]


@pytest.fixture
async def said(session: aiohttp.ClientSession) -> AsyncIterator[Opened]:
    """What a simulator of a dialect says to one request: status, content type and text."""
    async with AsyncExitStack() as stack:

        async def ask(dialect: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str, str]:
            simulator = await stack.enter_async_context(Simulator(dialect=dialect))
            url = simulator.base_url.removesuffix("/v1") + path
            async with session.request(method, url, json=body, headers=headers) as answer:
                return answer.status, answer.content_type, await answer.text()

        yield ask


ROUTES = {
    "nim": {
        "/v1/health/ready",
        "/v1/health/live",
        "/v1/metadata",
        "/v1/version",
        "/v1/models",
        f"/v1/models/{CHAT}",
        "/metrics",
        "/v1/metrics",
    },
    "vllm": {"/health", "/ping", "/version", "/v1/models", "/metrics"},
    "dynamo": {"/health", "/live", "/v1/models", f"/v1/models/{CHAT}", "/metrics"},
    "hosted": {"/v1/models"},
}


@pytest.mark.parametrize("dialect", ROUTES)
async def test_the_documents_of_a_dialect(said: Opened, dialect: str) -> None:
    """Each dialect has its own documents and 404 for those of the others."""
    for path in sorted(set().union(*ROUTES.values())):
        status, _, _ = await said(dialect, "GET", path)
        assert (path, status) == (path, 200 if path in ROUTES[dialect] else 404)


POSTS = {
    "nim": {"/v1/ranking", "/tokenize", "/detokenize"},
    "vllm": {"/tokenize", "/detokenize"},
    "dynamo": set[str](),
    "hosted": {"/v1/ranking"},
}


@pytest.mark.parametrize("dialect", POSTS)
async def test_the_routes_of_a_dialect(said: Opened, dialect: str) -> None:
    """Chat, completions and embeddings are everywhere, the rest is not."""
    common = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}
    for path in sorted(common.union(*POSTS.values())):
        status, _, _ = await said(dialect, "POST", path, {}, Authorization="Bearer nvapi-x")
        assert (path, status) == (path, 400 if path in common | POSTS[dialect] else 404)


@pytest.mark.parametrize(
    ("dialect", "status", "kind", "text"),
    [
        ("nim", 405, "application/json", '{"detail":"Method Not Allowed"}'),
        ("vllm", 405, "application/json", '{"detail":"Method Not Allowed"}'),
        ("dynamo", 405, "text/plain", ""),
    ],
)
async def test_a_wrong_method(said: Opened, dialect: str, status: int, kind: str, text: str) -> None:
    """FastAPI has a body for it, Dynamo none."""
    assert await said(dialect, "GET", "/v1/chat/completions") == (status, kind, text)


async def test_unknown_paths(said: Opened) -> None:
    """FastAPI's words, Dynamo's, and the gateway's plain text."""
    assert (await said("vllm", "GET", "/x"))[2] == '{"detail":"Not Found"}'
    assert (await said("dynamo", "GET", "/x"))[
        2
    ] == '{"message":"Route not found: GET /x","type":"Not Found","code":404}'
    assert await said("hosted", "GET", "/x") == (404, "text/plain", "404 page not found")


async def test_health_of_vllm_is_empty(said: Opened) -> None:
    """vLLM answers 200 and nothing else."""
    assert (await said("vllm", "GET", "/health"))[2] == ""


async def test_a_field_of_the_wrong_type_in_vllm(said: Opened) -> None:
    """It is named below `body`, in pydantic's words."""
    status, _, text = await said("vllm", "POST", "/v1/chat/completions", {"model": CHAT})
    assert status == 400
    assert "1 validation error:\\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required'" in text
    assert '"param":"body.messages"' in text


async def test_the_error_event_of_dynamo(said: Opened) -> None:
    """An event named error, its text in a comment, no data and no [DONE]."""
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": False}}
    body = {"model": CHAT, "messages": MESSAGES, "stream": True, "response_format": schema}
    status, kind, text = await said("dynamo", "POST", "/v1/chat/completions", body)
    assert (status, kind) == (200, "text/event-stream")
    assert text.startswith("event: error\n: The simulator cannot build an answer")
    assert text.endswith("\n\n")
    assert "data:" not in text


async def test_the_gateway_answers_for_itself(said: Opened) -> None:
    """An unknown model is problem JSON; what the NIM rejects is in the NIM's words."""
    path, key = "/v1/chat/completions", {"Authorization": "Bearer nvapi-x"}
    assert "Not found for account" in (await said("hosted", "POST", path, {"model": "none"}, **key))[2]
    assert '"error":' in (await said("hosted", "POST", path, {"model": CHAT}, **key))[2]
    flat = (await said("hosted", "POST", "/v1/embeddings", {"model": EMBED, "input": "x"}, **key))[2]
    assert '"object":"error"' in flat


@pytest.mark.parametrize("messages", ["text", [1], [{"role": 7, "content": "x"}], [{"content": "x"}]])
async def test_dynamo_rejects_what_is_no_message(said: Opened, messages: Any) -> None:
    """Messages of the wrong type are a 400 in its flat shape."""
    status, _, text = await said("dynamo", "POST", "/v1/chat/completions", {"model": CHAT, "messages": messages})
    assert status == 400
    assert text.endswith('"type":"Bad Request","code":400}')


async def test_tools_must_not_be_empty_in_dynamo(said: Opened) -> None:
    """An empty list of tools is rejected in its own words."""
    body = {"model": CHAT, "messages": MESSAGES, "tools": []}
    assert "tools array cannot be empty" in (await said("dynamo", "POST", "/v1/chat/completions", body))[2]


async def test_tool_calls_and_reasoning_of_dynamo(said: Opened) -> None:
    """Reasoning is in reasoning_content, and what is not there is left out, content aside."""
    tool = {"type": "function", "function": {"name": "capital", "parameters": {"type": "object"}}}
    body = {"model": CHAT, "messages": MESSAGES, "tools": [tool], "tool_choice": "required"}
    text = (await said("dynamo", "POST", "/v1/chat/completions", body))[2]
    assert '"content":null' in text
    assert "annotations" not in text
    thinking = {"model": CHAT, "messages": MESSAGES, "chat_template_kwargs": {"enable_thinking": True}}
    assert '"reasoning_content":"' in (await said("dynamo", "POST", "/v1/chat/completions", thinking))[2]
