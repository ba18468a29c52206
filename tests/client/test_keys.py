"""The API key: where it goes, where it does not, and that it never shows."""

import asyncio
import base64
import copy
import io
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from nimclient import AsyncClient, RetryPolicy
from nimclient.errors import ConfigurationError, ContextLengthError, NimError
from support.leaks import settings_of
from support.server import Close, FaultServer, Stall
from support.wire import HELLO, MODEL, answer, chat, chunk, error, head, http, sse, token

MakeClient = Callable[..., AsyncClient]
CANARY = "nvapi-canary-0123456789"
HEADER = "another-canary-0123456789"


@pytest.fixture
async def second() -> AsyncIterator[FaultServer]:
    """Another origin."""
    async with FaultServer() as server:
        yield server.script(chat())


def keys(server: FaultServer) -> list[str | None]:
    """The Authorization headers that a server has seen."""
    return [request.headers.get("authorization") for request in server.requests]


async def test_an_explicit_key_goes_to_base_url_and_endpoints(
    server: FaultServer, second: FaultServer, make_client: MakeClient
) -> None:
    """api_key= goes to the origins of base_url and endpoints=."""
    client = make_client(api_key=CANARY, endpoints={"far": second.url + "/chat/completions"})
    server.script(chat())
    await client.chat.create("hi")
    await client.chat.create("hi", model="far")
    assert keys(server) == keys(second) == [f"Bearer {CANARY}"]
    assert second.requests[0].json["model"] == "far"


@pytest.mark.no_key
@pytest.mark.parametrize(
    ("variable", "from_environment", "sent", "sent_far"),
    [
        ("NVIDIA_API_KEY", False, None, None),
        ("NVIDIA_API_KEY", True, f"Bearer {CANARY}", None),
        ("NVIDIA_NIM_API_KEY", False, f"Bearer {CANARY}", f"Bearer {CANARY}"),
        ("NVIDIA_NIM_API_KEY", True, f"Bearer {CANARY}", f"Bearer {CANARY}"),
        ("OTHER", False, None, None),
    ],
)
async def test_keys_of_the_environment(
    server: FaultServer,
    second: FaultServer,
    make_client: MakeClient,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    from_environment: bool,
    sent: str | None,
    sent_far: str | None,
) -> None:
    """NVIDIA_API_KEY goes to a base URL from the environment only; NVIDIA_NIM_API_KEY to any configured origin."""
    monkeypatch.setenv(variable, f" {CANARY}\n")
    if from_environment:
        monkeypatch.setenv("NVIDIA_BASE_URL", f" {server.url}\n")
    client = AsyncClient(
        base_url=None if from_environment else server.url,
        model=MODEL,
        endpoints={"far": second.url + "/chat/completions"},
    )
    server.script(chat())
    async with client:
        await client.chat.create("hi")
        await client.chat.create("hi", model="far")
    assert (keys(server), keys(second)) == ([sent], [sent_far])


async def test_a_callable_is_asked_for_each_request(server: FaultServer, make_client: MakeClient) -> None:
    """A key may be a callable: each attempt sends what it returns then."""
    numbers = iter(range(100))
    client = make_client(api_key=lambda: f"key-{next(numbers)}")
    server.script(chat())
    for _ in range(2):
        await client.chat.create("hi")
    first, second_ = keys(server)
    assert first != second_
    assert first is not None
    assert first.startswith("Bearer key-")


@pytest.mark.parametrize("bad", ["", "a b", "a\nb", 5, None])
async def test_a_callable_that_returns_nonsense(server: FaultServer, make_client: MakeClient, bad: Any) -> None:
    """What a callable returns is checked like a literal key, before anything is sent."""
    client = make_client(api_key=lambda: bad)
    with pytest.raises(ConfigurationError, match="api_key"):
        await client.chat.create("hi")
    assert server.requests == []


async def test_a_key_of_the_callers_own_header(server: FaultServer, make_client: MakeClient) -> None:
    """headers= and extra_headers= come last: they may replace ours."""
    client = make_client(api_key=CANARY, headers={"Authorization": "Basic abc"})
    server.script(chat())
    await client.chat.create("hi")
    await client.chat.create("hi", extra_headers={"Authorization": "Basic def"})
    assert keys(server) == ["Basic abc", "Basic def"]


