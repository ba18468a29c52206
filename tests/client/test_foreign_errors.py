"""Errors as foreign servers and gateways send them, from the wire to the error that the caller sees."""

import json
import pickle
import traceback
from typing import Any

import pytest

from nimclient import AsyncClient, Client, RetryPolicy
from nimclient.errors import (
    APIStatusError,
    AuthenticationError,
    ConfigurationError,
    ContextLengthError,
    ModelNotFoundError,
    NimError,
    ProtocolError,
    RateLimitError,
    ServiceUnavailableError,
    StreamFaultError,
)
from nimclient.testing import FakeTransport
from support.server import FaultServer
from support.wire import http

KEY = "nvapi-0123456789-abcdef"
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}
ONCE = RetryPolicy(attempts=1)
QUICK = RetryPolicy(attempts=2, first_delay=0, max_delay=0)


def client_of(*answers: Any, **settings: Any) -> AsyncClient:
    settings.setdefault("retry", ONCE)
    return AsyncClient(
        settings.pop("api_key", KEY), "http://nim:8000", model="m", transport=FakeTransport(answers), **settings
    )


@pytest.mark.parametrize("code", [503, "503"])
async def test_an_error_object_in_a_200_is_retried_like_its_code(code: object) -> None:
    """A plain call that is answered 200 with an error object of code 503 is tried again, and succeeds."""
    client = client_of({"error": {"message": "no worker", "code": code}}, ANSWER, retry=QUICK)
    reply = await client.chat.create("hi")
    assert (reply.text, reply.meta and reply.meta.attempts) == ("Hello", 2)


async def test_an_error_object_in_a_200_has_the_class_of_its_code() -> None:
    """Without another try it is the error of that status, and the text tells both."""
    client = client_of({"error": {"message": "no worker", "code": 503}})
    with pytest.raises(ServiceUnavailableError, match=r"no worker \(POST /v1/chat/completions → 200 with code 503\)"):
        await client.chat.create("hi")
    client = client_of({"error": {"message": "slow down", "code": "rate_limit_exceeded"}})
    with pytest.raises(RateLimitError):
        await client.embeddings.create(["a"])
    client = client_of({"error": {"message": "odd"}})
    with pytest.raises(StreamFaultError, match="in a 200 response: odd"):
        await client.chat.create("hi")


