"""client.infer, infer_raw and request: routes without a method of their own, on real sockets."""

import asyncio
import gc
import io
import pickle
import zipfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from nimclient import Asset, AsyncClient, Blob, Client, EventStream, Limits, RetryPolicy
from nimclient.errors import (
    APIStatusError,
    BodyTooLargeError,
    ClientClosedError,
    ConfigurationError,
    ConnectionLostError,
    DecodeError,
    RequestTimeoutError,
    ServerError,
    StreamFaultError,
    StreamInterruptedError,
)
from support.leaks import assert_idle
from support.server import Close, FaultServer, ServerThread, Stall
from support.wire import DONE, END, answer, chunk, error, head, http, sse

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
KEY = "nvapi-canary-0123456789"
BOXES = {"data": [{"index": 0, "bounding_boxes": {}}]}
OPEN = head() + chunk(sse({"type": "response.created"}))


@pytest.fixture
async def far() -> AsyncIterator[FaultServer]:
    """An origin that the client was not made for."""
    async with FaultServer() as far:
        yield far.script(answer(BOXES))


# where it goes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "path", "sent"),
    [
        ("", "/v1/infer", "/v1/infer"),
        ("/v1", "/v1/ocr", "/v1/ocr"),
        ("/v1", "biology/mit/boltz2/predict", "/biology/mit/boltz2/predict"),
        ("/team/v1", "/v1/infer", "/team/v1/infer"),
        ("", "/v1/infer?version=2&from=http://x", "/v1/infer?version=2&from=http://x"),
    ],
)
async def test_paths_are_below_the_root(
    server: FaultServer, make_client: MakeClient, base: str, path: str, sent: str
) -> None:
    """A path is one of the server's, whether the base URL ends in /v1 or not: /v1 never comes twice."""
    server.script(answer(BOXES))
    client = make_client(server.url.removesuffix("/v1") + base)
    assert await client.infer(path, {"input": []}) == BOXES
    (request,) = server.requests
    assert (request.method, request.path, request.json) == ("POST", sent, {"input": []})
    assert request.headers["content-type"] == request.headers["accept"] == "application/json"


async def test_a_url_of_an_origin_of_ours_gets_the_key(server: FaultServer, make_client: MakeClient) -> None:
    """A whole URL is used as it is; at the client's own origin with key and headers."""
    server.script(answer(BOXES))
    client = make_client(api_key=KEY, headers={"X-Own": "1"})
    await client.infer(server.url + "/cv/x?y=1", {})
    (request,) = server.requests
    assert request.path == "/v1/cv/x?y=1"
    assert (request.headers["authorization"], request.headers["x-own"]) == (f"Bearer {KEY}", "1")


async def test_a_url_of_another_origin_gets_nothing_of_the_clients(
    server: FaultServer, far: FaultServer, make_client: MakeClient
) -> None:
    """Neither the key nor the client's headers go to an origin it was not made for; those of the call do."""
    client = make_client(api_key=KEY, headers={"X-Own": "1"})
    await client.infer(far.url + "/x", {}, extra_headers={"X-Mine": "2"})
    await client.request("GET", far.url + "/x")
    first, second = far.requests
    assert first.headers["x-mine"] == "2"
    assert not {"authorization", "x-own"} & (first.headers.keys() | second.headers.keys())
    assert server.requests == []


@pytest.mark.parametrize("host", ["ai", "health"])
async def test_hosted_urls_get_the_key(canned: Any, host: str) -> None:
    """NVIDIA's hosts share the key: a client of the hosted catalog calls a model at its own URL."""
    url = f"https://{host}.api.nvidia.com/v1/biology/mit/boltz2/predict"
    canned.post(url, status=202, headers={"NVCF-REQID": "r"})
    canned.get(f"https://{host}.api.nvidia.com/v1/status/r", payload={"structures": []})
    async with AsyncClient(KEY, transport=canned.transport) as client:
        assert await client.infer(url, {"polymers": []}) == {"structures": []}
    sent = [calls[0].kwargs["headers"]["Authorization"] for calls in canned.requests.values()]
    assert sent == [f"Bearer {KEY}"] * 2


