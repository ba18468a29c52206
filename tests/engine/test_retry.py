"""THE retry loop: what is tried again, how often the server sees it, how long it waits, and what the deadline says."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from nimclient import AsyncClient, AttemptEvent, Limits, RetryPolicy, Timeouts
from nimclient.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConnectError,
    ConnectionLostError,
    ContextLengthError,
    GoneError,
    ModelNotFoundError,
    NimError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    RequestTooLargeError,
    ServerError,
    ServiceUnavailableError,
    UnprocessableEntityError,
)
from support.leaks import retry_tokens
from support.server import Close, FaultServer, Pause, Stall
from support.virtual_time import takes
from support.wire import HELLO, answer, chat, chat_body, embedded, error, head

BUDGET, RETRY_COST, THROTTLE_COST = 500, 14, 5

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
ONCE = RetryPolicy(attempts=1)

# status, class, requests for a chat call, requests for an embedding
STATUSES = [
    (400, BadRequestError, 1, 1),
    (401, AuthenticationError, 1, 1),
    (402, APIStatusError, 1, 1),
    (403, PermissionDeniedError, 1, 1),
    (404, NotFoundError, 1, 1),
    (405, APIStatusError, 1, 1),
    (408, APIStatusError, 2, 3),
    (409, APIStatusError, 2, 3),
    (410, GoneError, 1, 1),
    (413, RequestTooLargeError, 1, 1),
    (422, UnprocessableEntityError, 1, 1),
    (425, APIStatusError, 2, 3),
    (429, RateLimitError, 3, 3),
    (500, ServerError, 2, 3),
    (501, ServerError, 1, 1),
    (502, ServerError, 2, 3),
    (503, ServiceUnavailableError, 3, 3),
    (504, ServerError, 2, 3),
    (520, ServerError, 2, 3),
    (528, ServerError, 2, 3),
    (529, ServerError, 3, 3),
]


@pytest.mark.parametrize(("status", "kind", "chats", "embeddings"), STATUSES, ids=[str(row[0]) for row in STATUSES])
async def test_how_often_a_refused_call_is_sent(
    server: FaultServer, client: AsyncClient, status: int, kind: type, chats: int, embeddings: int
) -> None:
    """Each status has its class and its number of attempts, for generation and for pure functions."""
    server.script(error(status, "no"))
    for call, requests in ((client.chat.create("hi"), chats), (client.embeddings.create(["a"]), embeddings)):
        server.requests.clear()
        with pytest.raises(APIStatusError) as caught:
            await call
        assert type(caught.value) is kind
        assert caught.value.status == status
        assert caught.value.attempts == len(server.requests) == requests


@pytest.mark.parametrize("status", [row[0] for row in STATUSES])
async def test_a_single_attempt(server: FaultServer, make_client: MakeClient, status: int) -> None:
    """RetryPolicy(attempts=1) never repeats."""
    server.script(error(status))
    with pytest.raises(APIStatusError) as caught:
        await make_client(retry=ONCE).chat.create("hi")
    assert (caught.value.attempts, len(server.requests)) == (1, 1)


@pytest.mark.parametrize("attempts", [2, 5])
async def test_more_attempts(server: FaultServer, make_client: MakeClient, attempts: int) -> None:
    """The policy's number of attempts is what the server sees; success after retries is counted on the record."""
    client = make_client(retry=RetryPolicy(attempts=attempts, first_delay=0.001, max_delay=0.001))
    server.script(error(429))
    with pytest.raises(RateLimitError):
        await client.chat.create("hi")
    assert len(server.requests) == attempts
    server.script(*[error(503)] * (attempts - 1), chat())
    reply = await client.chat.create("hi")
    assert reply.meta is not None
    assert reply.meta.attempts == attempts


async def test_a_mix_of_failures(server: FaultServer, make_client: MakeClient) -> None:
    """Rejections and unknown outcomes are counted apart: generation is repeated once after an unknown one."""
    client = make_client(retry=RetryPolicy(attempts=10, first_delay=0.001))
    server.script(error(503, "busy", "Connection: close"), [Close()], error(429), error(500))
    with pytest.raises(ServerError) as caught:
        await client.chat.create("hi")
    assert caught.value.attempts == len(server.requests) == 4


