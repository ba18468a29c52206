"""instructor, pydantic-ai, litellm and `llm`, which all speak through openai-python or their own HTTP."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nimclient import AsyncClient, AttemptEvent
from nimclient.integrations.httpx import NimTransport
from nimclient.simulator import Simulator

from .said import ADA, ANSWER, CHAT, EMBEDDING, PASSAGES, PERSON_TEXT, QUESTION, RANKING, Person, get_weather

MESSAGES: list[Any] = [{"role": "user", "content": PERSON_TEXT}]


@pytest.mark.parametrize("mode", ["TOOLS", "TOOLS_STRICT", "JSON", "MD_JSON", "JSON_SCHEMA"])
def test_instructor(url: str, mode: str) -> None:
    """Every mode gets its object without a second try, also piece by piece."""
    instructor = pytest.importorskip("instructor", reason="instructor is not installed")
    openai = pytest.importorskip("openai")
    client = instructor.from_openai(openai.OpenAI(base_url=url, api_key="k"), mode=instructor.Mode[mode])
    options: dict[str, Any] = {"model": CHAT, "messages": MESSAGES, "response_model": Person}
    assert client.chat.completions.create(**options, max_retries=0).model_dump() == ADA.model_dump()
    last = list(client.chat.completions.create_partial(**options))[-1]
    assert (last.name, last.age) == (ADA.name, ADA.age)


def test_instructor_lists(url: str) -> None:
    """A list of objects has as many as the text tells of."""
    instructor = pytest.importorskip("instructor", reason="instructor is not installed")
    openai = pytest.importorskip("openai")
    client = instructor.from_openai(openai.OpenAI(base_url=url, api_key="k"))
    messages = [{"role": "user", "content": "Alice is 30 years old. Bob is 41."}]
    people = client.chat.completions.create_iterable(model=CHAT, messages=messages, response_model=Person)
    assert list(people) == [Person(name="Alice", age=30), Person(name="Bob", age=41)]


@pytest.fixture(params=["chat", "responses"])
def pydantic_model(request: pytest.FixtureRequest, url: str) -> Any:
    """pydantic-ai's model over either API."""
    models = pytest.importorskip("pydantic_ai.models.openai", reason="pydantic-ai is not installed")
    provider = pytest.importorskip("pydantic_ai.providers.openai").OpenAIProvider(base_url=url, api_key="k")
    kind = models.OpenAIChatModel if request.param == "chat" else models.OpenAIResponsesModel
    return kind(CHAT, provider=provider)


async def test_pydantic_ai_words(pydantic_model: Any) -> None:
    """An agent answers, plain and as a stream."""
    from pydantic_ai import Agent

    agent = Agent(pydantic_model)
    assert (await agent.run(QUESTION)).output == ANSWER
    async with agent.run_stream(QUESTION) as stream:
        assert "".join([piece async for piece in stream.stream_text(delta=True)]) == ANSWER


async def test_pydantic_ai_output(pydantic_model: Any) -> None:
    """A type as output, by a tool, by the server's mode and by the prompt."""
    from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput

    for output in (ToolOutput(Person), NativeOutput(Person), PromptedOutput(Person)):
        assert (await Agent(pydantic_model, output_type=output).run(PERSON_TEXT)).output == ADA


async def test_pydantic_ai_tools(pydantic_model: Any) -> None:
    """A tool is run and answered from; beside a tool for the output each has its turn."""
    from pydantic_ai import Agent

    agent: Any = Agent(pydantic_model, tools=[get_weather])
    assert "sunny in Paris" in (await agent.run("What is the weather in Paris?")).output
    agent = Agent(pydantic_model, tools=[get_weather], output_type=Person)
    assert (await agent.run(f"Weather in London? {PERSON_TEXT}")).output == ADA


