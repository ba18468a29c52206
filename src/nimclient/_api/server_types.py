"""Which kind of server answers: what the headers and bodies of its answers say of it. Nothing is asked to find out.

A sign is taken only where one kind of server gives it. NIM 2.x LLM containers are vLLM behind another front door, so what
looks like vLLM turns out to be a NIM when a route of NIM answers; no other verdict is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nimclient._api.urls import BaseURL
from nimclient._base import json as _json
from nimclient._base.config import Dialect
from nimclient._base.types import Json, is_object
from nimclient.errors import APIStatusError, DecodeError
from nimclient.records._decode import object_or_empty, objects

_DYNAMO_ERROR = frozenset({"message", "type", "code"})


class Dialects:
    """What a client has found out about the servers it talks to, by origin."""

    def __init__(self) -> None:
        self._known: dict[str, Dialect] = {}
        self._greeted: set[str] = set()

    def get(self, url: str) -> Dialect | None:
        """The kind of server behind a URL, None while it has not shown."""
        return self._known.get(_origin(url))

    def of(self, bases: Iterable[BaseURL]) -> Dialect | None:
        """The kind of server that replicas are: what the first of them has shown that has shown anything."""
        for base in bases:
            if (known := self._known.get(base.origin)) is not None:
                return known
        return None

    def learn(self, url: str, dialect: Dialect | None) -> None:
        """Remember what an answer of this URL has shown, if it has shown anything."""
        if dialect is not None:
            origin = _origin(url)
            known = self._known.get(origin)
            if known is None or (known == "vllm" and dialect == "nim"):
                self._known[origin] = dialect

    def inspect_headers(self, url: str, headers: Mapping[str, str]) -> None:
        """Look at the headers of the first answer of a server."""
        origin = _origin(url)
        if origin not in self._greeted:
            self._greeted.add(origin)
            self.learn(url, dialect_of_headers(headers))

    def read(self, url: str, path: str, value: Json) -> None:
        """Look at the body of an answer, while it is open who gave it or vLLM may still turn out to be a NIM."""
        if self._known.get(_origin(url)) in (None, "vllm"):
            self.learn(url, dialect_of_answer(path, value))

    def inspect_health(self, url: str, path: str, headers: Mapping[str, str]) -> None:
        """Remember whose health route has answered: vLLM's body is empty, Dynamo's is JSON."""
        if path.startswith("/health/"):
            self.learn(url, "nim")
        else:
            self.learn(url, "dynamo" if "json" in headers.get("content-type", "") else "vllm")

    def inspect_error(self, url: str, error: APIStatusError) -> None:
        """Look at a refusal, while it is open who gave it."""
        if _origin(url) not in self._known:
            self.learn(url, dialect_of_refusal(error))


def _origin(url: str) -> str:
    """scheme://host:port of a URL that was checked before."""
    end = url.find("/", 8)
    return url if end < 0 else url[:end]


def dialect_of_headers(headers: Mapping[str, str]) -> Dialect | None:
    """NVCF marks nearly every answer with its ids; Dynamo may name its own."""
    if "nvcf-reqid" in headers or "nvcf-status" in headers:
        return "hosted"
    return "dynamo" if "x-dynamo-request-id" in headers else None


def dialect_of_answer(path: str, value: Json) -> Dialect | None:
    """What the JSON of a 200 says: who owns the listed models, the ids of embeddings, the fingerprint of a completion."""
    if not is_object(value):
        return None
    if path.endswith("/completions"):
        return "vllm" if _starts(value.get("system_fingerprint"), "vllm-") else None
    if path == "/embeddings":
        return "vllm" if _starts(value.get("id"), "embd-") else None
    if path == "/models":
        return next((kind for entry in objects(value.get("data")) if (kind := _of_model(entry))), None)
    if path.startswith("/models/"):
        return _of_model(value)
    if path == "/metadata":
        return "nim" if "modelInfo" in value or "licenseInfo" in value else None
    if path == "/version":
        return "nim" if "release" in value else "vllm" if "version" in value else None
    return None


def _of_model(entry: Mapping[str, Json]) -> Dialect | None:
    """vLLM and NIM 1.x own what they serve; Dynamo gives a context_window where vLLM gives max_model_len."""
    if entry.get("owned_by") == "vllm":
        return "vllm"
    if entry.get("owned_by") == "system" and "root" in entry:
        return "nim"
    return "dynamo" if "context_window" in entry and entry.get("owned_by") == "nvidia" else None


def dialect_of_refusal(error: APIStatusError) -> Dialect | None:
    """NVCF's problems name it; Dynamo's errors have exactly three fields, the code being the status."""
    try:
        data = object_or_empty(_json.loads(error.body.encode()))
    except DecodeError:
        return None
    if _starts(data.get("type"), "urn:nvcf") or "not found for account" in str(data.get("detail")).lower():
        return "hosted"
    return "dynamo" if data.keys() == _DYNAMO_ERROR and data["code"] == error.status else None


def _starts(value: Json, beginning: str) -> bool:
    return isinstance(value, str) and value.startswith(beginning)
