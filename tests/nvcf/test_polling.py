"""Answers that the first response does not hold: 202 and polling, 302 and the place of the result, on real sockets."""

import asyncio
import logging
import pickle
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from nimclient import AsyncClient, AttemptEvent, RetryPolicy, Timeouts
from nimclient.errors import (
    APIStatusError,
    ConnectError,
    ConnectionLostError,
    DecodeError,
    ModelDeprecationWarning,
    NotFoundError,
    RedirectError,
    RequestTimeoutError,
    ServerError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from support.polling import poll_every
from support.server import Close, FaultServer, Pause, Reset, Stall
from support.virtual_time import takes
from support.wire import HELLO, answer, chat, chat_body, error, head, http

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
KEY = "nvapi-canary-0123456789"
CHAT = "/v1/chat/completions"
STATUS = "/v1/status/req-1"
ACCEPTED = http(b"", 202, "NVCF-REQID: req-1", "NVCF-STATUS: in-progress", type=None)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls follow each other after 10 ms; the platform's patience is 0.2 s."""
    poll_every(monkeypatch, 0.01, ttl=0.2)


@pytest.fixture
async def far() -> AsyncIterator[FaultServer]:
    """Another origin of this machine."""
    async with FaultServer() as far:
        yield far.script(chat("from afar"))


def paths(server: FaultServer) -> list[str]:
    return [request.path for request in server.requests]


# 202 --------------------------------------------------------------------------------------------------------------


async def test_an_accepted_request_is_asked_for_until_it_is_done(server: FaultServer, make_client: MakeClient) -> None:
    """202, 202, 200: one call, one attempt, one POST; the record has the id of the request and the URL of the call."""
    events: list[AttemptEvent] = []
    client = make_client(api_key=KEY, on_attempt=events.append)
    server.script(ACCEPTED, path=CHAT).script(ACCEPTED, chat(), path=STATUS)
    reply = await client.chat.create("hi")
    assert reply.text == "Hello"
    assert paths(server) == [CHAT, STATUS, STATUS]
    assert reply.meta is not None
    assert (reply.meta.request_id, reply.meta.status, reply.meta.attempts) == ("req-1", 200, 1)
    assert reply.meta.url == server.url + "/chat/completions"
    assert [(event.status, event.url) for event in events] == [(200, reply.meta.url)]


async def test_what_a_poll_carries(server: FaultServer, make_client: MakeClient) -> None:
    """The key, the caller's own headers and how long it may take; nothing that belongs to the call alone."""
    client = make_client(api_key=KEY, headers={"X-Proxy": "p"}, dialect="hosted")
    server.script(ACCEPTED, path=CHAT).script(chat(), path=STATUS)
    picture = "data:image/png;asset_id,a1"
    await client.chat.create(picture, extra_headers={"X-Mine": "m", "NVCF-Poll-Seconds": "7"})
    call, poll = server.requests
    assert (call.method, call.headers["nvcf-poll-seconds"]) == ("POST", "7")
    assert call.headers["nvcf-input-asset-references"] == "a1"
    assert (poll.method, poll.body, poll.headers["nvcf-poll-seconds"]) == ("GET", b"", "7")
    assert poll.headers["authorization"] == f"Bearer {KEY}"
    assert (poll.headers["x-proxy"], poll.headers["x-mine"]) == ("p", "m")
    assert not {"content-type", "content-length", "nvcf-input-asset-references"} & poll.headers.keys()


async def test_the_poll_header_is_on_the_call_only_where_the_caller_sets_it(
    server: FaultServer, client: AsyncClient
) -> None:
    """Nobody asked for another wait: the platform's own default counts for the call, 30 s for the poll."""
    server.script(ACCEPTED, path=CHAT).script(chat(), path=STATUS)
    await client.chat.create("hi")
    call, poll = server.requests
    assert "nvcf-poll-seconds" not in call.headers
    assert poll.headers["nvcf-poll-seconds"] == "30"


async def test_the_seconds_of_a_poll_end_with_the_limit(server: FaultServer, make_client: MakeClient) -> None:
    """A poll does not ask for more time than there is."""
    server.script(ACCEPTED, path=CHAT).script(chat(), path=STATUS)
    await make_client(timeouts=Timeouts(headers=4.5)).chat.create("hi")
    assert server.requests[1].headers["nvcf-poll-seconds"] == "4"
    server.requests.clear()
    await make_client(timeouts=Timeouts(headers=None)).chat.create("hi")
    assert server.requests[1].headers["nvcf-poll-seconds"] == "30"


async def test_the_id_may_change_from_poll_to_poll(server: FaultServer, client: AsyncClient) -> None:
    """Each 202 names what is asked for next; one without a name keeps the old one."""
    unnamed = http(b"{}", 202)
    other = http(b"", 202, "NVCF-REQID: req-2", type=None)
    server.script(ACCEPTED, path=CHAT).script(unnamed, other, path=STATUS).script(chat(), path="/v1/status/req-2")
    await client.chat.create("hi")
    assert paths(server) == [CHAT, STATUS, STATUS, "/v1/status/req-2"]


async def test_polling_behind_a_path_prefix(server: FaultServer, make_client: MakeClient) -> None:
    """A server behind a reverse proxy is asked below its own root."""
    server.script(ACCEPTED, path="/team/v1/chat/completions").script(chat(), path="/team/v1/status/req-1")
    await make_client(server.url.replace("/v1", "/team")).chat.create("hi")
    assert paths(server)[-1] == "/team/v1/status/req-1"


async def test_an_endpoint_of_a_model_is_asked_at_its_own_origin(
    server: FaultServer, far: FaultServer, make_client: MakeClient
) -> None:
    """The key and the poll go where the call went, not to the base URL."""
    client = make_client(api_key=KEY, endpoints={"m": far.url + "/vlm/m"}, model="m")
    far.script(ACCEPTED, path="/v1/vlm/m").script(chat(), path=STATUS)
    await client.chat.create("hi")
    assert paths(far) == ["/v1/vlm/m", STATUS]
    assert server.requests == []


async def test_the_hosted_catalog_is_asked_at_the_platform(canned: Any) -> None:
    """integrate leaves it to api.nvcf.nvidia.com: same key, none of the caller's own headers (D2: never from elsewhere)."""
    from aiohttp.client import URL

    canned.post("https://integrate.api.nvidia.com/v1/chat/completions", status=202, headers={"NVCF-REQID": "r"})
    status = "https://api.nvcf.nvidia.com/v2/nvcf/pexec/status/r"
    canned.get(status, payload=chat_body())
    async with AsyncClient(KEY, model="m", headers={"X-Own": "1"}, transport=canned.transport) as client:
        reply = await client.chat.create("hi", extra_headers={"X-Mine": "2"})
    assert reply.text == "Hello"
    (poll,) = canned.requests[("GET", URL(status))]
    sent = poll.kwargs["headers"]
    assert sent["Authorization"] == f"Bearer {KEY}"
    assert set(sent) == {"Accept", "Accept-Encoding", "User-Agent", "Authorization", "NVCF-POLL-SECONDS"}


async def test_a_hosted_model_of_its_own_host_is_asked_there(canned: Any) -> None:
    """ai.api.nvidia.com has its own route for the status."""
    base = "https://ai.api.nvidia.com/v1"
    canned.post(f"{base}/vlm/google/paligemma", status=202, headers={"NVCF-REQID": "r"})
    canned.get(f"{base}/status/r", payload=chat_body())
    async with AsyncClient(KEY, transport=canned.transport) as client:
        assert (await client.chat.create("hi", model="google/paligemma")).text == "Hello"


@pytest.mark.parametrize("headers", [(), ("NVCF-REQID: ../admin",)])
async def test_a_202_without_an_id(server: FaultServer, client: AsyncClient, headers: tuple[str, ...]) -> None:
    """It is a DecodeError at once: sending the call again would start the work a second time."""
    server.script(http(b"", 202, *headers, type=None))
    with pytest.raises(DecodeError, match="no NVCF-REQID") as caught:
        await client.chat.create("hi")
    assert (caught.value.status, caught.value.path, len(server.requests)) == (202, "headers.nvcf-reqid", 1)


@pytest.mark.parametrize(
    ("timeouts", "limit"),
    [(Timeouts(headers=0.3), "headers limit of 0.3 s"), (Timeouts(total=0.3), "total limit of 0.3 s")],
)
@pytest.mark.parametrize("poll", [ACCEPTED, [Stall()]], ids=["202 for ever", "a poll without an answer"])
async def test_time_is_up(
    server: FaultServer, make_client: MakeClient, timeouts: Timeouts, limit: str, poll: Any
) -> None:
    """Polling counts against `headers` and `total`: phase "poll", with the id of the request, and no second call."""
    server.script(ACCEPTED, path=CHAT).script(poll, path=STATUS)
    with takes(0.3), pytest.raises(RequestTimeoutError, match=limit) as caught:
        await make_client(timeouts=timeouts).chat.create("hi")
    assert (caught.value.phase, caught.value.request_id, caught.value.seconds) == ("poll", "req-1", 0.3)
    assert server.count(CHAT) == 1
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.request_id, again.phase) == ("req-1", "poll")