@pytest.mark.parametrize(
    "place",
    [
        None,
        "",
        5,
        "/a b",
        "/é",
        "/a\n",
        "/a#b",
        "ftp://h/x",
        "https://",
        "https://u:p@h/x",
        "http://h:port/x",
        "http://[/",
    ],
)
async def test_places_that_cannot_be_requested(server: FaultServer, client: AsyncClient, place: Any) -> None:
    """They are a ConfigurationError that names the argument, before anything is sent."""
    for call in (client.infer(place, {}), client.infer_raw(place, {}), client.request("POST", place, json={})):
        with pytest.raises(ConfigurationError, match="path_or_url"):
            await call
    assert server.requests == []


# what comes back --------------------------------------------------------------------------------------------------


async def test_an_answer_as_it_comes(server: FaultServer, make_client: MakeClient) -> None:
    """infer_raw gives the bytes, their type and the exchange; the record pickles and shows no bytes."""
    server.script(http(b"\x89PNG", 200, "X-Request-Id: r", type="image/PNG; x=y"))
    blob = await make_client().infer_raw("/v1/infer", {"prompt": "x"})
    assert (blob.data, blob.content_type) == (b"\x89PNG", "image/png")
    assert blob.meta is not None
    assert (blob.meta.request_id, blob.meta.status) == ("r", 200)
    assert pickle.loads(pickle.dumps(blob)) == blob
    assert "PNG" not in repr(blob)
    assert blob.to_dict() == {"content_type": "image/png", "data": "iVBORw=="}
    assert blob.extra == {}
    assert server.requests[0].headers["accept"] == "*/*"


async def test_an_answer_that_is_no_json(server: FaultServer, client: AsyncClient) -> None:
    """infer says so once, without sending the call again, and nothing is lost: the answer is on the error."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("r.response", "{}")
    for body, words in ((archive.getvalue(), "zip archive"), (b"plain", r"not JSON \(text/plain\)")):
        server.requests.clear()
        server.script(http(body, 200, "X-Request-Id: r", type="text/plain"))
        with pytest.raises(DecodeError, match=words) as caught:
            await client.infer("/v1/infer", {})
        assert caught.value.blob is not None
        assert caught.value.blob.data == body
        assert (caught.value.request_id, caught.value.status, len(server.requests)) == ("r", 200, 1)
        assert pickle.loads(pickle.dumps(caught.value)).blob == caught.value.blob


async def test_a_zip_from_elsewhere(server: FaultServer, far: FaultServer, make_client: MakeClient) -> None:
    """A 302 of any server is followed for infer, without the key; the archive arrives as it is."""
    server.script(http(b"", 302, f"Location: {far.url}/results/1?sig=abc", "NVCF-REQID: r", type=None))
    far.script(http(b"PK\x03\x04...", type="application/zip"))
    blob = await make_client(api_key=KEY).infer_raw("/v1/infer", {})
    assert (blob.data, blob.content_type) == (b"PK\x03\x04...", "application/zip")
    assert blob.meta is not None
    assert blob.meta.request_id == "r"
    assert "authorization" not in far.requests[0].headers


def test_a_blob_without_an_exchange() -> None:
    """A blob is a record like others: it can be made by hand."""
    assert Blob(b"[1]").json() == [1]
    with pytest.raises(DecodeError, match="unnamed"):
        Blob(b"x").json()


# assets -----------------------------------------------------------------------------------------------------------


async def test_assets_are_named_in_both_headers(server: FaultServer, client: AsyncClient) -> None:
    """Records and ids, each once, in today's header and in that of older models."""
    server.script(answer({}))
    await client.infer("/x", {}, assets=[Asset("a-1", "image/png"), "b_2", "a-1"])
    headers = server.requests[0].headers
    assert headers["nvcf-input-asset-references"] == headers["nvcf-function-asset-ids"] == "a-1,b_2"
    await client.infer_raw("/x", {}, assets=["b"], extra_headers={"nvcf-input-asset-references": "mine"})
    headers = server.requests[1].headers
    assert (headers["nvcf-input-asset-references"], headers["nvcf-function-asset-ids"]) == ("mine", "b")
    await client.infer("/x", {}, assets=[])
    assert "nvcf-function-asset-ids" not in server.requests[2].headers


