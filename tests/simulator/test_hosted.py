"""What the simulator does when it plays the hosted platform, request by request, with plain aiohttp."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from nimclient.simulator import Simulator
from nimclient.simulator.faults import NAMES, Faults

from .raw import CHAT, PARIS

pytestmark = pytest.mark.usefixtures("virtual_time")

KEY = {"Authorization": "Bearer nvapi-x"}
BODY = {"model": CHAT, "messages": [{"role": "user", "content": PARIS}]}
PATH = "/v1/chat/completions"


class Platform:
    """A simulator of the platform and a session to talk to it."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.session = session

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any, Any]:
        """Status, headers and body: decoded where it is JSON. Redirects are not followed."""
        url = path if "://" in path else self.simulator.base_url.removesuffix("/v1") + path
        sent = {"headers": KEY, "allow_redirects": False, **options}
        async with self.session.request(method, url, json=body, **sent) as answer:
            said = await (answer.json(content_type=None) if "json" in answer.content_type else answer.read())
            return answer.status, answer.headers, said


Open = Callable[..., Any]


@pytest.fixture
async def platform(session: aiohttp.ClientSession) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def start(*faults: str, **options: Any) -> Platform:
            simulator = Simulator(dialect="hosted", faults=faults, **options)
            return Platform(await stack.enter_async_context(simulator), session)

        yield start


async def test_every_answer_carries_the_platforms_id(platform: Open) -> None:
    """NVCF-REQID and NVCF-STATUS are on answers, rejections and streams."""
    hosted = await platform()
    for body, status in ((BODY, "fulfilled"), ({**BODY, "stream": True}, "fulfilled"), ({}, "errored")):
        _, headers, _ = await hosted.ask("POST", PATH, body)
        assert headers["NVCF-STATUS"] == status
        assert len(headers["NVCF-REQID"]) == 32


async def test_accepted_and_asked_for(platform: Open) -> None:
    """202 with an id and an empty body; both routes of the status; the result is delivered once."""
    hosted = await platform("accepted")
    for route in ("/v1/status/", "/v2/nvcf/pexec/status/"):
        status, headers, body = await hosted.ask("POST", PATH, BODY)
        assert (status, body, headers["NVCF-STATUS"]) == (202, b"", "in-progress")
        status, answered, body = await hosted.ask("GET", route + headers["NVCF-REQID"])
        assert (status, answered["NVCF-REQID"]) == (200, headers["NVCF-REQID"])
        assert body["choices"]
        assert (await hosted.ask("GET", route + headers["NVCF-REQID"]))[0] == 404


async def test_a_poll_waits_as_long_as_it_says(platform: Open) -> None:
    """NVCF-POLL-SECONDS is from 1 to 3600; what is not done by then is 202 again."""
    hosted = await platform("stuck")
    _, headers, _ = await hosted.ask("POST", PATH, BODY)
    path = f"/v1/status/{headers['NVCF-REQID']}"
    began = asyncio.get_running_loop().time()
    status, again, _ = await hosted.ask("GET", path, headers={**KEY, "NVCF-POLL-SECONDS": "1"})
    assert (status, again["NVCF-REQID"]) == (202, headers["NVCF-REQID"])
    assert asyncio.get_running_loop().time() - began >= 1
    for wrong in ("0", "3601", "x", "1.5"):
        assert (await hosted.ask("GET", path, headers={**KEY, "NVCF-POLL-SECONDS": wrong}))[0] == 400
        assert (await hosted.ask("POST", PATH, BODY, headers={**KEY, "NVCF-POLL-SECONDS": wrong}))[0] == 400


@pytest.mark.parametrize(
    ("asked", "kept"),
    [("1", 10), pytest.param(None, 600, marks=pytest.mark.slow), pytest.param("30", 60, marks=pytest.mark.slow)],
)
async def test_work_that_nobody_asks_for_is_dropped(platform: Open, asked: str | None, kept: int) -> None:
    """The slot is held for twice the seconds of the last poll, ten at least, since no route of the platform cancels."""
    hosted = await platform("stuck", slots=1, itl=100.0)
    _, headers, _ = await hosted.ask("POST", PATH, BODY)
    path = f"/v1/status/{headers['NVCF-REQID']}"
    if asked is not None:
        assert (await hosted.ask("GET", path, headers={**KEY, "NVCF-POLL-SECONDS": asked}))[0] == 202
    await asyncio.sleep(kept - 0.5)
    assert hosted.simulator.running == 1
    await asyncio.sleep(1)
    assert hosted.simulator.running == 0
    assert (await hosted.ask("GET", path))[0] == 404


async def test_a_caller_who_leaves_ends_the_work(platform: Open) -> None:
    """Within the window of the call; later it is kept for whoever asks."""
    hosted = await platform(ttft=30, slots=1)
    task = asyncio.ensure_future(hosted.ask("POST", PATH, BODY))
    while not hosted.simulator.running:
        await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait([task])
    while hosted.simulator.running:
        await asyncio.sleep(0.005)


