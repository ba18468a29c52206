"""The servers as fixtures of the session: installed and started by the first test that asks, skipped where they cannot be."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.dynamo import Dynamo
from servers.environment import Unavailable
from servers.vllm import Vllm


@pytest.fixture(scope="session")
def dynamo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dynamo]:
    """Dynamo's frontend with one worker."""
    yield from _dynamo(Dynamo(tmp_path_factory.mktemp("dynamo")))


@pytest.fixture(scope="session")
def slow_dynamo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dynamo]:
    """The same with a worker that takes its time."""
    yield from _dynamo(Dynamo(tmp_path_factory.mktemp("slow"), speedup=1))


def _dynamo(server: Dynamo) -> Iterator[Dynamo]:
    try:
        server.__enter__()
    except Unavailable as reason:
        pytest.skip(f"NVIDIA Dynamo is not to be had here: {reason}")
    yield server
    server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """vLLM with a small random chat model, behind a key."""
    yield from _vllm(tmp_path_factory.mktemp("vllm"), "chat")


@pytest.fixture(scope="session")
def vllm_embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """vLLM with the same weights as an embedding model."""
    yield from _vllm(tmp_path_factory.mktemp("embedder"), "embed")


@pytest.fixture(scope="session")
def vllm_chunked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """vLLM with the same embedding model, in its chunked mode."""
    yield from _vllm(tmp_path_factory.mktemp("chunked"), "chunked")


@pytest.fixture(scope="session")
def vllm_ranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """vLLM with the same weights as a cross-encoder."""
    yield from _vllm(tmp_path_factory.mktemp("ranker"), "rank")


def _vllm(state: Path, task: str) -> Iterator[Vllm]:
    try:
        server = Vllm(state, task).__enter__()
    except Unavailable as reason:
        pytest.skip(f"vLLM is not to be had here: {reason}")
    yield server
    server.__exit__(None, None, None)
