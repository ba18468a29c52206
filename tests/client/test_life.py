"""A client as an object: settings, copies, pickles, repr, use as a context manager."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, Limits, RetryPolicy, Timeouts
from nimclient.errors import ClientClosedError, ConfigurationError
from support.leaks import is_untouched, pools, settings_of
from support.server import FaultServer
from support.wire import HELLO, MODEL, chat

MakeClient = Callable[..., AsyncClient]


def test_building_a_client_does_nothing() -> None:
    """A client is built, repeated in repr and pickled without a loop, a socket or a transport."""
    client = AsyncClient("some-key", "http://host:8000")
    assert repr(client) == "AsyncClient(base_url='http://host:8000/v1')"
    assert client.base_url == "http://host:8000/v1"
    assert pools(client) == []
    assert is_untouched(client)


async def test_a_block_closes_the_client(server: FaultServer) -> None:
    """async with gives the client and closes it."""
    server.script(chat())
    async with AsyncClient(base_url=server.url, model=MODEL) as client:
        await client.chat.create("hi")
    with pytest.raises(ClientClosedError):
        await client.chat.create("hi")


@pytest.mark.no_key
@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("used", [False, True])
async def test_a_pickled_client_works_like_the_first(
    server: FaultServer, make_client: MakeClient, protocol: int, used: bool
) -> None:
    """Settings survive a pickle; connections do not come along."""
    server.script(chat())
    client = make_client(
        timeouts=Timeouts(total=5), limits=Limits(concurrency=3), headers={"X-A": "b"}, dialect="vllm", strict=True
    )
    if used:
        await client.chat.create("hi")
    again = pickle.loads(pickle.dumps(client, protocol))
    assert pools(again) == []
    assert settings_of(again) == settings_of(client)
    async with again:
        assert (await again.chat.create("hi")).text == "Hello"
    assert server.requests[-1].headers["x-a"] == "b"
    assert (await client.chat.create("hi")).text == "Hello"


async def test_a_copied_client_has_connections_of_its_own(server: FaultServer, make_client: MakeClient) -> None:
    """copy.copy() makes a client that is closed by itself."""
    server.script(chat())
    client = make_client()
    async with copy.copy(client) as other:
        await other.chat.create("hi")
    assert (await client.chat.create("hi")).text == "Hello"
    assert server.connections == 2


async def test_a_copy_of_a_copy_shares_the_pool(server: FaultServer, make_client: MakeClient) -> None:
    """with_options may be chained; all share one pool, also with the streams of each other."""
    server.script(HELLO)
    client = make_client()
    for _ in range(3):
        client = client.with_options(timeouts=Timeouts(total=3), retry=RetryPolicy(attempts=1))
        await client.chat.stream("hi").final()
    assert server.connections == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"timeouts": "5"},
        {"timeouts": True},
        {"retry": 3},
        {"limits": 3},
        {"dialect": "tgi"},
        {"headers": {"a b": "c"}},
        {"headers": {"": "c"}},
        {"headers": {"a": "b\r\nc"}},
        {"headers": {"a": 5}},
        {"headers": {5: "a"}},
        {"model": 5},
        {"model": ""},
        {"model": {"chat": ""}},
        {"model": {"speech": "x"}},
        {"proxy": "host:3128"},
        {"proxy": 5},
        {"endpoints": {"m": "ftp://x"}},
        {"endpoints": {"m": "http://user:word@x/"}},
        {"base_url": "ftp://host"},
        {"base_url": "host:8000"},
        {"base_url": "http://host:99999"},
        {"base_url": "http://user:word@host"},
        {"base_url": "http://host/v1/chat/completions"},
        {"base_url": "http://host/?a=b"},
        {"base_url": "http://host/#a"},
        {"base_url": "http://ho st"},
        {"base_url": 5},
        {"base_url": []},
        {"base_url": ["http://a", "http://a/v1/"]},
        {"base_url": ["http://a", "http://user:word@b"]},
        {"base_url": ["http://a", "https://integrate.api.nvidia.com"], "api_key": "k"},
        {"base_url": {"http://a"}},
    ],
    ids=str,
)
def test_bad_settings(settings: dict[str, Any]) -> None:
    """Settings that cannot work are a ConfigurationError when the client is built, without a password in it."""
    with pytest.raises(ConfigurationError) as caught:
        AsyncClient(**{"base_url": "http://127.0.0.1:1", **settings})
    assert isinstance(caught.value, ValueError)
    assert "word" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    "settings",
    [
        {"connect": -1},
        {"idle": float("nan")},
        {"total": float("inf")},
        {"pool": "1"},
        {"headers": True},
    ],
    ids=str,
)
def test_bad_timeouts(settings: dict[str, Any]) -> None:
    """Time limits are numbers of at least nothing, or None."""
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        Timeouts(**settings)


@pytest.mark.parametrize(
    "settings",
    [{"attempts": 0}, {"attempts": None}, {"attempts": 1.5}, {"first_delay": -1}, {"max_delay": None}],
    ids=str,
)
def test_bad_retry_policies(settings: dict[str, Any]) -> None:
    """A policy has at least one attempt and delays that are numbers."""
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        RetryPolicy(**settings)


@pytest.mark.parametrize(
    "settings", [{"concurrency": 0}, {"max_body": 0}, {"max_event": 1.5}, {"requests_per_minute": 0}], ids=str
)
def test_bad_limits(settings: dict[str, Any]) -> None:
    """Limits are positive, or None."""
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        Limits(**settings)


@pytest.mark.parametrize("name", ["timeout", "max_retries", "organization", "http_client"])
def test_unknown_settings(name: str) -> None:
    """A setting that does not exist is a TypeError."""
    with pytest.raises(TypeError, match=name):
        AsyncClient(**{"base_url": "http://127.0.0.1:1", name: 5})


@pytest.mark.parametrize(
    "base_url",
    ["http://host:8000", "http://host:8000/", "http://host:8000/v1", "http://host:8000/v1/", ["http://host:8000"]],
)
def test_spellings_of_a_base_url(base_url: Any) -> None:
    """With or without /v1, with or without a slash at the end, alone or in a list, it is the same base URL."""
    assert AsyncClient(base_url=base_url).base_url == "http://host:8000/v1"
