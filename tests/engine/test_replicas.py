"""Several base URLs: where requests go, what a replica's failure does to a call, and what it costs."""

import asyncio
import contextlib
import os
import pickle
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nimclient import AsyncClient, AttemptEvent, Client, RetryPolicy
from nimclient.errors import (
    ConnectError,
    NimError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    StreamInterruptedError,
)
from nimclient.simulator import Simulator
from support.leaks import open_files, replicas, shared_state
from support.server import Close, FaultServer, ServerThread, Stall
from support.slow import mostly_slow
from support.wire import answer, chat, chunk, embedded, error, head, http, token

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
CANARY = "nvapi-canary-0123456789"
VECTOR = answer(embedded(["1"]))
PATIENT = RetryPolicy(first_delay=30, max_delay=30)  # a test that waits for a delay does not end in time


@pytest.fixture
async def pair() -> AsyncIterator[tuple[FaultServer, FaultServer]]:
    """Two replicas that work."""
    async with FaultServer() as one, FaultServer() as two:
        yield one.script(chat()), two.script(chat())


def urls(servers: Any) -> list[str]:
    return [server.url for server in servers]


def counts(servers: Any) -> list[int]:
    return [len(server.requests) for server in servers]


def members(client: AsyncClient) -> Any:
    """What the client knows of its replicas."""
    return replicas(client)


async def closed_port() -> str:
    """A URL that refuses connections."""
    async with FaultServer() as server:
        return server.url


async def test_requests_side_by_side_are_spread(pair: tuple[FaultServer, FaultServer], make_client: MakeClient) -> None:
    """What is outstanding counts: requests sent at once go to all replicas alike."""
    client = make_client(urls(pair))
    await asyncio.gather(*(client.chat.create("hi") for _ in range(8)))
    assert counts(pair) == [4, 4]
    assert not any(replica.open for replica in members(client))


async def test_what_a_client_tells_of_its_replicas(make_client: MakeClient) -> None:
    """base_url is the first replica's API root, base_urls all of them; the repr names all."""
    client = make_client(("http://a", "http://b/v1/"))
    assert client.base_url == "http://a/v1"
    assert client.base_urls == ("http://a/v1", "http://b/v1")
    assert repr(client) == "AsyncClient(base_url=['http://a/v1', 'http://b/v1'])"
    assert make_client(["http://a"]).base_urls == ("http://a/v1",)


async def test_a_retry_goes_to_another_replica_at_once(make_client: MakeClient) -> None:
    """5xx, throttling and a broken connection are repeated at the other replica, without a delay."""
    for script in (error(500), error(503), error(429), error(429, "later", "Retry-After: 10800"), [Close()]):
        async with FaultServer() as bad, FaultServer() as good:
            bad.script(script)
            good.script(chat())
            client = make_client(urls([bad, good]), retry=PATIENT)
            for _ in range(2):
                reply = await client.chat.create("hi", timeout=5)
                assert reply.text == "Hello"
            assert counts([bad, good])[1] == 2
            assert len(bad.requests) <= 2


async def test_no_failure_of_the_call_itself_is_moved(
    pair: tuple[FaultServer, FaultServer], make_client: MakeClient
) -> None:
    """A 404 is the call's own: it is sent once."""
    for server in pair:
        server.script(error(404))
    with pytest.raises(NotFoundError):
        await make_client(urls(pair)).chat.create("hi")
    assert sum(counts(pair)) == 1


async def test_one_attempt_stays_where_it_is(make_client: MakeClient) -> None:
    """RetryPolicy(attempts=1) never repeats, at no replica."""
    dead = [await closed_port(), await closed_port()]
    events: list[AttemptEvent] = []
    client = make_client(dead, retry=RetryPolicy(attempts=1), on_attempt=events.append)
    with pytest.raises(ConnectError):
        await client.chat.create("hi")
    assert len(events) == 1


