import asyncio
import json
import socket
from typing import Any

import aiohttp
import pytest

from nimclient.simulator import RequestRecord, Simulator, server
from support.virtual_time import takes

from .raw import CHAT, EMBED, PARIS, RANK, RawClient

pytestmark = pytest.mark.usefixtures("virtual_time")

MESSAGES = [{"role": "user", "content": PARIS}]


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def test_it_lists_the_catalog_and_the_given_models(raw: RawClient) -> None:
    """The list holds the models given by name first, then the catalog's ids; aliases are not served."""
    body = (await raw.get("/v1/models")).body
    entries = {entry["id"]: entry for entry in body["data"]}
    assert body["data"][0]["id"] == "mine/own"
    assert entries[CHAT]["owned_by"] == "system"
    assert (entries[CHAT]["root"], entries[CHAT]["parent"]) == (CHAT, None)
    assert (entries[CHAT]["max_model_len"], entries[EMBED]["max_model_len"]) == (131_072, 512)
    assert "ai-llama3-8b" not in entries


async def test_one_model_is_found_by_an_id_with_slashes(raw: RawClient) -> None:
    """A single model is found by its id; an unknown one is vLLM's 404."""
    assert (await raw.get(f"/v1/models/{CHAT}")).body["id"] == CHAT
    status, body, _ = await raw.get("/v1/models/no/such")
    assert status == 404
    assert body["error"]["type"] == "NotFoundError"


async def test_the_small_documents(raw: RawClient) -> None:
    """Health, metadata and version have the bodies of a NIM, and the metadata says what this is."""
    assert (await raw.get("/v1/health/live")).body["message"] == "Service is live."
    assert (await raw.get("/v1/health/ready")).body["message"] == "Service is ready."
    assert (await raw.get("/v1/version")).body.keys() == {"release", "api"}
    metadata = (await raw.get("/v1/metadata")).body
    assert metadata["modelInfo"][0]["shortName"] == "mine/own"
    assert "simulator" in metadata["licenseInfo"]["name"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/ranking"])
async def test_unknown_models_are_a_404(raw: RawClient, path: str) -> None:
    """Every route answers an unknown model with vLLM's nested 404."""
    status, body, _ = await raw.post(path, {"model": "no/such"})
    assert status == 404
    assert body == {
        "error": {
            "message": "The model `no/such` does not exist.",
            "type": "NotFoundError",
            "param": "model",
            "code": 404,
        }
    }


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/chat/completions", EMBED),
        ("/v1/completions", RANK),
        ("/v1/embeddings", CHAT),
        ("/v1/ranking", EMBED),
    ],
)
async def test_models_of_another_kind_are_rejected(raw: RawClient, path: str, model: str) -> None:
    """A model on a route it is not made for is a 400."""
    status, body, _ = await raw.post(path, {"model": model})
    assert status == 400
    assert "does not support" in json.dumps(body)


async def test_the_model_is_needed(raw: RawClient) -> None:
    """A request without a model is a 400 that names the field."""
    assert (await raw.post("/v1/chat/completions", {"messages": MESSAGES})).body["error"]["param"] == "model"


async def test_only_embedding_models_have_suffixes(raw: RawClient) -> None:
    """The suffix of an input type belongs to embedding models; on a chat model it is an unknown name."""
    assert (await raw.post("/v1/chat/completions", {"model": f"{CHAT}-query"})).status == 404


async def test_unknown_routes_and_methods_are_fastapis(raw: RawClient) -> None:
    """A wrong path is FastAPI's 404, a wrong method its 405."""
    assert (await raw.get("/v1/nothing"))[:2] == (404, {"detail": "Not Found"})
    assert (await raw.get("/v1/chat/completions"))[:2] == (405, {"detail": "Method Not Allowed"})
    assert (await raw.post("/v1/models", {}))[:2] == (405, {"detail": "Method Not Allowed"})


@pytest.mark.parametrize(
    ("data", "headers", "message"),
    [
        (b'{"model": ', {"Content-Type": "application/json"}, "JSON decode error"),
        (b"[]", {"Content-Type": "application/json"}, "must be a JSON object"),
        (b"{}", {"Content-Type": "text/plain"}, "Only 'application/json' is allowed"),
    ],
)
async def test_bodies_must_be_json_objects(raw: RawClient, data: bytes, headers: dict[str, str], message: str) -> None:
    """Broken JSON, other JSON than an object, and another content type are a 400."""
    async with raw.session.post(f"{raw.sim.base_url}/chat/completions", data=data, headers=headers) as response:
        body = await response.json()
    assert response.status == 400
    assert message in body["error"]["message"]


