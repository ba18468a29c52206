"""LangChain's own standard tests of embeddings, against the simulator, or a server that the environment names:
NIMCLIENT_TEST_LANGCHAIN_EMBEDDINGS, with NIMCLIENT_TEST_LANGCHAIN_EMBEDDING_MODEL.
"""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

pytest.importorskip("langchain_tests", reason="only in `nox -s langchain`, which installs langchain-tests")

from langchain_core.embeddings import Embeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from nimclient.integrations.langchain import NVIDIAEmbeddings
from nimclient.simulator import SimulatorThread

MODEL = "nvidia/llama-nemotron-embed-1b-v2"
SERVER = os.environ.get("NIMCLIENT_TEST_LANGCHAIN_EMBEDDINGS")
SERVED = os.environ.get("NIMCLIENT_TEST_LANGCHAIN_EMBEDDING_MODEL", "tiny-chat") if SERVER else MODEL


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    """The unit suite: construction and environment; no network."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return NVIDIAEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": MODEL, "api_key": "test-key"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {"NVIDIA_API_KEY": "test-key"}, {"model": MODEL}, {"api_key": "test-key"}


@pytest.mark.filterwarnings("ignore:.*input_type:UserWarning")  # vLLM has none, and the client says so
class TestEmbeddingsIntegration(EmbeddingsIntegrationTests):
    """The integration suite."""

    @pytest.fixture(autouse=True)
    def _server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with nullcontext(SERVER) if SERVER else SimulatorThread() as url:
            monkeypatch.setenv("NVIDIA_BASE_URL", url)
            yield

    @pytest.fixture
    def model(self, _server: None) -> Embeddings:
        return NVIDIAEmbeddings(model=SERVED)

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return NVIDIAEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": SERVED}