async def test_attempts_are_counted_over_all_replicas(make_client: MakeClient) -> None:
    """A call that fails everywhere is sent as often as the policy says; generation at most twice."""
    async with FaultServer() as one, FaultServer() as two, FaultServer() as three:
        servers = [one, two, three]
        for server in servers:
            server.script(error(500))
        client = make_client(urls(servers))
        with pytest.raises(ServerError) as caught:
            await client.chat.create("hi")
        assert caught.value.attempts == sum(counts(servers)) == 2
        with pytest.raises(ServerError):
            await client.embeddings.create(["a"])
        assert sum(counts(servers)) == 5


async def test_a_refusal_everywhere_waits(make_client: MakeClient) -> None:
    """A call that every replica throttles waits like with one, and tries all of them again."""
    async with FaultServer() as one, FaultServer() as two:
        for server in (one, two):
            server.script(error(429), chat())
        client = make_client(urls([one, two]))
        reply = await client.chat.create("hi")
        assert reply.text == "Hello"
        assert sum(counts([one, two])) == 3


async def test_a_refusal_everywhere_for_good(make_client: MakeClient) -> None:
    """With every replica throttling, the attempts of the policy are what is waited for."""
    async with FaultServer() as one, FaultServer() as two:
        for server in (one, two):
            server.script(error(429))
        with pytest.raises(RateLimitError):
            await make_client(urls([one, two])).chat.create("hi")
        assert sum(counts([one, two])) <= 4


async def test_a_dead_replica_costs_one_connection(
    pair: tuple[FaultServer, FaultServer], make_client: MakeClient
) -> None:
    """A replica that refuses connections is left alone: the calls after the first do not go there."""
    dead = await closed_port()
    events: list[AttemptEvent] = []
    client = make_client([dead, *urls(pair)], on_attempt=events.append, retry=PATIENT)
    for _ in range(9):
        await client.chat.create("hi", timeout=5)
    assert sum(isinstance(event.error, ConnectError) for event in events) <= 1


async def test_all_dead(make_client: MakeClient) -> None:
    """With every replica dead the call fails like with one, after its attempts."""
    events: list[AttemptEvent] = []
    client = make_client([await closed_port(), await closed_port()], on_attempt=events.append)
    with pytest.raises(ConnectError):
        await client.chat.create("hi")
    assert {event.url for event in events} == {url + "/chat/completions" for url in client.base_urls}
    assert 3 <= len(events) <= 4


async def test_one_dies_in_mid_run(make_client: MakeClient) -> None:
    """Calls that are in flight at a replica when it dies are repeated elsewhere: none fails."""
    async with FaultServer() as good:
        dying = FaultServer()
        await dying.start()
        good.script(chat())
        dying.script(chat())
        client = make_client([dying.url, good.url], retry=PATIENT)

        async def work(number: int) -> str:
            if number == 40:
                await dying.stop()
            return (await client.chat.create("hi", timeout=5)).text

        texts: list[str] = []
        for start in range(0, 96, 8):
            texts += await asyncio.gather(*(work(start + i) for i in range(8)))
        assert texts == ["Hello"] * 96
        assert 0 < len(dying.requests) < len(good.requests)


async def test_a_hung_replica(make_client: MakeClient) -> None:
    """A replica that never answers is ejected by the time limits of the calls that went there."""
    async with FaultServer() as hung, FaultServer() as good:
        hung.script([Stall()])
        good.script(VECTOR)
        client = make_client(urls([hung, good]), retry=RetryPolicy(attempts=1))
        for _ in range(40):
            with contextlib.suppress(RequestTimeoutError):
                await client.embeddings.create(["a"], timeout=0.05)
        assert len(hung.requests) <= 3


