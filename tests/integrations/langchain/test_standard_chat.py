"""LangChain's own standard tests of chat models, against the simulator, or a server that the environment names:

    NIMCLIENT_TEST_LANGCHAIN=http://127.0.0.1:8000/v1 nox -s langchain -- -k TestChat

Its model (NIMCLIENT_TEST_LANGCHAIN_MODEL) has tools and reasoning, and enough wit for the suite's questions.
"""

import base64
import io
import os
import wave
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

pytest.importorskip("langchain_tests", reason="only in `nox -s langchain`, which installs langchain-tests")

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from nimclient.integrations.langchain import ChatNVIDIA
from nimclient.simulator import SimulatorThread

pytestmark = pytest.mark.filterwarnings("ignore:The 'max_tokens' parameter:DeprecationWarning")

TOOLS_MODEL = "nvidia/nemotron-3-nano-30b-a3b"
OTHER_MODEL = "meta/llama-3.3-70b-instruct"
SERVER = os.environ.get("NIMCLIENT_TEST_LANGCHAIN")
SERVED = os.environ.get("NIMCLIENT_TEST_LANGCHAIN_MODEL", "tiny-chat") if SERVER else TOOLS_MODEL
OMNI_MODEL = "nvidia/nemotron-3-nano-omni-30b-a3b-reasoning"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if SERVER:
        yield SERVER
        return
    with SimulatorThread() as url:
        yield url


def _downloaded(url: str, **_: Any) -> httpx.Response:
    """What the suite would fetch from the web: a picture, or half a second of silence."""
    if not url.endswith(".wav"):
        pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
        return httpx.Response(200, content=base64.b64decode(pixel))
    data = io.BytesIO()
    with wave.open(data, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    return httpx.Response(200, content=data.getvalue())


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

    @pytest.fixture(autouse=True)
    def _allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As if core's list of classes that `allowed_objects="all"` loads had this one; others pass [ChatNVIDIA]."""
        core_load: Any = import_module("langchain_core.load.load")  # the package has a function of that name
        known = core_load._get_default_allowed_class_paths("all")
        allowed = {"all": known | {tuple(ChatNVIDIA.lc_id())}}
        monkeypatch.setattr(core_load, "_default_class_paths_cache", allowed)


@pytest.mark.filterwarnings("ignore:model '.*' is not in the catalog:UserWarning")
class SimulatedChat(ChatModelIntegrationTests):
    """The integration suite with every flag on that a NIM can hold.

    Off stay PDFs, and images and PDFs in tool messages, for which no NIM has a form: the classes reject them. (The suite's
    tests of media would also pass where a part is dropped; test_content.py proves on the wire that none is.)
    """

    model_name = SERVED

    @pytest.fixture(autouse=True)
    def _server(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NVIDIA_BASE_URL", url)
        monkeypatch.setattr(httpx, "get", _downloaded)
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "nobody is asked")

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatNVIDIA

    @property
    def chat_model_params(self) -> dict[str, Any]:
        limiter = InMemoryRateLimiter(requests_per_second=1000, max_bucket_size=1000)
        steady = {"temperature": 0} if SERVER else {}
        return {"model": self.model_name, "rate_limiter": limiter, **steady}

    @pytest.fixture
    def model(self, _server: None, request: pytest.FixtureRequest) -> BaseChatModel:
        more = getattr(request, "param", None) or {}
        return ChatNVIDIA(**{**self.standard_chat_model_params, **self.chat_model_params, **more})

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return not SERVER  # vLLM answers under the first of its names, whichever was asked for

    @property
    def model_override_value(self) -> str:
        return OTHER_MODEL

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> Any:
        return {"invoke": ["reasoning_output"], "stream": ["reasoning_output"]}

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        model = ChatNVIDIA(model=self.model_name).with_thinking_mode(enabled=True)
        if not stream:
            return model.invoke("Why is the sky blue?")
        whole = None
        for chunk in model.stream("Why is the sky blue?"):
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


@pytest.mark.skipif(bool(SERVER), reason="the server may have no eyes and ears")
@pytest.mark.filterwarnings("ignore:Model .* is not known to support:UserWarning")
class TestChatWithEyesAndEars(SimulatedChat):
    """A model that reads images and hears audio; the table does not say what else it can do, which warns."""

    model_name = OMNI_MODEL

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True