async def test_the_server_may_ask_for_longer_pauses(server: FaultServer, client: AsyncClient) -> None:
    """A Retry-After of a 202 is the least time to the next poll."""
    hinted = http(b"", 202, "NVCF-REQID: req-1", "Retry-After: 0.2", type=None)
    server.script(hinted, path=CHAT).script(chat(), path=STATUS)
    with takes(0.2):
        await client.chat.create("hi")


async def test_a_hint_beyond_the_limit_ends_the_call(server: FaultServer, make_client: MakeClient) -> None:
    """No poll is sent that could not begin in time."""
    hinted = http(b"", 202, "NVCF-REQID: req-1", "Retry-After: 50", type=None)
    server.script(hinted, path=CHAT).script(chat(), path=STATUS)
    with pytest.raises(RequestTimeoutError) as caught:
        await make_client().chat.create("hi", timeout=0.1)
    assert caught.value.phase == "poll"
    assert server.count(STATUS) == 0


PASSING = {
    "lost": [Close()],
    "reset": [Reset()],
    "502": error(502, "Upstream request failed."),
    "503": error(503, "busy"),
    "429": error(429, "slow down"),
    "504 of the status": error(504, "worker did not acknowledge the status request."),
    "no HTTP": [b"garbage\r\n\r\n", Close()],
}


