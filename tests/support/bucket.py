"""A bucket that speaks the XML of S3 and Google Cloud Storage, as a script of the fault server."""

from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from support.server import FaultServer, Request, Script, Step
from support.wire import http

_NEW = ("if-none-match", "x-goog-if-generation-match")  # says that no object may have the name
_TIMES = ('ETag: "1"', "x-goog-generation: 1", "Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT")


def failure(status: int, code: str) -> bytes:
    """An error of the store."""
    return http(f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), status, type="application/xml")


class Bucket:
    """Objects by path, `/bucket/name`. `faults` of the next ones: bytes instead of storing it, steps behind that."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.faults: list[bytes | list[Step]] = []

    def __call__(self, request: Request) -> Script:
        url = urlsplit(request.path)
        path = unquote(url.path)
        query = parse_qs(url.query)
        if "list-type" in query:
            return self._listing(path, query.get("prefix", [""])[0])
        if request.method == "PUT":
            return self._put(path, request)
        data = self.objects.get(path)
        if data is None:
            return failure(404, "NoSuchKey")
        return _part(data, request.headers) if request.method == "GET" else _head(len(data))

    def _put(self, path: str, request: Request) -> Script:
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, bytes):
            return fault
        if path in self.objects and any(name in request.headers for name in _NEW):
            return failure(412, "PreconditionFailed")
        self.objects[path] = request.body
        return http(b"", 200, *_TIMES) if fault is None else fault

    def _listing(self, bucket: str, prefix: str) -> bytes:
        root = f"{bucket.rstrip('/')}/"
        found = [path.removeprefix(root) for path in sorted(self.objects) if path.startswith(root + prefix)]
        items = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>1</ETag><Size>{len(self.objects[root + name])}</Size></Contents>"
            for name in found
        )
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
        return http(body.encode(), type="application/xml")


def _head(length: int) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {length}", *_TIMES]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def _part(data: bytes, headers: Mapping[str, str]) -> bytes:
    start, _, end = headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
    first, last = int(start), min(int(end or len(data)), len(data) - 1)
    if "range" not in headers:
        return http(data, 200, *_TIMES)
    return http(data[first : last + 1], 206, *_TIMES, f"Content-Range: bytes {first}-{last}/{len(data)}")


def set_s3(monkeypatch: pytest.MonkeyPatch, service: FaultServer) -> None:
    """Have s3:// go to this server."""
    settings = {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "REGION": "us-east-1", "ALLOW_HTTP": "true"}
    for name, value in {"ENDPOINT_URL": service.url.removesuffix("/v1"), **settings}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def set_gs(monkeypatch: pytest.MonkeyPatch, service: FaultServer) -> None:
    """Have gs:// go to this server, without a token."""
    root = service.url.removesuffix("/v1")
    key = f'{{"gcs_base_url":"{root}","disable_oauth":true,"client_email":"","private_key":"","private_key_id":""}}'
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", key)
    monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
