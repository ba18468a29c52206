"""Request lines in the format of OpenAI's batch files: {"custom_id", "method", "url", "body"}, one JSON object a line.

A line whose answer could not be identified (no custom_id, or a repeated one) is an error of the whole file, raised before
anything is sent. A line that cannot be sent for another reason becomes a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from json import JSONDecoder, loads
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from attrs import field, frozen

from nimclient._resources.bulk import (
    Accumulator,
    Call,
    ChatAccumulator,
    CompletionAccumulator,
    Json,
    JsonDict,
    Replay,
    ResponseMeta,
    is_array,
    is_object,
    object_or_empty,
    overridden,
    wrong,
)
from nimclient._resources.bulk import json as _json
from nimclient.errors import ConfigurationError, DecodeError, JobMismatchError
from nimclient.jobs.files import store_errors
from nimclient.jobs.lines import LONG_NUMBER, numbered, open_lines
from nimclient.records.usage import Usage, decode_usage

_MAX_NAMED = 3  # lines named by an error
_MAX_DIGITS = 19  # of 64 bits
_DECODER = JSONDecoder(parse_int=str, parse_float=str)  # only to find the end of a value


@frozen
class Route:
    """The route of a url: the kind of model, the path below the API root or the server's root."""

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
    """One line: its number, custom_id, an id derived from what is sent, its bytes, and its route or why it cannot be sent."""

    line: int
    custom_id: str
    id: str
    weight: int
    route: Route | None
    body: JsonDict
    problem: ConfigurationError | None = None
    text: bytes | None = field(default=None, repr=False)
    """The body's text, if decoding would change its numbers."""

    @property
    def key(self) -> str:
        """The custom_id."""
        return self.custom_id

    @property
    def model(self) -> str | None:
        """The model in the body."""
        model = self.body.get("model")
        return model if isinstance(model, str) and model else None

    def call(self, model: str | None, defaults: Mapping[str, Json] = {}) -> Call[Answered]:
        """The call: the body unchanged, with `model` and the fields of `defaults` added where they are missing."""
        route = self.route
        assert route is not None
        named = {} if model is None or self.model is not None else {"model": model}
        added = named | {
            name: value for name, value in overridden(defaults, self.body).items() if name not in self.body
        }
        text = _with_fields(self.text, added, is_empty=not self.body) if self.text and added else self.text
        fields = {**added, **self.body} if added else self.body
        return Call(
            "POST",
            route.path,
            partial(_answered, route),
            fields if text is None else None,
            model=model,
            replay=route.replay,
            kind=route.kind,
            accumulator=_ACCUMULATORS.get(route.kind),
            at_root=route.at_root,
            raw=text,
        )


def _with_fields(text: bytes, fields: JsonDict, *, is_empty: bool) -> bytes:
    """The text of a JSON object with these fields added in front."""
    head = _json.dumps(fields)[:-1]
    return head + (b"}" if is_empty else b"," + text[1:])


@frozen
class Answered:
    """The response: the JSON as the server sent it."""

    body: Json
    meta: ResponseMeta

    @property
    def usage(self) -> Usage | None:
        """The token counts of the server."""
        return decode_usage(object_or_empty(self.body).get("usage"))


_SPINES = {"chat": ("choices",), "completions": ("choices",), "embedding": ("data",)}
_RANKS = ("rankings", "results", "data")
_ACCUMULATORS: Mapping[str, Callable[[], Accumulator[Any]]] = {
    "chat": ChatAccumulator,  # for gateways that stream without being asked
    "completions": CompletionAccumulator,
}


def _answered(route: Route, value: Json, meta: ResponseMeta) -> Answered:
    """The response of this route. Raises DecodeError if it has no list of results."""
    names = _SPINES.get(route.kind, _RANKS)
    if is_object(value) and any(is_array(value.get(name)) for name in names):
        return Answered(value, meta)
    if is_array(value) and route.kind == "ranking":
        return Answered(value, meta)
    raise wrong("it is missing", " or ".join(names), meta)


def read_requests(path: Path, model: str | None) -> Iterator[Request]:
    """All lines that are not blank. ConfigurationError for one without a custom_id, JobStoreError if it cannot be read."""
    with store_errors(f"cannot read {path}"), open_lines(path) as file:
        for number, line in numbered(file):
            yield read_request(line, number, model)


