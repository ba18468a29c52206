"""The servers as fixtures of the session: installed and started by the first test that asks, skipped where they cannot be."""

from collections.abc import Iterator

import pytest

from servers.dynamo import Dynamo
from servers.environment import Unavailable
from servers.vllm import Vllm


@pytest.fixture(scope="session")
def dynamo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dynamo]:
    """Dynamo's frontend with one worker."""
    try:
        server = Dynamo(tmp_path_factory.mktemp("dynamo")).__enter__()
    except Unavailable as reason:
        pytest.skip(f"NVIDIA Dynamo is not to be had here: {reason}")
    yield server
    server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """vLLM with a small random chat model, behind a key."""
    try:
        server = Vllm(tmp_path_factory.mktemp("vllm")).__enter__()
    except Unavailable as reason:
        pytest.skip(f"vLLM is not to be had here: {reason}")
    yield server
    server.__exit__(None, None, None)
