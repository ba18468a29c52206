"""The hosted platform as a client meets it, played by the simulator: waiting, results elsewhere, rejections, uploads."""

import asyncio
import io
import json
import logging
import pickle
import warnings
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from nimclient import AsyncClient, Client, Image, Message, RetryPolicy
from nimclient.errors import (
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    GoneError,
    ModelDeprecationWarning,
    ModelNotFoundError,
    NimError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    ServiceUnavailableError,
)
from nimclient.simulator import Simulator, SimulatorThread
from nimclient.simulator.pictures import png
from nimclient.testing import FakeTransport
from support.polling import poll_every
from support.sent import sent
from support.server import Close, FaultServer
from support.wire import answer, chat, error, http

pytestmark = pytest.mark.usefixtures("virtual_time")

KEY = "nvapi-canary-0123456789"
CHAT = "meta/llama-3.1-8b-instruct"
VLM = "google/paligemma"
FAST = RetryPolicy(first_delay=0.01, max_delay=0.02)
PICTURE = png(b"\x01\x02\x03", 16, 16)
LARGE = PICTURE + bytes(180_001)
OCR = {"input": [{"type": "image_url", "url": Image(PICTURE).url}]}

Opened = Callable[..., Awaitable[tuple[Simulator, AsyncClient]]]


@pytest.fixture
async def hosted() -> AsyncIterator[Opened]:
    """Starts a simulator of the hosted platform with some faults, and a client of it."""
    async with AsyncExitStack() as stack:

        async def start(*faults: str, **options: Any) -> tuple[Simulator, AsyncClient]:
            simulator = await stack.enter_async_context(Simulator(dialect="hosted", faults=faults))
            settings = {"api_key": KEY, "model": CHAT, "retry": FAST, "dialect": "hosted", **options}
            return simulator, await stack.enter_async_context(AsyncClient(base_url=simulator.base_url, **settings))

        yield start


def paths(simulator: Simulator) -> list[str]:
    return [f"{record.method} {record.path}" for record in simulator.requests]


# what takes long, and what lies elsewhere -------------------------------------------------------------------------


async def test_a_chat_that_is_accepted_first(hosted: Opened) -> None:
    """202, a poll, the answer: the same as without, and its id is that of the platform."""
    _, direct = await hosted()
    simulator, client = await hosted("accepted")
    reply = await client.chat.create("What is a NIM?")
    assert reply.text == (await direct.chat.create("What is a NIM?")).text
    assert reply.meta is not None
    call, poll = simulator.requests
    assert (call.path, call.status) == ("/v1/chat/completions", 202)
    assert (poll.path, poll.status) == (f"/v1/status/{reply.meta.request_id}", 200)
    assert poll.headers["authorization"] == f"Bearer {KEY}"


async def test_everything_else_that_is_accepted_first(hosted: Opened) -> None:
    """Embeddings, rankings and plain JSON are waited for in the same way."""
    _, client = await hosted("accepted", model=None)
    vectors = await client.embeddings.embed_documents(["a", "b"], model="nvidia/nv-embedqa-e5-v5")
    assert len(vectors) == 2
    ranking = await client.rerank("b", ["a", "b"], model="nvidia/llama-nemotron-rerank-1b-v2")
    assert ranking.results[0].index == 1
    found = await client.infer("/v1/cv/nvidia/nemoretriever-ocr", OCR)
    assert found["data"][0]["text_detections"]


async def test_a_result_is_waited_for_until_it_is_done() -> None:
    """A poll asks the platform to wait: one that takes half a second needs one poll, not fifty."""
    async with Simulator(dialect="hosted", faults="accepted", ttft=0.5) as simulator:
        async with AsyncClient(KEY, simulator.base_url, model=CHAT) as client:
            await client.chat.create("hi")
        assert len(simulator.requests) == 2


