"""Every fault that a scripted server can commit, over real sockets, with the async and with the blocking client."""

import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from nimclient import AsyncClient, Client, Embeddings, Ranking, RetryPolicy, Timeouts, errors
from support.faults import CASES, Case
from support.leaks import assert_idle
from support.server import FaultServer, ServerThread
from support.slow import mostly_slow
from support.wire import HELLO, MODEL, answer, chat, embedded

KEY = "nvapi-canary-0123456789abcdef"
PROMPT = "canary prompt"
GOOD = {
    "chat": chat("well"),
    "stream": HELLO,
    "embed": answer(embedded(["0", "1"])),
    "rerank": answer({"rankings": [{"index": 0, "logit": 1.0}, {"index": 1, "logit": 0.5}]}),
}
WELL = {"chat": "well", "stream": "Hello", "embed": "2 vectors", "rerank": "ranked 0, 1"}


@pytest.fixture(scope="module")
def listening() -> Iterator[FaultServer]:
    """A server in a thread of its own, for clients of both kinds."""
    with ServerThread() as server:
        yield server


def prepare(server: FaultServer, case: Case) -> dict[str, Any]:
    """Set the stage; the settings of the client."""
    server.script(*case.scripts)
    server.on_accept = case.on_accept
    server.requests.clear()
    return {
        "base_url": server.url,
        "api_key": KEY,
        "model": MODEL,
        "retry": RetryPolicy(first_delay=0.001, max_delay=0.002),
        "timeouts": Timeouts(**case.limits),
    }


def shown(result: Any) -> str:
    """An answer in one line."""
    match result:
        case Embeddings():
            return f"{len(result.vectors)} vectors"
        case Ranking():
            return f"ranked {', '.join(str(rank.index) for rank in result.results)}"
        case _:
            return str(result.text)


def check(case: Case, outcome: str | errors.NimError, server: FaultServer, log: str) -> None:
    """It came to what it must, in as many requests; the error is whole, and holds neither key nor prompt."""
    if isinstance(case.outcome, str):
        assert outcome == case.outcome
    else:
        assert isinstance(outcome, case.outcome)
        assert {name: getattr(outcome, name) for name in case.has} == case.has
        assert (outcome.partial.text if outcome.partial else None) == case.partial
        twin = pickle.loads(pickle.dumps(outcome))
        assert (type(twin), str(twin), twin.__dict__) == (type(outcome), str(outcome), outcome.__dict__)
        words = log + repr(outcome) + "".join(traceback.format_exception(outcome))
        assert KEY not in words
        assert PROMPT not in words
        assert 0 < len(str(outcome)) < 600
    assert len(server.requests) == case.requests


async def ask(client: AsyncClient, call: str) -> Any:
    match call:
        case "stream":
            async with client.chat.stream(PROMPT) as stream:
                return await stream.final()
        case "embed":
            return await client.embeddings.create([PROMPT, "1"])
        case "rerank":
            return await client.rerank(PROMPT, ["a", "b"])
        case _:
            return await client.chat.create(PROMPT)


def ask_blocking(client: Client, call: str) -> Any:
    match call:
        case "stream":
            with client.chat.stream(PROMPT) as stream:
                return stream.final()
        case "embed":
            return client.embeddings.create([PROMPT, "1"])
        case "rerank":
            return client.rerank(PROMPT, ["a", "b"])
        case _:
            return client.chat.create(PROMPT)


SLOW = ("F072 an error body that does not end", "F072 an error body of 10 MB", "F095 20,000 events in one chunk")


@pytest.mark.parametrize(
    "case", mostly_slow(CASES, *(case for case in CASES if case.name not in SLOW)), ids=lambda case: case.name
)
async def test_async(listening: FaultServer, caplog: pytest.LogCaptureFixture, case: Case) -> None:
    """The call comes to what it must; then the same client makes a good one, and keeps nothing back."""
    caplog.set_level(logging.DEBUG)
    async with AsyncClient(**prepare(listening, case)) as client:
        outcome: Any
        try:
            outcome = shown(await ask(client, case.call))
        except errors.NimError as error:
            outcome = error
        check(case, outcome, listening, caplog.text)
        listening.on_accept = ()
        listening.script(GOOD[case.call])
        assert shown(await ask(client, case.call)) == WELL[case.call]
        assert_idle(client)


@pytest.mark.parametrize("case", mostly_slow(CASES, *CASES[::8]), ids=lambda case: case.name)
def test_blocking(listening: FaultServer, caplog: pytest.LogCaptureFixture, case: Case) -> None:
    """The same through Client."""
    caplog.set_level(logging.DEBUG)
    with Client(**prepare(listening, case)) as client:
        outcome: Any
        try:
            outcome = shown(ask_blocking(client, case.call))
        except errors.NimError as error:
            outcome = error
        check(case, outcome, listening, caplog.text)
        listening.on_accept = ()
        listening.script(GOOD[case.call])
        assert shown(ask_blocking(client, case.call)) == WELL[case.call]
        assert_idle(client)
