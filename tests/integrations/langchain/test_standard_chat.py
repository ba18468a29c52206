"""LangChain's own standard tests of chat models, against the simulator."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("langchain_tests", reason="only in `nox -s langchain`, which installs langchain-tests")

from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from nimclient.integrations.langchain import ChatNVIDIA
from nimclient.simulator import SimulatorThread

pytestmark = pytest.mark.filterwarnings("ignore:The 'max_tokens' parameter:DeprecationWarning")

TOOLS_MODEL = "nvidia/nemotron-3-nano-30b-a3b"
OTHER_MODEL = "meta/llama-3.3-70b-instruct"
EYES_MODEL = "nvidia/nemotron-3.5-super-vl-120b-a12b"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with SimulatorThread() as url:
        yield url


class TestChatUnit(ChatModelUnitTests):
    """The unit suite: construction, environment, binding, serialization; no network."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatNVIDIA

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": TOOLS_MODEL, "api_key": "test-key"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {"NVIDIA_API_KEY": "test-key"}, {"model": TOOLS_MODEL}, {"api_key": "test-key"}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return OTHER_MODEL

    def test_serdes(self, model: BaseChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
        """A model that was written down and loaded is the same. (Core's "all" knows the classes of its own list only.)"""
        monkeypatch.setenv("NVIDIA_API_KEY", "test-key")
        written = dumpd(model)
        assert "test-key" not in str(written)
        loaded = load(
            written, valid_namespaces=model.get_lc_namespace()[:1], allowed_objects=[ChatNVIDIA], secrets_from_env=True
        )
        assert loaded.asdict() == model.asdict()


class SimulatedChat(ChatModelIntegrationTests):
    """The integration suite with every flag on that a NIM can hold.

    Off stay PDFs, and images and PDFs in tool messages, for which no NIM has a form: the classes refuse them. (The suite's
    tests of media would also pass where a part is dropped; test_content.py proves on the wire that none is.)
    """

    model_name = TOOLS_MODEL

    @pytest.fixture(autouse=True)
    def _server(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NVIDIA_BASE_URL", url)

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatNVIDIA

    @property
    def chat_model_params(self) -> dict[str, Any]:
        limiter = InMemoryRateLimiter(requests_per_second=1000, max_bucket_size=1000)
        return {"model": self.model_name, "rate_limiter": limiter}

    @pytest.fixture
    def model(self, _server: None, request: pytest.FixtureRequest) -> BaseChatModel:
        more = getattr(request, "param", None) or {}
        return ChatNVIDIA(**{**self.standard_chat_model_params, **self.chat_model_params, **more})

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return OTHER_MODEL

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> Any:
        return {"invoke": ["reasoning_output", "cache_read_input"], "stream": ["reasoning_output", "cache_read_input"]}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        return self._ask("Why is the sky blue?", thinking=True, stream=stream)

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        long = "The sky is blue because of Rayleigh scattering. " * 200
        self._ask(long, thinking=False, stream=False)
        return self._ask(long, thinking=False, stream=stream)

    def _ask(self, text: str, *, thinking: bool, stream: bool) -> AIMessage:
        model = ChatNVIDIA(model=self.model_name).with_thinking_mode(thinking)
        if not stream:
            return model.invoke(text)
        whole = None
        for chunk in model.stream(text):
            whole = chunk if whole is None else whole + chunk
        assert isinstance(whole, AIMessageChunk)
        return whole


class TestChatIntegration(SimulatedChat):
    """A model with tools and reasoning."""


class TestChatFunctionCalling(SimulatedChat):
    """The same, structured output by a tool."""

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}


class TestChatWithEyes(SimulatedChat):
    """A model that reads images and hears audio."""

    model_name = EYES_MODEL

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True