async def test_work_that_takes_longer_than_its_window() -> None:
    """Without any fault: what is not done within NVCF-POLL-SECONDS is a 202."""
    async with Simulator(dialect="hosted", ttft=1.2) as simulator:
        async with AsyncClient(KEY, simulator.base_url, model=CHAT) as client:
            await client.chat.create("hi", extra_headers={"NVCF-POLL-SECONDS": "1"})
        assert [record.status for record in simulator.requests] in ([202, 200], [202, 202, 200])


async def test_202_for_ever(hosted: Opened) -> None:
    """The limit ends it, with the id; the platform gets no further request."""
    simulator, client = await hosted("stuck")
    with pytest.raises(RequestTimeoutError) as caught:
        await client.chat.create("hi", timeout=0.3)
    assert caught.value.phase == "poll"
    assert f"/v1/status/{caught.value.request_id}" in paths(simulator)[-1]


async def test_202_without_an_id(hosted: Opened) -> None:
    """It cannot be asked for."""
    _, client = await hosted("unnamed")
    with pytest.raises(DecodeError, match="NVCF-REQID"):
        await client.chat.create("hi")


async def test_polls_that_meet_a_bad_gateway(hosted: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are repeated by themselves."""
    poll_every(monkeypatch, 0.01)
    simulator, client = await hosted("accepted", "shaky=2")
    assert (await client.chat.create("hi")).text
    assert [record.status for record in simulator.requests] == [202, 502, 502, 200]


@pytest.mark.parametrize("faults", [("moved",), ("accepted", "moved")])
async def test_a_result_that_lies_elsewhere(hosted: Opened, faults: tuple[str, ...]) -> None:
    """302 from the call or from a poll: the signed address is asked without the key."""
    simulator, client = await hosted(*faults)
    reply = await client.chat.create("hi")
    assert reply.text
    last = simulator.requests[-1]
    assert last.path.startswith("/storage/results/")
    assert "authorization" not in last.headers
    assert reply.meta is not None
    assert reply.meta.request_id == last.path.rpartition("/")[2]


async def test_a_zip_of_a_result(hosted: Opened) -> None:
    """infer_raw gives the archive; infer says what it is and keeps it."""
    _, client = await hosted("accepted", "zipped")
    blob = await client.infer_raw("/v1/cv/nvidia/nemoretriever-ocr", OCR)
    assert blob.content_type == "application/zip"
    with zipfile.ZipFile(io.BytesIO(blob.data)) as archive:
        (name,) = archive.namelist()
        assert "text_detections" in archive.read(name).decode()
    with pytest.raises(DecodeError, match="zip archive") as caught:
        await client.infer("/v1/cv/nvidia/nemoretriever-ocr", OCR)
    assert caught.value.blob is not None
    assert caught.value.blob.data[:2] == b"PK"


async def test_large_results_move_by_themselves(hosted: Opened) -> None:
    """More than 5 MB are not answered in place."""
    simulator, client = await hosted(model="nvidia/nv-embedqa-e5-v5")
    texts = [f"text {n}" for n in range(1000)]
    answer = await client.embeddings.create(texts, input_type="passage")
    assert len(answer.vectors) == 1000
    assert simulator.requests[-1].path.startswith("/storage/")


def test_waiting_without_await() -> None:
    """Client waits in the same way, for whole answers, streams and plain JSON."""
    simulator = Simulator(dialect="hosted", faults="accepted")
    with SimulatorThread(simulator) as url, Client(KEY, url, model=CHAT) as client:
        assert client.chat.create("hi").text
        assert client.infer("/v1/cv/nvidia/nemoretriever-ocr", OCR)["data"]
        with client.chat.stream("hi") as stream:
            assert stream.final().text
    assert [record.status for record in simulator.requests] == [202, 200, 202, 200, 200]


# refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "words", "requests"),
    [
        ("gone", GoneError, "end of life", 1),
        ("forbidden", PermissionDeniedError, "bad or unscoped API key", 1),
        ("unavailable", ModelNotFoundError, "your account may not call it", 1),
        ("offline", ServiceUnavailableError, "offline", 1),
        ("busy", RateLimitError, "Too Many Requests", 3),
        ("overloaded", ServiceUnavailableError, "ResourceExhausted", 3),
        ("cancelled", ServerError, "the request was cancelled", 2),
        ("broken", ServerError, "Inference error", 2),
    ],
)
@pytest.mark.parametrize("how", ["plain", "streamed"])
async def test_how_the_platform_refuses(
    hosted: Opened, fault: str, kind: type[Any], words: str, requests: int, how: str
) -> None:
    """Each rejection has its class, its words and its number of attempts, and carries the id of the request."""
    simulator, client = await hosted(fault)
    with pytest.raises(kind, match=words) as caught:
        if how == "plain":
            await client.chat.create("hi")
        else:
            await client.chat.stream("hi").final()
    assert type(caught.value) is kind
    assert len(simulator.requests) == requests
    assert caught.value.request_id is not None
    assert caught.value.retry_after == (10800 if fault == "offline" else None)


async def test_a_busy_platform_is_waited_for(hosted: Opened) -> None:
    """429 without Retry-After: the next attempts are spaced by the client itself, and succeed."""
    simulator, client = await hosted("busy=2")
    assert (await client.chat.create("hi")).text
    assert [record.status for record in simulator.requests] == [429, 429, 200]


async def test_a_batch_waits_for_a_busy_platform(hosted: Opened) -> None:
    """In a batch throttling spends no attempt."""
    _, client = await hosted("busy=8")
    assert all(reply.text for reply in await client.chat.batch(["a", "b", "c"], concurrency=2))


@pytest.mark.no_key
async def test_a_missing_key(hosted: Opened) -> None:
    """401 in the words of the gateway."""
    _, client = await hosted(api_key=None)
    with pytest.raises(AuthenticationError, match="authorization"):
        await client.chat.create("hi")


async def test_a_model_that_will_be_gone(hosted: Opened) -> None:
    """The Deprecation header is a warning of its own, once; streams have it, too."""
    _, client = await hosted("deprecated")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await client.chat.create("hi")
        await client.chat.stream("hi").final()
    assert [(w.category, w.filename) for w in caught] == [(ModelDeprecationWarning, __file__)]
    assert issubclass(ModelDeprecationWarning, FutureWarning)


async def test_a_deprecation_of_the_blocking_client() -> None:
    """It is given where the blocking call was made."""
    simulator = Simulator(dialect="hosted", faults="deprecated")

    def ask(url: str) -> list[str]:
        with warnings.catch_warnings(record=True) as caught, Client(KEY, url, model=CHAT) as client:
            warnings.simplefilter("always")
            client.chat.create("hi")
        return [w.filename for w in caught if w.category is ModelDeprecationWarning]

    with SimulatorThread(simulator) as url:
        assert await asyncio.to_thread(ask, url) == [__file__]


async def test_bodies_above_the_limit(hosted: Opened) -> None:
    """They are not sent by a client that knows the platform; the platform itself answers 400."""
    simulator, client = await hosted()
    with pytest.raises(ConfigurationError, match="26214400"):
        await client.infer("/v1/cv/nvidia/nemoretriever-ocr", {"input": "x" * 26_214_400})
    assert simulator.requests == ()


# assets -----------------------------------------------------------------------------------------------------------


async def test_an_asset_from_upload_to_deletion(hosted: Opened) -> None:
    """Made with the key, uploaded without it, named in a call, deleted."""
    simulator, client = await hosted()
    asset = await client.assets.upload(PICTURE, content_type="image/png", description="a page")
    stored = simulator.assets[asset.id]
    assert (stored.data, stored.content_type, stored.description) == (PICTURE, "image/png", "a page")
    assert asset.reference == f"data:image/png;asset_id,{asset.id}"
    assert asset.to_dict() == {"assetId": asset.id, "contentType": "image/png", "description": "a page"}
    assert pickle.loads(pickle.dumps(asset)) == asset
    assert asset.meta is not None
    body = {"input": [{"type": "image_url", "url": asset.reference}]}
    assert (await client.infer("/v1/cv/nvidia/nemoretriever-page-elements-v2", body, assets=[asset]))["data"]
    with pytest.raises(NimError, match="is not among"):
        await client.infer("/v1/cv/nvidia/nemoretriever-page-elements-v2", body)
    assert (await client.assets.get(asset.id)).to_dict() == stored.describe()
    await client.assets.delete(asset)
    assert simulator.assets == {}
    with pytest.raises(NotFoundError):
        await client.assets.get(asset)
    with pytest.raises(NotFoundError):
        await client.assets.delete(asset.id)
    with pytest.raises(NotFoundError):
        await client.infer("/v1/cv/nvidia/nemoretriever-page-elements-v2", body, assets=[asset])
    uploads = [record for record in simulator.requests if record.method == "PUT"]
    assert [set(record.headers) for record in uploads] == [
        {"host", "content-type", "content-length", "x-amz-meta-nvcf-asset-description"}
    ]


async def test_when_an_asset_was_made() -> None:
    """What the platform says of the time is kept, and written back as it came; without it nothing is made up."""
    told = {"assetId": "a", "contentType": "image/png", "description": "", "createdAt": "2026-01-01T00:00:00Z"}
    made = {**told, "uploadUrl": "https://storage/a"}
    async with AsyncClient("nvapi-k", transport=FakeTransport([made, 200])) as client:
        asset = await client.assets.upload(PICTURE)
    assert (asset.created, asset.to_dict()) == (told["createdAt"], told)


@pytest.mark.parametrize("size", [10, 300_000])
async def test_what_can_be_uploaded(hosted: Opened, tmp_path: Path, size: int) -> None:
    """Bytes of each kind and files; images are recognized, and the description may be left out."""
    simulator, client = await hosted()
    data = PICTURE + bytes(size)
    (tmp_path / "x").write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), tmp_path / "x"):
        asset = await client.assets.upload(source)
        stored = simulator.assets[asset.id]
        assert (stored.data, stored.content_type, stored.description) == (data, "image/png", "nimclient")


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (b"", {}, "data is empty"),
        ("text", {}, "data must be bytes or a Path, not str"),
        (b"%PDF", {}, "content_type"),
        (b"x", {"content_type": 5}, "content_type"),
        (b"x", {"content_type": "a/b\r\nX: y"}, "content_type is sent as a header"),
        (b"x", {"content_type": "a/b", "description": ""}, "description"),
        (b"x", {"content_type": "a/b", "description": "é"}, "description is sent as a header"),
        (b"x", {"content_type": "a/b", "description": "x" * 300}, "description"),
    ],
)
async def test_what_cannot_be_uploaded(hosted: Opened, data: Any, options: dict[str, Any], words: str) -> None:
    """It is found before anything is sent."""
    simulator, client = await hosted()
    with pytest.raises(ConfigurationError, match=words):
        await client.assets.upload(data, **options)
    with pytest.raises(TypeError, match="tmeout"):
        await client.assets.upload(PICTURE, tmeout=1)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="asset"):
        await client.assets.delete("a/../b")
    assert simulator.requests == ()


async def test_an_upload_to_a_place_that_may_not_be_used(server: FaultServer) -> None:
    """Plain http elsewhere, or nowhere: a DecodeError, and the bytes stay here."""
    async with AsyncClient(KEY, server.url) as client:
        server.script(answer({"assetId": "a", "uploadUrl": "http://s3.example/x?signature=abc"}))
        with pytest.raises(DecodeError, match="uploadUrl") as caught:
            await client.assets.upload(PICTURE)
        assert "abc" not in str(caught.value)
        for body in ({"uploadUrl": "https://x/"}, {"assetId": "a"}):
            server.script(answer(body))
            with pytest.raises(DecodeError):
                await client.assets.upload(PICTURE)


async def test_an_upload_that_fails(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    """A PUT is repeated; a rejection by the store is no matter of the key, and shows no signature."""
    made = answer({"assetId": "a", "uploadUrl": f"{server.url}/put?signature=abc", "contentType": "image/png"})
    server.script(made, path="/v2/nvcf/assets")
    server.script([Close()], http(b"", 200), path="/v1/put?signature=abc")
    with caplog.at_level(logging.DEBUG):
        async with AsyncClient(KEY, server.url, retry=FAST) as client:
            assert (await client.assets.upload(PICTURE)).id == "a"
            server.script(http(b"<Error><Code>AccessDenied</Code></Error>", 403), path="/v1/put?signature=abc")
            with pytest.raises(PermissionDeniedError) as caught:
                await client.assets.upload(PICTURE)
    assert "abc" not in str(caught.value) + caplog.text
    assert "API key" not in str(caught.value)


async def test_where_hosted_assets_are_made(canned: Any) -> None:
    """NVIDIA keeps them in one place; the signed address gets neither key nor headers of the client's."""
    from aiohttp.client import URL

    base = "https://api.nvcf.nvidia.com/v2/nvcf/assets"
    canned.post(base, payload={"assetId": "a", "uploadUrl": "https://s3.test/x?X-Amz-Signature=1"})
    canned.put("https://s3.test/x?X-Amz-Signature=1", status=200)
    canned.delete(f"{base}/a", status=204)
    async with AsyncClient(KEY, headers={"X-Own": "1"}, transport=canned.transport) as client:
        await client.assets.delete(await client.assets.upload(b"x", "text/plain", "d"))
    (put,) = canned.requests[("PUT", URL("https://s3.test/x?X-Amz-Signature=1"))]
    assert put.kwargs["headers"] == {"Content-Type": "text/plain", "x-amz-meta-nvcf-asset-description": "d"}
    (post,) = canned.requests[("POST", URL(base))]
    assert post.kwargs["headers"]["Authorization"] == f"Bearer {KEY}"


def test_assets_without_await() -> None:
    """Client has them, too."""
    simulator = Simulator(dialect="hosted")
    with SimulatorThread(simulator) as url, Client(KEY, url) as client:
        asset = client.assets.upload(PICTURE)
        assert simulator.assets[asset.id].data == PICTURE
        client.assets.delete(asset)
        assert simulator.assets == {}


# images that become assets by themselves --------------------------------------------------------------------------


def question(*images: Image, form: str = "tuple") -> list[Any]:
    content = ["What is this?", *images]
    if form == "alone":
        return [("user", images[0])]
    if form == "wire":
        content = ["What is this?", *(image.to_dict() for image in images)]
    if form == "url":
        content = ["What is this?", *(Image(image.url, detail=image.detail) for image in images)]
    if form == "record":
        return [Message("user", content)]  # type: ignore[arg-type]
    return [{"role": "user", "content": content}] if form == "dict" else [("user", content)]


def len_of(text: str) -> int:
    return len(text)


async def ask(client: AsyncClient, how: str, messages: Any) -> None:
    match how:
        case "plain":
            await client.chat.create(messages)
        case "streamed":
            await client.chat.stream(messages).final()
        case "batch":
            await client.chat.batch([messages])
        case "parse":
            await client.chat.parse(messages, dict[str, str])
        case "tools":
            await client.chat.run_tools(messages, [len_of])
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize("form", ["tuple", "dict", "record", "alone", "wire", "url"])
@pytest.mark.parametrize("how", ["plain", "streamed", "batch", "parse", "tools"])
async def test_a_large_image_becomes_an_asset(hosted: Opened, form: str, how: str) -> None:
    """Uploaded before, named and referred to in the call, deleted after; the caller's messages stay as they are."""
    simulator, client = await hosted(model=VLM)
    image = Image(LARGE, detail="low")
    messages = question(image, form=form)
    await ask(client, how, messages)
    assert [path.partition(" ")[0] for path in paths(simulator)] == ["POST", "PUT", "POST", "DELETE"]
    call = simulator.requests[2]
    name = call.headers["nvcf-input-asset-references"]
    part = call.json["messages"][0]["content"][0 if form == "alone" else 1]
    assert part == {"type": "image_url", "image_url": {"url": f"data:image/png;asset_id,{name}", "detail": "low"}}
    assert simulator.assets == {}
    assert image.source == LARGE
    assert messages == question(image, form=form)


async def test_a_conversation_with_a_large_image(hosted: Opened) -> None:
    """Each turn uploads what it sends, also as a stream; the history keeps the image itself."""
    simulator, client = await hosted(model=VLM)
    talk = client.chat.conversation()
    await talk.send([("user", ["What is this?", Image(LARGE)])])
    await talk.stream("And?").final()
    assert simulator.assets == {}
    assert len([path for path in paths(simulator) if path.startswith("PUT")]) == 2
    assert Image(LARGE).url in json.dumps([message.to_dict() for message in talk.messages])


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "*" * 200_000}},
        {"type": "image_url", "image_url": {"url": "https://x.test/" + "y" * 200_000}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 179_990}},
        {"type": "image_url"},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + "A" * 200_000}},
        "A" * 200_000,
    ],
    ids=["no base64", "a URL", "just below", "nothing", "a video", "a text"],
)
def test_parts_that_stay(part: Any) -> None:
    """What is no large image, or cannot be read as one, is left for the server."""
    messages = [{"role": "user", "content": [part]}]
    said = sent("chat.create", messages, dialect="hosted", model="m")
    (content,) = (message["content"] for message in said.fields["messages"])
    assert (content, said.requests) == ([{"type": "text", "text": part} if isinstance(part, str) else part], 1)


