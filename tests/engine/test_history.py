"""What is reported of the attempts of a call: the history of its error, on_attempt, one line of the log."""

import logging
import pickle
import time

import pytest

from nimclient import AsyncClient, AttemptEvent, RetryPolicy
from nimclient.errors import (
    Attempt,
    ClientClosedError,
    ConnectError,
    ConnectionLostError,
    ModelNotFoundError,
    NimError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from nimclient.testing import FakeTransport

HELLO = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
TOKEN = {"choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}]}
QUICK = RetryPolicy(attempts=3, first_delay=0)


async def error_of(*answers: object, stream: bool = False) -> NimError:
    """The error of a call whose attempts are answered so."""
    transport = FakeTransport(answers)  # type: ignore[arg-type]  # each test gives what FakeTransport takes
    async with AsyncClient("a-secret-key", "http://fake", model="m", transport=transport, retry=QUICK) as client:
        with pytest.raises(NimError) as caught:
            await (client.chat.stream("hi").final() if stream else client.chat.create("hi"))
    return caught.value


async def test_an_error_has_an_entry_for_each_attempt() -> None:
    """The base URL, the status or the class of the error, the seconds; oldest first."""
    began = time.monotonic()
    error = await error_of(503, ConnectError("refused", kind="refused"), (503, {}, {"message": "a-secret-key"}))
    assert isinstance(error, ServiceUnavailableError)
    assert [entry[:2] for entry in error.history] == [
        ("http://fake/v1", 503),
        ("http://fake/v1", "ConnectError"),
        ("http://fake/v1", 503),
    ]
    assert all(entry.seconds >= 0 for entry in error.history)
    assert sum(entry.seconds for entry in error.history) <= time.monotonic() - began
    assert error.attempts == 3
    assert "a-secret-key" not in repr(error.history)


async def test_the_history_pickles() -> None:
    """An error that comes out of another process has its history."""
    error = await error_of(404)
    assert pickle.loads(pickle.dumps(error)).history == error.history


async def test_an_error_before_the_first_attempt_has_no_history() -> None:
    """Input that cannot be sent, and a client that is closed, are no attempts."""
    client = AsyncClient("k", "http://fake", model="m", transport=FakeTransport([]))
    await client.aclose()
    with pytest.raises(ClientClosedError) as caught:
        await client.chat.create("hi")
    assert caught.value.history == ()


async def test_a_stream_that_breaks_tells_all_its_attempts() -> None:
    """Those that failed before it opened, then the one that broke."""
    error = await error_of(503, [TOKEN, ConnectionLostError("reset")], stream=True)
    assert isinstance(error, StreamInterruptedError)
    assert [entry.outcome for entry in error.history] == [503, "StreamInterruptedError"]


async def test_a_default_model_that_is_gone_is_looked_up_again() -> None:
    """The error of the second model is raised, with the attempts at that one."""
    models = {"object": "list", "data": [{"id": "a", "object": "model"}]}
    transport = FakeTransport([models, HELLO, (404, {}, {"message": "model a not found"}), models])
    async with AsyncClient("k", "http://fake", transport=transport, retry=QUICK) as client:
        await client.chat.create("hi")
        with pytest.raises(ModelNotFoundError) as caught:
            await client.chat.create("hi")
    assert [entry.outcome for entry in caught.value.history] == [404]


async def test_on_attempt_is_told_what_came_of_it() -> None:
    """Kind, model, usage, request id and timings of each attempt; nothing came of one that failed to connect."""
    events: list[AttemptEvent] = []
    answers = [ConnectError("refused", kind="refused"), (200, {"x-request-id": "r1"}, HELLO)]
    transport = FakeTransport(answers)  # type: ignore[arg-type]  # a list of FakeAnswer, which is invariant
    async with AsyncClient(
        "k", "http://fake", model="m", transport=transport, retry=QUICK, on_attempt=events.append
    ) as client:
        await client.chat.create("hi")
    failed, answered = events
    assert (failed.kind, failed.model, failed.usage, failed.request_id, failed.timings) == (
        "chat",
        "m",
        None,
        None,
        None,
    )
    assert answered.usage is not None
    assert (answered.usage.total_tokens, answered.request_id, answered.attempt) == (4, "r1", 2)
    assert answered.timings is not None
    assert answered.timings.total is not None


async def test_the_log_has_one_debug_line_a_call(caplog: pytest.LogCaptureFixture) -> None:
    """Method, path, model, status, seconds, tokens, attempts and request id; no content; INFO for the retry."""
    transport = FakeTransport([503, (200, {"x-request-id": "r1"}, HELLO)])
    with caplog.at_level(logging.DEBUG, "nimclient"):
        async with AsyncClient("a-secret-key", "http://fake", model="m", transport=transport, retry=QUICK) as client:
            await client.chat.create("a question")
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "nimclient"]
    assert [level for level, _ in lines] == ["INFO", "DEBUG"]
    line = lines[1][1]
    assert line.startswith("POST /v1/chat/completions model=m status=200 seconds=")
    assert line.endswith(" tokens=4 attempts=2 request_id=r1")
    assert "question" not in caplog.text
    assert "a-secret-key" not in caplog.text


def test_an_attempt_is_a_tuple() -> None:
    """It unpacks into base URL, outcome and seconds."""
    base_url, outcome, seconds = Attempt("http://fake/v1", 503, 0.5)
    assert (base_url, outcome, seconds) == ("http://fake/v1", 503, 0.5)
