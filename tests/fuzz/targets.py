"""What the fuzzer feeds: each target takes any bytes, and fails if anything but our own errors comes out, or a wrong value.

They come in through public doors: the client over a transport of given bytes, and the readers and stores of jobs. Where
somebody else's decoder knows the same format, what both accept must be the same. Time and memory are the fuzzer's limits.
"""

import base64
import csv
import io
import json
import math
import pickle
import re
import struct
import tempfile
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from nimclient import AsyncClient, Message, RetryPolicy
from nimclient.errors import APIStatusError, ConfigurationError, DecodeError, JobError, JobStoreError, NimError
from nimclient.jobs.answers import BATCH_LINES, AnswerFiles
from nimclient.jobs.checkpoint import FailedRow, RowSpan
from nimclient.jobs.files import store_errors
from nimclient.jobs.map_rows import MAP_LINES
from nimclient.jobs.requests import read_request
from nimclient.jobs.rows import FieldNames, Row
from nimclient.jobs.shards import WHOLE
from nimclient.jobs.sources import READERS
from nimclient.jobs.store import Store
from nimclient.testing import FakeTransport
from support.reads import streamed

Target = Callable[[bytes], Awaitable[None]]
ONCE = RetryPolicy(attempts=1)
SHM = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Choices:
    """Turns bytes into choices, one byte each; after the last byte the first option of each."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def of(self, options: Any) -> Any:
        return options[self.byte() % len(options)]

    def bytes(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def rest(self) -> bytes:
        return self.bytes(self.left)


def client_of(answer: Any, **settings: Any) -> AsyncClient:
    """A client whose every request is answered so, and which tries once."""
    transport = FakeTransport(lambda request: answer)
    return AsyncClient(base_url="http://x", model="m", transport=transport, retry=ONCE, **settings)


def check_error(error: NimError) -> None:
    """An error is one line that can be printed, and pickles."""
    assert len(str(error).splitlines()) <= 1
    repr(error)
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin)) == (type(error), str(error))


# streams -------------------------------------------------------------------------------------------------------------


async def outcome_of(reads: list[bytes]) -> tuple[Any, ...]:
    """What a stream of these reads comes to: its text, and its final answer or its error with what had arrived."""
    texts: list[str] = []
    try:
        async with streamed(reads, ONCE) as stream:
            async for chunk in stream:
                texts.append(chunk.text)
                repr(chunk)
                json.dumps(chunk.to_dict())
            return "".join(texts), await stream.final()
    except NimError as error:
        check_error(error)
        # one read that fails at opening gives no chunk; what a body that is no stream shows of itself is its first read
        return (None if error.partial is None else type(error)), error.partial


async def stream(data: bytes) -> None:
    """Any bytes as a chat stream, in reads of any size: the outcome is that of one read."""
    choices = Choices(data)
    sizes = [choices.byte() + 1 for _ in range(4)]
    body = choices.rest()
    reads, at = [], 0
    while at < len(body):
        size = sizes[len(reads) % 4]
        reads.append(body[at : at + size])
        at += size
    whole, cut = await outcome_of([body]), await outcome_of(reads)
    assert whole == cut, f"\n{whole}\n{cut}"


INDEXES = (0, 1, 2, None, "0", True, -1, 1.0, 2**40)
IDS = ("a", None, "", "b", 5)
NAMES = ("f", None, "", "g", "ff", 0)
ARGUMENTS = ('{"a"', ":1}", "{}", "", None, "1", '"', {"a": 1}, [], "\\ud83d", "}" * 3, "\U0001f642")


async def deltas(data: bytes) -> None:
    """Any pieces of tool calls: nothing is lost or made up, and the answer can be sent back."""
    choices = Choices(data)
    events: list[str] = []
    sent: list[str] = []
    while choices.left > 0:
        function = {"name": choices.of(NAMES), "arguments": choices.of(ARGUMENTS)}
        piece = {"index": choices.of(INDEXES), "id": choices.of(IDS), "type": "function", "function": function}
        piece = {name: value for name, value in piece.items() if value is not None}
        delta: dict[str, Any] = choices.of(
            ({"tool_calls": [piece]}, {"tool_calls": [piece, piece]}, {"function_call": function})
        )
        sent += [str(function["arguments"])] * len(delta.get("tool_calls", [0]))
        choice = {"index": choices.of((0, 1)), "delta": delta, "finish_reason": choices.of((None, None, "tool_calls"))}
        events.append(json.dumps({"choices": [choice]}))
    try:
        reply = await client_of(events).chat.stream("hi").final()
    except NimError as error:
        check_error(error)
        return
    calls = [call for choice in reply.choices for call in choice.message.tool_calls]
    assert len(calls) <= len(sent)
    assert all(isinstance(call.arguments, str) for call in calls)
    for call in calls:
        with suppress(NimError):
            assert isinstance(call.parse(), dict)
    pickle.loads(pickle.dumps(reply))
    again = [Message("user", "hi"), *(choice.message for choice in reply.choices)]
    with suppress(ConfigurationError):  # a call without a name cannot be sent back
        await client_of({"choices": []}).chat.stream(again).aclose()


# answers -------------------------------------------------------------------------------------------------------------


async def json_body(data: bytes) -> None:
    """Any bytes as a JSON answer: what the standard library reads strictly is what comes out, and nothing else does."""
    try:
        expected = json.loads(
            data.decode().removeprefix("\ufeff"), parse_constant=reject, parse_float=finite, parse_int=integer
        )
        is_json = not nested(expected, 250)
    except (ValueError, RecursionError):
        is_json = False
    try:
        found = await client_of(data).infer("/x", {})
    except DecodeError as error:
        check_error(error)
        assert not is_json, data
    except NimError as error:  # an error object in a 200
        check_error(error)
        assert is_json
    else:
        if is_json:  # else it has lone surrogates, which are put right
            assert json.dumps(found) == json.dumps(joined(expected)), data
        json.dumps(found, allow_nan=False).encode()


def reject(name: str) -> None:
    raise ValueError(name)


def finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def integer(text: str) -> float | int:
    return number if -(2**63) <= (number := int(text)) < 2**64 else finite(text)


def nested(value: Any, levels: int) -> bool:
    """Whether a value has more levels."""
    level = [value]
    for _ in range(levels + 1):
        level = [inner for part in level if isinstance(part, (dict, list)) for inner in inner_of(part)]
        if not level:
            return False
    return True


def inner_of(value: Any) -> list[Any]:
    return [*value.values()] if isinstance(value, dict) else [*value] if value else [None]


def joined(value: Any) -> Any:
    """Pairs of surrogates as one character, lone ones as U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [joined(item) for item in value]
    return {joined(key): joined(item) for key, item in value.items()} if isinstance(value, dict) else value