async def test_too_large_bodies_are_a_413(raw: RawClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body beyond the limit is rejected by its size."""
    monkeypatch.setattr(server, "_MAX_BODY", 100)
    async with Simulator() as small:
        async with raw.session.post(f"{small.base_url}/embeddings", json={"input": "x" * 200}) as response:
            body = await response.json()
        assert (response.status, body["error"]["code"]) == (413, 413)
        assert small.requests[0].json is None


async def test_requests_are_recorded(raw: RawClient) -> None:
    """Each request is kept with method, path, headers, body and status, oldest first."""
    await raw.get("/v1/models?limit=3")
    await raw.post("/v1/chat/completions", {"model": "no"}, Authorization="Bearer secret-key")
    first, second = raw.sim.requests
    assert (first.method, first.path, first.json, first.status) == ("GET", "/v1/models", None, 200)
    assert (second.method, second.path, second.json, second.status) == (
        "POST",
        "/v1/chat/completions",
        {"model": "no"},
        404,
    )
    assert second.headers["authorization"] == "Bearer secret-key"
    assert not second.disconnected


def test_the_repr_of_a_record_shows_no_secret() -> None:
    """A record's repr has the outcome and neither headers nor body."""
    record = RequestRecord("POST", "/v1/x", {"authorization": "Bearer secret"}, {"a": 1}, 200, True)
    assert repr(record) == "<RequestRecord POST /v1/x 200 disconnected>"
    record.disconnected = False
    assert repr(record) == "<RequestRecord POST /v1/x 200>"


async def test_only_the_last_requests_are_kept(session: aiohttp.ClientSession) -> None:
    """`keep_requests` bounds the memory."""
    async with Simulator(keep_requests=2) as sim:
        raw = RawClient(sim, session)
        for name in ("live", "ready", "none"):
            await raw.get(f"/v1/health/{name}")
        assert [record.path for record in sim.requests] == ["/v1/health/ready", "/v1/health/none"]


async def test_request_ids_are_echoed_or_made(raw: RawClient) -> None:
    """The caller's X-Request-Id comes back; without one each request gets its own."""
    given = await raw.post("/v1/chat/completions", {"model": CHAT, "messages": MESSAGES}, X_Request_Id="mine-1")
    assert given.headers["X-Request-Id"] == "mine-1"
    assert given.body["id"] == "chatcmpl-mine-1"
    foreign = await raw.post("/v1/chat/completions", {"model": CHAT, "messages": MESSAGES}, X_Request_Id="größe")
    assert foreign.body["id"].removeprefix("chatcmpl-").isascii()
    made = {(await raw.get("/v1/version")).headers["X-Request-Id"] for _ in range(3)}
    assert len(made) == 3


async def test_two_simulators_with_one_seed_answer_alike(session: aiohttp.ClientSession) -> None:
    """Equal seeds and equal requests give equal bytes; another seed gives others."""
    bodies: list[bytes] = []
    for seed in (1, 1, 2):
        async with (
            Simulator(seed=seed) as sim,
            session.post(f"{sim.base_url}/chat/completions", json={"model": CHAT, "messages": MESSAGES}) as response,
        ):
            bodies.append(await response.read())
    assert bodies[0] == bodies[1] != bodies[2]


async def test_beyond_the_rate_comes_a_429(session: aiohttp.ClientSession) -> None:
    """Beyond rpm the answer is the hosted catalog's 429 without Retry-After; documents are not counted."""
    now = 0.0
    async with Simulator(rpm=2, clock=lambda: now) as sim:
        raw = RawClient(sim, session)
        assert [(await raw.chat()).status for _ in range(3)] == [200, 200, 429]
        rejected = await raw.embed()
        assert rejected.body == {"status": 429, "title": "Too Many Requests"}
        assert "Retry-After" not in rejected.headers
        assert (await raw.get("/v1/models")).status == 200
        assert (await raw.post("/tokenize", {"prompt": "x"})).status == 200
        now += 30.0
        assert [(await raw.chat()).status for _ in range(2)] == [200, 429]


async def test_models_given_by_name_are_all_there_are(session: aiohttp.ClientSession) -> None:
    """With `models` only those are listed and served."""
    async with Simulator(models=[CHAT, "mine/own"]) as sim:
        raw = RawClient(sim, session)
        assert [model["id"] for model in (await raw.get("/v1/models")).body["data"]] == [CHAT, "mine/own"]
        assert (await raw.chat()).status == 200
        assert (await raw.embed()).status == 404


@pytest.mark.parametrize(
    ("dialect", "names"),
    [
        (
            "nim",
            ("vllm:generation_tokens_total", "vllm:time_to_first_token_seconds_count", "vllm:num_requests_running"),
        ),
        (
            "vllm",
            ("vllm:generation_tokens_total", "vllm:time_to_first_token_seconds_count", "vllm:num_requests_running"),
        ),
        (
            "dynamo",
            (
                "dynamo_frontend_output_tokens_total",
                "dynamo_frontend_time_to_first_token_seconds_count",
                "dynamo_frontend_inflight_requests",
            ),
        ),
    ],
)
async def test_metrics_count_what_was_answered(
    session: aiohttp.ClientSession, dialect: str, names: tuple[str, ...]
) -> None:
    """/metrics is Prometheus text: tokens, outcomes and latencies by model, under the names of the server type."""
    async with Simulator(dialect=dialect, models=[CHAT]) as sim:
        raw = RawClient(sim, session)
        usage = (await raw.chat(max_tokens=3)).body["usage"]
        await raw.stream_chat(max_tokens=3)
        async with session.get(f"{raw.root}/metrics") as response:
            text = await response.text()
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    label = f'{{{"model" if dialect == "dynamo" else "model_name"}="{CHAT}"}}'
    assert [values[f"{name}{label}"] for name in names] == [str(2 * usage["completion_tokens"]), "2", "0"]
    success = [value for name, value in values.items() if 'finished_reason="length"' in name]
    assert success == ["2"]


async def test_requests_beyond_the_slots_queue_in_order(session: aiohttp.ClientSession) -> None:
    """With one slot requests finish one after another in the order they came, documents at once."""
    async with Simulator(slots=1, ttft=3) as sim:
        raw = RawClient(sim, session)
        finished: list[int] = []

        async def ask(number: int) -> None:
            assert (await raw.embed(f"text {number}")).status == 200
            finished.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(ask(number))
                await _until(lambda: len(sim.requests) == number + 1 and sim.requests[-1].json)  # noqa: B023
            assert (await raw.get("/v1/health/ready")).status == 200
            assert finished == []
            for number in range(4):
                await asyncio.sleep(3)
                assert finished == list(range(number + 1))


async def test_plain_answers_take_their_time(session: aiohttp.ClientSession) -> None:
    """A plain answer takes ttft and itl for each token."""
    async with Simulator(ttft=0.02, itl=0.01) as sim:
        with takes(0.07):
            await RawClient(sim, session).chat(max_tokens=5)


async def test_streams_come_in_real_time(session: aiohttp.ClientSession) -> None:
    """The first token comes after ttft, the others itl apart, and the head before all of them."""
    async with Simulator(ttft=0.03, itl=0.02) as sim:
        clock = asyncio.get_running_loop().time
        began = clock()
        body = {"model": CHAT, "messages": MESSAGES, "stream": True, "max_tokens": 4}
        times: list[float] = []
        async with session.post(f"{sim.base_url}/chat/completions", json=body) as response:
            head = clock() - began
            async for line in response.content:
                if b'"content":"' in line and b'"content":""' not in line:
                    times.append(clock() - began)
        assert len(times) == 4
        assert head < times[0]
        assert times == pytest.approx([0.03, 0.05, 0.07, 0.09], abs=0.001)


async def test_long_streams_are_written_in_parts(raw: RawClient) -> None:
    """A stream without delays is written in large parts and arrives complete."""
    events = await raw.stream_chat(max_tokens=2000, ignore_eos=True)
    assert len(events) == 1 + 2000 + 1 + 1


@pytest.mark.parametrize("options", [{"itl": 0.01}, {"ttft": 30.0}])
async def test_a_client_that_leaves_is_noticed(session: aiohttp.ClientSession, options: Any) -> None:
    """When the client closes its stream the simulator stops, frees the slot and says so on the record."""
    async with Simulator(slots=1, **options) as sim:
        body = {"model": CHAT, "messages": MESSAGES, "stream": True, "max_tokens": 5000, "ignore_eos": True}
        response = await session.post(f"{sim.base_url}/chat/completions", json=body)
        assert response.status == 200
        response.close()
        await _until(lambda: sim.requests[0].disconnected)
        assert sim.requests[0].status == 200
        assert sim.running == 0
        async with session.get(f"{sim.base_url.removesuffix('/v1')}/metrics") as answer:
            text = await answer.text()
        label = f'model_name="{CHAT}"'
        assert f'vllm:request_success_total{{finished_reason="abort",{label}}} 1' in text
        assert f"vllm:generation_tokens_total{{{label}}} {sim.requests[0].tokens}" in text


async def test_a_client_that_leaves_the_queue_is_noticed(session: aiohttp.ClientSession) -> None:
    """A request that is given up while it waits has no status and never runs."""
    async with Simulator(slots=1, ttft=0.15) as sim:
        raw = RawClient(sim, session)
        first = asyncio.create_task(raw.embed("first"))
        await _until(lambda: sim.running == 1)
        second = asyncio.create_task(raw.embed("second"))
        await _until(lambda: sim.waiting == 1)
        second.cancel()
        await _until(lambda: len(sim.requests) == 2 and sim.requests[1].disconnected)
        assert (await first).status == 200
        assert sim.requests[1].status is None
        assert not sim.requests[0].disconnected


async def test_closing_breaks_open_streams_off(session: aiohttp.ClientSession) -> None:
    """Closing the simulator does not wait for streams, leaves nothing running and blames no client."""
    sim = Simulator(ttft=30.0)
    await sim.start()
    body = {"model": CHAT, "messages": MESSAGES, "stream": True}
    response = await session.post(f"{sim.base_url}/chat/completions", json=body)
    await sim.aclose()
    with pytest.raises(aiohttp.ClientPayloadError):
        await response.read()
    assert sim.running == 0
    assert not sim.requests[0].disconnected


async def test_it_starts_closes_and_starts_again() -> None:
    """It may be started again after it was closed, but not twice at once; closing twice does nothing."""
    sim = Simulator()
    with pytest.raises(RuntimeError, match="not running"):
        _ = sim.base_url
    await sim.start()
    with pytest.raises(RuntimeError, match="running already"):
        await sim.start()
    assert sim.base_url.startswith("http://127.0.0.1:")
    await sim.aclose()
    await sim.aclose()
    async with sim:
        assert sim.base_url.endswith("/v1")


async def test_a_taken_port_is_an_error() -> None:
    """A port somebody else listens on is an OSError and leaves nothing open."""
    async with Simulator() as sim:
        other = Simulator(port=int(sim.base_url.split(":")[2].split("/")[0]))
        with pytest.raises(OSError, match="address already in use"):
            await other.start()


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
async def test_ipv6_addresses_stand_in_brackets() -> None:
    """On an IPv6 host the base URL has brackets."""
    async with Simulator(host="::1") as sim:
        assert sim.base_url.startswith("http://[::1]:")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dialect": "sglang"}, "does not speak the dialect 'sglang'"),
        ({"ttft": -1}, "not negative"),
        ({"itl": -0.1}, "not negative"),
        ({"slots": 0}, "slots"),
        ({"rpm": 0}, "rpm"),
        ({"embedding_dimensions": 0}, "embedding_dimensions"),
    ],
)
def test_senseless_settings_are_rejected(options: Any, message: str) -> None:
    """A setting that makes no sense is a ValueError that names it."""
    with pytest.raises(ValueError, match=message):
        Simulator(**options)