async def test_several_images(hosted: Opened) -> None:
    """Each is uploaded once, in the order of the messages; small ones and references of the caller's stay."""
    simulator, client = await hosted(model=VLM)
    mine = await client.assets.upload(PICTURE)
    first, second = Image(LARGE), Image(LARGE + b"2")
    content = [first, second, Image(LARGE), Image(PICTURE), Image(mine.reference)]
    await client.chat.create([("system", "be brief"), ("user", content)])
    call = next(record for record in simulator.requests if record.path.endswith("completions"))
    urls = [part["image_url"]["url"] for part in call.json["messages"][1]["content"]]
    names = call.headers["nvcf-input-asset-references"].split(",")
    assert [url.partition(",")[2] for url in urls[:3]] == [names[0], names[1], names[0]]
    assert urls[3] == Image(PICTURE).url
    assert urls[4] == mine.reference
    assert names[2:] == [mine.id]
    assert list(simulator.assets) == [mine.id]


async def test_other_models_get_their_images_in_the_message(hosted: Opened) -> None:
    """Only models that the catalog marks want assets, and only on the hosted platform."""
    simulator, client = await hosted(model="meta/llama-4-maverick-17b-128e-instruct")
    await client.chat.create(question(Image(LARGE)))
    assert paths(simulator) == ["POST /v1/chat/completions"]
    async with (
        Simulator(models=[VLM]) as own,
        AsyncClient(base_url=own.base_url, model=VLM) as client,
    ):
        await client.chat.create(question(Image(LARGE)))
        assert paths(own) == ["POST /v1/chat/completions"]


