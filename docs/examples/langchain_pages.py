"""What LangChain's pages for ChatNVIDIA, ChatNVIDIADynamo, NVIDIAEmbeddings, NVIDIA and ChatOpenAI on vLLM show, with the
import line changed.

NVIDIA_BASE_URL=http://localhost:8000 python langchain_pages.py
"""

import asyncio
import base64
import getpass
import json
import os
import sys
import warnings
from enum import StrEnum

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.prompts.chat import HumanMessagePromptTemplate, SystemMessagePromptTemplate
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from nimclient.integrations.langchain import (
    NVIDIA,
    ChatNVIDIA,
    ChatNVIDIADynamo,
    NVIDIAEmbeddings,
    inference_priority,
)

SERVER = os.environ.get("NVIDIA_BASE_URL", "http://localhost:8000/v1")
EYES = "nvidia/nemotron-3.5-super-vl-120b-a12b"
PIXEL = base64.b64encode(
    base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
).decode()


def key() -> None:
    """The key by getpass, where a person sits before it."""
    if not os.environ.get("NVIDIA_API_KEY", "").startswith("nvapi-") and sys.stdin.isatty():
        os.environ["NVIDIA_API_KEY"] = getpass.getpass("Enter your NVIDIA API key: ")


def models() -> None:
    """Instantiate, at the catalog or at a NIM of one's own; which models there are, and which call tools."""
    ChatNVIDIA(base_url=SERVER, model="meta/llama-3.1-8b-instruct")
    available = ChatNVIDIA.get_available_models()
    print(len(available), "models,", sum(bool(model.supports_tools) for model in available), "call tools")
    print(sum(bool(model.supports_thinking) for model in available), "can think or not")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for old in ("playground_mixtral_8x7b", "ai-mixtral-8x7b-instruct"):
            ChatNVIDIA(model=old)
    print(heard[0].message)


async def calls() -> None:
    """invoke, batch, stream, astream, templates, code."""
    llm = ChatNVIDIA(model="mistralai/mixtral-8x22b-instruct-v0.1", max_completion_tokens=100)
    print(llm.invoke("Write a ballad about LangChain.").content)
    print([answer.content for answer in llm.batch(["What's 2*3?", "What's 2*6?"])])
    print(len(await llm.abatch(["What's 2*3?", "What's 2*6?"])))
    print("|".join(str(chunk.content) for chunk in llm.stream("How far can a seagull fly in one day?")))
    print("|".join([str(chunk.content) async for chunk in llm.astream("How long do butterflies live?")]))
    prompt = ChatPromptTemplate.from_messages(
        [("system", "You are a helpful assistant named Fred."), ("user", "{input}")]
    )
    for text in (prompt | llm | StrOutputParser()).stream({"input": "What's your name?"}):
        print(text, end="")
    print()
    code = ChatPromptTemplate.from_messages([("system", "Respond only in valid python."), ("user", "{input}")])
    coder = ChatNVIDIA(model="mistralai/codestral-22b-instruct-v0.1", max_completion_tokens=100)
    print((code | coder | StrOutputParser()).invoke({"input": "How do I solve fizz buzz?"}))


def on_vllm() -> None:
    """The page of ChatOpenAI on vLLM: messages, and a chain of templates."""
    chat = ChatNVIDIA(
        model="meta/llama-3.1-8b-instruct",
        openai_api_key="EMPTY",
        openai_api_base=SERVER,
        max_completion_tokens=100,
        temperature=0,
    )
    messages = [
        SystemMessage("You translate English to Italian."),
        HumanMessage("Translate: I love programming."),
    ]
    print(chat.invoke(messages).content)
    system = SystemMessagePromptTemplate.from_template("You translate {input_language} to {output_language}.")
    prompt = ChatPromptTemplate.from_messages([system, HumanMessagePromptTemplate.from_template("{text}")])
    fields = {"input_language": "English", "output_language": "Italian", "text": "I love programming."}
    print((prompt | chat).invoke(fields).content)