async def test_polls_want_a_key(platform: Open) -> None:
    """Like everything else of the platform's own."""
    hosted = await platform()
    for path in ("/v1/status/x", "/v2/nvcf/assets"):
        status, _, body = await hosted.ask("GET", path, headers={})
        assert (status, body["title"]) == (401, "Unauthorized")


async def test_a_result_elsewhere(platform: Open) -> None:
    """302 to a signed address that opens without a key, and only so; the zip holds the answer."""
    hosted = await platform("zipped=1", "moved")
    archives: list[bytes] = []
    for kind in ("application/zip", "application/json"):
        status, headers, body = await hosted.ask("POST", PATH, BODY)
        assert (status, body) == (302, b"")
        status, got, data = await hosted.ask("GET", headers["Location"], headers={})
        assert (status, got["Content-Type"].partition(";")[0]) == (200, kind)
        archives.append(data)
        assert not {"NVCF-REQID", "X-Request-Id"} & set(got)
        assert (await hosted.ask("GET", headers["Location"]))[0] == 400
        assert (await hosted.ask("GET", headers["Location"].partition("?")[0], headers={}))[0] == 403
    with zipfile.ZipFile(io.BytesIO(archives[0])) as archive:
        assert b"choices" in archive.read(archive.namelist()[0])
    assert (await hosted.ask("GET", "/storage/results/none?X-Amz-Signature=simulated", headers={}))[0] == 404


async def test_assets(platform: Open) -> None:
    """Made, uploaded with exactly the signed headers, listed, shown, deleted."""
    hosted = await platform()
    made = {"contentType": "image/png", "description": "d"}
    for wrong in ({}, {"contentType": "image/png"}, {"contentType": "", "description": "d"}, [1]):
        assert (await hosted.ask("POST", "/v2/nvcf/assets", wrong))[0] == 400
    assert (await hosted.ask("POST", "/v2/nvcf/assets"))[0] == 400
    status, _, body = await hosted.ask("POST", "/v2/nvcf/assets", made)
    assert status == 200
    name, address = body["assetId"], body["uploadUrl"]
    signed = {"Content-Type": "image/png", "x-amz-meta-nvcf-asset-description": "d"}
    puts = [
        (signed, b"png", 200),
        ({**signed, **KEY}, b"png", 400),
        ({**signed, "Content-Type": "image/jpeg"}, b"png", 403),
        ({"Content-Type": "image/png"}, b"png", 403),
    ]
    for headers, data, status in puts:
        assert (await hosted.ask("PUT", address, headers=headers, data=data))[0] == status

    async def chunks() -> AsyncIterator[bytes]:
        yield b"png"

    assert (await hosted.ask("PUT", address, headers=signed, data=chunks()))[0] == 411
    assert (await hosted.ask("PUT", address.replace(name, "none"), headers=signed, data=b"x"))[0] == 404
    assert (await hosted.ask("GET", "/v2/nvcf/assets"))[2] == {"assets": [{"assetId": name}]}
    shown = (await hosted.ask("GET", f"/v2/nvcf/assets/{name}"))[2]["asset"]
    assert (shown["assetId"], shown["contentType"], shown["description"]) == (name, "image/png", "d")
    assert hosted.simulator.assets[name].data == b"png"
    assert (await hosted.ask("DELETE", f"/v2/nvcf/assets/{name}"))[0] == 204
    assert (await hosted.ask("DELETE", f"/v2/nvcf/assets/{name}"))[0] == 404


async def test_an_asset_that_was_not_uploaded_cannot_be_used(platform: Open) -> None:
    """Its id alone is not enough."""
    hosted = await platform()
    _, _, body = await hosted.ask("POST", "/v2/nvcf/assets", {"contentType": "image/png", "description": "d"})
    headers = {**KEY, "NVCF-INPUT-ASSET-REFERENCES": body["assetId"]}
    status, _, said = await hosted.ask("POST", PATH, BODY, headers=headers)
    assert (status, said["detail"]) == (404, f"Asset '{body['assetId']}' not found")


async def test_limits_of_the_platform(platform: Open) -> None:
    """25 MiB for a body; 180 kB inside a message for models that take assets."""
    hosted = await platform()
    large = io.BytesIO(b'{"x": "' + b"x" * 26_214_400 + b'"}')
    headers = {**KEY, "Content-Type": "application/json"}
    status, _, body = await hosted.ask("POST", PATH, headers=headers, data=large)
    assert (status, "26214400" in body["error"]["message"]) == (400, True)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 180_001}}
    message = [{"role": "user", "content": [picture]}]
    status, _, body = await hosted.ask("POST", PATH, {"model": "google/paligemma", "messages": message})
    assert (status, "upload it as an asset" in body["error"]["message"]) == (400, True)
    assert (await hosted.ask("POST", PATH, {"model": "google/gemma-3n-e2b-it", "messages": message}))[0] == 200