async def test_streams_are_outstanding_until_they_end(
    pair: tuple[FaultServer, FaultServer], make_client: MakeClient
) -> None:
    """An open stream counts at its replica; read to the end, closed or broken it does not."""
    for server in pair:
        server.script([head(), chunk(token("a")), Stall()])
    client = make_client(urls(pair))
    streams = [client.chat.stream("hi") for _ in range(4)]
    await asyncio.gather(*(stream.__aenter__() for stream in streams))
    assert [len(replica.open) for replica in members(client)] == [2, 2]
    for stream in streams:
        await stream.aclose()
    assert [len(replica.open) for replica in members(client)] == [0, 0]
    for server in pair:
        server.script([head(), chunk(token("a")), Close()])
    with pytest.raises(StreamInterruptedError):
        await client.chat.stream("hi").final()
    assert [len(replica.open) for replica in members(client)] == [0, 0]


async def test_cancelled_calls_are_not_outstanding(
    pair: tuple[FaultServer, FaultServer], make_client: MakeClient
) -> None:
    """A call that its caller cancels leaves nothing behind at its replica."""
    for server in pair:
        server.script([Stall()])
    client = make_client(urls(pair))
    tasks = [asyncio.ensure_future(client.chat.create("hi")) for _ in range(4)]
    await pair[0].until(lambda: sum(counts(pair)) == 4)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [len(replica.open) for replica in members(client)] == [0, 0]