@pytest.mark.parametrize("words", ["Unknown field include_usage", "stream_options.include_usage: extra inputs"])
async def test_include_usage_alone_names_stream_options(words: str) -> None:
    """A server that objects to include_usage gets the stream without stream_options, and from then on at once."""
    events = [{"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]}]
    transport = FakeTransport([(400, {}, {"error": {"message": words}}), events, events])
    client = AsyncClient(KEY, "http://nim:8000", model="m", transport=transport, retry=ONCE)
    for _ in range(2):
        async with client.chat.stream("hi") as stream:
            assert (await stream.final()).text == "Hello"
    assert ["stream_options" in (request.json or {}) for request in transport.requests] == [True, False, False]


@pytest.mark.parametrize("base", ["http://nim:8000", "http://nim:8000/v1", "http://gate/team-a/v1"])
async def test_the_path_in_the_text_is_the_one_that_was_asked(base: str) -> None:
    """An error names the path of the URL itself, prefix and /v1 included."""
    transport = FakeTransport([(404, {}, {"detail": "Not Found"})])
    client = AsyncClient(KEY, base, model="m", transport=transport)
    with pytest.raises(APIStatusError) as caught:
        await client.chat.create("hi")
    path = transport.requests[0].url.removeprefix("http://nim:8000").removeprefix("http://gate")
    assert f"(POST {path} → 404" in caught.value.message
    assert path.endswith("/v1/chat/completions")


@pytest.mark.parametrize(
    ("settings", "environment", "words"),
    [
        ({}, {}, "check the API key: that of api_key was sent"),
        (
            {"api_key": None},
            {},
            "none was sent, since neither api_key= nor NVIDIA_NIM_API_KEY or NVIDIA_API_KEY is set",
        ),
        ({"api_key": None}, {"NVIDIA_API_KEY": KEY}, "none was sent: NVIDIA_API_KEY goes to NVIDIA's own hosts only"),
        ({"api_key": None}, {"NVIDIA_NIM_API_KEY": KEY}, "that of NVIDIA_NIM_API_KEY was sent"),
        ({"api_key": None, "headers": {"X-Auth-Token": KEY}}, {}, "the header X-Auth-Token that you set was sent"),
    ],
)
async def test_a_401_says_which_key_was_sent(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], environment: dict[str, str], words: str
) -> None:
    """The advice after a 401 tells which key the server was sent, or why it was sent none."""
    for name in ("NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = client_of((401, {}, {"error": "Unauthorized"}), **settings)
    with pytest.raises(AuthenticationError) as caught:
        await client.chat.create("hi")
    assert words in caught.value.message
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("header", ["x-litellm-call-id", "X-Correlation-Id", "apim-request-id", "cf-ray", "request-id"])
async def test_the_request_id_under_other_names(header: str) -> None:
    """The id that a gateway gives the request is on the error and on the answer."""
    client = client_of((500, {header: "id-7"}, {"error": "x"}), (200, {header: "id-8"}, ANSWER))
    with pytest.raises(APIStatusError, match="request id id-7") as caught:
        await client.chat.create("hi")
    assert caught.value.request_id == "id-7"
    reply = await client.chat.create("hi")
    assert reply.meta is not None
    assert reply.meta.request_id == "id-8"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"llm_provider-retry-after": "7"}, 7.0),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "3", "llm_provider-retry-after": "7"}, 3.0),
    ],
)
async def test_the_wait_under_other_names(headers: dict[str, str], seconds: float) -> None:
    """How long to wait is read where LiteLLM and Azure say it."""
    client = client_of((429, headers, {"error": "x"}))
    with pytest.raises(RateLimitError) as caught:
        await client.chat.create("hi")
    assert caught.value.retry_after == seconds


async def test_the_wait_in_the_text_of_an_error() -> None:
    """A throttled request waits as long as the text says where no header does (aider #3265, openai-python #937)."""
    words = {"error": {"message": "Rate limit reached. Please try again in 2.961s."}}
    client = client_of((429, {}, words), (429, {"Retry-After": "7"}, words), (400, {}, words))
    found: list[float | None] = []
    for _ in range(3):
        with pytest.raises(APIStatusError) as caught:
            await client.chat.create("hi")
        found.append(caught.value.retry_after)
    assert found == [2.961, 7.0, None]


TOO_LONG = {
    "error": {"code": 400, "message": "exceeds the available context size", "type": "exceed_context_size_error"}
}
NO_MODEL = {
    "error": {"message": "/chat/completions: Invalid model name passed in model=m", "param": "model", "code": "400"}
}


async def test_classes_on_every_path() -> None:
    """Too long and no such model have their class on plain calls, streams, batches and embeddings."""
    for body, kind in ((TOO_LONG, ContextLengthError), (NO_MODEL, ModelNotFoundError)):
        client = client_of(*[(400, {}, body)] * 4)
        with pytest.raises(kind):
            await client.chat.create("hi")
        with pytest.raises(kind):
            await client.chat.stream("hi")
        (failed,) = await client.chat.batch(["hi"], on_error="return")
        assert type(failed) is kind
        with pytest.raises(kind):
            await client.embeddings.create(["a"])