@pytest.mark.parametrize(
    ("assets", "kind", "words"),
    [
        ("abc", TypeError, "list of Asset"),
        (5, TypeError, "list of Asset"),
        ([5], ConfigurationError, r"assets\[0\]"),
        (["ok", "a,b"], ConfigurationError, r"assets\[1\]"),
        (["a\r\nX: y"], ConfigurationError, "not an asset id"),
        ([f"{n:036d}" for n in range(11)], ConfigurationError, "370"),
    ],
)
async def test_assets_that_cannot_be_named(
    server: FaultServer, client: AsyncClient, assets: Any, kind: type[Exception], words: str
) -> None:
    """They are found before anything is sent; ten ids fit in the header, eleven do not."""
    with pytest.raises(kind, match=words):
        await client.infer("/x", {}, assets=assets)
    assert server.requests == []
    server.script(answer({}))
    await client.infer("/x", {}, assets=[f"{n:036d}" for n in range(10)])


# input ------------------------------------------------------------------------------------------------------------


async def test_extra_body_and_unknown_options(server: FaultServer, client: AsyncClient) -> None:
    """extra_body is merged last into an object; an unknown name is a TypeError."""
    server.script(answer({}))
    body = {"a": 1}
    await client.infer("/x", body, extra_body={"b": 2})
    await client.request("POST", "/x", extra_body={"b": 2})
    assert [request.json for request in server.requests] == [{"a": 1, "b": 2}, {"b": 2}]
    assert body == {"a": 1}
    with pytest.raises(ConfigurationError, match="json is list"):
        await client.infer("/x", [1], extra_body={"b": 2})
    with pytest.raises(ConfigurationError, match="extra_body"):
        await client.infer("/x", {}, extra_body=[1])  # type: ignore[arg-type]
    for call in (client.infer("/x", {}, tmeout=1), client.request("GET", "/x", tmeout=1)):  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="did you mean 'timeout'"):
            await call
    await client.infer("/x", [1])
    assert server.requests.pop().json == [1]
    with pytest.raises(ConfigurationError, match=r"json\.a"):
        await client.infer("/x", {"a": {1}})
    assert len(server.requests) == 2


@pytest.mark.parametrize("method", [None, "", "FETCH", "GET /x HTTP/1.1\r\n"])
async def test_methods_that_there_are_not(server: FaultServer, client: AsyncClient, method: Any) -> None:
    """A method is one of HTTP's."""
    with pytest.raises(ConfigurationError, match="method"):
        await client.request(method, "/x")
    assert server.requests == []


# request ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": 1}', "application/problem+json; x=y", {"a": 1}),
        (b"[1]", None, [1]),
        (b"", "application/json", None),
        (
            b"Success: LoRA adapter 'a' added successfully.",
            "text/plain",
            "Success: LoRA adapter 'a' added successfully.",
        ),
        (b"Success", None, "Success"),
        (b"5", "text/plain", "5"),
        (b"# HELP x\n", "text/plain; version=0.0.4", "# HELP x\n"),
        (b"\xff\xfe", "audio/wav", b"\xff\xfe"),
    ],
)
async def test_what_a_request_returns(
    server: FaultServer, client: AsyncClient, body: bytes, kind: str | None, value: Any
) -> None:
    """Decoded JSON, another text as a str, other bytes as they are, None where there is nothing."""
    server.script(http(body, type=kind))
    assert await client.request("get", "/metrics") == value
    (request,) = server.requests
    assert (request.method, request.body) == ("GET", b"")
    assert "content-type" not in request.headers


async def test_a_request_that_breaks_its_promise(server: FaultServer, client: AsyncClient) -> None:
    """A body that says it is JSON and is not is a DecodeError."""
    server.script(http(b"<html>"))
    with pytest.raises(DecodeError):
        await client.request("GET", "/x")