@pytest.mark.no_key
async def test_the_key_goes_to_every_replica(
    pair: tuple[FaultServer, FaultServer], make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An explicit key goes to all origins of base_url; NVIDIA_API_KEY to none of them."""
    client = make_client(urls(pair), api_key=CANARY)
    await asyncio.gather(*(client.chat.create("hi") for _ in range(2)))
    assert [server.requests[0].headers["authorization"] for server in pair] == [f"Bearer {CANARY}"] * 2
    monkeypatch.setenv("NVIDIA_API_KEY", CANARY)
    client = make_client(urls(pair))
    await asyncio.gather(*(client.chat.create("hi") for _ in range(2)))
    assert [server.requests[1].headers.get("authorization") for server in pair] == [None, None]


@pytest.mark.real_time
async def test_each_replica_is_learned_by_itself(make_client: MakeClient) -> None:
    """A field of ours that one replica rejects is still sent to the other."""
    async with FaultServer() as old, FaultServer() as new:

        def choosy(request: Any) -> bytes:
            return error(400, "encoding_format is not supported") if b"base64" in request.body else VECTOR

        old.script(choosy)
        new.script(VECTOR)
        client = make_client(urls([old, new]))
        for _ in range(3):
            await asyncio.gather(*(client.embeddings.create(["a"]) for _ in range(4)))
        sent = [[b"encoding_format" in request.body for request in server.requests] for server in (old, new)]
        assert all(not field for field in sent[0][-2:])
        assert all(sent[1][-2:])


async def test_a_models_own_endpoint_is_no_replica(
    pair: tuple[FaultServer, FaultServer], make_client: MakeClient
) -> None:
    """A model with a URL of its own is called there, whatever the replicas are."""
    async with FaultServer() as own:
        own.script(chat())
        client = make_client(urls(pair), endpoints={"far": own.url + "/chat/completions"}, api_key=CANARY)
        for _ in range(3):
            await client.chat.create("hi", model="far")
        assert counts([*pair, own]) == [0, 0, 3]
        assert own.requests[0].headers["authorization"] == f"Bearer {CANARY}"


async def test_copies_share_what_is_known(pair: tuple[FaultServer, FaultServer], make_client: MakeClient) -> None:
    """with_options copies choose by the same books; a pickled client starts with empty ones, and all replicas."""
    client = make_client(urls(pair))
    copy = client.with_options(timeouts=5)
    await copy.chat.create("hi")
    assert members(copy) is members(client)
    assert any(replica.latencies for replica in members(client))
    restored = pickle.loads(pickle.dumps(client))
    assert restored.base_urls == client.base_urls
    async with restored:
        await asyncio.gather(*(restored.chat.create("hi") for _ in range(2)))
    assert sum(counts(pair)) == 3


def test_a_forked_child_begins_anew() -> None:
    """What a parent has in flight is not outstanding in a forked child."""
    with ServerThread() as one, ServerThread() as two, Client(base_url=urls([one, two]), model="m") as client:
        known = shared_state(client).replicas
        lease = known.routing("chat", stream=False, may_probe=True).acquire()
        read, write = os.pipe()
        if (child := os.fork()) == 0:  # pragma: no cover  # in the child
            found = shared_state(client).replicas
            os.write(write, bytes([found is known, sum(len(replica.open) for replica in replicas(client))]))
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 2) == bytes([False, 0])
        os.close(read)
        os.close(write)
        lease.end()


def test_threads_share_the_books() -> None:
    """One client in eight threads with a loop each: every request is counted once, and none is outstanding at the end."""
    with ServerThread() as one, ServerThread() as two:
        for server in (one, two):
            server.script(chat())
        client = AsyncClient(base_url=urls([one, two]), model="m")

        async def work() -> None:
            for _ in range(10):
                await asyncio.gather(*(client.chat.create("hi") for _ in range(4)))

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(asyncio.run, work()) for _ in range(8)]:
                done.result(200)
        assert sum(counts([one, two])) == 320
        assert min(counts([one, two])) > 0
        assert [(len(replica.open), replica.failures) for replica in members(client)] == [(0, 0), (0, 0)]


def test_the_blocking_client() -> None:
    """Client takes replicas, too, and tells of them."""
    with ServerThread() as one, ServerThread() as two:
        one.script(error(500))
        two.script(chat())
        with Client(base_url=urls([one, two]), model="m", retry=PATIENT) as client:
            assert [client.chat.create("hi").text for _ in range(3)] == ["Hello"] * 3
            assert client.base_urls == tuple(urls([one, two]))


async def test_a_trio_loop_leaves_no_lease(pair: tuple[FaultServer, FaultServer], make_client: MakeClient) -> None:
    """A call that fails before it is sent is not outstanding either."""
    client = make_client(urls(pair), api_key=lambda: "not a key")
    files = open_files()
    for _ in range(3):
        with pytest.raises(NimError):
            await client.chat.create("hi")
    assert [len(replica.open) for replica in members(client)] == [0, 0]
    assert open_files() == files


@pytest.mark.parametrize(
    ("first", "second", "ready"),
    [([Stall()], http(), True), (error(503), http(), True), (error(503), [Close()], False), ([Close()], b"?", False)],
    ids=["one hangs", "one loads", "none", "nonsense"],
)
async def test_one_ready_replica_is_enough(
    pair: tuple[FaultServer, FaultServer], make_client: MakeClient, first: Any, second: Any, ready: bool
) -> None:
    """health.ready and live are true, and at once, when a replica says so; no fault of another one is raised."""
    pair[0].script(first)
    pair[1].script(second if isinstance(second, list) else [second, Close()])
    client = make_client(urls(pair))
    assert await client.health.ready(timeout=5) is ready
    assert await client.health.live(timeout=5) is ready


async def test_waiting_for_the_first_replica(pair: tuple[FaultServer, FaultServer], make_client: MakeClient) -> None:
    """wait_ready ends when one replica is ready, and tells of the first one when none is in time."""
    pair[0].script(error(503, "loading"))
    pair[1].script(error(503), error(503), http())
    client = make_client(urls(pair))
    await client.health.wait_ready(timeout=5)
    pair[1].script(error(503))
    with pytest.raises(RequestTimeoutError, match="loading"):
        await client.health.wait_ready(timeout=0.2)


async def test_routes_at_the_root_go_to_replicas_too(
    pair: tuple[FaultServer, FaultServer], make_client: MakeClient
) -> None:
    """tokenize, whose route is beside /v1, is repeated at another replica."""
    pair[0].script(error(503))
    pair[1].script(answer({"tokens": [1, 2], "count": 2, "max_model_len": 9}))
    client = make_client(urls(pair), retry=PATIENT)
    for _ in range(3):
        assert len((await client.tokenize("hi")).tokens) == 2
    assert {request.path for server in pair for request in server.requests} == {"/tokenize"}


async def test_the_kind_of_any_replica_is_that_of_all(make_client: MakeClient) -> None:
    """What one replica's answers show of the server type holds for the client."""
    async with FaultServer() as server:
        server.script(answer({"object": "list", "data": [{"id": "m", "owned_by": "vllm"}]}))
        client = make_client([await closed_port(), server.url], retry=PATIENT)
        await client.models.list()
        assert client.dialect == "vllm"


async def simulators(stack: contextlib.AsyncExitStack, *delays: float) -> list[Simulator]:
    return [await stack.enter_async_context(Simulator(ttft=delay)) for delay in delays]


async def test_a_slow_simulator_gets_little(make_client: MakeClient) -> None:
    """Of four simulators one that is slower gets a few requests of many; the others share the rest. (Times: benchmarks.)"""
    async with contextlib.AsyncExitStack() as stack:
        sims = await simulators(stack, 0.001, 0.001, 0.001, 0.2)
        client = make_client([sim.base_url for sim in sims], model="meta/llama-3.1-8b-instruct")
        replies = await client.chat.batch(["hi"] * 300, concurrency=8)
        assert len(replies) == 300
        asked = [len(sim.requests) for sim in sims]
        assert sum(asked) == 300
        assert 1 <= asked[3] <= 15
        assert min(asked[:3]) > 30


@pytest.mark.parametrize("kind", mostly_slow(["chat", "stream", "embeddings"], "stream"))
async def test_a_simulator_is_killed_in_mid_run(make_client: MakeClient, kind: str) -> None:
    """No call fails when one of four simulators is closed under its requests."""
    async with contextlib.AsyncExitStack() as stack:
        sims = await simulators(stack, 0.005, 0.005, 0.005, 0.005)
        client = make_client([sim.base_url for sim in sims], model=None, retry=PATIENT)

        async def call(number: int) -> Any:
            if number == 60:
                await sims[3].aclose()
            if kind == "embeddings":
                return await client.embeddings.embed_query("a", timeout=20)
            if kind == "chat":
                return await client.chat.create("hi", max_tokens=2, timeout=20)
            return await client.chat.stream("hi", max_tokens=2, timeout=20).final()

        await asyncio.gather(*(client.health.ready() for _ in range(2)))
        results = []
        for start in range(0, 180, 12):
            results += await asyncio.gather(*(call(start + i) for i in range(12)))
        assert len(results) == 180
        assert len(sims[3].requests) < 60


async def test_a_busy_replica_does_not_hold_up_many(
    pair: tuple[FaultServer, FaultServer], make_client: MakeClient
) -> None:
    """Slices that one replica throttles go to the other at once: nothing waits, and the busy one is avoided for a while."""

    def embed(request: Any) -> bytes:
        return answer(embedded(request.json["input"]))

    pair[0].script(error(429, "slow down", "Retry-After: 30"))
    pair[1].script(embed)
    client = make_client(urls(pair), retry=PATIENT)
    vectors = await client.embeddings.embed_documents([str(n) for n in range(400)], batch_size=4, timeout=20)
    assert [vector[0] for vector in vectors] == list(range(400))
    assert 0 < len(pair[0].requests) <= 16
    assert len(pair[1].requests) == 100


async def test_many_wait_when_every_replica_refuses(
    pair: tuple[FaultServer, FaultServer], make_client: MakeClient
) -> None:
    """With all replicas throttling, slices wait at the gate and spend no attempt; then they continue."""
    refusing = 30

    def embed(request: Any) -> bytes:
        nonlocal refusing
        refusing -= 1
        return error(503, "busy") if refusing > 0 else answer(embedded(request.json["input"]))

    for server in pair:
        server.script(embed)
    client = make_client(urls(pair))
    vectors = await client.embeddings.embed_documents([str(n) for n in range(60)], batch_size=2, timeout=20)
    assert len(vectors) == 60
    assert sum(counts(pair)) >= 59
