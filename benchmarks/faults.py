"""Faults beside peers: `python -m benchmarks.faults [--markdown docs/faults_beside_peers.md] [--row F045]...`.

Cases of each row of `tests/support/faults.py`, committed by the same scripted server against nimclient, openai,
langchain-nvidia-ai-endpoints and litellm, each with a time limit of two seconds where its settings take one, else as it
comes. Prints who gives the answer, who raises what, who returns something else as if it were the answer, and who has
not ended after 15 seconds.
"""

import argparse
import asyncio
import os
import sys
import warnings
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the cases are those of the tests

from support.faults import CASES, Case
from support.server import FaultServer
from support.wire import answer

LIMIT = 2.0
GUARD = 15.0
KEY = "nvapi-benchmark"
TEXTS = ["0", "1"]
QUESTION: list[dict[str, str]] = [{"role": "user", "content": "hi"}]
MODEL = "test-model"
MODELS = answer({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
PEERS = ["nimclient", "openai", "langchain-nvidia-ai-endpoints", "litellm"]

Caller = Callable[[str, str], Awaitable[str]]
"""Takes the base URL and the kind of call; returns the text of the answer, or how many vectors there are."""


async def nimclient(url: str, call: str) -> str:
    """The client of this project."""
    from nimclient import AsyncClient

    async with AsyncClient(base_url=url, api_key=KEY, model=MODEL) as client:
        if call == "embed":
            return f"{len((await client.embeddings.create(TEXTS, timeout=LIMIT)).vectors)} vectors"
        if call == "stream":
            async with client.chat.stream(QUESTION, timeout=LIMIT) as stream:
                return "".join([piece async for piece in stream.text_stream])
        return (await client.chat.create(QUESTION, timeout=LIMIT)).text


async def openai(url: str, call: str) -> str:
    """openai-python."""
    from openai import AsyncOpenAI

    messages: Any = QUESTION
    async with AsyncOpenAI(base_url=url, api_key=KEY, timeout=LIMIT) as client:
        if call == "embed":
            return f"{len((await client.embeddings.create(model=MODEL, input=TEXTS)).data)} vectors"
        if call == "stream":
            stream = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
        reply = await client.chat.completions.create(model=MODEL, messages=messages)
        return reply.choices[0].message.content or ""


async def langchain_nvidia(url: str, call: str) -> str:
    """langchain-nvidia-ai-endpoints, which has no time limit to set."""
    from langchain_nvidia_ai_endpoints import ChatNVIDIA, NVIDIAEmbeddings

    if call == "embed":
        embedder = NVIDIAEmbeddings(base_url=url, api_key=KEY, model=MODEL)
        return f"{len(await embedder.aembed_documents(TEXTS))} vectors"
    chat = ChatNVIDIA(base_url=url, api_key=KEY, model=MODEL)
    if call == "stream":
        return "".join([str(chunk.content) async for chunk in chat.astream("hi")])
    return str((await chat.ainvoke("hi")).content)


async def litellm(url: str, call: str) -> str:
    """litellm, as its users call servers with OpenAI's routes."""
    import litellm

    settings: Any = {"model": f"openai/{MODEL}", "api_base": url, "api_key": KEY, "timeout": LIMIT}
    if call == "embed":
        return f"{len((await litellm.aembedding(input=TEXTS, **settings)).data)} vectors"
    reply: Any = await litellm.acompletion(messages=QUESTION, stream=call == "stream", **settings)
    if call == "stream":
        return "".join([chunk.choices[0].delta.content or "" async for chunk in reply if chunk.choices])
    return reply.choices[0].message.content or ""


CALLERS: dict[str, Caller] = dict(zip(PEERS, (nimclient, openai, langchain_nvidia, litellm), strict=True))


def chosen(rows: Sequence[str] | None) -> list[Case]:
    """Of each row the first case with an answer and the first with an error, of calls that all peers have."""
    first: dict[tuple[str, bool], Case] = {}
    for case in CASES:
        if case.call != "rerank" and (rows is None or case.row in rows):
            first.setdefault((case.row, isinstance(case.outcome, str)), case)
    return list(first.values())


async def outcome(case: Case, caller: Caller) -> str:
    """What a peer makes of a fault, in a few words."""
    async with FaultServer() as server:
        server.script(*case.scripts)
        server.script(MODELS, path="/v1/models")
        server.on_accept = case.on_accept
        task = asyncio.ensure_future(caller(server.url, case.call))
        done, _ = await asyncio.wait([task], timeout=GUARD)
        if not done:
            task.cancel()
    if not done:
        await asyncio.wait([task], timeout=GUARD)
        return "**has not ended after 15 s**"
    error = task.exception()
    return verdict(case, str(task.result()) if error is None else "", error)


def verdict(case: Case, text: str, error: BaseException | None) -> str:
    """An error where there is an answer, and an answer where there is none, are wrong: bold."""
    if error is not None:
        name = type(error).__name__
        return f"`{name}`" if not isinstance(case.outcome, str) else f"**`{name}`**"
    if text == case.outcome:
        return "the answer"
    shown = text if len(text) <= 20 else f"{text[:20]}…"
    return f"**{shown!r} as the answer**" if text else "**nothing, as if it were the answer**"


def page(results: Sequence[tuple[Case, Sequence[str]]]) -> str:
    """The table and its sums, in Markdown."""
    lines = [
        "# Faults beside peers",
        "",
        "The same scripted server commits the same fault against four clients, as they come but for a time limit of two",
        "seconds (langchain-nvidia-ai-endpoints has none to set). **Bold** is wrong: an error although there is an answer,",
        "something else handed out as the answer, or no end after 15 seconds. Made by `python -m benchmarks.faults`, whose",
        f"{len(results)} cases of {len({case.row for case, _ in results})} rows are those of [fault by fault](faults.md); a "
        "busy machine slows all of them, so rows without an end are worth a second run (`--row`). Versions: "
        + ", ".join(f"{peer} {version(peer)}" for peer in PEERS)
        + ".",
        "",
        "| row | what the server does | " + " | ".join(PEERS) + " |",
        "|---|---|" + "---|" * len(PEERS),
        *(f"| {case.row} | {case.call}: {case.what} | " + " | ".join(words) + " |" for case, words in results),
        "| | **wrong, of "
        + str(len(results))
        + "** | "
        + " | ".join(str(sum(words[i].startswith("**") for _, words in results)) for i in range(len(PEERS)))
        + " |",
        "",
        "Next: [fault by fault](faults.md), [from the field](from_the_field.md).",
        "",
    ]
    return "\n".join(lines)


async def run(rows: Sequence[str] | None) -> list[tuple[Case, list[str]]]:
    """Case after case, peer after peer."""
    results: list[tuple[Case, list[str]]] = []
    for case in chosen(rows):
        words = [await outcome(case, CALLERS[peer]) for peer in PEERS]
        print(f"{case.name}: {' | '.join(words)}", flush=True)
        results.append((case, words))
    return results


def main() -> None:
    """Measure, print, and write the page where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description="Faults beside peers.")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    parser.add_argument("--row", action="append", help="only this row; may be repeated")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = asyncio.run(run(options.row))
    if options.markdown:
        options.markdown.write_text(page(results))
    os._exit(0)  # a peer that hangs in a thread would keep the program


if __name__ == "__main__":
    main()