async def vectors(data: bytes) -> None:
    """Any embeddings: as many finite vectors of one size as were asked for, those that were sent, or an error."""
    choices = Choices(data)
    count, asked = choices.byte() % 4 + 1, choices.byte() % 4 + 1
    rows: list[Any] = []
    for number in range(count):
        numbers = choices.bytes(choices.of((4, 8, 12, 3, 0, 64)))
        text = base64.b64encode(numbers).decode()
        floats = list(struct.unpack(f"<{len(numbers) // 4}f", numbers[: len(numbers) // 4 * 4]))
        text = choices.of((text, text[:-1], text + "=", text[:2] + "\n" + text[2:], "!" + text, text.replace("A", "-")))
        form = choices.of((text, floats, None, {"0": 1}, [*floats, None], [*floats, "1"], [floats], 5))
        index = choices.of((number, number, count - 1 - number, 0, -1, "1", True, 1.5, None))
        rows.append({"object": "embedding", "index": index, "embedding": form})
    body = json.dumps({"data": rows, "model": "m"}).replace("Infinity", "1e999").encode()
    body = choices.of((body, body, body.replace(b", ", b","), body + choices.bytes(3)))
    texts = [str(number) for number in range(asked)]
    try:
        with warnings.catch_warnings(action="ignore"):  # of vectors that are zero
            answer = await client_of(body).embeddings.create(texts)
    except NimError as error:
        check_error(error)
        return
    assert len(answer.vectors) == asked == count
    for place, vector in enumerate(answer.vectors):
        assert len(vector) == answer.vectors.dimensions
        assert all(math.isfinite(number) for number in vector)
        places = {row["index"] if row["index"] is not None else at: row for at, row in enumerate(rows)}
        sent = (places.get(place) or places[str(place)])["embedding"]
        if isinstance(sent, str):
            assert bytes(vector.buffer if hasattr(vector, "buffer") else struct.pack(f"<{len(vector)}f", *vector)) == (
                base64.b64decode(sent, validate=True)
            )


async def faults(data: bytes) -> None:
    """Any rejection, with any body and Retry-After, is an error of its status, of one line, that pickles."""
    choices = Choices(data)
    status = 400 + choices.byte() % 200
    wait = choices.bytes(choices.byte() % 16).decode("latin-1")
    body = choices.rest()
    headers = {"Retry-After": wait, "Content-Type": choices.of(("application/json", "text/html"))}
    try:
        await client_of((status, headers, body)).chat.create("hi")
    except APIStatusError as error:
        caught = error
    check_error(caught)
    assert caught.status == status
    assert caught.retry_after is None or 0 <= caught.retry_after < math.inf
    for value in (caught.type, caught.param, caught.request_id):
        assert value is None or isinstance(value, str)


# jobs ----------------------------------------------------------------------------------------------------------------


@contextmanager
def folder() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    with tempfile.TemporaryDirectory(dir=SHM) as name:
        yield Path(name)


async def rows(data: bytes) -> None:
    """Any bytes as a source of texts: rows with a text or an error; what csv.reader reads strictly, we read alike."""
    choices = Choices(data)
    suffix = choices.of((".csv", ".jsonl", ".txt", ".csv.gz", ".jsonl.gz"))
    content = choices.rest()
    with folder() as place:
        path = place / f"source{suffix}"
        path.write_bytes(content)
        try:
            with store_errors("cannot read it"):
                found = list(READERS[suffix.removesuffix(".gz")](path, FieldNames("text", "id"), WHOLE))
        except ConfigurationError:
            return
        except JobStoreError:
            assert suffix.endswith(".gz")
            return
    for row in found:
        assert (row.text is None) == (row.problem is not None)
        assert row.text is None or row.text.encode()
        assert len(row.digest()) == 16
    if suffix == ".csv":
        check_csv(content, found)


def check_csv(content: bytes, found: list[Row]) -> None:
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    first = re.split("[\r\n]", text)[0]
    separator = max((",", ";", "\t"), key=re.sub('"[^"]*"?', "", first).count)
    try:
        header, *records = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    except (csv.Error, ValueError):
        return
    records = [record for record in records if record]
    if any(len(record) != len(header) for record in records):
        return
    place = header.index("text")
    assert [row.text or "" for row in found if row.problem is None] == [
        record[place] for record, row in zip(records, found, strict=True) if row.problem is None
    ]


async def requests(data: bytes) -> None:
    """Any bytes as a line of a batch: an error of its line, or a request whose body is sent as it is."""
    try:
        request = read_request(data, 1, None)
    except ConfigurationError as error:
        check_error(error)
        return
    if request.problem is not None:
        check_error(request.problem)
        return
    call = request.call("m")
    if call.raw is not None:
        sent = json.loads(call.raw, parse_int=str, parse_float=str)
        body = json.loads(data, parse_int=str, parse_float=str)["body"]
        assert sent == ({"model": "m"} if "model" not in body else {}) | body
    else:
        assert call.fields is not None
        assert call.fields == {**({} if request.model else {"model": "m"}), **request.body}


@cache
def job_files() -> dict[str, bytes]:
    """The folder of a job that was killed with a part written, another begun, and two failures."""
    with folder() as place:
        store = Store(place, "jsonl", 16)
        store.open()
        store.begin(IDENTITY)
        store.keep([RowSpan(range(4), list("abcd"), struct.pack("<8f", *range(8)), b"d" * 16)], [], 2, ["m"])
        lost = [FailedRow(row, {"index": row, "id": str(row), "error": "no"}, final=row == 6) for row in (5, 6)]
        store.keep([RowSpan(range(4, 5), ["e"], struct.pack("<2f", 8, 9), b"e" * 16)], lost, 2, ["m"])
        store.stop()
        store.close()
        return {path.name: path.read_bytes() for path in place.iterdir()}


IDENTITY: dict[str, Any] = {"version": 1, "input": {"digest": "d"}, "model": "m", "parameters": {"text": "text"}}


async def checkpoint(data: bytes) -> None:
    """A job's folder with any bytes of any file changed or cut: it is resumed with the rows it has, or an error says so."""
    choices = Choices(data)
    files = {name: bytearray(content) for name, content in job_files().items()}
    names = sorted(files)
    while choices.left > 0:
        content = files[choices.of(names)]
        at = (choices.byte() << 8 | choices.byte()) % (len(content) + 1)
        what = choices.byte()
        if what < 200:
            piece = choices.bytes(1 + what % 8)
            content[at : at + len(piece)] = piece
        else:
            del content[at:]
    with folder() as place:
        for name, content in files.items():
            (place / name).write_bytes(content)
        store = Store(place, "jsonl", 16)
        try:
            store.open()
            store.begin(IDENTITY)
            done = store.done_after(-1)
            assert sum(span.stop - span.start for span in done) == store.succeeded + store.failed
            store.finish()
        except (JobError, ConfigurationError) as error:
            check_error(error)
        finally:
            store.close()


async def answers(data: bytes) -> None:
    """Any bytes as the answers and failures of an earlier run: both are kept and appended to, or an error names the line."""
    choices = Choices(data)
    form = choices.of((BATCH_LINES, MAP_LINES))
    lines = choices.rest().split(b"\x00", 1)
    with folder() as place:
        for name, content in zip(("out.jsonl", "out.errors.jsonl"), lines, strict=False):
            (place / name).write_bytes(content)
        files = AnswerFiles(place / "out.jsonl", form)
        try:
            files.open()
            files.begin(None)
            files.finish()
        except (JobError, ConfigurationError) as error:
            check_error(error)
        else:
            kept = (place / "out.jsonl").read_bytes()
            assert lines[0].startswith(kept)
            assert lines[0][len(kept) :].count(b"\n") == 0
        finally:
            files.close()


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (stream, deltas, json_body, vectors, faults, rows, requests, checkpoint, answers)
}