async def test_pydantic_ai_over_our_transport(url: str) -> None:
    """With NimTransport below, a 429 is waited out, words stream, tools run and a class is filled, over the client's key."""
    openai_models = pytest.importorskip("pydantic_ai.models.openai", reason="pydantic-ai is not installed")
    providers = pytest.importorskip("pydantic_ai.providers.openai")
    from openai import DefaultAsyncHttpxClient
    from pydantic_ai import Agent

    tried: list[AttemptEvent] = []
    busy = Simulator(dialect="hosted", faults="busy=1")
    async with busy, AsyncClient("nvapi-ours", busy.base_url, on_attempt=tried.append) as client:
        http = DefaultAsyncHttpxClient(transport=NimTransport(client))
        provider = providers.OpenAIProvider(base_url=busy.base_url, api_key="unused", http_client=http)
        model = openai_models.OpenAIChatModel(CHAT, provider=provider)
        assert (await Agent(model).run(QUESTION)).output == ANSWER
        async with Agent(model).run_stream(QUESTION) as stream:
            assert "".join([piece async for piece in stream.stream_text(delta=True)]) == ANSWER
        agent: Any = Agent(model, tools=[get_weather])
        assert "sunny in Paris" in (await agent.run("What is the weather in Paris?")).output
        assert (await Agent(model, output_type=Person).run(PERSON_TEXT)).output == ADA
    assert [event.status for event in tried[:2]] == [429, 200]
    assert {request.headers["authorization"] for request in busy.requests} == {"Bearer nvapi-ours"}


@pytest.mark.parametrize("provider", ["nvidia_nim", "hosted_vllm", "openai"])
def test_litellm(url: str, provider: str) -> None:
    """Words, a stream, tools and a schema through each of its providers."""
    litellm = pytest.importorskip("litellm", reason="litellm is not installed")
    options: dict[str, Any] = {"model": f"{provider}/{CHAT}", "api_base": url, "api_key": "k"}
    messages = [{"role": "user", "content": QUESTION}]
    assert litellm.completion(messages=messages, **options).choices[0].message.content == ANSWER
    chunks = litellm.completion(messages=messages, stream=True, **options)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    call = litellm.completion(messages=asked, tools=[tool], **options).choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Paris"}')
    text = litellm.completion(messages=MESSAGES, response_format=Person, **options).choices[0].message.content
    assert Person.model_validate_json(text) == ADA


def test_litellm_retrieval_and_errors(url: str) -> None:
    """Embeddings, ranking, and an unknown model as its own NotFoundError."""
    litellm = pytest.importorskip("litellm", reason="litellm is not installed")
    options: dict[str, Any] = {"api_base": url, "api_key": "k"}
    embedded = litellm.embedding(model=f"nvidia_nim/{EMBEDDING}", input=["a", "b"], input_type="query", **options)
    assert len(embedded.data) == 2
    ranked = litellm.rerank(model=f"nvidia_nim/ranking/{RANKING}", query="csv", documents=PASSAGES, **options)
    assert ranked.results[0]["index"] == 1
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="nvidia_nim/no/such", messages=MESSAGES, max_retries=0, **options)


def test_llm_command(url: str, tmp_path: Path) -> None:
    """The `llm` command with a model of its own list, plain, streamed and with a schema."""
    pytest.importorskip("llm", reason="llm is not installed")
    models = f"- model_id: nim\n  model_name: {CHAT}\n  api_base: {url}\n  supports_schema: true\n"
    tmp_path.joinpath("extra-openai-models.yaml").write_text(models)
    for options, said in (
        (["--no-stream", QUESTION], ANSWER),
        ([QUESTION], ANSWER),
        (["--schema", "name, age int", PERSON_TEXT], '"age": 36'),
    ):
        command = [sys.executable, "-m", "llm", "-m", "nim", "--key", "k", "--no-log", *options]
        ran = subprocess.run(
            command, capture_output=True, text=True, env={"LLM_USER_PATH": str(tmp_path)}, check=False, timeout=50
        )
        assert said in ran.stdout, ran.stdout + ran.stderr


async def test_openai_responses_and_tokens(url: str) -> None:
    """openai-python's Responses API with a type, and embeddings of token numbers, as on a vLLM."""
    openai = pytest.importorskip("openai")
    async with openai.AsyncOpenAI(base_url=url, api_key="k") as client:
        parsed = await client.responses.parse(model=CHAT, input=PERSON_TEXT, text_format=Person)
        assert parsed.output_parsed == ADA
        assert (await client.models.retrieve(CHAT)).id == CHAT
