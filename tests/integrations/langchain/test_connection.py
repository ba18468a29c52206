"""The server, the key and the models of LangChain's classes: no I/O in a constructor, keys go where they may."""

import copy
import subprocess
import sys
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField
from pydantic import SecretStr, ValidationError

import nimclient.integrations.langchain
from nimclient.errors import ConfigurationError
from nimclient.integrations.langchain import (
    NVIDIA,
    ChatNVIDIA,
    ChatNVIDIADynamo,
    Model,
    NVIDIAEmbeddings,
    NVIDIARerank,
    register_model,
)
from nimclient.integrations.langchain import models as registry
from nimclient.testing import FakeTransport
from support.langchain import MODEL, reply

CLASSES = [ChatNVIDIA, ChatNVIDIADynamo, NVIDIAEmbeddings, NVIDIARerank, NVIDIA]
URL = "http://nim.test"


@pytest.fixture(autouse=True)
def forget_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_registered", {})


def authorization(transport: FakeTransport) -> str | None:
    return transport.requests[-1].headers.get("authorization")


@pytest.mark.parametrize("kind", CLASSES)
def test_urls_are_normalized(kind: Any) -> None:
    """With or without /v1, behind a prefix, under both names; nvidia_base_url wins."""
    assert kind(base_url="http://h:1/p/", model="m").base_url == "http://h:1/p/v1"
    assert kind(nvidia_base_url="http://h", base_url="http://other", model="m").base_url == "http://h/v1"
    assert kind(base_url="https://Gateway/NIM", model="m").base_url == "https://Gateway/NIM/v1"