def test_models_is_a_list() -> None:
    """One string for `models` is a mistake, not a list of letters."""
    with pytest.raises(TypeError, match="list of ids"):
        Simulator(models="mine/own")


async def test_vllm_reports_its_load(session: aiohttp.ClientSession) -> None:
    """A plain chat or completion that asks for it has the header; a stream, an embedding and another server type have not.
    Foreign requests count, at /load too, and take turns with those of clients.
    """
    async with Simulator(dialect="vllm", ttft=0.5, slots=2, foreign=5) as sim:
        raw = RawClient(sim, session)
        assert (await raw.get("/load")).body == {"server_load": 5}
        asked = {"endpoint-load-metrics-format": "text"}
        body = {"model": CHAT, "messages": MESSAGES, "max_tokens": 1}
        with takes(1.5):  # three of the five came before it
            answer = await raw.post("/v1/chat/completions", body, **asked)
        assert answer.headers["endpoint-load-metrics"].startswith("TEXT named_metrics.num_requests_waiting=")
        assert "endpoint-load-metrics" not in (await raw.post("/v1/chat/completions", body)).headers
        async with session.post(
            f"{raw.root}/v1/chat/completions", json={**body, "stream": True}, headers=asked
        ) as response:
            assert "endpoint-load-metrics" not in response.headers
        vector = {"model": EMBED, "input": "hello"}
        assert "endpoint-load-metrics" not in (await raw.post("/v1/embeddings", vector, **asked)).headers
    async with Simulator() as sim:
        raw = RawClient(sim, session)
        assert "endpoint-load-metrics" not in (await raw.post("/v1/chat/completions", body, **asked)).headers
    with pytest.raises(ValueError, match="foreign"):
        Simulator(foreign=-1)
