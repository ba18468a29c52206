"""session_id goes into the header that each server type reads, never into the body."""

from typing import Any

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError
from nimclient.testing import FakeRequest, FakeTransport

ANSWER = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop", "text": "x"}]
}


class Seen:
    """A client of a server of this type, and what was sent."""

    def __init__(self, dialect: Any) -> None:
        self.requests: list[FakeRequest] = []
        self.client = AsyncClient(
            "nvapi-k", "http://fake", model="m", dialect=dialect, transport=FakeTransport(self.answer)
        )

    def answer(self, request: FakeRequest) -> Any:
        self.requests.append(request)
        return ANSWER

    @property
    def sessions(self) -> dict[str, str]:
        """The headers of the last request that name a session."""
        found = {name.lower(): value for name, value in self.requests[-1].headers.items()}
        return {name: value for name, value in found.items() if "session" in name}


@pytest.mark.parametrize(
    ("dialect", "name"),
    [(None, "x-session-id"), ("vllm", "x-session-id"), ("nim", "x-session-id"), ("dynamo", "x-dynamo-session-id")],
)
async def test_each_server_type_has_its_header(dialect: Any, name: str) -> None:
    """Chat, completions and every turn of a conversation; the body says nothing of it."""
    seen = Seen(dialect)
    async with seen.client as client:
        for send in (
            client.chat.create("hi", session_id="s1"),
            client.completions.create("hi", session_id="s1"),
            client.chat.conversation(session_id="s1").send("hi"),
        ):
            await send
            assert seen.sessions == {name: "s1"}
            assert "session_id" not in seen.requests[-1].json


async def test_without_a_session_there_is_no_header() -> None:
    """The key that a conversation makes up for its store is no session of the server's."""
    seen = Seen(None)
    async with seen.client as client:
        await client.chat.create("hi", session_id=None)
        assert seen.sessions == {}
        await client.chat.conversation().send("hi")
        assert seen.sessions == {}


async def test_nothing_is_sent_to_the_hosted_platform() -> None:
    """It reads no such header, and an id may name a person."""
    seen = Seen("hosted")
    async with seen.client as client:
        await client.chat.create("hi", session_id="ann")
    assert seen.sessions == {}


@pytest.mark.parametrize("session", ["x" * 257, "Zoë", "a\r\nX-Other: b"])
async def test_an_id_that_no_header_can_carry_is_hashed(session: str) -> None:
    """The same id has the same hash, so the turns stay together; nothing of it can begin another header."""
    seen = Seen("dynamo")
    async with seen.client as client:
        await client.chat.create("hi", session_id=session)
        first = seen.sessions
        await client.chat.create("again", session_id=session)
    assert seen.sessions == first
    (value,) = first.values()
    assert len(value) == 64
    assert value.isalnum()


@pytest.mark.parametrize("session", ["", "  ", 5])
async def test_an_id_that_is_no_text_is_an_error(session: Any) -> None:
    """Nothing is sent."""
    seen = Seen(None)
    async with seen.client as client:
        with pytest.raises(ConfigurationError, match="session_id"):
            await client.chat.create("hi", session_id=session)
    assert seen.requests == []