@pytest.mark.parametrize("script", PASSING.values(), ids=PASSING)
async def test_a_failing_poll_is_repeated_by_itself(server: FaultServer, client: AsyncClient, script: Any) -> None:
    """What goes wrong on the way to the result does not start the work again."""
    server.script(ACCEPTED, path=CHAT).script(script, script, chat(), path=STATUS)
    assert (await client.chat.create("hi")).text == "Hello"
    assert (server.count(CHAT), server.count(STATUS)) == (1, 3)


@pytest.mark.parametrize(
    ("script", "kind"), [([Close()], ConnectionLostError), (error(503, "busy"), ServiceUnavailableError)]
)
async def test_polls_that_fail_for_longer_than_the_platform_waits(
    server: FaultServer, make_client: MakeClient, script: Any, kind: type[Exception]
) -> None:
    """By then the work was dropped: the failure is the attempt's own, with the id of the request."""
    server.script(ACCEPTED, path=CHAT).script(script, path=STATUS)
    with pytest.raises(kind) as caught:
        await make_client(retry=RetryPolicy(attempts=1)).chat.create("hi")
    assert server.count(CHAT) == 1
    assert server.count(STATUS) > 3
    if isinstance(caught.value, ConnectionLostError):
        assert caught.value.request_id == "req-1"


async def test_a_poll_that_says_how_long(server: FaultServer, make_client: MakeClient) -> None:
    """A Retry-After of a failing poll is kept, where the platform keeps the work for so long; else it is the answer."""
    client = make_client(retry=RetryPolicy(attempts=1))
    server.script(ACCEPTED, path=CHAT).script(error(503, "busy", "Retry-After: 0.1"), chat(), path=STATUS)
    with takes(0.11):
        assert (await client.chat.create("hi")).text == "Hello"
    server.script(error(503, "gone", "Retry-After: 10800"), path=STATUS)
    with pytest.raises(ServiceUnavailableError, match="offline"):
        await client.chat.create("hi")
    assert server.count(STATUS) == 3