async def test_where_an_endpoint_keeps_its_assets(hosted: Opened) -> None:
    """A model with an endpoint of its own has its assets there, not at the base URL."""
    simulator, _ = await hosted()
    root = simulator.base_url.removesuffix("/v1")
    settings: dict[str, Any] = {"endpoints": {VLM: f"{root}/v1/vlm/google/paligemma"}, "dialect": "hosted"}
    async with AsyncClient(KEY, "http://127.0.0.1:9", model=VLM, **settings) as client:
        await client.chat.create(question(Image(LARGE)))
    assert "POST /v1/vlm/google/paligemma" in paths(simulator)
    assert simulator.assets == {}


@pytest.mark.parametrize("fault", ["gone", "broken"])
async def test_assets_are_deleted_after_a_failure(hosted: Opened, fault: str) -> None:
    """Also where the call fails, after all its attempts; they are uploaded once for all of them."""
    simulator, client = await hosted(fault, model=VLM)
    with pytest.raises(NimError):
        await client.chat.create(question(Image(LARGE)))
    assert simulator.assets == {}
    assert len([path for path in paths(simulator) if path.startswith("PUT")]) == 1


async def test_assets_are_deleted_after_a_cancellation() -> None:
    """Also where the caller cancels."""
    messages = question(Image(LARGE))
    async with (
        Simulator(dialect="hosted", ttft=30) as simulator,
        AsyncClient(KEY, simulator.base_url, model=VLM, dialect="hosted") as client,
    ):
        for call in (client.chat.create(messages), client.chat.stream(messages).final()):
            task = asyncio.ensure_future(call)
            before = len(simulator.requests)
            while len(simulator.requests) < before + 3:
                await asyncio.sleep(0.005)
            assert len(simulator.assets) == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert simulator.assets == {}


