"""Detects the server type from the headers and bodies of its responses, without extra requests.

A sign counts only if it is unique to one server type; a server without any stays unknown. NIM 2.x LLM containers are vLLM
behind a proxy, so a server detected as vLLM becomes NIM when a NIM route responds; no other result changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from attrs import define, field

from nimclient._api.urls import BaseURL
from nimclient._base import json as _json
from nimclient._base.config import DIALECTS, Dialect
from nimclient._base.types import Json, JsonDict
from nimclient.errors import APIStatusError, DecodeError
from nimclient.records._decode import object_or_empty, objects

ForeignType: TypeAlias = Literal["llama.cpp", "litellm", "infinity", "sglang", "tei", "lmdeploy", "guardrails"]
"""Server types that are detected, but have no value of `dialect=`."""

ServerType: TypeAlias = Dialect | ForeignType

IGNORES_NIM_FIELDS: frozenset[ServerType] = frozenset(("vllm", "llama.cpp", "infinity", "sglang", "tei"))
"""Servers that ignore `input_type`, `truncate` and `embedding_type` silently: their requests have no such fields."""

_TRUNCATE_INSTEAD: Mapping[ServerType | None, str] = {
    "llama.cpp": "it rejects a text that is too long, so send shorter ones or start it with a larger --ubatch-size",
    "infinity": "it cuts every text at its end; to notice that, compare usage.prompt_tokens with the model's limit",
    "sglang": "start it with --allow-auto-truncate",
    "tei": "start it with --auto-truncate",
}
"""What to do where `truncate` is ignored; on vLLM, and on servers of unknown type, there is a field of another name."""

TRUNCATES_ANYWAY: Mapping[ServerType | None, str] = {"llama.cpp": "NONE", "infinity": "END"}
"""The one value of `truncate` that such a server fulfils, since it does nothing else."""

_DIALECTS: Mapping[str, Dialect] = {name: name for name in DIALECTS}
_INSPECTED_RESPONSES = 16
_LITELLM_POLICY = "frame-ancestors 'none'"
_NIM_HEALTH = re.compile(r"health.response|\b(?:ready|live)\b")
_DYNAMO_ERROR = frozenset({"message", "type", "code"})
_OWNERS: Mapping[str, ServerType] = {
    "vllm": "vllm",
    "llamacpp": "llama.cpp",
    "infinity": "infinity",
    "sglang": "sglang",
    "lmdeploy": "lmdeploy",  # serve/openai/protocol.py: ModelCard.owned_by
}
"""Values of a listed model's `owned_by` that identify the server."""
_RELAYED = frozenset({"id", "object", "created", "owned_by"})
"""The fields of a list that a gateway copies from the server behind it (NeMo Guardrails), owner included."""


@define(eq=False)
class ServerRecord:
    """What is known of one server. `uninspected`: of how many more responses the headers are looked at."""

    type: ServerType | None = None
    uninspected: int = _INSPECTED_RESPONSES
    may_be_litellm: bool = False
    health_paths: dict[str, str] = field(factory=dict[str, str])

    @property
    def dialect(self) -> Dialect | None:
        """Its type as a value of `dialect=`."""
        return _DIALECTS.get(self.type or "")

    @property
    def type_for_health(self) -> ServerType | None:
        """Its type, or "litellm" on suspicion: its 404s have no certain sign, and its /health must not be requested."""
        return self.type or ("litellm" if self.may_be_litellm else None)


