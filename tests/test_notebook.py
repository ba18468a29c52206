"""A failed call in a notebook shows the lines of the caller and the message, not those of nimclient."""

from typing import Any

import pytest

import nimclient
from nimclient import AsyncClient, Client
from nimclient.testing import FakeRequest, FakeTransport


def refuse(_: FakeRequest) -> Any:
    return 400, {}, {"message": "no such thing"}


def shown(error: BaseException) -> str:
    """What IPython prints of an error: it asks the error first."""
    return "\n".join(getattr(error, "_render_traceback_")())  # noqa: B009 - the name is IPython's


async def test_a_call_that_fails() -> None:
    """The line of the caller and one line of the error."""
    async with AsyncClient("k", "http://fake", model="m", transport=FakeTransport(refuse)) as client:
        with pytest.raises(nimclient.NimError) as caught:
            await client.chat.create("hi")
    lines = shown(caught.value).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert 'await client.chat.create("hi")' in lines[2]
    assert lines[-1].startswith("nimclient.errors.BadRequestError: ")
    assert len(lines) <= 5


def test_an_option_that_does_not_exist() -> None:
    """A TypeError of a blocking call is as short."""
    client = Client("k", "http://fake", model="m", transport=FakeTransport(refuse))
    with client, pytest.raises(TypeError) as caught:
        client.chat.create("hi", temprature=0)  # type: ignore[call-arg]
    text = shown(caught.value)
    assert "did you mean 'temperature'?" in text
    assert "nimclient/_" not in text
    assert len(text.splitlines()) <= 5