def read_request(line: bytes, number: int, model: str | None) -> Request:
    """One line."""
    try:
        record: Any = _loads(line, f"line {number}")
    except DecodeError as error:
        raise ConfigurationError(str(error)) from None
    custom_id = record.get("custom_id") if is_object(record) else None
    if not isinstance(custom_id, str) or not custom_id:
        raise ConfigurationError(f"line {number} has no custom_id (the string that identifies its answer)")
    url, body = record.get("url"), record.get("body")
    route = ROUTES.get(url) if isinstance(url, str) else None
    problem = _problem(record, route)
    try:
        key = _json.dumps([url, body, model])
    except ConfigurationError as error:  # half a character; the line fails, and another one of those is another request
        key = repr([url, body, model]).encode("utf-8", "surrogatepass")
        problem = problem or str(error).replace("body[1]", "body", 1)
    name = f"batch_req_{blake2b(key, digest_size=12).hexdigest()}"
    fields: JsonDict = body if is_object(body) else {}
    text = _text_of_body(line) if LONG_NUMBER.search(line) and problem is None else None
    failure = None if problem is None else ConfigurationError(problem)
    return Request(number, custom_id, name, len(line), route, fields, failure, text)


def _loads(line: bytes, what: str) -> Any:
    """A line as JSON; a number beyond a float, which is sent unchanged, as a str."""
    try:
        return _json.loads(line, what, keep_surrogates=True)
    except DecodeError:
        if not LONG_NUMBER.search(line):
            raise
        try:
            return loads(line, parse_int=_number, parse_float=_number, parse_constant=_no_number)
        except (ValueError, RecursionError):
            pass
        raise


def _number(text: str) -> float | int | str:
    if len(text) < _MAX_DIGITS and text.removeprefix("-").isdecimal():
        return int(text)
    return number if isfinite(number := float(text)) else text


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _text_of_body(line: bytes) -> bytes | None:
    """The text of `body` in a line that is a JSON object, `{"custom_id": …, "body": {…}, …}`; None without one."""
    text = line.decode()
    found: bytes | None = None
    at = _behind_space(text, text.index("{") + 1)
    while text[at] == '"':
        name, at = _DECODER.raw_decode(text, at)
        at = _behind_space(text, _behind_space(text, at) + 1)  # the colon
        _, end = _DECODER.raw_decode(text, at)
        if name == "body":
            found = text[at:end].encode()
        at = _behind_space(text, _behind_space(text, end) + 1)  # the comma, or the closing brace
        if at >= len(text):
            break
    return found


def _behind_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


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


def check_requests(path: Path, model: str | None, answered: Mapping[str, str]) -> dict[str, str]:
    """Validate the whole file; returns the ids of its requests by custom_id. `answered`: those of the answers.

    Raises ConfigurationError for missing or repeated custom_ids, JobMismatchError for answers to other requests.
    """
    lines: dict[str, int] = {}
    ids: dict[str, str] = {}
    broken: list[str] = []
    other: list[str] = []
    with store_errors(f"cannot read {path}"), open_lines(path) as file:
        for number, line in numbered(file):
            try:
                request = read_request(line, number, model)
            except ConfigurationError as error:
                broken.append(str(error))
                continue
            name = request.custom_id
            ids[name] = request.id
            if (first := lines.setdefault(name, number)) != number:
                broken.append(f"line {number} repeats the custom_id {name!r:.80} of line {first}")
            elif answered.get(name, request.id) != request.id:
                other.append(f"the request {name!r:.80} (line {number}) was another one when it was answered")
    if broken:
        raise ConfigurationError(f"{path} cannot be run: {_some(broken)}")
    other += [f"no request {name!r:.80}, which is answered" for name in answered if name not in ids]
    if other:
        raise JobMismatchError(
            f"{path} is not the file that the answers belong to: {_some(other)}; give it that one, or choose another output"
        )
    return ids


def _some(problems: list[str]) -> str:
    rest = len(problems) - _MAX_NAMED
    return "; ".join(problems[:_MAX_NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def unanswered(path: Path, model: str | None, answered: Container[str]) -> Iterator[Request]:
    """The requests without an answer, in the order of the file."""
    return (request for request in read_requests(path, model) if request.custom_id not in answered)