async def test_a_plain_202_of_a_request(server: FaultServer, client: AsyncClient) -> None:
    """Other servers accept things, too: without an id of NVCF's that is the answer; with one it is waited for."""
    server.script(answer({"job": 1}, 202), answer({}, 202, "NVCF-REQID: r"), answer({"done": True}))
    assert await client.request("POST", "/jobs", json={}) == {"job": 1}
    assert await client.request("POST", "/jobs", json={}) == {"done": True}


@pytest.mark.parametrize(
    ("method", "requests"), [("GET", 3), ("DELETE", 3), ("PUT", 3), ("HEAD", 3), ("POST", 2), ("PATCH", 2)]
)
async def test_how_often_a_request_is_sent(
    server: FaultServer, client: AsyncClient, method: str, requests: int
) -> None:
    """What is idempotent is repeated like a pure function, anything else like a generation."""
    server.script([Close()] if method == "HEAD" else error(500))
    with pytest.raises(ConnectionLostError if method == "HEAD" else ServerError):
        await client.request(method, "/x", json={} if method != "HEAD" else None)
    assert len(server.requests) == requests


async def test_infer_is_repeated_once(server: FaultServer, client: AsyncClient) -> None:
    """Like a generation: it may have been computed and billed."""
    server.script(error(500))
    with pytest.raises(ServerError):
        await client.infer("/x", {})
    assert len(server.requests) == 2


async def test_a_refusal_of_a_signed_url_does_not_show_it(far: FaultServer, client: AsyncClient) -> None:
    """The query of a URL is in no error."""
    far.script(error(404))
    with pytest.raises(APIStatusError) as caught:
        await client.request("GET", far.url + "/x?signature=abc")
    assert "abc" not in str(caught.value)


# streams ----------------------------------------------------------------------------------------------------------


async def test_a_stream_of_events(server: FaultServer, client: AsyncClient) -> None:
    """Each event's decoded data; a stream without [DONE] ends with its body."""
    named = b'event: response.completed\ndata: {"type": "response.completed"}\n\n'
    server.script(
        OPEN + chunk(b": ping\n\n") + chunk(sse([1]), b"data: words\n\n", b"event: x\n\n") + chunk(named) + END
    )
    stream = await client.request("POST", "/v1/responses", json={"stream": True}, stream=True)
    assert isinstance(stream, EventStream)
    async with stream:
        events = [event async for event in stream]
    assert events == [{"type": "response.created"}, [1], "words", {"type": "response.completed"}]
    assert stream.meta.status == 200
    (request,) = server.requests
    assert request.json == {"stream": True}
    assert request.headers["accept"] == "text/event-stream"
    assert_idle(client)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_stream_that_says_that_it_is_done(server: FaultServer, client: AsyncClient) -> None:
    """Nothing after [DONE] is handed out, and the connection is used again."""
    server.script(OPEN + chunk(DONE, sse(5)) + END)
    for _ in range(2):
        stream = await client.request("POST", "/x", stream=True)
        assert [event async for event in stream] == [{"type": "response.created"}]
    assert server.connections == 1


async def test_bodies_that_are_no_events(server: FaultServer, client: AsyncClient) -> None:
    """One JSON value where the body is JSON, else the bytes as they come."""
    server.script(answer({"a": [1]}), http(b"PK\x03\x04", type="application/zip"), http(b""), http(b"<html>"))
    got = [[item async for item in await client.request("GET", "/x", stream=True)] for _ in range(3)]
    assert got == [[{"a": [1]}], [b"PK\x03\x04"], []]
    with pytest.raises(DecodeError):
        await anext(await client.request("GET", "/x", stream=True))


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (sse({"error": {"message": "no memory", "code": 500}}), "no memory"),
        (b"event: error\n: from a comment\n\n", "from a comment"),
        (b'event: error\ndata: {"message": "in data"}\n\n', "in data"),
    ],
)
async def test_an_error_in_a_stream(server: FaultServer, client: AsyncClient, event: bytes, words: str) -> None:
    """Events before it are handed out first; then it is a StreamFaultError, again and again."""
    server.script([OPEN + chunk(sse(1), event), Stall()])
    stream = await client.request("POST", "/x", stream=True)
    assert [await anext(stream), await anext(stream)] == [{"type": "response.created"}, 1]
    for _ in range(2):
        with pytest.raises(StreamFaultError, match=words):
            await anext(stream)