async def test_an_asset_that_cannot_be_deleted(server: FaultServer, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the answer of the call is worth more."""
    made = {"assetId": "a", "uploadUrl": f"{server.url}/put", "contentType": "image/png"}
    server.script(answer(made), path="/v2/nvcf/assets").script(http(b""), path="/v1/put")
    server.script(chat(), path="/v1/chat/completions").script(error(404), path="/v2/nvcf/assets/a")
    async with AsyncClient(KEY, server.url, model=VLM, dialect="hosted") as client:
        assert (await client.chat.create(question(Image(LARGE)))).text == "Hello"
    assert "asset a was not deleted" in caplog.text


async def test_an_upload_that_fails_ends_the_call(server: FaultServer) -> None:
    """Nothing is asked without its images, and what was made is deleted."""
    made = {"assetId": "a", "uploadUrl": f"{server.url}/put", "contentType": "image/png"}
    server.script(answer(made), path="/v2/nvcf/assets").script(error(403), path="/v1/put")
    server.script(http(b"", 204, type=None), path="/v2/nvcf/assets/a")
    async with AsyncClient(KEY, server.url, model=VLM, dialect="hosted") as client:
        with pytest.raises(PermissionDeniedError):
            await client.chat.create(question(Image(LARGE)))
    assert [request.method for request in server.requests] == ["POST", "PUT", "DELETE"]


async def test_too_many_images(hosted: Opened) -> None:
    """Eleven ids do not fit in the header: found before anything is uploaded, for a stream when it is made."""
    simulator, client = await hosted(model=VLM)
    images = [Image(LARGE + bytes([n])) for n in range(11)]
    with pytest.raises(ConfigurationError, match="370"):
        await client.chat.create(question(*images))
    with pytest.raises(ConfigurationError, match="370"):
        client.chat.stream(question(*images))
    assert simulator.requests == ()
    await client.chat.create(question(*images[:10]))
    assert simulator.assets == {}


async def test_messages_that_hold_no_image(hosted: Opened) -> None:
    """All other forms of messages go through as they are, wrong ones to their usual errors."""
    _, client = await hosted(model=VLM)
    await client.chat.create("hi")
    await client.chat.create([("user", "hi"), Message("assistant", "ho"), {"role": "user", "content": None}])
    with pytest.raises(ConfigurationError, match="messages"):
        await client.chat.create([5])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="elements"):
        await client.chat.create([("user", "a", "b")])  # type: ignore[list-item]


async def test_an_image_that_is_larger_than_a_request(hosted: Opened) -> None:
    """30 MB do not fit in a body, but in an asset."""
    simulator, client = await hosted(model=VLM)
    await client.chat.create(question(Image(PICTURE + bytes(30 * 2**20))))
    assert simulator.assets == {}
    assert json.dumps(simulator.requests[2].json).count("asset_id") == 1