async def test_a_server_that_is_gone_while_it_is_asked(server: FaultServer, make_client: MakeClient) -> None:
    """A refused connection is tried for as long as the platform would wait."""

    server.script([server.stop_listening, ACCEPTED, Close()])
    with takes(0.2):
        with pytest.raises(ConnectError) as caught:
            await make_client(retry=RetryPolicy(attempts=1)).chat.create("hi")
        assert (caught.value.kind, caught.value.request_id) == ("refused", "req-1")


@pytest.mark.parametrize(
    ("result", "kind", "calls"),
    [
        (error(404, "unknown"), NotFoundError, 1),
        (error(400, "no"), APIStatusError, 1),
        (error(500, "Inference error"), ServerError, 2),
        (http(b"", 504, "NVCF-STATUS: errored", type=None), ServerError, 2),
    ],
    ids=["404", "400", "500", "504"],
)
async def test_a_result_that_is_a_refusal(
    server: FaultServer, client: AsyncClient, result: bytes, kind: type[APIStatusError], calls: int
) -> None:
    """It is the answer to the call: its status and the retry loop decide, the poll is not repeated."""
    server.script(ACCEPTED, path=CHAT).script(result, path=STATUS)
    with pytest.raises(kind) as caught:
        await client.chat.create("hi")
    assert server.count(CHAT) == server.count(STATUS) == calls
    if caught.value.status == 504:
        assert "cancelled" in str(caught.value)


async def test_a_stream_that_is_accepted_first(server: FaultServer, client: AsyncClient) -> None:
    """The head of a stream may be 202, too; what the poll brings is read as a stream, or as a plain answer."""
    server.script(ACCEPTED, path=CHAT).script(HELLO, chat("whole"), path=STATUS)
    for expected in ("Hello", "whole"):
        async with client.chat.stream("hi") as stream:
            assert (await stream.final()).text == expected
    assert server.requests[1].headers["accept"] == "text/event-stream"