@pytest.mark.parametrize("form", [KEY, "".join(f"\\u{ord(c):04x}" for c in KEY), KEY.replace("-", "\\u002D")])
async def test_a_key_that_a_server_repeats_is_nowhere(form: str) -> None:
    """The key in an error body, with JSON escapes or without, is in no field of the error, plain or streamed."""
    body = f'{{"detail": [{{"msg": "key {form}"}}], "error": {{"message": "bad {form}", "param": "{form}"}}}}'.encode()
    client = client_of((401, {}, body), (401, {}, body), (200, {}, body), [body.decode()])
    for call in (client.chat.create, client.chat.stream, client.chat.create, client.chat.stream):
        with pytest.raises(NimError) as caught:
            result: Any = await call("hi")
            await result.final()
        shown = f"{caught.value}{vars(caught.value)}{''.join(traceback.format_exception(caught.value))}"
        assert KEY not in shown
        assert form not in shown
        assert KEY not in json.dumps(vars(caught.value), default=str)


async def test_the_key_is_not_in_what_an_error_is_chained_to(server: FaultServer) -> None:
    """A server that speaks no HTTP and repeats what it was sent: the traceback does not show the key either."""
    server.script([f"Authorization: Bearer {KEY}\r\n\r\n".encode()])
    async with AsyncClient(KEY, server.url, model="m", retry=ONCE) as client:
        with pytest.raises(ProtocolError) as caught:
            await client.chat.create("hi")
    assert KEY not in "".join(traceback.format_exception(caught.value))


async def test_escape_sequences_of_a_server_are_not_shown(server: FaultServer) -> None:
    """ESC and marks of writing direction in an error body do not reach the terminal or a log."""
    server.script([http(json.dumps({"error": {"message": "\x1b]0;title\x07 \u202emodel"}}).encode(), 400)])
    async with AsyncClient(KEY, server.url, model="m", retry=ONCE) as client:
        with pytest.raises(APIStatusError) as caught:
            await client.chat.create("hi")
    assert str(caught.value).startswith("]0;title model (POST")


@pytest.mark.parametrize(
    "name", ["../../admin", "..", "a/../b", ".", "a/./b", "..\\admin", "a/.."], ids=lambda name: name.replace("/", "_")
)
async def test_no_model_id_leads_to_another_path(name: str) -> None:
    """An id with steps in it is rejected before anything is sent; what else would change the path is quoted."""
    transport = FakeTransport([{"id": "m"}])
    client = AsyncClient(KEY, "http://nim:8000", transport=transport)
    with pytest.raises(ConfigurationError, match="would change the path"):
        await client.models.get(name)
    with pytest.raises(ConfigurationError, match="not valid Unicode"):
        await client.models.get("a\ud83d")
    await client.models.get("a/b?x=1#y%2e")
    assert [request.url for request in transport.requests] == ["http://nim:8000/v1/models/a/b%3Fx=1%23y%252e"]


@pytest.mark.parametrize("name", ["../../../v1/admin?x=", "a/b", "..", "a b", ""])
async def test_no_asset_id_leads_to_another_path(name: str) -> None:
    """An id of an asset that is none is rejected, from the caller and from the platform alike."""
    transport = FakeTransport([])
    client = AsyncClient(KEY, "http://nim:8000", transport=transport)
    with pytest.raises(ConfigurationError, match="which is not an asset id"):
        await client.assets.delete(name)
    assert transport.requests == []


def test_a_client_that_was_not_made_can_be_shown() -> None:
    """The repr of a client whose construction failed, as a debugger asks for it, does not raise."""
    for kind in (AsyncClient, Client):
        assert repr(kind.__new__(kind)) == f"<{kind.__name__} that was not initialized>"


def test_credentials_of_any_header_stay_here() -> None:
    """Headers that hold credentials are not in a pickle, by whatever name; others are."""
    names = ("X-Auth-Token", "Ocp-Apim-Subscription-Key", "X-Session", "Authentication", "X-AuthToken")
    headers = {**dict.fromkeys(names, "tok-S3CRET"), "X-Tenant": "team-a"}
    data = pickle.dumps(AsyncClient(KEY, "http://nim:8000", headers=headers))
    assert b"S3CRET" not in data
    assert b"team-a" in data