async def test_every_retry_sends_the_same_request(server: FaultServer, client: AsyncClient) -> None:
    """Attempts of one call do not differ in path, headers or body."""
    server.script(error(503), error(503), chat())
    await client.chat.create("hi", temperature=0.5)
    assert len({(r.path, r.body, tuple(r.headers.items())) for r in server.requests}) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "This model's maximum context length is 10 tokens"}}, ContextLengthError),
        (422, {"detail": "Input length 9 exceeds maximum allowed token size 5"}, ContextLengthError),
        (404, {"error": {"message": "The model `x` does not exist.", "param": "model"}}, ModelNotFoundError),
        (404, {"detail": "Not found for account 'abc'"}, ModelNotFoundError),
    ],
)
async def test_refusals_that_words_refine(
    server: FaultServer, client: AsyncClient, status: int, body: Any, kind: type
) -> None:
    """What the server says makes a class of its own of too long inputs and unknown models."""
    server.script(answer(body, status))
    with pytest.raises(APIStatusError) as caught:
        await client.chat.create("hi")
    assert type(caught.value) is kind
    assert len(server.requests) == 1


# Retry-After -------------------------------------------------------------------------------------------------------

DATE = "Date: Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (("Retry-After: 0.1",), 0.1),
        (("retry-after-ms: 100",), 0.1),
        (("Retry-After: 99", "retry-after-ms: 100"), 0.1),
        (("Retry-After: 0.1, 5",), 0.1),
        (("Retry-After: 0.1", "Retry-After: 5"), 0.1),
        (("Retry-After: 0",), 0),
        (("Retry-After: -5",), 0),
        (("Retry-After: Wed, 21 Oct 2026 07:27:00 GMT", DATE), 0),
        (("Retry-After: Wed, 21 Oct 2026 07:28:00 GMT", DATE), 0),
    ],
)
async def test_retry_after_is_obeyed(
    server: FaultServer, make_client: MakeClient, headers: tuple[str, ...], seconds: float
) -> None:
    """The server's wish is the least wait before the next attempt, in every spelling."""
    client = make_client(retry=RetryPolicy(first_delay=0.0, max_retry_after=1))
    server.script(error(429, "later", *headers), chat())
    with takes(seconds):
        reply = await client.chat.create("hi")
    assert reply.meta is not None
    assert reply.meta.attempts == 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (("Retry-After: 61",), 61),
        (("Retry-After: 86400",), 86400),
        (("retry-after-ms: 61000",), 61),
        (("Retry-After: Wed, 21 Oct 2026 07:30:00 GMT", DATE), 120),
        (("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT", DATE), None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_above_the_limit_raises_at_once(
    server: FaultServer, client: AsyncClient, status: int, headers: tuple[str, ...], seconds: float | None
) -> None:
    """A server that asks for more than max_retry_after is not asked again; the error says how long it wanted."""
    server.script(error(status, "later", *headers))
    with pytest.raises(APIStatusError) as caught:
        await client.chat.create("hi")
    assert caught.value.retry_after is not None
    assert caught.value.retry_after == seconds or seconds is None
    assert (caught.value.attempts, len(server.requests)) == (1, 1)


@pytest.mark.parametrize("value", ["soon", "", "nan", "inf", "1e400", "Wed, 99 Foo 2026 99:99:99 GMT", "1 2"])
async def test_a_retry_after_that_cannot_be_read(server: FaultServer, client: AsyncClient, value: str) -> None:
    """Garbage in Retry-After is as if it were not there."""
    server.script(error(429, "later", f"Retry-After: {value}"), chat())
    reply = await client.chat.create("hi")
    assert reply.meta is not None
    assert reply.meta.attempts == 2


# the budget ---------------------------------------------------------------------------------------------------------


async def test_an_outage_costs_a_bounded_number_of_retries(server: FaultServer, make_client: MakeClient) -> None:
    """Retries spend a budget that all calls of a client share; when it is spent, failures are raised at once."""
    client = make_client(retry=RetryPolicy(attempts=2, first_delay=0))
    server.script(error(500))
    for _ in range(100):
        with pytest.raises(ServerError):
            await client.embeddings.create(["a"])
    assert len(server.requests) == 100 + BUDGET // RETRY_COST
    with pytest.raises(ServerError) as caught:
        await client.with_options(timeouts=5).chat.create("hi")
    assert caught.value.attempts == 1
    assert retry_tokens(client) < RETRY_COST
    server.script(answer(embedded(["1"])))
    for _ in range(RETRY_COST):
        await client.embeddings.create(["1"])
    server.script(error(500), answer(embedded(["1"])))
    assert (await client.embeddings.create(["1"])).meta.attempts == 2


async def test_a_success_after_a_retry_gives_its_cost_back(server: FaultServer, make_client: MakeClient) -> None:
    """A retry that mends a call costs nothing in the end; throttling costs less than a failure."""
    client = make_client(retry=RetryPolicy(attempts=2, first_delay=0))
    server.script(error(500), chat())
    await client.chat.create("hi")
    assert retry_tokens(client) == BUDGET
    server.script(error(429))
    with pytest.raises(RateLimitError):
        await client.chat.create("hi")
    assert retry_tokens(client) == BUDGET - THROTTLE_COST


# deadlines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [[Stall()], [head(), Stall()], [Pause(0.1), error(503)], error(503), [Close()]],
    ids=["silence", "no body", "slow 503", "503", "lost"],
)
async def test_the_total_limit_covers_all_attempts(server: FaultServer, make_client: MakeClient, script: Any) -> None:
    """Whatever fails and however often it is tried, the call ends within `total`."""
    client = make_client(
        retry=RetryPolicy(attempts=50, first_delay=0.05, max_delay=0.05),
        timeouts=Timeouts(total=0.3, headers=0.12, first_event=0.12, idle=0.12),
    )
    for call in (client.chat.create("hi"), client.chat.stream("hi").final(), client.embeddings.create(["a"])):
        server.script(script)
        with takes(0.3, at_most=True), pytest.raises(NimError):
            await call


