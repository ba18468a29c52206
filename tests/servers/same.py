"""Whether the simulator speaks as a real server does: the same request to both, and what differs in shape."""

import json
from typing import Any

import aiohttp

from nimclient.simulator import Simulator

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
OF_ONE_SERVER = (
    "context_window",
    "permission",
    "max_model_len",
    "system_fingerprint",
    "root",
    "completion_tokens_details",
)


async def told(url: str, path: str, body: Any, key: str | None) -> tuple[int, str, Any]:
    """Status, content type and decoded body of one request; a stream is the list of what its events hold."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    method = "GET" if body is None else "POST"
    address = url.removesuffix("/v1") + path
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, address, json=body) as answer,
    ):
        text = await answer.text()
    kind = answer.headers.get("Content-Type", "").partition(";")[0] if text else ""
    if kind == "text/event-stream":
        return answer.status, kind, [_event(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    return answer.status, kind, json.loads(text) if kind == "application/json" else text


def _event(data: str) -> Any:
    return data if data == "[DONE]" else json.loads(data)


def shape(value: Any, *, nulls: bool) -> Any:
    """The fields of JSON and the types they hold, with nulls or without; of many items the first."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if (nulls or item is not None) and key not in OF_ONE_SERVER}
        return {key: shape(item, nulls=nulls) for key, item in kept.items()}
    if isinstance(value, list):
        return [shape(item, nulls=nulls) for item in value[:1]]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


async def both(
    url: str, simulator: Simulator, path: str, body: Any, key: str | None = None
) -> list[tuple[int, str, Any]]:
    """What the real server and the simulator say."""
    return [await told(place, path, body, key) for place in (url, simulator.base_url)]