async def test_models_have_their_own_paths(platform: Open) -> None:
    """Those of the catalog, as well as the shared routes."""
    hosted = await platform()
    body = {**BODY, "model": "google/paligemma"}
    assert (await hosted.ask("POST", "/v1/vlm/google/paligemma", body))[0] == 200
    rank = {"model": "nvidia/llama-nemotron-rerank-1b-v2", "query": {"text": "a"}, "passages": [{"text": "a"}]}
    path = "/v1/retrieval/nvidia/llama-nemotron-rerank-1b-v2/reranking"
    assert (await hosted.ask("POST", path, rank))[2]["rankings"]


REFUSED = {
    "busy": (429, "Too Many Requests", None),
    "overloaded": (503, "ResourceExhausted", None),
    "offline": (503, "not available", "10800"),
    "broken": (500, "Inference error", None),
    "gone": (410, "end of life", None),
    "forbidden": (403, "Authorization failed", None),
    "unavailable": (404, "Not found for account", None),
}


@pytest.mark.parametrize("fault", REFUSED)
async def test_rejections_byte_for_byte(platform: Open, fault: str) -> None:
    """Status, words and Retry-After; after its number of requests a fault is over."""
    hosted = await platform(f"{fault}=1")
    status, headers, body = await hosted.ask("POST", PATH, BODY)
    expected, words, wait = REFUSED[fault]
    assert (status, headers.get("Retry-After"), headers["NVCF-STATUS"]) == (expected, wait, "errored")
    assert words in str(body)
    assert (await hosted.ask("POST", PATH, BODY))[0] == 200


async def test_what_was_cancelled(platform: Open) -> None:
    """504 with an empty body."""
    hosted = await platform("cancelled")
    status, headers, body = await hosted.ask("POST", PATH, BODY)
    assert (status, body, headers["NVCF-STATUS"]) == (504, b"", "errored")


@pytest.mark.parametrize(
    ("key", "answered"),
    [
        (None, "Header of type `authorization` was missing"),
        ("Bearer sk-other", "Authentication failed"),
        ("Bearer nvapi-", "Authentication failed"),
        ("nvapi-x", "Authentication failed"),
        ("Bearer nvapi-x y", "Authentication failed"),
    ],
)
async def test_keys_have_a_shape(platform: Open, key: str | None, answered: str) -> None:
    """A missing key is reported in plain text, one that is none of NVIDIA's in problem JSON; both are 401."""
    hosted = await platform()
    status, headers, said = await hosted.ask("POST", PATH, BODY, headers={"Authorization": key} if key else {})
    assert (status, headers["NVCF-STATUS"]) == (401, "errored")
    assert (
        said == answered.encode()
        if key is None
        else said == {"status": 401, "title": "Unauthorized", "detail": answered}
    )


async def test_functions_are_called_by_their_ids(platform: Open) -> None:
    """Every model is a function, which takes the body of its kind's route; polling and faults are as everywhere."""
    hosted = await platform("accepted=1")
    listed = (await hosted.ask("GET", "/v2/nvcf/functions"))[2]["functions"]
    by_model = {function["models"][0]["name"]: function for function in listed}
    messages = {"messages": BODY["messages"]}
    chat = by_model[CHAT]
    path = f"/v2/nvcf/pexec/functions/{chat['id']}"
    status, headers, _ = await hosted.ask("POST", path, messages)
    assert status == 202
    status, _, said = await hosted.ask("GET", f"/v2/nvcf/pexec/status/{headers['NVCF-REQID']}")
    assert (status, said["model"]) == (200, CHAT)
    assert (await hosted.ask("POST", f"{path}/versions/{chat['versionId']}", messages))[0] == 200
    embedding = by_model["nvidia/nv-embedqa-e5-v5"]["id"]
    _, _, said = await hosted.ask(
        "POST", f"/v2/nvcf/pexec/functions/{embedding}", {"input": "x", "input_type": "query"}
    )
    assert said["data"][0]["embedding"]
    for unknown in ("none", f"{chat['id']}/versions/none"):
        status, _, said = await hosted.ask("POST", f"/v2/nvcf/pexec/functions/{unknown}", messages)
        assert (status, said["title"]) == (404, "Not Found")
        assert "Not found for account" in said["detail"]


def test_faults_have_names() -> None:
    """A name that is none, a number that is none, or another dialect: ValueError that says what there is."""
    assert len(set(NAMES)) == len(NAMES) == 15
    with pytest.raises(ValueError, match=r"no fault 'x'.*accepted"):
        Simulator(dialect="hosted", faults=["x"])
    for wrong in ("busy=", "busy=0", "busy=x"):
        with pytest.raises(ValueError, match="how many"):
            Simulator(dialect="hosted", faults=wrong)
    with pytest.raises(ValueError, match="hosted"):
        Simulator(faults="busy")
    assert not Faults().of_platform
    faults = Faults("busy=1")
    assert (faults.take("busy"), faults.take("busy"), faults.take("gone")) == (True, False, False)


async def test_assets_of_other_dialects() -> None:
    """There are none."""
    assert Simulator().assets == {}
