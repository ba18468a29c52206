"""The hosted platform in front of the models: accepted requests and polling, results at other addresses, assets.

It holds pending requests and uploads, and knows no models. Everything is at the simulator's own address: polls at
/v1/status/ID (and /v2/nvcf/pexec/status/ID), assets at /v2/nvcf/assets, signed addresses below /storage/.
"""

import asyncio
import io
import re
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID

import orjson

from .dialects import check_key
from .faults import Faults
from .records import StoredAsset
from .rejections import Rejection
from .wire import encoded

MAX_BODY: Final = 26_214_400
MAX_RESULT: Final = 5 * 2**20
DEFAULT_WINDOW, DEFAULT_POLL, MAX_SECONDS = 300, 60, 3600
MIN_PATIENCE: Final = 10.0
_STATUS: Final = re.compile(r"/v1/status/([^/]+)|/v2/nvcf/pexec/status/([^/]+)")
_ASSETS: Final = "/v2/nvcf/assets"
_FUNCTIONS: Final = "/v2/nvcf/functions"
_STORAGE: Final = "/storage/"
_REFERENCE: Final = re.compile(rb"data:[\w.+-]+/[\w.+-]+;asset_id,([A-Za-z0-9_-]+)")


@dataclass(slots=True)
class PlatformResponse:
    """A response of the platform."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class _Job:
    """An accepted request. `end` is when it is dropped unless it is polled: no route of the platform cancels it."""

    task: "asyncio.Future[None]"
    response: PlatformResponse
    end: asyncio.TimerHandle


def problem(status: int, title: str, detail: str) -> PlatformResponse:
    """An error response of the platform (RFC 7807)."""
    body = encoded({"type": "about:blank", "title": title, "status": status, "detail": detail})
    return PlatformResponse(status, body, "application/problem+json")


class Gateway:
    """State and responses of the platform. `functions` is its list of functions."""

    def __init__(self, faults: Faults, functions: dict[str, Any] | None = None) -> None:
        self.assets: dict[str, StoredAsset] = {}
        self._faults = faults
        self._functions = functions or {"functions": []}
        self._jobs: dict[str, _Job] = {}
        self._results: dict[str, PlatformResponse] = {}
        self._made = 0

    def serves(self, path: str) -> bool:
        """Whether a path belongs to the platform itself."""
        return _STATUS.fullmatch(path) is not None or path == _FUNCTIONS or path.startswith((_ASSETS, _STORAGE))

    async def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], data: bytes, root: str
    ) -> PlatformResponse:
        """The response of one of its own paths. `root` is the simulator's address."""
        if path.startswith(_STORAGE):  # another server, which does not know the platform's ids
            response = self._storage(method, path, query, headers, data)
            unmarked = {"NVCF-REQID": "", "NVCF-STATUS": "", "X-Request-Id": ""}
            return PlatformResponse(response.status, response.body, response.content_type, unmarked)
        try:
            check_key(headers)
        except Rejection:
            return problem(401, "Unauthorized", "Authentication failed")
        if path == _FUNCTIONS:
            return _json(self._functions)
        if found := _STATUS.fullmatch(path):
            request_id = found[1] or found[2]
            response = await self._poll(request_id, headers, root)
            return PlatformResponse(
                response.status, response.body, response.content_type, {"NVCF-REQID": request_id, **response.headers}
            )
        return self._assets(method, path.removeprefix(_ASSETS).removeprefix("/"), data, root)

    def close(self) -> None:
        """Cancel all pending requests."""
        for request_id in list(self._jobs):
            self._drop(request_id)

    # requests ---------------------------------------------------------------------------------------------------------

    async def deliver(
        self,
        request_id: str,
        work: Callable[[], Awaitable[None]],
        response: PlatformResponse,
        headers: Mapping[str, str],
        root: str,
    ) -> PlatformResponse:
        """The response if the work finishes in time, else 202. Rejection (400) for an invalid time."""
        window = _seconds(headers, DEFAULT_WINDOW)
        if self._faults.take("unnamed"):
            return PlatformResponse(202, headers={"NVCF-REQID": ""})
        stuck = self._faults.take("stuck")
        deferred = self._faults.take("accepted") or stuck
        task = asyncio.ensure_future(_run(work, for_ever=stuck))
        if not deferred and await _done(task, window):
            return self._finished(request_id, response, root)
        self._jobs[request_id] = _Job(task, response, self._dropped_after(window, request_id))
        return _accepted()

    def _dropped_after(self, window: int, request_id: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(max(2.0 * window, MIN_PATIENCE), self._drop, request_id)

    def _keep(self, request_id: str, job: _Job, window: int) -> None:
        """Restart the time in which it must be asked for again."""
        job.end.cancel()
        job.end = self._dropped_after(window, request_id)

    def _drop(self, request_id: str) -> None:
        job = self._jobs.pop(request_id)
        job.end.cancel()
        job.task.cancel()

    async def _poll(self, request_id: str, headers: Mapping[str, str], root: str) -> PlatformResponse:
        try:
            seconds = _seconds(headers, DEFAULT_POLL)
        except Rejection as rejection:
            return problem(rejection.status, "Bad Request", rejection.message)
        job = self._jobs.get(request_id)
        if job is None:
            return problem(404, "Not Found", f"Invocation request {request_id} is not known, or its result was read")
        if self._faults.take("shaky"):
            return problem(502, "Bad Gateway", "Upstream request failed.")
        self._keep(request_id, job, seconds)
        if not await _done(job.task, seconds, keep=True):
            self._keep(request_id, job, seconds)
            return _accepted()
        if request_id in self._jobs:
            self._drop(request_id)
        return self._finished(request_id, job.response, root)

    def _finished(self, request_id: str, response: PlatformResponse, root: str) -> PlatformResponse:
        """The response itself, or its address."""
        zipped = self._faults.take("zipped")
        if not (zipped or self._faults.take("moved") or len(response.body) > MAX_RESULT):
            return response
        self._results[request_id] = _archive(request_id, response) if zipped else response
        location = f"{root}{_STORAGE}results/{request_id}?X-Amz-Signature=simulated"
        return PlatformResponse(302, headers={"Location": location, "NVCF-STATUS": "fulfilled"})

    # assets -------------------------------------------------------------------------------------------------------

    def check_assets(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Raise Rejection for a body with an asset that its header does not name, or that does not exist."""
        named = [name for name in headers.get("nvcf-input-asset-references", "").split(",") if name]
        for name in named:
            if name not in self.assets or self.assets[name].data is None:
                raise Rejection(404, f"Asset '{name}' not found", type="Asset")
        for name in map(bytes.decode, _REFERENCE.findall(body) if b";asset_id," in body else ()):
            if name not in named:
                raise Rejection(400, f"Asset '{name}' is not among the NVCF-INPUT-ASSET-REFERENCES")

    def _assets(self, method: str, name: str, data: bytes, root: str) -> PlatformResponse:
        if not name:
            if method == "POST":
                return self._make_asset(data, root)
            return _json({"assets": [{"assetId": known} for known in self.assets]})
        if name not in self.assets:
            return problem(404, "Not Found", f"Asset '{name}' not found")
        if method == "DELETE":
            del self.assets[name]
            return PlatformResponse(204)
        return _json({"asset": self.assets[name].describe()})

    def _make_asset(self, data: bytes, root: str) -> PlatformResponse:
        fields: Any = None
        with suppress(orjson.JSONDecodeError):
            fields = orjson.loads(data)
        given = cast("dict[str, Any]", fields) if isinstance(fields, dict) else {}
        kind, description = given.get("contentType"), given.get("description")
        if not (isinstance(kind, str) and kind and isinstance(description, str) and description):
            return problem(400, "Bad Request", "contentType and description are required")
        self._made += 1
        name = str(UUID(int=self._made, version=4))
        self.assets[name] = StoredAsset(name, kind, description)
        address = f"{root}{_STORAGE}assets/{name}?X-Amz-Signature=simulated&X-Amz-SignedHeaders=content-type"
        return _json({"assetId": name, "uploadUrl": address, "contentType": kind, "description": description})

    def _storage(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], data: bytes
    ) -> PlatformResponse:
        """The object at a signed address. As in S3, the signature must be the only credential."""
        kind, _, name = path.removeprefix(_STORAGE).partition("/")
        if "authorization" in headers:
            return _xml(400, "InvalidArgument", "Only one auth mechanism allowed")
        if query.get("X-Amz-Signature") != "simulated":
            return _xml(403, "AccessDenied", "Access Denied")
        if kind == "results" and method == "GET" and name in self._results:
            return self._results[name]
        asset = self.assets.get(name)
        if kind != "assets" or method != "PUT" or asset is None:
            return _xml(404, "NoSuchKey", "The specified key does not exist.")
        if "content-length" not in headers:
            return _xml(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        signed = (headers.get("content-type"), headers.get("x-amz-meta-nvcf-asset-description"))
        if signed != (asset.content_type, asset.description):
            return _xml(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")
        asset.data = data
        return PlatformResponse(200, content_type="application/xml")


def _seconds(headers: Mapping[str, str], default: int) -> int:
    given = headers.get("nvcf-poll-seconds")
    if given is None:
        return default
    if not given.isdecimal() or not 1 <= int(given) <= MAX_SECONDS:
        raise Rejection(400, f"NVCF-POLL-SECONDS must be a number from 1 to {MAX_SECONDS}")
    return int(given)


async def _done(task: "asyncio.Future[None]", seconds: float, *, keep: bool = False) -> bool:
    """Whether the work finishes in time. A disconnect cancels it, unless it is to be kept."""
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
    except asyncio.CancelledError:
        if not keep:
            task.cancel()
        raise
    return bool(done)


async def _run(work: Callable[[], Awaitable[None]], *, for_ever: bool) -> None:
    await work()
    if for_ever:
        await asyncio.Event().wait()


def _accepted() -> PlatformResponse:
    return PlatformResponse(202, headers={"NVCF-STATUS": "in-progress"})


def _archive(request_id: str, response: PlatformResponse) -> PlatformResponse:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{request_id}.response", response.body)
    return PlatformResponse(200, buffer.getvalue(), "application/zip")


def _json(body: dict[str, Any]) -> PlatformResponse:
    return PlatformResponse(200, encoded(body))


def _xml(status: int, code: str, message: str) -> PlatformResponse:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return PlatformResponse(status, body.encode(), "application/xml")
