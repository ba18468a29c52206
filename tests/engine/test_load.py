"""What servers report of their load: asked for with several replicas, read now and then, and used in the choice."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from nimclient import AsyncClient, Client
from nimclient.simulator import Simulator
from nimclient.testing import FakeTransport
from support.leaks import replicas
from support.server import FaultServer, Request, ServerThread
from support.wire import answer, chat, chat_body, http, stream, token

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
ASKED = "endpoint-load-metrics-format"
VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m{a}"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
"""
FORMS: list[tuple[str, str, bytes, float]] = [
    ("vllm", "/metrics", VLLM, 9),
    ("vllm", "/load", b'{"server_load":7}', 7),
    ("nim", "/v1/metrics", b'num_requests_running{model_name="m"} 5.0\nnum_requests_waiting{model_name="m"} 1.0\n', 6),
    ("nim", "/metrics", VLLM, 9),
    (
        "dynamo",
        "/metrics",
        b'dynamo_frontend_inflight_requests{model="m"} 6\ndynamo_frontend_queued_requests{model="m"} 4\n',
        6,
    ),
    ("sglang", "/metrics", b'sglang:num_running_reqs{tp_rank="0"} 2.0\nsglang:num_queue_reqs{tp_rank="0"} 8.0\n', 10),
    ("vllm", "/metrics", b'vllm_num_requests_running{pod="a"} 3\n', 3),  # as collectors write it, who take no colon
    ("llamacpp", "/metrics", b"llamacpp:requests_processing 1\nllamacpp:requests_deferred 2\n", 3),
]


def script(path: str, reply: bytes, owner: str = "x") -> Callable[[Request], Any]:
    """A server that reports its load at this path, and has no other route but chat and its models."""

    def run(request: Request) -> list[bytes]:
        if request.path == path:
            return [reply]
        if request.path == "/v1/models":
            return [answer({"data": [{"id": "m", "owned_by": owner}]})]
        return [chat()] if request.method == "POST" else [answer({"detail": "Not Found"}, 404)]

    return run


def loads(client: AsyncClient) -> list[float]:
    """The load of each replica, as it was just reported."""
    return [max(one.others.number, one.waiting.number) for one in replicas(client)]


def reads(server: FaultServer) -> list[str]:
    return [request.path for request in server.requests if request.method == "GET" and "models" not in request.path]


async def calls(client: AsyncClient, seconds: float) -> None:
    """Four calls a second for so long."""
    for _ in range(round(seconds * 4)):
        await client.chat.create("hi")
        await asyncio.sleep(0.25)


@pytest.mark.parametrize(
    ("kind", "path", "body", "load"), FORMS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_every_form(make_client: MakeClient, kind: str, path: str, body: bytes, load: float) -> None:
    """The gauges of each server type give its load; a route that it does not have is asked for once."""
    async with FaultServer() as one, FaultServer() as two:
        for server in (one, two):
            server.script(script(path, http(body, type="text/plain"), kind))
        known = {} if kind in ("sglang", "llamacpp") else {"dialect": kind}
        client = make_client([one.url, two.url], **known)
        if not known:
            await asyncio.gather(*(client.models.list() for _ in range(8)))
        await calls(client, 4)
        assert loads(client) == [load, load]
        for server in (one, two):
            assert reads(server).count(path) >= 2
            assert all(reads(server).count(other) == 1 for other in set(reads(server)) - {path})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"vllm:num_requests_running",
        b"vllm:num_requests_running NaN",
        b"\xff\xfe",
        b"<html>vllm:num_requests_running 3</html>",
        b'{"a": 1}',
    ],
)
async def test_what_reports_nothing_is_not_read_again(make_client: MakeClient, body: bytes) -> None:
    """A page without the gauges is no report, and neither is a count that is always 0."""
    async with FaultServer() as one, FaultServer() as two:
        for server in (one, two):
            server.script(script("/metrics", http(body, type="text/plain")))
        client = make_client([one.url, two.url], dialect="vllm")
        await calls(client, 4)
        assert reads(one) == reads(two) == ["/metrics", "/load"]
        assert loads(client) == [0, 0]