@pytest.mark.no_key
async def test_a_proxy_sees_the_key_of_plain_requests_only(server: FaultServer, make_client: MakeClient) -> None:
    """NVIDIA_API_KEY goes to no host of ours because a proxy stands between."""
    client = make_client("http://nim.test", proxy=f"http://127.0.0.1:{server.port}")
    server.script(chat())
    await client.chat.create("hi")
    assert keys(server) == [None]


# the hosted catalog ------------------------------------------------------------------------------------------------


@pytest.mark.no_key
@pytest.mark.parametrize("base_url", [None, "https://integrate.api.nvidia.com/v1", "https://ai.api.nvidia.com"])
def test_the_hosted_catalog_needs_a_key(base_url: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of NVIDIA's own hosts without a key is a ConfigurationError that says how to get one."""
    with pytest.raises(ConfigurationError, match=r"build\.nvidia\.com"):
        AsyncClient(base_url=base_url)
    AsyncClient(CANARY, base_url)
    monkeypatch.setenv("NVIDIA_API_KEY", CANARY)
    AsyncClient(base_url=base_url)


@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings"])
async def test_the_hosted_catalog_gets_the_key(canned: Any, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """NVIDIA_API_KEY goes to the hosted catalog, for the default model of each kind, without listing first."""
    monkeypatch.setenv("NVIDIA_API_KEY", CANARY)
    url = "https://integrate.api.nvidia.com/v1" + path
    from support.wire import chat_body, embedded

    canned.post(url, payload=chat_body() if "chat" in path else embedded(["1"]))
    async with AsyncClient(transport=canned.transport) as client:
        if "chat" in path:
            await client.chat.create("hi")
        else:
            await client.embeddings.create(["1"])
    ((key, (call,)),) = canned.requests.items()
    assert key[0] == "POST"
    assert call.kwargs["headers"]["Authorization"] == f"Bearer {CANARY}"


# bad keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["", " ", "a b", f"{CANARY}\n", f"{CANARY}\u2028", f"{CANARY}é", "\0", "x" * 10_000, b"bytes", 5]
)
def test_keys_that_cannot_be_sent(key: Any) -> None:
    """A key that no header can carry is a ConfigurationError that does not show it."""
    with pytest.raises(ConfigurationError) as caught:
        AsyncClient(key, "http://127.0.0.1:1")
    assert CANARY not in str(caught.value)
    assert len(str(caught.value)) < 200


# never shown -------------------------------------------------------------------------------------------------------

ENCODED = {
    "a URL": "".join(f"%{ord(letter):02X}" for letter in CANARY),
    "HTML": "".join(f"&#{ord(letter)};" for letter in CANARY),
    "base64": base64.b64encode(CANARY.encode()).decode().rstrip("="),
    "JSON in JSON": "".join(f"\\\\u{ord(letter):04x}" for letter in CANARY),
}
FAULTS: dict[str, Any] = {
    **{f"refused with the key as {form}": error(401, f"no: {key}", detail=[key]) for form, key in ENCODED.items()},
    **{f"a page with the key as {form}": http(f"<p>{key}</p>".encode(), 403) for form, key in ENCODED.items()},
    **{
        f"cut off behind the key as {form}": [head() + chunk(token(f"<{key}>")), Close()]
        for form, key in ENCODED.items()
    },
    "refused with the key repeated": error(401, f"the key {CANARY} is unknown"),
    "plain text with the key": http(f"bad key: Bearer {CANARY}".encode(), 403, type="text/plain"),
    "server error": error(500, CANARY),
    "200 with the key": http(f"<html>{CANARY}</html>".encode()),
    "error object in a 200": answer({"error": {"message": f"the key {CANARY} is unknown", "code": 401}}),
    "an answer that is none": answer({"choices": CANARY}),
    "a header": error(401, "no", f"X-Echo: {CANARY}"),
    "redirect": http(b"", 302, f"Location: http://127.0.0.1:1/?key={CANARY}"),
    "garbage": [b"garbage\r\n\r\n", Close()],
    "lost": [Close()],
    "late": [Stall()],
    "stream event": [head() + chunk(token("a"), sse({"error": {"message": f"key {CANARY}"}})), Close()],
    "broken event": [head() + chunk(f"data: {CANARY}\n\n".encode()), Close()],
    "good": HELLO,
}


def variables(error: BaseException) -> list[str]:
    """The local variables of our frames in the traceback of an error and of its causes, as error trackers record them."""
    part: traceback.TracebackException | None = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours: list[str] = []
    while part is not None:
        ours += [f"{frame.name}: {frame.locals}" for frame in part.stack if "/nimclient/" in frame.filename]
        part = part.__cause__
    return ours


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("script", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("how", ["create", "stream"])
async def test_the_key_is_never_shown(
    server: FaultServer, make_client: MakeClient, caplog: pytest.LogCaptureFixture, script: Any, how: str
) -> None:
    """No log at DEBUG, repr, error text, traceback with locals, pickle or copy of anything holds the key."""
    shown = io.StringIO()
    events: list[Any] = []
    client = make_client(
        api_key=CANARY, headers={"X-Api-Key": HEADER}, on_attempt=events.append, retry=RetryPolicy(first_delay=0.001)
    )
    server.script(script)
    asyncio.get_running_loop().set_debug(True)
    with caplog.at_level(logging.DEBUG):
        try:
            if how == "create":
                print(repr(await client.chat.create("hi", timeout=0.2)), file=shown)
            else:
                async with client.chat.stream("hi", timeout=0.2) as stream:
                    print(repr(stream), repr(await stream.final()), repr(stream.meta), file=shown)
        except NimError as caught:
            again = pickle.loads(pickle.dumps(caught))
            print(str(caught), repr(caught), vars(caught), str(again), vars(copy.copy(caught)), file=shown)
            print("".join(traceback.format_exception(caught)), variables(caught), file=shown)
    asyncio.get_running_loop().set_debug(False)
    print(repr(client), repr(settings_of(client)), repr(client._engine), repr(events), caplog.text, file=shown)
    assert [form for form in (CANARY, *ENCODED.values()) if form in shown.getvalue()] == []
    assert HEADER not in shown.getvalue()
    assert CANARY.encode() not in pickle.dumps(make_client(api_key=CANARY))
    assert keys(server)[0] == f"Bearer {CANARY}"


@pytest.mark.parametrize("key", ["x", "EMPTY", "token"])
async def test_a_stand_in_for_a_key_garbles_no_error(server: FaultServer, make_client: MakeClient, key: str) -> None:
    """A short key that is not checked is no secret: the words of an error stay readable."""
    server.script(error(400, "maximum context length is 5 tokens, EMPTY"))
    with pytest.raises(ContextLengthError, match="maximum context length is 5 tokens, EMPTY"):
        await make_client(api_key=key).chat.create("hi")


async def test_a_traceback_with_locals_does_not_show_the_key(server: FaultServer, make_client: MakeClient) -> None:
    """Error trackers that record local variables do not get the key."""
    client = make_client(api_key=CANARY, headers={"X-Api-Key": HEADER}, retry=RetryPolicy(attempts=1))
    server.script([Close()])
    with pytest.raises(NimError) as caught:
        await client.chat.create("hi")
    ours = variables(caught.value)
    assert ours
    assert not [frame for frame in ours if CANARY in frame or HEADER in frame]


# pickles -----------------------------------------------------------------------------------------------------------


@pytest.mark.no_key
async def test_a_pickled_client_asks_its_environment(
    server: FaultServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A literal key stays behind: the copy takes the environment's, else goes without."""
    server.script(chat())
    pickled = pickle.dumps(make_client(api_key=CANARY))
    assert CANARY.encode() not in pickled
    async with pickle.loads(pickled) as bare:
        await bare.chat.create("hi")
    monkeypatch.setenv("NVIDIA_NIM_API_KEY", "another")
    async with pickle.loads(pickled) as other:
        await other.chat.create("hi")
    assert keys(server) == [None, "Bearer another"]


def key_of_the_module() -> str:
    return CANARY


async def test_a_callable_key_is_pickled_by_reference(server: FaultServer, make_client: MakeClient) -> None:
    """A key that is a function of a module comes along as its name."""
    server.script(chat())
    pickled = pickle.dumps(make_client(api_key=key_of_the_module))
    assert CANARY.encode() not in pickled
    async with pickle.loads(pickled) as copied:
        await copied.chat.create("hi")
    assert keys(server) == [f"Bearer {CANARY}"]