async def test_no_retry_that_would_pass_the_deadline(server: FaultServer, client: AsyncClient) -> None:
    """When the wait before the next attempt would reach the total limit, the failure is raised at once."""
    server.script(error(429, "later", "Retry-After: 5"))
    with takes(0), pytest.raises(RateLimitError) as caught:
        await client.chat.create("hi", timeout=1)
    assert (caught.value.attempts, caught.value.retry_after) == (1, 5)


async def test_timeouts_of_a_call(server: FaultServer, make_client: MakeClient) -> None:
    """timeout= of a call is seconds in total, or Timeouts in place of the client's."""
    client = make_client(timeouts=Timeouts(total=60), retry=ONCE)
    server.script([Stall()])
    for timeout, phase in ((0.05, "total"), (Timeouts(headers=0.05), "headers")):
        with pytest.raises(RequestTimeoutError) as caught:
            await client.chat.create("hi", timeout=timeout)
        assert caught.value.phase == phase
    with pytest.raises(RequestTimeoutError):
        await client.with_options(timeouts=0.05).chat.create("hi")
    assert (await _none_is_off(server, client)).text == "Hello"


async def _none_is_off(server: FaultServer, client: AsyncClient) -> Any:
    off = Timeouts(connect=None, pool=None, headers=None, first_event=None, idle=None, total=None)
    server.script([Pause(0.02), chat()])
    await client.chat.create("hi", timeout=off)
    server.script(HELLO)
    return await client.chat.stream("hi", timeout=off).final()


async def test_a_deadline_that_has_passed(server: FaultServer, client: AsyncClient) -> None:
    """A total limit of nothing sends nothing."""
    server.script(chat())
    with pytest.raises(RequestTimeoutError) as caught:
        await client.chat.create("hi", timeout=0)
    assert caught.value.phase == "total"
    assert server.requests == []


# requests per minute ------------------------------------------------------------------------------------------------


async def test_requests_per_minute_are_spaced(server: FaultServer, make_client: MakeClient) -> None:
    """With Limits(requests_per_minute) requests leave evenly spaced, over all tasks and copies."""
    client = make_client(limits=Limits(requests_per_minute=1200))
    server.script(chat())
    with takes(0.2):
        await asyncio.gather(*(client.with_options().chat.create("hi") for _ in range(5)))


async def test_the_wait_for_a_place_counts_against_the_total(server: FaultServer, make_client: MakeClient) -> None:
    """A place in the minute that lies behind the deadline is RequestTimeoutError at once."""
    client = make_client(limits=Limits(requests_per_minute=1))
    server.script(chat())
    await client.chat.create("hi")
    with takes(0), pytest.raises(RequestTimeoutError, match="total limit") as caught:
        await client.chat.create("hi", timeout=0.3)
    assert caught.value.phase == "total"
    assert len(server.requests) == 1


# tokens per minute --------------------------------------------------------------------------------------------------