@pytest.mark.parametrize("kind", CLASSES)
def test_the_names_of_langchain_openai(kind: Any) -> None:
    """Its server and key are ours, and no option of a request; those of nvidia win."""
    model = kind(openai_api_base="http://vllm:8000", openai_api_key="EMPTY", model="m")
    assert (model.base_url, model.api_key.get_secret_value()) == ("http://vllm:8000/v1", "EMPTY")
    assert not getattr(model, "model_kwargs", None)
    both = kind(openai_api_base="http://vllm:8000", nvidia_base_url="http://nim", nvidia_api_key="k", model="m")
    assert (both.base_url, both.api_key.get_secret_value()) == ("http://nim/v1", "k")


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("key", [None, "", "k"])
def test_a_field_may_be_assigned_with_and_without_a_key(
    kind: Any, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An assignment, validated or not, changes its field only: the model still has its key, or none, and its server."""
    monkeypatch.delenv("NVIDIA_API_KEY", raising=False)
    model = kind(base_url=URL, model="m", api_key=key)
    before = dict(vars(model))
    model.model = "other"
    model.max_retries = 4
    assert vars(model) == {**before, "model": "other", "max_retries": 4}
    assert model._client.api_key == (SecretStr("k") if key else None)


@pytest.mark.parametrize("kind", CLASSES)
def test_what_notebooks_read_behind_client_is_there(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`_client` tells the server, the key (as a SecretStr) and the model, as langchain-nvidia-ai-endpoints does."""
    monkeypatch.setenv("NVIDIA_API_KEY", "secret-key")
    hosted = kind()._client
    assert (hosted.base_url, hosted.is_hosted) == ("https://integrate.api.nvidia.com/v1", True)
    assert (type(hosted.api_key), hosted.api_key.get_secret_value()) == (SecretStr, "secret-key")
    assert hosted.model.id == hosted.mdl_name
    own = kind(base_url=URL, model="m", timeout=5, verify_ssl=False)._client
    assert (own.is_hosted, own.model, own.mdl_name, own.timeout, own.verify_ssl) == (False, None, "m", 5, False)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("url", ["bogus", "ftp://h", "http://u:p@h", "http://h/v1/chat/completions", "http://h/v1?x=1"])
def test_urls_that_are_none_are_value_errors(kind: Any, url: str) -> None:
    """A wrong URL is found at construction, and the error does not repeat the key."""
    with pytest.raises(ValueError) as error:
        kind(base_url=url, model="m", api_key="secret-key")
    assert "secret-key" not in str(error.value)


@pytest.mark.no_key
@pytest.mark.parametrize("kind", CLASSES)
def test_the_catalog_without_a_key_warns_and_fails_at_the_call(kind: Any) -> None:
    """Constructing one without a key warns as LangChain's users know it; the first call says what to do."""
    with pytest.warns(UserWarning, match="API key is required for the hosted"):
        made = kind(model="nvdev/preview")
    assert made.is_hosted
    with pytest.raises(ConfigurationError, match=r"Unauthorized.*API key"):
        made.available_models  # noqa: B018


@pytest.mark.parametrize("kind", CLASSES)
def test_the_key_is_a_secret(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia_api_key wins over api_key, that over the environment; none is shown."""
    monkeypatch.setenv("NVIDIA_API_KEY", "of-environment")
    for fields, expected in [
        ({}, "of-environment"),
        ({"api_key": "explicit"}, "explicit"),
        ({"api_key": "explicit", "nvidia_api_key": "first"}, "first"),
    ]:
        made = kind(base_url=URL, model="m", **fields)
        assert made.api_key.get_secret_value() == expected
        assert expected not in repr(made)


@pytest.mark.no_key
def test_a_key_of_the_environment_goes_to_no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA_API_KEY is not sent to a base URL that was written in the program, even after the object was rebuilt."""
    monkeypatch.setenv("NVIDIA_API_KEY", "of-environment")
    transport = FakeTransport([reply()] * 4)
    chat = ChatNVIDIA(base_url=URL, model="m", transport=transport)
    chat.invoke("hi")
    assert authorization(transport) is None
    configurable = chat.configurable_fields(temperature=ConfigurableField(id="t"))
    configurable.invoke("hi", config={"configurable": {"t": 0.5}})
    assert authorization(transport) is None
    assert transport.requests[-1].json["temperature"] == 0.5
    chat.model_copy(update={"temperature": 1.0}).invoke("hi")
    assert authorization(transport) is None
    ChatNVIDIA(base_url=URL, model="m", api_key="of-environment", transport=transport).invoke("hi")
    assert authorization(transport) == "Bearer of-environment"


@pytest.mark.no_key
def test_a_base_url_of_the_environment_gets_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA_BASE_URL and NVIDIA_API_KEY belong together."""
    monkeypatch.setenv("NVIDIA_BASE_URL", URL)
    monkeypatch.setenv("NVIDIA_API_KEY", "of-environment")
    transport = FakeTransport([reply()])
    chat = ChatNVIDIA(model="m", transport=transport)
    assert chat.base_url == "http://nim.test/v1"
    chat.invoke("hi")
    assert authorization(transport) == "Bearer of-environment"


def test_fields_are_read_at_the_call() -> None:
    """Model, headers and server may be changed on the object; a copy has its own."""
    transport = FakeTransport([reply()] * 3)
    chat = ChatNVIDIA(base_url=URL, model="a", transport=transport)
    chat.invoke("hi")
    other = copy.deepcopy(chat)
    other.transport = transport
    other.model, other.default_headers, other.base_url = "b", {"X-Tenant": "7"}, "http://elsewhere.test"
    other.invoke("hi")
    chat.invoke("hi")
    assert [request.json["model"] for request in transport.requests] == ["a", "b", "a"]
    assert [request.headers.get("x-tenant") for request in transport.requests] == [None, "7", None]
    assert transport.requests[1].url == "http://elsewhere.test/v1/chat/completions"


def test_the_names_that_may_be_imported() -> None:
    """Those of langchain-nvidia-ai-endpoints, and the errors of its retriever."""
    assert sorted(nimclient.integrations.langchain.__all__) == [
        "ChatNVIDIA",
        "ChatNVIDIADynamo",
        "Model",
        "NVIDIA",
        "NVIDIAEmbeddings",
        "NVIDIARAGConnectionError",
        "NVIDIARAGError",
        "NVIDIARAGRetriever",
        "NVIDIARAGServerError",
        "NVIDIARAGValidationError",
        "NVIDIARerank",
        "__version__",
        "get_inference_priority",
        "inference_priority",
        "register_model",
    ]


def test_importing_the_package_does_not_import_langchain() -> None:
    """`import nimclient` and its integrations package cost nothing of LangChain; the adapter imports langchain-core only."""
    code = (
        "import sys, nimclient.integrations; assert 'langchain_core' not in sys.modules;"
        "import nimclient.integrations.langchain;"
        "assert not {'langchain', 'langgraph', 'langchain_community'} & sys.modules.keys(); print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "ok\n", done.stderr


# models ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hosted_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_API_KEY", "key")


def test_default_models_of_the_catalog(hosted_key: None) -> None:
    """Each class has its default in the hosted catalog, known without a request."""
    assert ChatNVIDIA().model == MODEL
    assert NVIDIAEmbeddings().model == "nvidia/llama-nemotron-embed-1b-v2"
    assert NVIDIARerank().model == "nvidia/llama-nemotron-rerank-1b-v2"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ai-mixtral-8x7b-instruct", "is deprecated. Using mistralai/mixtral-8x7b-instruct-v0.1"),
        ("google/gemma-7b", "is deprecated and may be removed"),
        ("nobody/knows", "is unknown"),
        ("nvidia/llama-nemotron-embed-1b-v2", "incompatible with client ChatNVIDIA"),
    ],
)
def test_models_that_look_wrong_warn(hosted_key: None, name: str, words: str) -> None:
    """Old names, deprecated, unknown and other classes' models warn at the line of construction, without a request."""
    with pytest.warns(UserWarning, match=words) as warned:
        chat = ChatNVIDIA(model=name)
    assert {warning.filename for warning in warned} == {__file__}
    assert (chat.model == name) is (name != "ai-mixtral-8x7b-instruct")


def test_names_of_ones_own_server_do_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    """A server of one's own may serve a model under any name."""
    ChatNVIDIA(base_url=URL, model="nobody/knows")
    assert not list(recwarn)


def test_a_registered_model_goes_to_its_url_and_is_listed() -> None:
    """register_model: the endpoint is used as it stands, and the class lists it."""
    register_model(Model(id="own/model", model_type="chat", client="ChatNVIDIA", endpoint="http://own.test/v1/x"))
    transport = FakeTransport([reply()])
    chat = ChatNVIDIA(base_url=URL, model="own/model", transport=transport)
    chat.invoke("hi")
    assert transport.requests[0].url == "http://own.test/v1/x"
    assert "own/model" in [model.id for model in registry.listed_models([], "ChatNVIDIA")]
    assert "own/model" not in [model.id for model in registry.listed_models([], "NVIDIARerank")]


def test_registering_twice_warns_and_needs_an_endpoint() -> None:
    """An id that is known is overridden with a warning; a model without an endpoint is a ValueError."""
    with pytest.warns(UserWarning, match="already registered"):
        register_model(Model(id=MODEL, model_type="chat", client="ChatNVIDIA", endpoint="http://own.test/v1/x"))
    with pytest.raises(ValueError, match="does not have an endpoint"):
        register_model(Model(id="own/other", model_type="chat", client="ChatNVIDIA"))
    with pytest.raises(ValueError, match="not supported"):
        Model(id="own/other", model_type="embedding", client="ChatNVIDIA")


@pytest.mark.parametrize("enabled", [True, False])
def test_a_registered_model_thinks_its_own_way(enabled: bool) -> None:
    """Parameters are merged into the request, a prefix stands at the end of the system message."""
    switches: Any = {
        "own/params": {
            "thinking_param_enable": {"chat_template_kwargs": {"deep": True}},
            "thinking_param_disable": {"chat_template_kwargs": {"deep": False}},
        },
        "own/words": {"thinking_prefix": "/on", "no_thinking_prefix": "/off"},
    }
    bodies = []
    for name, switch in switches.items():
        register_model(Model(id=name, model_type="chat", client="ChatNVIDIA", endpoint="http://own.test/v1", **switch))
        transport = FakeTransport([reply()])
        chat = ChatNVIDIA(
            base_url=URL, model=name, transport=transport, model_kwargs={"chat_template_kwargs": {"x": 1}}
        )
        chat.with_thinking_mode(enabled=enabled).invoke([("system", "Be kind."), ("human", "hi")])
        bodies.append(transport.requests[0].json)
    assert bodies[0]["chat_template_kwargs"] == {"x": 1, "deep": enabled}
    assert bodies[1]["messages"][0]["content"] == ("Be kind.\n/on" if enabled else "Be kind.\n/off")


def test_available_models_of_the_simulator(simulator: str) -> None:
    """A server's own list is not filtered; it is the same with await."""
    models = ChatNVIDIA.get_available_models(base_url=simulator)
    known = next(model for model in models if model.id == MODEL)
    assert (known.model_type, known.client, known.supports_tools) == ("chat", "ChatNVIDIA", True)
    assert known.thinking_param_enable == {"chat_template_kwargs": {"enable_thinking": True}}


def test_equal_objects_are_equal_whether_used_or_not() -> None:
    """Clients are no part of an object: a copy, and one built alike, are equal after a call, too."""
    transport = FakeTransport([reply()] * 20)
    chat = ChatNVIDIA(base_url=URL, model="a", transport=transport)
    chat.invoke("hi")
    assert chat == ChatNVIDIA(base_url=URL, model="a", transport=transport) == chat.model_copy()
    assert chat != ChatNVIDIA(base_url=URL, model="b", transport=transport)
    for number in range(12):
        chat.default_headers = {"X-Request": str(number)}
        chat.invoke("hi")
        assert transport.requests[-1].headers.get("x-request") == str(number)


async def test_models_are_listed_once_an_object() -> None:
    """The list is asked for once, with or without await; another server is another list."""
    transport = FakeTransport([{"data": [{"id": "a"}]}, {"data": [{"id": "b"}]}])
    chat = ChatNVIDIA(base_url=URL, model="a", transport=transport)
    for models in (chat.available_models, await chat.aget_available_models(), chat.available_models):
        assert [model.id for model in models] == ["a"]
    chat.base_url = "http://elsewhere.test"
    assert [model.id for model in chat.available_models] == ["b"]


async def test_available_models_with_await(simulator: str) -> None:
    """The list can be had without blocking a loop."""
    models = await NVIDIAEmbeddings(base_url=simulator, model="m").aget_available_models()
    assert "nvidia/llama-nemotron-embed-1b-v2" in [model.id for model in models]


def test_validation_errors_do_not_show_what_was_passed() -> None:
    """pydantic's message for a wrong field does not repeat the other arguments."""
    with pytest.raises(ValidationError) as error:
        NVIDIARerank(base_url=URL, model="m", top_n=-1, api_key="secret-key")
    assert "secret-key" not in str(error.value)


def test_rerank_headers_under_their_old_name() -> None:
    """extra_headers is default_headers with a DeprecationWarning."""
    ranks = {"rankings": [{"index": 0, "logit": 1.0}]}
    transport = FakeTransport([ranks])
    with pytest.warns(DeprecationWarning, match="extra_headers"):
        model = NVIDIARerank(base_url=URL, model="m", extra_headers={"X-Tenant": "7"}, transport=transport)
    model.compress_documents([Document("a")], "b")
    assert transport.requests[0].headers.get("x-tenant") == "7"