def images() -> None:
    """An image by URL, inside the message, and as an `<img>` string."""
    llm = ChatNVIDIA(model=EYES)
    for url in ("https://example.com/picture.png", f"data:image/png;base64,{PIXEL}"):
        parts = [{"type": "text", "text": "Describe this image:"}, {"type": "image_url", "image_url": {"url": url}}]
        print(llm.invoke([HumanMessage(parts)]).content)
    print(llm.invoke(f'What is in this image?\n<img src="data:image/png;base64,{PIXEL}" />').content)


class Person(BaseModel):
    """A person."""

    first_name: str = Field(description="The person's first name.")
    last_name: str = Field(description="The person's last name.")


class Choices(StrEnum):
    """What can be chosen."""

    A = "Option A"
    B = "Option B"


@tool
def get_current_weather(location: str = Field(description="The location to get the weather for.")) -> str:
    """Get the current weather for a location."""
    return f"It is sunny in {location}."


def tools_and_types() -> None:
    """Tools bound to a model, and answers of a type."""
    llm = ChatNVIDIA(model="nvidia/nemotron-3-nano-30b-a3b")
    answer = llm.bind_tools(tools=[get_current_weather], tool_choice="any").invoke("What is the weather in Boston?")
    print(answer.tool_calls)
    print(repr(llm.with_structured_output(Person).invoke("Who is Michael Jeffrey Jordan?")))
    print(repr(llm.with_structured_output(Choices).invoke("What does 1+1 equal? Option A: 3, Option B: 2")))
    for thinker in (llm.with_thinking_mode(enabled=True), llm.bind(thinking_mode=True)):
        print(thinker.invoke("Why is the sky blue?").additional_kwargs["reasoning_content"])


def dynamo() -> None:
    """Hints for Dynamo's router: of the model, of one call, of a block; and the body that is sent."""
    hints = {"osl": 20, "priority": 10, "latency_sensitivity": 1.0}
    llm = ChatNVIDIADynamo(base_url=SERVER, model="meta/llama-3.1-8b-instruct", **hints)
    print(llm.invoke("Classify this as positive or negative: 'I love this product!'", osl=10, iat=100).content)
    with inference_priority(3):
        print("|".join(str(chunk.content) for chunk in llm.stream("Give a one-sentence summary of GPU computing.")))
    payload = llm._get_payload(inputs=[{"role": "user", "content": "Hello!"}], stop=None)
    print(json.dumps(payload["nvext"], indent=2))


async def vectors() -> None:
    """Queries and documents, how near they are, and texts that are too long."""
    embedder = NVIDIAEmbeddings(model="nvidia/llama-nemotron-embed-1b-v2")
    queries = ["What's the weather like in Komchatka?", "What kinds of food is Italy known for?"]
    documents = ["Komchatka's weather is cold, with long winters.", "Italy is famous for pasta, pizza and gelato."]
    asked = [embedder.embed_query(query) for query in queries]
    told = await embedder.aembed_documents(documents)
    for row in asked:  # what the page draws as a heat map
        print([round(sum(a * b for a, b in zip(row, column, strict=True)), 2) for column in told])
    long = "AI is amazing, amazing is " * 4000
    try:
        NVIDIAEmbeddings(model="nvidia/llama-nemotron-embed-1b-v2", truncate="NONE").embed_query(long)
    except Exception as error:  # noqa: BLE001 - the page shows any
        print(type(error).__name__, error)
    for end in ("START", "END"):
        print(len(NVIDIAEmbeddings(model="nvidia/llama-nemotron-embed-1b-v2", truncate=end).embed_query(long)))


def completions() -> None:
    """The page of NVIDIA: text that goes on."""
    llm = NVIDIA(model="bigcode/starcoder2-7b").bind(max_tokens=32)
    print(llm.invoke("# Function that does quicksort written in Rust without comments:"))
    print("|".join(llm.stream("# Function that does quicksort")))


if __name__ == "__main__":
    key()
    models()
    asyncio.run(calls())
    on_vllm()
    images()
    tools_and_types()
    dynamo()
    asyncio.run(vectors())
    completions()
