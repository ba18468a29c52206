"""Request lines in the format of OpenAI's batch files: {"custom_id", "method", "url", "body"}, one JSON object a line.

A line whose answer could not be told from another's (no custom_id, or one that was there before) is an error of the whole
file, found before anything is sent. A line that cannot be sent for another reason is answered with that reason.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from attrs import frozen

from nimclient._api.call import Call
from nimclient._base import json as _json
from nimclient._base.types import Json, JsonDict, is_object
from nimclient._base.values import ResponseMeta
from nimclient._retry.policy import Replay
from nimclient.errors import ConfigurationError, DecodeError, JobMismatchError
from nimclient.jobs.files import store_errors

_MOST_NAMED = 3  # lines that an error names


@frozen
class Route:
    """Where a url leads: the kind of model, the path below the API root, or below the server's root."""

    kind: str
    path: str
    replay: Replay = Replay.SAFE
    at_root: bool = False


ROUTES: Mapping[str, Route] = {
    "/v1/chat/completions": Route("chat", "/chat/completions", Replay.ONCE),
    "/v1/completions": Route("completions", "/completions", Replay.ONCE),
    "/v1/embeddings": Route("embedding", "/embeddings"),
    "/v1/ranking": Route("ranking", "/ranking"),
    "/v1/rerank": Route("ranking", "/rerank"),
    "/rerank": Route("ranking", "/rerank", at_root=True),
    "/v2/rerank": Route("ranking", "/v2/rerank", at_root=True),
}


@frozen
class Request:
    """One line: its number, its custom_id, an id made of all that is sent, and either where it goes or why it cannot."""

    line: int
    custom_id: str
    id: str
    route: Route | None
    body: JsonDict
    problem: ConfigurationError | None = None

    @property
    def model(self) -> str | None:
        """The model that the body names."""
        model = self.body.get("model")
        return model if isinstance(model, str) and model else None

    def call(self, model: str | None) -> Call[Answered]:
        """The call: the body as it is, with `model` where it names none."""
        assert self.route is not None
        fields = self.body if model is None or self.model is not None else {"model": model, **self.body}
        route = self.route
        return Call(
            "POST",
            route.path,
            Answered,
            fields,
            model=model,
            replay=route.replay,
            at_root=route.at_root,
            kind=route.kind,
        )


@frozen
class Answered:
    """What came back: the JSON as the server sent it."""

    body: Json
    meta: ResponseMeta


def read_requests(path: Path, model: str | None) -> Iterator[Request]:
    """All lines that hold anything. Raises ConfigurationError for one without a custom_id, JobStoreError for the disk's."""
    with store_errors(f"cannot read {path}"), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield read_request(line, number, model)


def read_request(line: bytes, number: int, model: str | None) -> Request:
    """One line."""
    try:
        record: Any = _json.loads(line, f"line {number}")
    except DecodeError as error:
        raise ConfigurationError(str(error)) from None
    custom_id = record.get("custom_id") if is_object(record) else None
    if not isinstance(custom_id, str) or not custom_id:
        raise ConfigurationError(f"line {number} has no custom_id (a text that names its answer)")
    url, body = record.get("url"), record.get("body")
    key = _json.dumps([url, body, model])
    name = f"batch_req_{blake2b(key, digest_size=12).hexdigest()}"
    route = ROUTES.get(url) if isinstance(url, str) else None
    problem = _problem(record, route)
    fields: JsonDict = body if is_object(body) else {}
    return Request(number, custom_id, name, route, fields, None if problem is None else ConfigurationError(problem))


def _problem(record: JsonDict, route: Route | None) -> str | None:
    if record.get("method", "POST") != "POST":
        return f"method is {record['method']!r:.40}; it must be POST"
    if route is None:
        return f"url is {record.get('url')!r:.80}; it must be one of {', '.join(ROUTES)}"
    if not is_object(record.get("body")):
        return "body must be a JSON object"
    if record["body"].get("stream"):
        return "body.stream: a batch cannot be streamed"
    return None


def check_requests(path: Path, model: str | None, answered: Mapping[str, str]) -> int:
    """Look through the whole file; returns how many requests it has. `answered`: the ids of the answers by custom_id.

    Raises ConfigurationError for lines that cannot be told apart, JobMismatchError for answers to other requests.
    """
    seen: dict[str, int] = {}
    broken: list[str] = []
    other: list[str] = []
    with store_errors(f"cannot read {path}"), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                request = read_request(line, number, model)
            except ConfigurationError as error:
                broken.append(str(error))
                continue
            if (first := seen.setdefault(request.custom_id, number)) != number:
                broken.append(f"line {number} repeats the custom_id {request.custom_id!r:.80} of line {first}")
            elif answered.get(request.custom_id, request.id) != request.id:
                other.append(
                    f"the request {request.custom_id!r:.80} (line {number}) was another one when it was answered"
                )
    if broken:
        raise ConfigurationError(f"{path} cannot be run: {_some(broken)}")
    other += [f"there is no request {name!r:.80}, which is answered" for name in answered if name not in seen]
    if other:
        raise JobMismatchError(
            f"{path} is not the file that the answers belong to: {_some(other)}; give it that one, or choose another output"
        )
    return len(seen)


def _some(problems: list[str]) -> str:
    rest = len(problems) - _MOST_NAMED
    return "; ".join(problems[:_MOST_NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def unanswered(path: Path, model: str | None, answered: Container[str]) -> Iterator[Request]:
    """The requests that have no answer yet, in the order of the file."""
    return (request for request in read_requests(path, model) if request.custom_id not in answered)
