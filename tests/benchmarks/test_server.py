"""The canned server cuts requests off a connection at any boundary and answers what the floor can read back."""

import asyncio
import base64
import json
from array import array

import pytest

from benchmarks import canned, runners
from benchmarks.harness import run_once
from benchmarks.scenarios import BY_NAME, bind, check
from benchmarks.server import CannedProtocol, Request, Server, running_server, running_servers, take_request, writes
from support.virtual_time import takes

POST = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 5\r\n\r\nhello"
GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
CLIENT_SCENARIOS = [name for name, scenario in BY_NAME.items() if not (scenario.is_start or scenario.tls)]


def body_of(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def ask(path, **body):
    return writes(Request(path, json.dumps(body).encode()))


def test_request_is_taken_once_it_is_complete():
    buffer = bytearray()
    for byte in POST[:-1]:
        buffer.append(byte)
        assert take_request(buffer) is None
    buffer += POST[-1:] + GET
    assert take_request(buffer) == Request("/v1/embeddings", b"hello")
    assert take_request(buffer) == Request("/v1/models", b"")
    assert not buffer


def test_response_states_its_length():
    head, _, body = canned.response(b"12345").partition(b"\r\n\r\n")
    assert b"Content-Length: 5" in head
    assert body == b"12345"


def test_embeddings_are_the_same_numbers_in_both_encodings():
    (packed,) = ask("/v1/embeddings", model="m", input=["a", "b"], encoding_format="base64")
    (listed,) = ask("/v1/embeddings", model="m", input=["a", "b"])
    decoded = [array("f", base64.b64decode(item["embedding"])).tolist() for item in body_of(packed)["data"]]
    assert decoded == [item["embedding"] for item in body_of(listed)["data"]]
    assert decoded == [canned.vector(0).tolist(), canned.vector(1).tolist()]


def test_fast_stream_is_one_write_of_chunks_that_cut_events_anywhere():
    (data,) = ask("/v1/chat/completions", model=canned.MODEL, stream=True, max_tokens=200)
    chunks = data.removeprefix(canned.STREAM_HEAD)
    size, _, rest = chunks.partition(b"\r\n")
    first = rest[: int(size, 16)]
    assert len(first) == canned.HTTP_CHUNK_BYTES
    assert first.count(b"data: ") > 50
    assert not first.endswith(b"\n\n")


def test_paced_stream_is_one_write_for_each_token():
    first, *tokens, last = ask("/v1/chat/completions", model=canned.PACED_MODEL, stream=True, max_tokens=3)
    assert b'"role":"assistant"' in first
    assert [write.count(b"data: ") for write in tokens] == [1, 1, 1]
    assert last.endswith(b"data: [DONE]\n\n\r\n" + canned.LAST_HTTP_CHUNK)


def test_event_is_as_long_as_a_real_one():
    assert 200 <= len(canned.token_events(canned.MODEL, 1)[0]) <= 250


def test_unknown_path_is_not_found():
    (answer,) = ask("/v1/elsewhere")
    assert answer.startswith(b"HTTP/1.1 404 ")


@pytest.fixture(scope="module")
def server_url():
    with running_server() as url:
        yield url


@pytest.mark.parametrize("name", CLIENT_SCENARIOS)
async def test_floor_reads_back_what_the_server_sends(server_url, name):
    scenario = BY_NAME[name]
    async with runners.load("floor").connect(server_url, scenario.model) as floor:
        check(scenario, await bind(scenario, floor)())


async def test_the_slow_model_takes_its_time(virtual_time):
    server = await asyncio.get_running_loop().create_server(CannedProtocol, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, runners.load("floor").connect(url, canned.SLOW_MODEL) as floor:
        with takes(canned.SLOW_SECONDS):
            await floor.embed(["a"])


@pytest.mark.parametrize(("name", "wrong"), [("chat", "else"), ("stream", ""), ("embed-64", [[0.0] * 1024] * 64)])
def test_wrong_answer_is_not_measured(name, wrong):
    with pytest.raises(ValueError, match="not what the server sent"):
        check(BY_NAME[name], wrong)


def test_run_is_measured_in_a_process_of_its_own(server_url):
    run = run_once(BY_NAME["chat-32"], "floor", 3, Server(server_url), 0.05)
    assert run.failure is None
    assert (run.scenario, run.peer, run.turn) == ("chat-32", "floor", 3)
    assert run.units >= 1
    assert run.cpu_seconds > 0
    assert 0 < run.wall_seconds < 0.05  # that of its best round


def test_the_same_answers_come_under_tls():
    with running_servers() as servers:
        run = run_once(BY_NAME["chat-32-tls"], "floor", 0, servers.tls, 0.05)
    assert run.failure is None
    assert run.units >= 1