USAGE = {"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000}


async def test_tokens_per_minute_are_spaced(server: FaultServer, make_client: MakeClient) -> None:
    """What an answer says it took moves the calls after it: a thousand tokens each make one a second of 60,000 a minute."""
    client = make_client(limits=Limits(tokens_per_minute=60_000))
    server.script(chat(usage=USAGE))
    with takes(3.0):
        for _ in range(4):
            await client.with_options().chat.create("hi", max_tokens=100)


async def test_many_calls_share_the_tokens_of_a_minute(server: FaultServer, make_client: MakeClient) -> None:
    """Chats, embeddings and rankings each have an estimate of their own; throttling is no part of it."""
    client = make_client(limits=Limits(tokens_per_minute=60_000))
    server.script(chat(usage=USAGE))
    with takes(11.0):
        await client.chat.batch(["hi"] * 12, concurrency=3, max_tokens=100)
    server.script(answer(embedded(["1"]) | {"usage": {"prompt_tokens": 500, "total_tokens": 500}}))
    with takes(1.0 + 3.5):  # the last chat, and seven of eight embeddings
        await client.embeddings.embed_documents([str(number) for number in range(8)], batch_size=1, concurrency=1)


async def test_a_usage_that_cannot_be(server: FaultServer, make_client: MakeClient) -> None:
    """A call that took more than the tokens of a minute would have been rejected: no count stops a client for longer."""
    client = make_client(limits=Limits(tokens_per_minute=60_000))
    server.script(chat(usage={"prompt_tokens": 10**15, "completion_tokens": 0, "total_tokens": 10**15}))
    await client.chat.create("hi")
    with takes(200.0, at_most=True):
        await client.chat.create("hi")


async def test_calls_to_no_model_take_no_tokens(server: FaultServer, make_client: MakeClient) -> None:
    """The list of models waits for its turn and takes none; a stream takes what was expected."""
    client = make_client(limits=Limits(tokens_per_minute=60, requests_per_minute=600))
    server.script(answer({"data": []}))
    with takes(0.2):
        for _ in range(3):
            await client.models.list()
    server.script(HELLO)
    with takes(0.1):
        await client.chat.stream("hi", max_tokens=10).final()
    with takes(len(server.requests[-1].body) / 4 + 10):
        await client.chat.stream("hi", max_tokens=10).final()


async def test_an_estimate_beyond_the_deadline(server: FaultServer, make_client: MakeClient) -> None:
    """Its error comes at once."""
    client = make_client(limits=Limits(tokens_per_minute=60))
    server.script(chat(usage=USAGE))
    await client.chat.create("hi")
    with takes(0), pytest.raises(RequestTimeoutError, match="total limit"):
        await client.chat.create("hi", timeout=9.0)


# telling ------------------------------------------------------------------------------------------------------------


async def test_on_attempt_is_told_of_every_attempt(server: FaultServer, make_client: MakeClient) -> None:
    """on_attempt gets an AttemptEvent for each attempt: number, status, error, seconds."""
    events: list[AttemptEvent] = []
    client = make_client(on_attempt=events.append)
    server.script(error(503), [Close()], chat())
    await client.chat.create("hi")
    assert [(e.attempt, e.status, type(e.error)) for e in events] == [
        (1, 503, ServiceUnavailableError),
        (2, None, ConnectionLostError),
        (3, None, ConnectionLostError),
    ][:2] + [(3, 200, type(None))]
    assert all(e.method == "POST" and e.url == server.url + "/chat/completions" and e.seconds >= 0 for e in events)


async def test_a_listener_that_raises_does_no_harm(
    server: FaultServer, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in on_attempt is logged and the call continues."""

    def listen(event: AttemptEvent) -> None:
        raise ZeroDivisionError

    server.script(chat())
    with caplog.at_level(logging.ERROR, "nimclient"):
        assert (await make_client(on_attempt=listen).chat.create("hi")).text == "Hello"
    assert "on_attempt raised" in caplog.text


async def test_retries_are_logged(server: FaultServer, client: AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    """The logger nimclient tells of retries at level INFO, in one line each."""
    server.script(error(503, "busy"), chat())
    with caplog.at_level(logging.INFO, "nimclient"):
        await client.chat.create("hi")
    (record,) = [record for record in caplog.records if record.name == "nimclient"]
    assert "attempt 1 failed" in record.getMessage()
    assert "busy" in record.getMessage()


# fields of ours -----------------------------------------------------------------------------------------------------


def refuses(name: str, *, status: int = 400, shape: str = "words") -> Any:
    """A server that does not know a field."""

    def script(request: Any) -> bytes:
        if name in request.json:
            if shape == "param":
                return error(status, "bad request", param=name)
            if shape == "detail":
                return answer({"detail": [{"loc": ["body", name], "msg": "extra", "type": "forbidden"}]}, status)
            return error(status, f"Unknown field: {name}")
        if request.path.endswith("embeddings"):
            return answer(embedded(request.json["input"]))
        return HELLO if request.json.get("stream") else chat()

    return script


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("shape", ["words", "param", "detail"])
async def test_a_field_of_ours_is_dropped_once_and_for_all(
    server: FaultServer, client: AsyncClient, status: int, shape: str
) -> None:
    """encoding_format is dropped when a server names it, without spending an attempt, and never sent there again."""
    server.script(refuses("encoding_format", status=status, shape=shape))
    for _ in range(2):
        assert len((await client.embeddings.create(["1"])).vectors) == 1
    assert ["encoding_format" in request.json for request in server.requests] == [True, False, False]


async def test_dropping_a_field_spends_no_attempt(server: FaultServer, make_client: MakeClient) -> None:
    """Even a single attempt is enough to detect that a server rejects a field of ours."""
    server.script(refuses("encoding_format"))
    await make_client(retry=ONCE).embeddings.create(["1"])
    assert len(server.requests) == 2


async def test_what_was_learned_belongs_to_model_and_endpoint(server: FaultServer, client: AsyncClient) -> None:
    """Another model at the same server is asked again."""
    server.script(refuses("encoding_format"))
    await client.embeddings.create(["1"])
    await client.embeddings.create(["1"], model="other")
    assert ["encoding_format" in request.json for request in server.requests] == [True, False, True, False]


async def test_input_type_of_embed_query_is_dropped(server: FaultServer, client: AsyncClient) -> None:
    """embed_query and embed_documents leave input_type out for a server that rejects it."""
    server.script(refuses("input_type"))
    await client.embeddings.embed_query("1")
    await client.embeddings.embed_documents(["1"])
    assert [request.json.get("input_type") for request in server.requests] == ["query", None, None]


async def test_what_the_caller_set_is_never_dropped(server: FaultServer, client: AsyncClient) -> None:
    """A field that the caller asked for stays: the rejection is the caller's."""
    server.script(refuses("input_type"))
    with pytest.raises(BadRequestError, match="input_type"):
        await client.embeddings.create(["1"], input_type="query")
    server.script(refuses("encoding_format"))
    with pytest.raises(BadRequestError):
        await client.embeddings.create(["1"], encoding_format="base64")


async def test_stream_options_are_dropped(server: FaultServer, client: AsyncClient) -> None:
    """A server that does not know stream_options still streams, without usage."""
    server.script(refuses("stream_options"))
    for _ in range(2):
        assert (await client.chat.stream("hi").final()).text == "Hello"
    assert ["stream_options" in request.json for request in server.requests] == [True, False, False]
    assert all(request.json["stream"] for request in server.requests)


async def test_a_refusal_that_names_nothing_of_ours(server: FaultServer, client: AsyncClient) -> None:
    """A 400 about something else is the caller's at once; a 500 that names our field drops nothing."""
    server.script(error(400, "temperature must be at most 2"))
    with pytest.raises(BadRequestError):
        await client.embeddings.create(["1"])
    assert len(server.requests) == 1
    server.script(error(501, "encoding_format"))
    with pytest.raises(ServerError):
        await client.embeddings.create(["1"])
    assert len(server.requests) == 2


async def test_a_retry_after_a_refused_connection(make_client: MakeClient) -> None:
    """A refused connection is retried by the policy."""
    with pytest.raises(ConnectError) as caught:
        await make_client("http://127.0.0.1:1", retry=RetryPolicy(attempts=4, first_delay=0)).chat.create("hi")
    assert caught.value.attempts == 4


async def test_chat_answers_keep_their_extras(server: FaultServer, client: AsyncClient) -> None:
    """Unknown fields of an answer are kept in .extra and come back in to_dict()."""
    server.script(chat(service_tier="x"))
    reply = await client.chat.create("hi")
    assert reply.extra == {"service_tier": "x"}
    assert reply.to_dict() == chat_body(service_tier="x")
