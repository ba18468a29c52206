"""LangChain's expression language over a NIM: a chain, batches, events, a conversation that remembers.

NVIDIA_BASE_URL=http://localhost:8000 python langchain_chains.py
"""

import asyncio

from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables.history import RunnableWithMessageHistory

from nimclient.integrations.langchain import ChatNVIDIA

MODEL = "nvidia/nemotron-3-nano-30b-a3b"
llm = ChatNVIDIA(model=MODEL, max_completion_tokens=200)


def chain() -> None:
    """prompt | model | parser: at once, streamed, and many side by side."""
    prompt = ChatPromptTemplate([("system", "You answer in {language}."), ("human", "{question}")])
    ask = prompt | llm | StrOutputParser()
    print(ask.invoke({"language": "French", "question": "What is a GPU?"}))
    for piece in ask.stream({"language": "Italian", "question": "What is a tensor?"}):
        print(piece, end="", flush=True)
    print()
    words = [{"language": "English", "question": f"What is a {word}?"} for word in ("kernel", "warp", "block")]
    print(len(ask.batch(words, {"max_concurrency": 2})), "answers")
    print(len(asyncio.run(ask.abatch(words, {"max_concurrency": 2}))), "answers with await")


async def events() -> None:
    """What happens inside, as events of version 2; the typed stream of version 3."""
    kinds: dict[str, int] = {}
    async for event in llm.astream_events("What is CUDA?", version="v2"):
        kinds[event["event"]] = kinds.get(event["event"], 0) + 1
    print(kinds)
    stream = await llm.astream_events("What is CUDA?", version="v3")
    print(await stream.text)


def history() -> None:
    """A conversation per session: the model is told all that was said before."""
    sessions: dict[str, InMemoryChatMessageHistory] = {}
    prompt = ChatPromptTemplate([MessagesPlaceholder("history"), ("human", "{input}")])
    talk = RunnableWithMessageHistory(
        prompt | llm,
        lambda session: sessions.setdefault(session, InMemoryChatMessageHistory()),
        input_messages_key="input",
        history_messages_key="history",
    )
    session = {"configurable": {"session_id": "ann"}}
    talk.invoke({"input": "My name is Ann."}, session)
    print(talk.invoke({"input": "What is my name?"}, session).content)
    print(len(sessions["ann"].messages), "messages kept")


if __name__ == "__main__":
    chain()
    asyncio.run(events())
    history()
