"""A Qdrant server: as much of its HTTP API as jobs use, as a script of the fault server."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from support.server import Request, Script, Step
from support.wire import answer

_PATH = re.compile(r"/collections/([^/]+)(/.*)?")


def result(value: Any, status: int = 200) -> bytes:
    return answer({"result": value, "status": "ok", "time": 0.0}, status)


def failure(status: int, words: str) -> bytes:
    return answer({"status": {"error": words}, "time": 0.0}, status)


class Qdrant:
    """Points by collection and id. Strict as Qdrant's cloud: nothing is filtered by a field without an index, and no
    request is larger than `limit`. `faults`: what follows after the next points are stored, in place of the answer.
    """

    def __init__(self) -> None:
        self.collections: dict[str, dict[int, Any]] = {}
        self.indexes: set[tuple[str, str]] = set()
        self.limit = 32 << 20
        self.keys: set[str | None] = set()
        self.scrolls: list[int] = []
        self.faults: list[list[Step]] = []

    def __call__(self, request: Request) -> Script:
        self.keys.add(request.headers.get("api-key"))
        found = _PATH.fullmatch(urlsplit(request.path).path)
        if found is None:
            return answer({"title": "qdrant", "version": "1.20.0"})
        name, route = found[1], found[2] or ""
        if len(request.body) > self.limit:
            words = f"JSON payload ({len(request.body)} bytes) is larger than allowed (limit: {self.limit} bytes)."
            return failure(400, f"Payload error: {words}")
        if request.method == "GET":
            return result({"exists": name in self.collections})
        return self._change(name, f"{request.method} {route}", request.json)

    def _change(self, name: str, route: str, body: Mapping[str, Any]) -> Script:
        points = self.collections.setdefault(name, {})
        match route:
            case "PUT /index":
                self.indexes.add((name, body["field_name"]))
            case "PUT /points":
                points |= _points(body)
                if self.faults:
                    return self.faults.pop(0)
            case "POST /points/scroll":
                return self._page(points, body)
            case "POST /points/delete":
                (condition,) = body["filter"]["must"]
                key = condition["key"]
                if (name, key) not in self.indexes:
                    return failure(400, f'Bad request: Index required but not found for "{key}" of type [keyword].')
                value = condition["match"]["value"]
                self.collections[name] = {id: point for id, point in points.items() if point["payload"][key] != value}
            case _:
                return result(True)  # a collection
        return result({"operation_id": 0, "status": "completed"})

    def _page(self, points: Mapping[int, Any], body: Mapping[str, Any]) -> bytes:
        self.scrolls.append(body["limit"])
        ids = [id for id in sorted(points) if id >= (body.get("offset") or 0)]
        page, rest = ids[: body["limit"]], ids[body["limit"] :]
        return result(
            {
                "points": [{"id": id, "payload": points[id]["payload"]} for id in page],
                "next_page_offset": rest[0] if rest else None,
            }
        )


def _points(body: Mapping[str, Any]) -> dict[int, Any]:
    if "points" in body:
        return {point["id"]: point for point in body["points"]}
    batch = body["batch"]
    both = zip(batch["ids"], batch["payloads"], batch["vectors"], strict=True)
    return {id: {"payload": payload, "vector": vector} for id, payload, vector in both}
