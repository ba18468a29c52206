"""Answers for LangChain's classes: canned ones, and a simulator for the whole session."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from nimclient.integrations.langchain import ChatNVIDIA
from nimclient.simulator import SimulatorThread
from nimclient.testing import FakeTransport

MODEL = "nvidia/nemotron-3-nano-30b-a3b"
URL = "http://nim.test/v1"


@pytest.fixture(scope="session")
def simulator() -> Iterator[str]:
    """The base URL of a simulator in a thread of its own."""
    with SimulatorThread() as url:
        yield url


MakeChat = Callable[..., tuple[ChatNVIDIA, FakeTransport]]


@pytest.fixture
def canned_chat() -> MakeChat:
    """Makes a chat model that is answered from a list, and the transport that saw its requests."""

    def make(*answers: Any, **fields: Any) -> tuple[ChatNVIDIA, FakeTransport]:
        transport = FakeTransport(answers)
        settings = {"model": MODEL, "base_url": URL, "max_retries": 0, "max_completion_tokens": None, **fields}
        return ChatNVIDIA(**settings, transport=transport), transport

    return make