async def test_cancelling_while_polling(server: FaultServer, make_client: MakeClient) -> None:
    """A call that waits for its result can be cancelled, between polls and during one, and leaves nothing behind."""
    client = make_client()
    server.script(ACCEPTED, path=CHAT)
    for poll in (ACCEPTED, [Stall()]):
        server.requests.clear()
        server.script(poll, path=STATUS)
        task = asyncio.ensure_future(client.chat.create("hi"))
        await server.until(lambda: server.count(STATUS) >= 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("how", ["create", "stream"])
@pytest.mark.parametrize("moves", [False, True])
async def test_cancelled_at_every_await(
    server: FaultServer, far: FaultServer, make_client: MakeClient, how: str, moves: bool
) -> None:
    """Wherever a call that is accepted first is cancelled, the only slot is free, and no task is left."""
    from nimclient import Limits
    from support.cancelling import cancel_everywhere
    from support.leaks import assert_idle, assert_no_strays

    client = make_client(limits=Limits(concurrency=1))
    raw = HELLO if how == "stream" else chat()
    result = [Pause(0.002), raw[:30], Pause(0.002), raw[30:]]
    server.script([Pause(0.002), ACCEPTED], path=CHAT)
    server.script([Pause(0.002), moved(far.url + "/x")] if moves else result, path=STATUS)
    far.script(result)

    async def call() -> str:
        if how == "create":
            return (await client.chat.create("hi")).text
        return (await client.chat.stream("hi").final()).text

    async def after() -> None:
        assert_idle(client)
        async with asyncio.timeout(1):
            assert await call() == "Hello"
        assert_idle(client)

    await call()
    assert await cancel_everywhere(call, after) >= (4 if moves else 3)
    await assert_no_strays()


async def test_polling_holds_no_slot_between_polls(server: FaultServer, make_client: MakeClient) -> None:
    """Another call of a client with one slot is answered while one waits for its result."""
    from nimclient import Limits

    client = make_client(limits=Limits(concurrency=1))
    hinted = http(b"", 202, "NVCF-REQID: req-1", "Retry-After: 0.2", type=None)
    server.script(hinted, chat("second"), path=CHAT).script(chat("first"), path=STATUS)
    first = asyncio.ensure_future(client.chat.create("1"))
    await server.until(lambda: server.count(CHAT) == 1)
    assert (await client.chat.create("2")).text == "second"
    assert not first.done()
    assert (await first).text == "first"


async def test_other_calls_are_asked_for_as_well(server: FaultServer, client: AsyncClient) -> None:
    """Embeddings, rankings and lists may be accepted first, like chat."""
    from support.wire import embedded

    server.script(ACCEPTED).script(answer(embedded(["1"])), path=STATUS)
    assert len((await client.embeddings.create(["1"])).vectors) == 1


# 302 --------------------------------------------------------------------------------------------------------------


def moved(url: str, *headers: str, status: int = 302) -> bytes:
    return http(b"", status, f"Location: {url}", *headers, type=None)


@pytest.mark.parametrize("polled", [False, True])
async def test_a_large_result_is_fetched_from_its_place(
    server: FaultServer, far: FaultServer, make_client: MakeClient, polled: bool
) -> None:
    """Followed once, with nothing of the client's: no key, no header of its own, no body."""
    client = make_client(api_key=KEY, headers={"X-Own": "1"}, dialect="hosted")
    there = moved(f"{far.url}/results/1?X-Amz-Signature=abc", "NVCF-REQID: req-1")
    server.script(ACCEPTED if polled else there, path=CHAT).script(there, path=STATUS)
    reply = await client.chat.create("hi", extra_headers={"X-Mine": "2"})
    assert reply.text == "from afar"
    (got,) = far.requests
    assert (got.method, got.path, got.body) == ("GET", "/v1/results/1?X-Amz-Signature=abc", b"")
    assert set(got.headers) == {"host", "accept", "user-agent"}
    assert reply.meta is not None
    assert (reply.meta.request_id, reply.meta.url) == ("req-1", server.url + "/chat/completions")


async def test_a_result_of_a_poll_is_followed_on_any_server(
    server: FaultServer, far: FaultServer, client: AsyncClient
) -> None:
    """A 302 of a poll can only mean the place of the result."""
    server.script(ACCEPTED, path=CHAT).script(moved(far.url + "/x"), path=STATUS)
    assert (await client.chat.create("hi")).text == "from afar"


async def test_a_relative_place_of_a_result(server: FaultServer, client: AsyncClient) -> None:
    """It is below the address that was asked last."""
    server.script(ACCEPTED, path=CHAT).script(moved("../results/1"), path=STATUS).script(
        chat("near"), path="/v1/results/1"
    )
    assert (await client.chat.create("hi")).text == "near"


async def test_a_redirect_of_a_plain_server_stays_an_error(
    server: FaultServer, far: FaultServer, client: AsyncClient
) -> None:
    """Chat and the like are not sent elsewhere by servers of one's own."""
    server.script(moved(far.url + "/x"))
    with pytest.raises(RedirectError, match="the redirect was not followed"):
        await client.chat.create("hi")
    assert far.requests == []


async def test_a_second_redirect_is_an_error(server: FaultServer, far: FaultServer, make_client: MakeClient) -> None:
    """Followed once and no further."""
    server.script(moved(far.url + "/x"))
    far.script(moved(far.url + "/y"))
    with pytest.raises(RedirectError):
        await make_client(dialect="hosted").chat.create("hi")
    assert len(far.requests) == 1


@pytest.mark.parametrize("location", ["http://nim.example/x", "ftp://127.0.0.1/x", "http://a:b@127.0.0.1/x"])
async def test_places_that_are_not_followed(server: FaultServer, make_client: MakeClient, location: str) -> None:
    """A plain address elsewhere is a RedirectError that does not show its query."""
    server.script(moved(location + "?X-Amz-Signature=abc"))
    with pytest.raises(RedirectError) as caught:
        await make_client(dialect="hosted").chat.create("hi")
    assert "abc" not in str(caught.value)


async def test_a_refusal_at_the_place_of_the_result(
    server: FaultServer, far: FaultServer, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """An expired address is distinguished from a bad key, and its signature shows nowhere."""
    server.script(moved(f"{far.url}/x?X-Amz-Signature=abc", "NVCF-REQID: r"))
    far.script(http(b"<Error><Code>AccessDenied</Code></Error>", 403, type="application/xml"))
    with caplog.at_level(logging.DEBUG), pytest.raises(APIStatusError) as caught:
        await make_client(dialect="hosted").chat.create("hi")
    assert (caught.value.status, caught.value.request_id) == (403, "r")
    assert "API key" not in str(caught.value)
    assert "abc" not in str(caught.value) + caplog.text + repr(vars(caught.value))


async def test_a_place_that_fails_first(server: FaultServer, far: FaultServer, make_client: MakeClient) -> None:
    """Fetching the result is repeated by itself."""
    server.script(moved(far.url + "/x"))
    far.script([Close()], error(503, "slow down"), chat("at last"))
    assert (await make_client(dialect="hosted").chat.create("hi")).text == "at last"
    assert server.count(CHAT) == 1


async def test_a_result_elsewhere_is_capped(server: FaultServer, far: FaultServer, make_client: MakeClient) -> None:
    """Limits.max_body holds for it, too."""
    from nimclient import Limits
    from nimclient.errors import BodyTooLargeError

    server.script(moved(far.url + "/x"))
    far.script(http(b"x" * 2000))
    with pytest.raises(BodyTooLargeError):
        await make_client(dialect="hosted", limits=Limits(max_body=1000)).chat.create("hi")


# the rest of the platform -----------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_body_that_the_gateway_would_refuse(server: FaultServer, make_client: MakeClient) -> None:
    """26,214,400 bytes are the most for every kind of call; larger ones are not sent. Other servers are not asked."""
    from nimclient.errors import ConfigurationError

    text = "x" * 26_214_400
    client = make_client(dialect="hosted")
    for call in (client.completions.create(text), client.embeddings.create([text]), client.rerank("q", [text])):
        with pytest.raises(ConfigurationError, match="26214400"):
            await call
    assert server.requests == []


async def test_offline_for_hours(server: FaultServer, client: AsyncClient) -> None:
    """A 503 with Retry-After: 10800 raises at once, in a batch as well, and says what it means."""
    server.script(error(503, "no workers", "Retry-After: 10800"))
    for call in (client.chat.create("hi"), client.chat.batch(["hi", "ho"], concurrency=1)):
        server.requests.clear()
        with pytest.raises(ServiceUnavailableError, match=r"offline .*3 hours") as caught:
            await call
        assert (caught.value.retry_after, len(server.requests)) == (10800, 1)


async def test_a_deprecated_model(server: FaultServer, make_client: MakeClient) -> None:
    """The Deprecation header warns once for each model, at the caller's line, and in the log."""
    client = make_client()
    server.script(http(b'{"choices": []}', 200, "Deprecation: 2026-12-31T00:00:00Z"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(2):
            await client.chat.create("hi")
        await client.chat.create("hi", model="other")
    assert [w.category for w in warned] == [ModelDeprecationWarning] * 2
    assert [str(w.message).split("'")[1] for w in warned] == ["test-model", "other"]
    assert {w.filename for w in warned} == {__file__}


async def test_a_slow_answer_after_polling(server: FaultServer, client: AsyncClient) -> None:
    """A poll that the server lets wait is followed by the next without a pause."""
    server.script(ACCEPTED, path=CHAT).script([Pause(0.02), ACCEPTED], [head(200) + b"0\r\n\r\n"], path=STATUS)
    with pytest.raises(StreamInterruptedError):  # a stream of nothing, as its Content-Type says
        await client.chat.create("hi")


@pytest.mark.parametrize("roots", [("/a", "/a/b"), ("/a/b", "/a")])
async def test_a_replica_is_asked_itself(server: FaultServer, make_client: MakeClient, roots: tuple[str, str]) -> None:
    """The result is asked for at the replica that accepted the request, also behind a longer prefix of the same host."""
    client = make_client([server.url.replace("/v1", root) for root in roots])
    server.script(ACCEPTED)
    for root in roots:
        server.script(chat(), path=f"{root}/v1/status/req-1")
    for _ in range(4):
        await client.chat.create("hi")
    calls = [path.removesuffix("/v1/chat/completions") for path in paths(server)[::2]]
    polls = [path.removesuffix("/v1/status/req-1") for path in paths(server)[1::2]]
    assert calls == polls