async def test_a_stream_that_breaks_off(server: FaultServer, client: AsyncClient) -> None:
    """It is a StreamInterruptedError, not an end."""
    server.script([OPEN, Close()])
    stream = await client.request("POST", "/x", stream=True)
    await anext(stream)
    with pytest.raises(StreamInterruptedError, match="stream interrupted"):
        await anext(stream)


async def test_time_limits_of_a_stream(server: FaultServer, make_client: MakeClient) -> None:
    """first_event until something comes, idle between events; comments do not count."""
    from nimclient import Timeouts

    client = make_client(timeouts=Timeouts(first_event=0.05, idle=0.1), retry=RetryPolicy(attempts=1))
    server.script([head() + chunk(b": ping\n\n"), Stall()], [OPEN + chunk(b": ping\n\n"), Stall()])
    for phase in ("first_event", "idle"):
        stream = await client.request("POST", "/x", stream=True)
        with pytest.raises(RequestTimeoutError) as caught:
            async for _ in stream:
                pass
        assert caught.value.phase == phase


async def test_events_and_bodies_that_are_too_large(server: FaultServer, make_client: MakeClient) -> None:
    """Limits.max_event bounds one event, and a JSON body that comes instead."""
    client = make_client(limits=Limits(max_event=100))
    server.script([head() + chunk(b"data: " + b"x" * 200), Stall()], http(b"[" + b" " * 200 + b"]"))
    for _ in range(2):
        stream = await client.request("POST", "/x", stream=True)
        with pytest.raises(BodyTooLargeError):
            await anext(stream)


async def test_closing_a_stream(server: FaultServer, make_client: MakeClient) -> None:
    """From another task the reader is notified; the end of the block, cancellation and the client's end close it, too."""
    client = make_client()
    server.script([OPEN, Stall()])
    stream = await client.request("POST", "/x", stream=True)
    await anext(stream)
    reader = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.01)
    with pytest.raises(RuntimeError, match="another task"):
        await anext(stream)
    await stream.aclose()
    with pytest.raises(StreamInterruptedError, match="closed"):
        await reader
    async with await client.request("POST", "/x", stream=True) as stream:
        await anext(stream)
    assert_idle(client)
    stream = await client.request("POST", "/x", stream=True)
    await anext(stream)
    reader = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.01)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert_idle(client)
    stream = await client.request("POST", "/x", stream=True)
    await client.aclose()
    with pytest.raises((StreamInterruptedError, ClientClosedError)):
        async for _ in stream:
            pass


async def test_a_stream_that_is_forgotten(server: FaultServer, client: AsyncClient) -> None:
    """It warns, and closes its connection."""
    server.script([OPEN, Stall()])
    stream = await client.request("POST", "/x", stream=True)
    await anext(stream)
    with pytest.warns(ResourceWarning, match="was not closed"):  # noqa: PT031
        del stream
        gc.collect()
    await asyncio.sleep(0.01)
    assert_idle(client)


# blocking ---------------------------------------------------------------------------------------------------------


def test_the_same_without_await() -> None:
    """Client has all three, and reads a stream in a plain loop."""
    with ServerThread() as server:
        server.script(
            answer(BOXES), http(b"x", type="image/png"), answer({"a": 1}), OPEN + chunk(sse(1)) + END, [OPEN, Stall()]
        )
        with Client(base_url=server.url) as client:
            assert client.infer("/v1/infer", {}) == BOXES
            assert client.infer_raw("/v1/infer", {}).data == b"x"
            assert client.request("GET", "/x") == {"a": 1}
            stream = client.request("POST", "/x", json={}, stream=True)
            assert list(stream) == [{"type": "response.created"}, 1]
            assert stream.meta.status == 200
            with client.request("POST", "/x", stream=True) as stream:
                assert next(stream) == {"type": "response.created"}