@pytest.mark.slow
async def test_a_server_that_fails_is_read_again(make_client: MakeClient) -> None:
    """A 500, a 429 or no response at all says nothing of the route, nor of the replica."""
    async with FaultServer() as one, FaultServer() as two:
        one.script(script("/metrics", answer({"detail": "later"}, 503)))
        two.script(script("/metrics", b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nvllm"))
        client = make_client([one.url, two.url], dialect="vllm")
        await calls(client, 4)
        assert set(reads(one)) == set(reads(two)) == {"/metrics"}
        assert len(reads(one)) > 1
        assert reads(two) == ["/metrics"]  # it took the two seconds that a reading may take
        await asyncio.sleep(100)
        await calls(client, 1)
        assert reads(two) == ["/metrics", "/metrics"]
        assert [one.ejected_until for one in replicas(client)] == [None, None]


async def test_a_report_in_an_answer(make_client: MakeClient) -> None:
    """Both forms of vLLM's header count; a malformed one is ignored."""
    texts = [
        ("TEXT named_metrics.num_requests_waiting=5.0, named_metrics.kv_cache_usage_perc=0.0", 5),
        ('JSON {"named_metrics": {"num_requests_waiting": 6.0, "kv_cache_usage_perc": 0.0004885}}', 6),
        ("TEXT named_metrics.num_requests_waiting=1e999", 0),
        ("TEXT named_metrics.kv_cache_usage_perc=0.5", 0),
        ("", 0),
    ]
    for text, load in texts:
        async with FaultServer() as one, FaultServer() as two:
            for server in (one, two):
                server.script(answer(chat_body(), 200, f"Endpoint-Load-Metrics: {text}"))
            client = make_client([one.url, two.url])
            await client.chat.create("hi")
            assert sorted(loads(client)) == [0, load]
            assert {request.headers[ASKED] for request in (*one.requests, *two.requests)} == {"TEXT"}


async def test_who_is_not_asked(make_client: MakeClient) -> None:
    """One server is not asked, nor is a stream, nor another call than a chat or a text completion."""
    async with FaultServer() as one, FaultServer() as two:
        for server in (one, two):
            server.script(script("/metrics", http(VLLM, type="text/plain")))
        alone = make_client(one.url, dialect="vllm")
        await calls(alone, 4)
        assert not any(ASKED in request.headers for request in one.requests)
        assert reads(one) == []
        one.requests.clear()
        for server in (one, two):
            server.script(stream(token("Hello", "stop")))
        both = make_client([one.url, two.url], dialect="hosted")
        async with both.chat.stream("hi") as open_stream:
            await open_stream.final()
        assert not any(ASKED in request.headers for request in (*one.requests, *two.requests))


@pytest.mark.parametrize("options", [{"dialect": "hosted"}, {}, {"headers": {ASKED: "none"}}])
async def test_no_other_server_is_read(make_client: MakeClient, options: Any) -> None:
    """A hosted API and a server of an unknown type are never read; the caller's own header is sent as it is."""
    async with FaultServer() as one, FaultServer() as two:
        for server in (one, two):
            server.script(script("/metrics", http(VLLM, type="text/plain")))
        client = make_client([one.url, two.url], **options)
        await calls(client, 3)
        assert reads(one) == reads(two) == []
        asked = {request.headers.get(ASKED) for request in one.requests}
        assert asked == ({"none"} if "headers" in options else {None} if options else {"TEXT"})


async def test_short_and_idle_clients_do_not_read(make_client: MakeClient) -> None:
    """Nothing is read in the first second, nor while no call is made."""
    async with FaultServer() as one, FaultServer() as two:
        for server in (one, two):
            server.script(script("/metrics", http(VLLM, type="text/plain")))
        client = make_client([one.url, two.url], dialect="vllm")
        await asyncio.gather(*(client.chat.create("hi") for _ in range(20)))
        await asyncio.sleep(30)
        assert reads(one) == reads(two) == []
        await calls(client, 1)
        assert reads(one) == reads(two) == ["/metrics"]


async def test_calls_do_not_wait_for_a_reading(make_client: MakeClient) -> None:
    """A server that never answers it delays no call, and closing the client ends it."""
    never = asyncio.Event()
    async with FaultServer() as one, FaultServer() as two:
        for server in (one, two):
            server.script(
                lambda request: [never.wait, http(VLLM)] if request.path == "/metrics" else [chat()],
            )
        client = make_client([one.url, two.url], dialect="vllm")
        began = asyncio.get_running_loop().time()
        await calls(client, 2)
        assert asyncio.get_running_loop().time() - began < 2.5
        await one.until(lambda: reads(one) == ["/metrics"])
        await client.aclose()
        never.set()


async def test_a_custom_transport_is_not_read() -> None:
    """A transport of the caller sees the caller's requests only."""
    transport = FakeTransport(lambda request: chat_body())
    bases = ["http://a:1/v1", "http://b:1/v1"]
    async with AsyncClient(base_url=bases, model="m", dialect="vllm", transport=transport) as client:
        await calls(client, 4)
    assert {request.method for request in transport.requests} == {"POST"}


async def test_the_key_goes_along(make_client: MakeClient) -> None:
    """A reading carries what calls to the same server carry."""
    async with FaultServer() as one, FaultServer() as two:
        for server in (one, two):
            server.script(script("/metrics", http(VLLM, type="text/plain")))
        client = make_client([one.url, two.url], dialect="vllm", api_key=lambda: "nvapi-x", headers={"X-Mine": "1"})
        await calls(client, 2)
        read = next(request for request in one.requests if request.path == "/metrics")
        assert (read.headers["authorization"], read.headers["x-mine"]) == ("Bearer nvapi-x", "1")


@pytest.mark.slow
@pytest.mark.parametrize("streams", [True, False])
async def test_calls_go_around_the_load_of_others(make_client: MakeClient, streams: bool) -> None:
    """Beside three idle replicas one with foreign requests four times its slots gets next to nothing, by either report."""
    async with AsyncExitStack() as stack:
        common: dict[str, Any] = {"dialect": "vllm", "ttft": 0.05, "slots": 4}
        sims = [await stack.enter_async_context(Simulator(**common, foreign=16 * (i == 3))) for i in range(4)]
        client = make_client([sim.base_url for sim in sims], model="meta/llama-3.1-8b-instruct", dialect="vllm")

        async def user() -> None:
            for _ in range(30):
                if streams:
                    await client.chat.stream("hi", max_tokens=1).final()
                else:
                    await client.chat.create("hi", max_tokens=1)

        await asyncio.gather(*(user() for _ in range(8)))
        counts = [sum(request.method == "POST" for request in sim.requests) for sim in sims]
        assert sum(counts) == 240
        assert counts[3] < min(counts[:3]) / 6
        assert any(request.path == "/metrics" for request in sims[3].requests)


def test_the_blocking_client_reads_too() -> None:
    """A blocking client reads in its own loop."""
    with ServerThread() as one, ServerThread() as two:
        for server in (one, two):
            server.script(answer(chat_body(), 200, "Endpoint-Load-Metrics: TEXT num_requests_waiting=2.0"))
        with Client(base_url=[one.url, two.url], model="m") as client:
            client.chat.create("hi")
            assert sorted(one.waiting.number for one in replicas(client)) == [0, 2]
