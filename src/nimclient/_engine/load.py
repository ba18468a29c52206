"""What servers report of their load: vLLM's response header, and gauges of Prometheus metrics. No I/O.

`LOAD_PATHS` are the routes that have it, by server type; a hosted API is not among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite

from nimclient._api.server_types import ServerType
from nimclient._base import json as _json
from nimclient._engine.replicas import LoadReport
from nimclient.errors import DecodeError
from nimclient.records._decode import object_or_empty

LOAD_PATHS: Mapping[ServerType, tuple[str, ...]] = {
    "vllm": ("/metrics", "/load"),
    "nim": ("/v1/metrics", "/metrics"),
    "dynamo": ("/metrics",),
    "sglang": ("/metrics",),
    "llama.cpp": ("/metrics",),
}

_NUMBER = r"([0-9][0-9.eE+-]*)"
_IN_HEADER = re.compile(rf'\bnum_requests_waiting"?\s*[=:]\s*{_NUMBER}')
_GAUGE = re.compile(rf"^(?:(?:vllm|sglang|llamacpp)[:_])?([a-z_]+)(?:\{{.*\}})? {_NUMBER}\s*$", re.MULTILINE)
_TOTAL, _WAITING = "total", "waiting"
_GAUGES: Mapping[str, tuple[str, ...]] = {
    "num_requests_running": (_TOTAL,),  # vLLM, NIM
    "num_requests_waiting": (_TOTAL, _WAITING),
    "num_running_reqs": (_TOTAL,),  # SGLang
    "num_queue_reqs": (_TOTAL, _WAITING),
    "requests_processing": (_TOTAL,),  # llama-server
    "requests_deferred": (_TOTAL, _WAITING),
    "dynamo_frontend_inflight_requests": (_TOTAL,),  # those that are queued among them
}


def load_of_header(value: str) -> LoadReport | None:
    """The load in a response header, in either of vLLM's forms."""
    found = _IN_HEADER.search(value)
    waiting = None if found is None else _number(found[1])
    return None if waiting is None else LoadReport(waiting)


def load_of_body(path: str, data: bytes) -> LoadReport | None:
    """The load in the body of one of `LOAD_PATHS`; None if it reports none."""
    if path == "/load":
        try:
            count = object_or_empty(_json.loads(data)).get("server_load")
        except DecodeError:
            return None
        # A vLLM that does not count always says 0.
        return LoadReport(0.0, float(count)) if isinstance(count, (int, float)) and count > 0 else None
    sums: dict[str, float] = {}
    for name, text in _GAUGE.findall(data.decode("utf-8", "replace")):
        for part in _GAUGES.get(name, ()):
            sums[part] = sums.get(part, 0.0) + (_number(text) or 0.0)
    return LoadReport(sums.get(_WAITING, 0.0), sums[_TOTAL]) if sums else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None
