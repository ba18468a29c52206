"""Which server can do what: the table of docs/servers.md, as this client finds it by asking.

`PYTHONPATH=src:tests python -m servers.features` asks the four dialects of the simulator and writes the page. What real
servers answered is kept in tests/servers/features.json with their version; their own sessions ask again and compare, and
with NIMCLIENT_RECORD_FEATURES=1 write it again.
"""

import asyncio
import json
import os
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from nimclient import AsyncClient
from nimclient.errors import NimError
from nimclient.simulator import Simulator

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "servers.md"
KEPT = Path(__file__).with_name("features.json")
DIALECTS = ("nim", "vllm", "dynamo", "hosted")
MODELS = {
    "chat": "nvidia/nemotron-3-nano-30b-a3b",
    "completions": "nvidia/nemotron-3-nano-30b-a3b",
    "embedding": "nvidia/llama-nemotron-embed-1b-v2",
    "ranking": "nvidia/llama-nemotron-rerank-1b-v2",
}
YES = "yes"
Probe = Callable[[AsyncClient], Awaitable[str]]

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


async def _chat(client: AsyncClient) -> str:
    reply = await client.chat.create("What is a GPU?", max_tokens=16)
    return YES if reply.text or reply.reasoning else "no text"


async def _stream(client: AsyncClient) -> str:
    reply = await client.chat.stream("What is a GPU?", max_tokens=16).final()
    return YES if reply.usage is not None else "without usage"


async def _several(client: AsyncClient) -> str:
    return YES if len((await client.chat.create("What is a GPU?", n=2, max_tokens=8)).choices) == 2 else "one only"


async def _logprobs(client: AsyncClient) -> str:
    reply = await client.chat.create("What is a GPU?", logprobs=True, top_logprobs=2, thinking=False, max_tokens=16)
    return YES if reply.logprobs is not None else "not in the answer"


async def _developer(client: AsyncClient) -> str:
    await client.chat.create([("developer", "Be brief."), ("user", "What is a GPU?")], max_tokens=8)
    return YES


async def _tools(client: AsyncClient) -> str:
    reply = await client.chat.create("Please add 2 and 3.", tools=[TOOL], tool_choice="required", max_tokens=64)
    return YES if reply.tool_calls else "not called"


async def _schema(client: AsyncClient) -> str:
    value = (await client.chat.parse("A person by the name of Ada.", SCHEMA, max_tokens=64)).value
    return YES if isinstance(value, dict) else "no object"


async def _reasoning(client: AsyncClient) -> str:
    reply = await client.chat.create("What is a GPU?", thinking=True, max_tokens=400)
    message = reply.message.extra if reply.message else {}
    return "in tags" if "raw_content" in message else YES if reply.reasoning else "none in the answer"


async def _completions(client: AsyncClient) -> str:
    return YES if (await client.completions.create("A GPU is", max_tokens=8)).text else "no text"


async def _embeddings(client: AsyncClient) -> str:
    vectors = (await client.embeddings.create(["one", "two"], input_type="passage")).vectors
    return YES if len(vectors) == 2 else "another count"


async def _dimensions(client: AsyncClient) -> str:
    vectors = (await client.embeddings.create(["one"], input_type="passage", dimensions=384)).vectors
    return YES if vectors.dimensions == 384 else "ignored"


async def _input_type(client: AsyncClient) -> str:
    pair = [(await client.embeddings.create(["one"], input_type=kind)).vectors for kind in ("query", "passage")]
    return YES if pair[0] != pair[1] else "ignored"


async def _rerank(client: AsyncClient) -> str:
    ranking = await client.rerank("csv", ["json", "csv"])
    return str(ranking.measure)


async def _models(client: AsyncClient) -> str:
    return YES if await client.models.list() else "empty"


async def _ready(client: AsyncClient) -> str:
    return YES if await client.health.ready() else "not ready"


async def _metadata(client: AsyncClient) -> str:
    return YES if (await client.metadata()).version else "without version"


async def _tokenize(client: AsyncClient) -> str:
    return YES if (await client.tokenize("how many?")).count else "none"