class Dialects:
    """What is known of the servers, by origin."""

    def __init__(self) -> None:
        self._servers: dict[str, ServerRecord] = {}
        self.listed_names: dict[str, str] = {}
        self.changes = 0
        """Counts detections and rejected fields: values derived before the last one may be outdated."""

    def server(self, url: str) -> ServerRecord:
        """The server behind a validated URL."""
        end = url.find("/", 8)
        origin = url if end < 0 else url[:end]
        server = self._servers.get(origin)
        return self._servers.setdefault(origin, ServerRecord()) if server is None else server

    def get(self, url: str) -> Dialect | None:
        """The server type behind a URL as a value of `dialect=`; None while unknown."""
        return self.server(url).dialect

    def of(self, bases: Iterable[BaseURL]) -> Dialect | None:
        """The server type of replicas: that of the first one with a known type."""
        for base in bases:
            server = self._servers.get(base.origin)
            if server is not None and server.type in _DIALECTS:
                return server.dialect
        return None

    def type_of(self, url: str) -> ServerType | None:
        """The server type behind a URL, including those without a dialect."""
        return self.server(url).type

    def learn(self, server: ServerRecord, server_type: ServerType | None) -> None:
        """Record a server type detected from a response of this server, if any."""
        if server_type is not None and (server.type is None or (server.type == "vllm" and server_type == "nim")):
            server.type = server_type
            self.changes += 1

    def learn_name(self, old: str, listed: str) -> None:
        """Record that a server rejects a model by an old name and lists it under another."""
        self.listed_names[old] = listed
        self.changes += 1

    def inspect_headers(self, server: ServerRecord, headers: Mapping[str, str]) -> None:
        """Inspect the headers of the first few responses of a server: a 404 may have fewer than others."""
        if server.uninspected:
            server.uninspected -= 1
            if server.type is None:
                self.learn(server, type_of_headers(headers))
                if headers.get("content-security-policy") == _LITELLM_POLICY and "server" not in headers:
                    server.may_be_litellm = True

    def read(self, server: ServerRecord, path: str, value: Json) -> None:
        """Inspect the body of a response, while the type is unknown or vLLM may still become NIM."""
        if (server.type is None or server.type == "vllm") and (found := type_of_answer(path, value)) is not None:
            self.learn(server, found)

    def inspect_health(self, server: ServerRecord, path: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Record which health route responded."""
        self.learn(server, type_of_health(path, headers, body))

    def inspect_error(self, server: ServerRecord, error: APIStatusError) -> None:
        """Inspect an error response, while the type is unknown."""
        if server.type is None:
            self.learn(server, type_of_error(error))


def truncate_instead(server: ServerType | None) -> str:
    """What to do where `truncate` is ignored."""
    return _TRUNCATE_INSTEAD.get(server, "pass extra_body={'truncate_prompt_tokens': …} instead")


def type_of_headers(headers: Mapping[str, str]) -> ServerType | None:
    """NVCF marks nearly every response with its ids, LiteLLM and TEI mark theirs, Dynamo may; llama-server names itself."""
    names = frozenset(headers)
    if "nvcf-reqid" in names or "nvcf-status" in names:
        return "hosted"
    if "x-dynamo-request-id" in names:
        return "dynamo"
    if "x-litellm-version" in names or "x-litellm-call-id" in names:
        return "litellm"
    if "server" in names and headers["server"] == "llama.cpp":
        return "llama.cpp"
    return "tei" if "x-compute-type" in names and "x-inference-time" in names else None


def type_of_health(path: str, headers: Mapping[str, str], body: bytes) -> ServerType | None:
    """Only NIM has health routes below /v1, where JSON speaks of health; Dynamo's body lists its instances. An empty 200
    shows nothing at /health.
    """
    kind = headers.get("content-type", "")
    is_nims = path in ("/health/ready", "/health/live")
    if "json" not in kind:
        return "nim" if is_nims and "html" not in kind else None
    try:
        data = object_or_empty(_json.loads(body))
    except DecodeError:
        return None
    if is_nims:
        return "nim" if _NIM_HEALTH.search(f"{data.get('object')} {data.get('status')} {data.get('message')}") else None
    return "dynamo" if "instances" in data and "status" in data else None


def type_of_answer(path: str, value: Json) -> ServerType | None:
    """The type shown by the JSON of a 200: owner of listed models, ids of embeddings, what a completion says."""
    if not isinstance(value, dict):
        return None
    data: JsonDict = value  # pyright: ignore[reportUnknownVariableType]  # a cast costs a call
    if path.endswith("/completions"):
        fingerprint = data.get("system_fingerprint")
        if "guardrails" in data:  # NeMo Guardrails, server/schemas/openai.py
            return "guardrails"
        return "vllm" if fingerprint is not None and _starts(fingerprint, "vllm-") else None
    if path == "/embeddings":
        return "vllm" if _starts(data.get("id"), "embd-") else None
    if path == "/models":
        return next((found for entry in objects(data.get("data")) if (found := _of_model(entry))), None)
    if path.startswith("/models/"):
        return _of_model(data)
    if path == "/metadata":
        return "nim" if "modelInfo" in data or "licenseInfo" in data else None
    if path == "/version":
        return "nim" if "release" in data else "vllm" if "version" in data else None
    return None


def _of_model(entry: Mapping[str, Json]) -> ServerType | None:
    """Most servers own the models they list; Dynamo has context_window where vLLM has max_model_len."""
    owner = entry.get("owned_by")
    if frozenset(entry) == _RELAYED:
        return None
    if owner == "system":
        return "nim" if "root" in entry else None
    if owner == "nvidia":
        return "dynamo" if "context_window" in entry else None
    return _OWNERS.get(owner) if isinstance(owner, str) else None


def type_of_error(error: APIStatusError) -> ServerType | None:
    """NVCF's problem documents name it; Dynamo's errors have exactly three fields, and the code is the status."""
    try:
        data = object_or_empty(_json.loads(error.body.encode()))
    except DecodeError:
        return None
    if _starts(data.get("type"), "urn:nvcf") or "not found for account" in str(data.get("detail")).lower():
        return "hosted"
    return "dynamo" if data.keys() == _DYNAMO_ERROR and data["code"] == error.status else None


def _starts(value: Json, beginning: str) -> bool:
    return isinstance(value, str) and value.startswith(beginning)