async def _responses(client: AsyncClient) -> str:
    reply = await client.chat.create("hello", max_tokens=2)
    body = {"model": reply.model, "input": "What is a GPU?", "max_output_tokens": 16}
    answer: Any = await client.request("POST", "/v1/responses", json=body)
    return YES if isinstance(answer, dict) and answer.get("object") == "response" else "another object"


FEATURES: dict[str, Probe] = {
    "`chat.create`": _chat,
    "`chat.stream`, with usage": _stream,
    "several choices (`n=2`)": _several,
    "log probabilities": _logprobs,
    "role `developer` (or sent as `system`)": _developer,
    'tools (`tool_choice="required"`)': _tools,
    "an answer of a type (`chat.parse`)": _schema,
    "reasoning apart from the text": _reasoning,
    "`completions.create`": _completions,
    "embeddings": _embeddings,
    "`dimensions=`": _dimensions,
    "`input_type=` matters": _input_type,
    "`rerank`, and what its scores are": _rerank,
    "`models.list`": _models,
    "`health.ready`": _ready,
    "`metadata`": _metadata,
    "`tokenize`": _tokenize,
    "`/v1/responses` through `request`": _responses,
}


async def ask(client: AsyncClient) -> dict[str, str]:
    """What comes of each feature: "yes", a few words, or the class of the error."""
    found: dict[str, str] = {}
    for name, probe in FEATURES.items():
        try:
            with warnings.catch_warnings(action="ignore"):  # of what a server is known to ignore
                found[name] = await probe(client)
        except NimError as error:
            found[name] = f"`{type(error).__name__}`"
    return found


async def ask_simulator(dialect: Any) -> dict[str, str]:
    """The answers of the simulator in one dialect."""
    key = "nvapi-any" if dialect == "hosted" else None
    async with (
        Simulator(dialect=dialect) as simulator,
        AsyncClient(key, simulator.base_url, dialect=dialect, model=MODELS) as client,
    ):
        return await ask(client)


async def all_columns() -> dict[str, dict[str, str]]:
    """Name of the server → its answers: the real ones that are kept, and the simulator asked now."""
    kept: dict[str, dict[str, str]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    simulated = {f"simulator, `{dialect}`": await ask_simulator(dialect) for dialect in DIALECTS}
    return simulated | kept


TOP = """\
# Which server can do what

As this client finds it by calling: `tests/servers/features.py` makes the calls, and the tests keep this page true. The name
of an error is what the call raises there. The simulator is called in its four dialects at every run of the tests; the other
columns are real servers in the version that is named, asked by the sessions that install them (`nox -s slow`, `vllm`,
`servers`). They ran without a GPU, with random weights, a mocker or the simulator behind the protocol: what they say of a
route is theirs, what they say of an answer's sense is not.

"""
BOTTOM = """
Servers that are known by their answers without having a column: llama-server, infinity, SGLang,
text-embeddings-inference. What was reported of them is in [from the field](from_the_field.md), and their routes of
health, tokens and ranking are in [models and health](models.md).

Next: [a NIM of your own](nim.md), [vLLM](vllm.md), [Dynamo](dynamo.md).
"""


def page(columns: dict[str, dict[str, str]]) -> str:
    """The whole page."""
    names = list(columns)
    lines = [["", *names], ["---"] * (len(names) + 1)]
    lines += [[feature, *(columns[name].get(feature, "") for name in names)] for feature in FEATURES]
    return TOP + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n" + BOTTOM


def compare(name: str, found: dict[str, str]) -> None:
    """Assert that a real server's answers are those that are kept; with NIMCLIENT_RECORD_FEATURES=1 keep these."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if os.environ.get("NIMCLIENT_RECORD_FEATURES"):
        KEPT.write_text(json.dumps(kept | {name: found}, indent=1, sort_keys=True) + "\n")
    else:
        assert found == kept.get(name, found), f"{name} answers otherwise than docs/servers.md says"


if __name__ == "__main__":
    PAGE.write_text(page(asyncio.run(all_columns())))
