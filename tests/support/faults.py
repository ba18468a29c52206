"""The faults that a scripted server can commit: what it does, and what the call must come to.

Rows are numbered F001 to F134; a row has one or more cases. `test_wire` runs every case with both clients over real
sockets; `fault_table` prints them.
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nimclient import errors
from support.server import Close, Drip, Early, HalfClose, Pause, Reset, Script, Stall
from support.wire import (
    DONE,
    END,
    HELLO,
    ROLE,
    STOP,
    USAGE,
    answer,
    chat,
    chat_body,
    chunk,
    error,
    head,
    http,
    sse,
    stream,
    token,
    vectors,
)

Call = Literal["chat", "stream", "embed", "rerank"]


@dataclass(frozen=True)
class Case:
    """One way of committing a fault.

    The n-th request gets the n-th script, the last one is repeated. `outcome` is the class of the error, or the text of
    the answer; `requests` is how many the server must see; `limits` are those of the client, in seconds; `has` are
    attributes of the error.
    """

    row: str
    what: str
    scripts: Sequence[Script | Early]
    outcome: type[errors.NimError] | str
    requests: int = 1
    call: Call = "chat"
    limits: dict[str, float] = field(default_factory=dict)
    has: dict[str, Any] = field(default_factory=dict)
    partial: str | None = None
    on_accept: Sequence[Any] = ()

    @property
    def name(self) -> str:
        return f"{self.row} {self.what}"


OK = b"HTTP/1.1 200 OK\r\n"
BODY = json.dumps(chat_body()).encode()
JSON = head(type="application/json")
GZIP = "Content-Encoding: gzip"
SOON = 0.1
"""A limit that the test waits for, in seconds."""


def texts(*rows: Sequence[float]) -> bytes:
    return answer(vectors(rows))


def indexes(*numbers: Any) -> bytes:
    body = vectors([[1.0, 2.0]] * len(numbers))
    for item, number in zip(body["data"], numbers, strict=True):
        if number is None:
            del item["index"]
        else:
            item["index"] = number
    return answer(body)


def floats(*rows: Any) -> bytes:
    return answer({"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]})


def ranks(*pairs: Any) -> bytes:
    return answer({"rankings": [{"index": index, "logit": logit} for index, logit in pairs]})


HEADS = [
    Case("F008", "the connection is reset as soon as it is accepted", [b""], errors.TransportError, 0,
         on_accept=[Reset()]),
    Case("F021", "a pooled connection is closed before the next request", [[chat("a"), Close()], chat("b")], "a"),
    Case("F022", "closed after the request, nothing sent", [[Close()]], errors.ConnectionLostError, 2,
         has={"phase": "headers", "reused": False}),
    Case("F022", "the same for embeddings, which may be repeated freely", [[Close()], [Close()], texts([1, 1], [2, 1])],
         "2 vectors", 3, "embed"),
    Case("F023", "reset before the head", [[Reset()]], errors.ConnectionLostError, 2, has={"phase": "headers"}),
    Case("F025", "413 while the body is still being sent",
         [Early([error(413, "too large"), Pause(0.05), Close()])], errors.RequestTooLargeError),
    Case("F025", "401 while the body is still being sent",
         [Early([error(401, "no key"), Pause(0.05), Close()])], errors.AuthenticationError),
    Case("F026", "100, 102 and 103 before the answer",
         [[b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", chat()]],
         "Hello"),
    Case("F027", "1xx for ever", [[Drip(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 0.005)]],
         errors.RequestTimeoutError, 2, limits={"headers": SOON}, has={"phase": "headers"}),
    Case("F028", "no answer at all", [[Stall()]], errors.RequestTimeoutError, 2, limits={"headers": SOON},
         has={"phase": "headers"}),
    Case("F029", "one byte of the head at a time", [[Drip(b"X", 0.02)]], errors.NimError, 2, limits={"headers": SOON}),
    Case("F030", "closed within the head", [[OK + b"Content-Type: appl", Close()]], errors.ConnectionLostError, 2),
    *(Case("F031", what, [[raw, Stall()]], errors.ProtocolError, 2) for what, raw in {
        "no HTTP at all": b"!!! this is no HTTP !!!\r\n\r\n",
        "a TLS record": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    }.items()),
    *(Case("F032", what, [[raw, Stall()]], errors.ProtocolError, 2) for what, raw in {
        "5,000 headers": OK + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n",
        "a header of 200 kB": OK + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
        "NUL in a header": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
        "a header without a name": OK + b": value\r\nContent-Length: 0\r\n\r\n",
    }.items()),
    *(Case("F033", what, [[raw, Stall()]], errors.ProtocolError, 2) for what, raw in {
        "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "a length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a negative length": OK + b"Content-Length: -5\r\n\r\n",
        "a length of 1_0": OK + b"Content-Length: 1_0\r\n\r\n",
    }.items()),
    *(Case("F034", f"{status} to a POST", [[b"HTTP/1.1 %d What\r\n\r\n" % status, Close()]], errors.NimError, requests)
      for status, requests in {101: 1, 204: 2, 205: 2, 304: 1}.items()),
    Case("F035", "two content types", [http(BODY, 200, "Content-Type: text/html")], "Hello"),
    Case("F035", "no content type", [http(BODY, type=None)], "Hello"),
    Case("F035", "JSON as text/plain", [http(BODY, type="text/plain")], "Hello"),
    *(Case("F036", f"{status} to another host", [http(b"", status, "Location: http://127.0.0.1:9/")],
           errors.RedirectError) for status in (301, 302, 303)),
    *(Case("F037", f"{status} to another host", [http(b"", status, "Location: http://127.0.0.1:9/")],
           errors.RedirectError) for status in (307, 308)),
    *(Case("F038", f"a redirect to {where}", [http(b"", 302, f"Location: {where}")], errors.RedirectError)
      for where in ("/v1/chat/completions", "file:///etc/passwd", "http://127.0.0.1/")),
    Case("F039", "a flood of cookies", [http(BODY, 200, *(f"Set-Cookie: c{i}={i}" for i in range(100)))], "Hello"),
]  # fmt: skip

BODIES = [
    Case("F040", "no last chunk", [[JSON + chunk(BODY), Close()]], errors.ConnectionLostError, 2, has={"phase": "body"}),
    Case("F041", "closed in a chunk", [[JSON + b"400\r\n" + BODY, Close()]], errors.ConnectionLostError, 2),
    *(Case("F041", what, [[JSON + raw, Stall()]], errors.ProtocolError, 2) for what, raw in {
        "a chunk size of zz": b"zz\r\n" + BODY,
        "a chunk size of 80 bits": b"ffffffffffffffffffff\r\n" + BODY,
    }.items()),
    Case("F042", "reset in the body", [[http(BODY)[:-5], Pause(0.02), Reset()]], errors.ConnectionLostError, 2),
    Case("F043", "a length that is too long", [[http(BODY).replace(b"Length: ", b"Length: 1"), Close()]],
         errors.ConnectionLostError, 2),
    Case("F044", "a length that is too short", [[http(BODY).replace(b"Length: %d" % len(BODY), b"Length: 9")]],
         errors.NimError, 2),
    Case("F045", "cut, and the end of the connection is the end of the body",
         [[OK + b"\r\n" + BODY[:-9], Close()]], errors.DecodeError, 2),
    Case("F046", "gzip that is cut in good framing", [http(gzip.compress(BODY)[:-30], 200, GZIP)], errors.NimError, 2),
    Case("F047", "gzip that is none", [http(b"no gzip at all", 200, GZIP)], errors.NimError, 2),
    Case("F047", "gzip with a wrong checksum", [http(gzip.compress(BODY)[:-8] + b"\0" * 8, 200, GZIP)],
         errors.NimError, 2),
    Case("F047", "six encodings, one over the other",
         [http(gzip.compress(BODY), 200, "Content-Encoding: " + ", ".join(["gzip"] * 6))], errors.NimError, 2),
    Case("F050", "the server ends its side and continues to read", [[OK + b"\r\n" + BODY, HalfClose()]], "Hello"),
    Case("F051", "a second answer behind the first", [chat("a") + chat("smuggled")], "a"),
    *(Case("F052", f"a body of {body.decode() or 'nothing'}", [http(body)], errors.DecodeError, 2)
      for body in (b"", b"null", b"[]", b'"ok"', b"7")),
    Case("F053", "a page of HTML", [http(b"<html><title>Sign in</title></html>", type="text/html")],
         errors.DecodeError, 2),
    Case("F054", "a byte order mark before the JSON", [http(b"\xef\xbb\xbf" + BODY)], "Hello"),
    Case("F055", "bytes that are no UTF-8", [http(BODY.replace(b"Hello", b"H\xffllo"))], errors.DecodeError, 2),
    Case("F055", "a raw NUL in a string", [http(BODY.replace(b"Hello", b"H\0llo"))], errors.DecodeError, 2),
    Case("F055", "an escaped NUL", [http(BODY.replace(b"Hello", rb"H\u0000llo"))], "H\0llo"),
    Case("F056", "half of a surrogate pair", [http(BODY.replace(b"Hello", rb"H\ud83dllo"))], "H\ufffdllo"),
    *(Case("F057", f"{number} for a number", [http(BODY.replace(b'"created": 1', b'"created": ' + number.encode()))],
           errors.DecodeError, 2) for number in ("NaN", "Infinity", "-Infinity")),
    Case("F058", "a million brackets", [http(b"[" * 1_000_000)], errors.DecodeError, 2),
    Case("F058", "nested 1,000 deep beside the answer",
         [http(BODY[:-1] + b', "x": ' + b"[" * 1000 + b"]" * 1000 + b"}")], errors.DecodeError, 2),
    Case("F059", "keys twice, unknown fields", [http(BODY[:-1] + b', "id": "again", "unknown": {"a": 1}}')], "Hello"),
]  # fmt: skip

FIRST = {400: errors.BadRequestError, 404: errors.NotFoundError, 405: errors.APIStatusError,
         422: errors.UnprocessableEntityError}  # fmt: skip
SHAPES = {
    "OpenAI's error": lambda status: error(status, "the words"),
    "NIM's problem": lambda status: answer({"status": status, "title": "the words", "detail": "the words"}, status),
    "FastAPI's list": lambda status: answer(
        {"detail": [{"loc": ["body", "x"], "msg": "the words", "type": "x"}]}, status
    ),
    "TEI's error": lambda status: answer({"error": "the words", "error_type": "Validation"}, status),
    "plain text": lambda status: http(b"the words", status, type="text/plain"),
    "HTML": lambda status: http(b"<html><body>the words</body></html>", status, type="text/html"),
    "nothing": lambda status: http(b"", status),
}
STATUSES = [
    *(Case("F061", f"{status} with {name}", [shape(status)], kind, has={"status": status})
      for status, kind in FIRST.items() for name, shape in SHAPES.items()),
    Case("F062", "401", [error(401)], errors.AuthenticationError, has={"status": 401}),
    Case("F062", "403", [error(403)], errors.PermissionDeniedError, has={"status": 403}),
    Case("F063", "402", [error(402)], errors.APIStatusError, has={"status": 402}),
    Case("F063", "404 for the model", [error(404, "The model `x` does not exist.", code="model_not_found")],
         errors.ModelNotFoundError),
    Case("F063", "410", [error(410)], errors.GoneError),
    *(Case("F064", f"{status}, then an answer", [error(status), chat()], "Hello", 2) for status in (408, 409, 425)),
    Case("F065", "413", [error(413)], errors.RequestTooLargeError),
    *(Case("F066", f"429 with {name}, then an answer", [error(429, "slow down", *headers), chat()], "Hello", 2)
      for name, headers in {
          "nothing": (), "0 seconds": ("Retry-After: 0",), "a fraction": ("Retry-After: 0.01",),
          "milliseconds": ("retry-after-ms: 5",), "a date that is past": ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT",),
          "no number": ("Retry-After: soon",), "a negative number": ("Retry-After: -5",),
          "two values": ("Retry-After: 0", "Retry-After: 0"),
      }.items()),
    Case("F066", "429 with an hour", [error(429, "slow down", "Retry-After: 3600")], errors.RateLimitError,
         has={"retry_after": 3600.0}),
    Case("F066", "429 with the year 9999", [error(429, "slow down", "Date: Wed, 21 Oct 2015 07:28:00 GMT",
                                                     "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT")],
         errors.RateLimitError),
    *(Case("F068", f"{status}, then an answer", [error(status), chat()], "Hello", 2)
      for status in (500, 502, 503, 504, 520, 524, 529)),
    Case("F068", "503 for ever", [error(503)], errors.ServiceUnavailableError, 3),
    Case("F069", "200 with an error in the body", [answer({"error": {"message": "no such thing", "code": 400}})],
         errors.NimError),
    *(Case("F070", f"status {status}", [error(status)], errors.APIStatusError, requests, has={"status": status})
      for status, requests in {418: 1, 451: 1, 600: 1, 999: 1}.items()),
    Case("F072", "an error body that is cut", [[http(b"x" * 100, 400)[:-50], Close()]], errors.BadRequestError),
    Case("F072", "an error body that does not end", [[http(b"x" * 100, 400)[:-50], Stall()]], errors.BadRequestError),
    Case("F072", "an error body of 10 MB", [http(b"x" * 10_000_000, 400)], errors.BadRequestError),
    Case("F073", "a request id of 5,000 characters", [error(400, "no", "x-request-id: " + "i" * 5000)],
         errors.BadRequestError),
]  # fmt: skip

BEGIN = head() + chunk(ROLE) + chunk(token("Hel"))
WHOLE = b"".join([ROLE, token("Hel"), token("lo"), STOP, USAGE, DONE])


def streamed(what: str, row: str, *scripts: Any, outcome: Any = "Hello", **more: Any) -> Case:
    return Case(row, what, scripts, outcome, call="stream", **more)


STREAMS = [
    *(streamed(what, "F080", stream(body)) for what, body in {
        "CR LF": WHOLE.replace(b"\n", b"\r\n"), "CR": WHOLE.replace(b"\n", b"\r"),
        "a byte order mark": b"\xef\xbb\xbf" + WHOLE, "no space after the colon": WHOLE.replace(b"data: ", b"data:"),
        "comments, ids and retry": b": hi\n\nid: 1\nretry: 5\n" + WHOLE, "an empty field": b"data\n\n" + WHOLE,
    }.items()),
    streamed("one byte a chunk", "F080", head() + b"".join(chunk(WHOLE[i : i + 1]) for i in range(len(WHOLE))) + END),
    streamed("line separators of Unicode in the text", "F081",
             stream(sse({"choices": [{"index": 0, "delta": {"content": "a\u2028b\u2029c\x85d"}}]}).replace(
                 b"\\u2028", "\u2028".encode()).replace(b"\\u2029", "\u2029".encode()), STOP, DONE),
             outcome="a\u2028b\u2029c\x85d"),
    streamed("a character cut in two", "F082", head() + b"".join(
        chunk(part) for part in (lambda raw: (raw[: raw.index(b"\xf0") + 2], raw[raw.index(b"\xf0") + 2 :]))(
            'data: {"choices":[{"index":0,"delta":{"content":"😀"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'.encode()
        )) + END, outcome="😀"),
    streamed("an event that is no UTF-8", "F082", [BEGIN, Pause(0.05), chunk(b'data: {"choices": "\xff"}\n\n'), Stall()],
             outcome=errors.NimError, partial="Hel"),
    streamed("an event that is no JSON", "F083", [BEGIN, Pause(0.05), chunk(b"data: {nope\n\n"), Stall()],
             outcome=errors.NimError, partial="Hel"),
    streamed("empty events, [DONE] twice and more behind it", "F083",
             stream(b"data:\n\n", ROLE, token("Hello"), STOP, b"data: [DONE] \n\n", DONE, token("no"))),
    streamed("an event of 600 KiB", "F084", stream(sse({"x": "y" * 600_000, "choices": []}), WHOLE)),
    streamed("silence before the first event", "F085", [head(), Stall()], outcome=errors.RequestTimeoutError, requests=2,
             limits={"first_event": SOON}, has={"phase": "first_event"}),
    streamed("silence in the middle", "F085", [BEGIN, Stall()], outcome=errors.RequestTimeoutError,
             limits={"idle": SOON}, has={"phase": "idle"}, partial="Hel"),
    streamed("silence after [DONE], the connection open", "F085", [head() + chunk(WHOLE), Stall()]),
    streamed("comments for ever", "F086", [BEGIN, Drip(chunk(b": ping\n\n"), 0.01)], outcome=errors.RequestTimeoutError,
             limits={"idle": SOON}, has={"phase": "idle"}, partial="Hel"),
    streamed("empty deltas for ever", "F086", [head(), Drip(chunk(ROLE), 0.01)], outcome=errors.RequestTimeoutError,
             requests=2, limits={"first_event": SOON}, has={"phase": "first_event"}, partial=""),
    streamed("a finish_reason and no [DONE]", "F088", stream(ROLE, token("Hello"), STOP)),
    streamed("[DONE] and no finish_reason", "F088", stream(ROLE, token("Hello"), DONE)),
    streamed("a clean end with neither", "F088", stream(ROLE, token("Hel")), outcome=errors.StreamInterruptedError,
             partial="Hel"),
    streamed("nothing at all, then a good one", "F088", stream(), HELLO, requests=2),
    streamed("an error in the first event, then a good one", "F089",
             stream(sse({"error": {"message": "boom", "code": 503}})), HELLO, requests=2),
    *(streamed(f"in the middle: {what}", "F089", [BEGIN, Pause(0.05), chunk(event) + END], outcome=errors.StreamFaultError,
               partial="Hel") for what, event in {
        "an error object": sse({"error": {"message": "boom", "code": 500}}), "an error string": sse({"error": "boom"}),
        "event: error": b'event: error\ndata: {"message": "boom"}\n\n',
        "object: error": sse({"object": "error", "message": "boom", "code": 400}),
    }.items()),
    streamed("plain JSON", "F090", chat()),
    Case("F090", "events to a plain call", [HELLO], "Hello"),
    streamed("events without choices", "F091", stream(sse({"choices": []}), ROLE, token("Hello"), STOP, DONE)),
    streamed("a finish_reason twice, text behind it", "F091",
             stream(ROLE, token("Hel", "stop"), token("lo", "stop"), DONE)),
    streamed("tokens counted in the index of their choice", "F091",
             stream(token("Hel", index=1), token("lo", index=2), token(None, "stop", 3), DONE)),
    streamed("usage in every event", "F093",
             stream(ROLE, token("Hello", usage={"completion_tokens": 1}), token(None, "stop", usage=None), USAGE, DONE)),
    streamed("no usage", "F093", stream(ROLE, token("Hello"), STOP, DONE)),
    streamed("unknown fields in the delta", "F094",
             stream(sse({"choices": [{"index": 0, "delta": {"content": "Hello", "mood": {"a": 1}}, "logprobs": None}]}),
                    STOP, DONE)),
    streamed("20,000 events in one chunk", "F095", stream(token("a") * 20_000 + STOP + DONE), outcome="a" * 20_000),
    streamed("gzip, though plain bytes were asked for", "F099",
             http(gzip.compress(WHOLE), 200, GZIP, type="text/event-stream")),
]  # fmt: skip

MANY = [
    *(Case("F100", f"indexes {numbers}", [indexes(*numbers)], outcome, requests, "embed") for numbers, outcome, requests in [
        ((1, 0), "2 vectors", 1), ((None, None), "2 vectors", 1), ((0, 0), errors.EmbeddingMismatchError, 2),
        ((0, 2), errors.EmbeddingMismatchError, 2), ((-1, 0), errors.EmbeddingMismatchError, 2),
        ((0, True), errors.EmbeddingMismatchError, 2), ((0, 1.5), errors.EmbeddingMismatchError, 2),
        ((0, None), errors.EmbeddingMismatchError, 2), ((0,), errors.EmbeddingMismatchError, 2),
        ((0, 1, 2), errors.EmbeddingMismatchError, 2),
    ]),
    Case("F101", "two lengths in one answer", [texts([1, 2], [1, 2, 3])], errors.EmbeddingMismatchError, 2, "embed"),
    Case("F101", "vectors without numbers", [texts([], [])], errors.EmbeddingMismatchError, 2, "embed"),
    *(Case("F102", f"{value} in a vector", [floats([1.0, 2.0], [1.0, value])], errors.NimError, 2, "embed")
      for value in (None, "x", True)),
    *(Case("F102", f"{word} in a vector", [http(b'{"data": [{"index": 0, "embedding": [1.0, ' + word.encode() + b"]}]}")],
           errors.DecodeError, 2, "embed") for word in ("NaN", "Infinity", "1e999")),
    *(Case("F103", f"base64 {what}", [answer({"data": [{"index": i, "embedding": text} for i in (0, 1)]})],
           errors.EmbeddingMismatchError, 2, "embed")
      for what, text in {"without its padding": "AACAPwAAgD8"[:-2], "with junk": "AACA!PwAAgD8=", "of 5 bytes": "AACAPwA="}.items()),
    Case("F103", "numbers where base64 was asked for", [floats([1.0, 2.0], [3.0, 4.0])], "2 vectors", 1, "embed"),
    Case("F104", "base64 is refused", [error(400, "encoding_format base64 is not supported"), floats([1.0], [2.0])],
         "2 vectors", 2, "embed"),
    Case("F105", "fewer ranks than documents", [ranks((0, 1.0))], errors.RerankMismatchError, 2, "rerank"),
    Case("F105", "an index that was not sent", [ranks((0, 1.0), (7, 0.5))], errors.RerankMismatchError, 2, "rerank"),
    Case("F105", "an index twice", [ranks((0, 1.0), (0, 0.5))], errors.RerankMismatchError, 2, "rerank"),
    Case("F105", "a score that is no number", [ranks((0, "high"), (1, 0.5))], errors.RerankMismatchError, 2, "rerank"),
    Case("F105", "not in order", [ranks((1, 0.1), (0, 0.9))], "ranked 0, 1", 1, "rerank"),
    Case("F105", "relevance_score for logit",
         [answer({"results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]})],
         "ranked 1, 0", 1, "rerank"),
]  # fmt: skip

CASES = [*HEADS, *BODIES, *STATUSES, *STREAMS, *MANY]


ROWS = {
    "F001": "name does not resolve", "F002": "name look-up fails once", "F003": "name look-up that hangs, executor full",
    "F004": "two addresses, the first one dead", "F005": "the address changes while connections are pooled",
    "F006": "connection refused", "F007": "SYN dropped", "F008": "reset as soon as it is accepted",
    "F009": "no file descriptors left", "F010": "certificate: unknown authority, other host", "F011": "TLS without common ground",
    "F012": "plain HTTP where TLS is expected, and the reverse", "F013": "TLS handshake that stalls",
    "F014": "client certificate wanted", "F015": "proxy: refuses, 407, 502, hangs", "F016": "pool full",
    "F017": "bad base URL", "F018": "bad key", "F019": "body that JSON cannot carry", "F020": "empty, mixed, too large input",
    "F021": "stale pooled connection", "F022": "closed after the request", "F023": "reset before the head",
    "F024": "server stops reading the body", "F025": "early answer to an upload", "F026": "1xx before the answer",
    "F027": "1xx for ever", "F028": "no answer", "F029": "head that drips", "F030": "closed within the head",
    "F031": "no HTTP/1.1", "F032": "impossible headers", "F033": "contradictory framing", "F034": "101, 204, 205, 304 to a POST",
    "F035": "odd content types", "F036": "301, 302, 303", "F037": "307, 308", "F038": "redirect loops and schemes",
    "F039": "cookies", "F040": "no last chunk", "F041": "broken chunks", "F042": "reset in the body",
    "F043": "length too long", "F044": "length too short", "F045": "close-delimited body cut", "F046": "gzip cut",
    "F047": "broken encodings", "F048": "gzip bomb", "F049": "body without end", "F050": "half-closed connection",
    "F051": "bytes behind the answer", "F052": "JSON of another shape", "F053": "HTML with status 200", "F054": "byte order mark",
    "F055": "invalid UTF-8, NUL", "F056": "half a surrogate pair", "F057": "numbers that are none", "F058": "deep nesting",
    "F059": "repeated and unknown keys, wrong types", "F060": "huge strings and lists", "F061": "400, 404, 405, 422 in every shape",
    "F062": "401, 403", "F063": "402, 404, 410", "F064": "408, 409, 425", "F065": "413", "F066": "429 in every form",
    "F067": "429 now and then, for one model", "F068": "5xx", "F069": "200 with an error object", "F070": "unknown statuses",
    "F071": "202 and polling", "F072": "error body: endless, cut, slow", "F073": "odd request ids",
    "F080": "events cut and ended in every way", "F081": "line separators of Unicode", "F082": "characters cut, invalid UTF-8",
    "F083": "broken and empty events, [DONE] in variants", "F084": "long events", "F085": "stalls",
    "F086": "drips without content", "F087": "slow but alive", "F088": "ends of every kind", "F089": "error events",
    "F090": "JSON to a stream, events to a plain call", "F091": "choices in odd order", "F092": "tool calls in every shape",
    "F093": "usage in every place", "F094": "unknown deltas", "F095": "very many events", "F096": "slow consumer",
    "F097": "consumer breaks, raises, reads twice", "F098": "reconnecting", "F099": "compressed events",
    "F100": "wrong indexes and counts", "F101": "wrong dimensions", "F102": "values that are no numbers", "F103": "broken base64",
    "F104": "base64 refused", "F105": "wrong rankings", "F106": "one poisonous text", "F107": "all texts poisonous, wrong model",
    "F108": "429 storm, changing capacity", "F109": "server away during a job", "F110": "SIGKILL, SIGINT, power cut",
    "F111": "disk full, read-only", "F112": "two processes, stale locks", "F113": "files of another job, corrupt files",
    "F114": "source raises, blocks, changes", "F115": "slow consumer of results", "F116": "extreme batch sizes and concurrency",
    "F117": "job cancelled at every point", "F120": "wall clock jumps", "F121": "process stopped for a while",
    "F122": "loop blocked by the caller", "F123": "fork, spawn", "F124": "many loops, threads, trio, uvloop",
    "F125": "interpreter exits", "F126": "KeyboardInterrupt", "F127": "used or closed after closing",
    "F128": "proxies of the environment, .netrc", "F129": "-X dev, -O, read-only HOME", "F130": "free-threaded build",
    "F131": "garbage", "F132": "log handlers that raise", "F133": "link down in a stream", "F134": "narrow bandwidth",
}  # fmt: skip
"""Every row, in a few words."""

ELSEWHERE = {
    "F001": ["http/test_connect.py::test_a_name_that_does_not_resolve"],
    "F002": ["faults/test_machine.py::test_a_name_look_up_that_fails_once"],
    "F003": ["faults/test_machine.py::test_a_name_look_up_that_hangs"],
    "F004": ["http/test_connect.py::test_a_first_dead_address_is_passed_over"],
    "F005": ["faults/test_machine.py::test_an_address_that_changes"],
    "F006": ["http/test_connect.py::test_a_refused_connection", "http/test_connect.py::test_a_server_that_comes_up_is_found"],
    "F007": ["faults/test_network.py::test_syn_dropped", "http/test_connect.py::test_a_connection_that_hangs"],
    "F009": ["faults/test_machine.py::test_no_descriptors_left"],
    "F010": ["http/test_connect.py::test_a_server_of_an_unknown_authority",
             "http/test_connect.py::test_a_certificate_for_another_host"],
    "F011": ["http/test_connect.py::test_a_handshake_that_fails"],
    "F012": ["http/test_connect.py::test_tls_where_plain_http_is_expected", "http/test_connect.py::test_a_handshake_that_fails"],
    "F013": ["http/test_connect.py::test_a_handshake_that_stalls"],
    "F014": ["http/test_connect.py::test_a_client_certificate"],
    "F015": ["http/test_connect.py::test_a_proxy_that_refuses_the_connection",
             "http/test_connect.py::test_a_proxy_that_refuses_to_tunnel", "http/test_connect.py::test_a_proxy_whose_tunnel_hangs"],
    "F016": ["http/test_pools.py::test_the_pool_limit"],
    "F017": ["api/test_urls.py::test_refused_forms"],
    "F018": ["base/test_config.py::test_a_key_that_cannot_stand_in_a_header_is_refused_by_its_length"],
    "F019": ["base/test_json.py::test_what_cannot_be_sent_is_refused_with_its_path",
             "base/test_json.py::test_what_has_no_short_path_is_refused_all_the_same"],
    "F020": ["client/test_input.py::test_bad_embeddings", "client/test_embeddings.py::test_documents_are_cut_by_count_and_size"],
    "F024": ["http/test_uploads.py::test_a_server_that_stops_reading"],
    "F048": ["http/test_bodies.py::test_a_gzip_bomb_is_stopped_at_the_cap",
             "client/test_from_the_field.py::test_a_small_body_that_becomes_millions_of_objects"],
    "F049": ["http/test_bodies.py::test_a_body_above_the_cap"],
    "F060": ["client/test_from_the_field.py::test_twice_the_stream_is_twice_the_work",
             "streams/test_accumulate.py::test_many_tool_calls_and_choices_take_linear_work_and_have_a_cap"],
    "F067": ["bulk/test_pacing_simulation.py::test_a_key_of_forty_a_minute",
             "engine/test_retry.py::test_what_was_learned_belongs_to_model_and_endpoint"],
    "F071": ["nvcf/test_polling.py::test_an_accepted_request_is_asked_for_until_it_is_done",
             "nvcf/test_polling.py::test_a_202_without_an_id", "nvcf/test_polling.py::test_time_is_up",
             "nvcf/test_polling.py::test_a_failing_poll_is_repeated_by_itself"],
    "F087": ["streams/test_streams.py::test_a_slow_stream_is_no_idle_one"],
    "F092": ["streams/test_accumulate.py::test_tool_calls_are_merged_in_every_shape_seen",
             "client/test_run_tools.py::test_arguments_that_were_cut_off_are_an_error"],
    "F096": ["streams/test_stream_faults.py::test_a_slow_reader_holds_up_the_server"],
    "F097": ["streams/test_streams.py::test_leaving_early_closes_the_connection_and_frees_its_slot",
             "streams/test_streams.py::test_a_stream_is_read_once", "streams/test_streams.py::test_two_readers_are_refused"],
    "F106": ["bulk/test_slicing.py::test_one_poison_costs_few_requests",
             "client/test_embed_stream.py::test_one_bad_text_is_isolated",
             "client/test_embed_stream.py::test_a_text_that_hangs"],
    "F107": ["client/test_embed_stream.py::test_what_is_wrong_with_the_call_ends_it_at_once",
             "jobs/test_embed.py::test_texts_that_fail_one_after_the_other_stop_the_job"],
    "F108": ["bulk/test_pacing_simulation.py::test_close_to_the_best_fixed_limit", "bulk/test_window.py::test_it_finds_back"],
    "F109": ["bulk/test_pacing_simulation.py::test_an_outage_within_the_patience_is_survived"],
    "F110": ["jobs/test_kill.py::test_an_embedding_job_survives_being_killed", "jobs/test_kill.py::test_a_batch_survives_being_killed",
             "jobs/test_embed.py::test_ctrl_c_keeps_what_is_finished",
             "jobs/test_store.py::test_a_power_cut_costs_what_was_not_synced_and_nothing_else"],
    "F111": ["jobs/test_store.py::test_a_full_disk", "jobs/test_store.py::test_a_folder_that_is_read_only"],
    "F112": ["jobs/test_embed.py::test_two_processes_on_one_job", "jobs/test_files.py::test_the_lock_of_a_dead_process_is_none",
             "jobs/test_files.py::test_a_file_system_without_locks_is_used_without_one"],
    "F113": ["jobs/test_store.py::test_another_job_is_refused_by_name_of_the_difference",
             "jobs/test_store.py::test_a_tampered_checkpoint_is_a_store_error",
             "jobs/test_store.py::test_a_torn_last_record_is_dropped"],
    "F114": ["client/test_embed_stream.py::test_an_error_of_the_source_is_raised_as_it_is",
             "client/test_embed_stream.py::test_an_endless_source_is_taken_from_as_batches_are_handed_out",
             "jobs/test_embed.py::test_a_source_that_is_an_iterable_is_compared_while_it_is_skipped"],
    "F115": ["client/test_embed_stream.py::test_a_slow_slice_holds_up_no_more_than_the_window",
             "client/test_embed_stream.py::test_a_reader_that_raises_ends_what_is_under_way"],
    "F116": ["client/test_embed_stream.py::test_extreme_settings",
             "faults/test_machine.py::test_more_at_once_than_there_are_descriptors",
             "client/test_embed_stream.py::test_a_batch_size_is_learned_once"],
    "F117": ["jobs/test_embed.py::test_cancellation_at_every_suspension_point",
             "jobs/test_batch.py::test_cancellation_at_every_suspension_point"],
    "F120": ["faults/test_machine.py::test_a_wall_clock_that_jumps"],
    "F121": ["faults/test_machine.py::test_a_process_that_was_stopped"],
    "F122": ["streams/test_stream_faults.py::test_a_blocked_loop_is_no_idle_stream",
             "http/test_watchdog.py::test_a_result_that_is_there_when_time_is_up_wins"],
    "F123": ["http/test_processes.py::test_forked_beside_a_warm_loop", "http/test_processes.py::test_multiprocessing",
             "base/test_init_lock.py::test_a_fork_during_the_very_first_call"],
    "F124": ["http/test_loops.py::test_a_hundred_loops", "http/test_loops.py::test_threads_share_a_client",
             "http/test_loops.py::test_uvloop", "http/test_loops.py::test_trio",
             "sync/test_client.py::test_it_works_where_a_loop_is_running"],
    "F125": ["sync/test_exit.py::test_the_interpreter_exits_quietly"],
    "F126": ["sync/test_exit.py::test_ctrl_c_cancels_the_request_at_once",
             "sync/test_exit.py::test_the_second_ctrl_c_does_not_wait"],
    "F127": ["http/test_pools.py::test_a_closed_client_takes_no_calls", "http/test_pools.py::test_closing_ends_calls_under_way",
             "client/test_closing.py::test_a_hundred_calls"],
    "F128": ["http/test_connect.py::test_a_proxy_from_the_environment", "faults/test_machine.py::test_netrc_is_never_used"],
    "F129": ["faults/test_machine.py::test_odd_environments"],
    "F131": ["http/test_garbage.py::test_a_client_in_a_cycle", "http/test_garbage.py::test_abandoned_streams",
             "http/test_garbage.py::test_many_clients"],
    "F132": ["faults/test_machine.py::test_a_log_handler_that_raises"],
    "F133": ["faults/test_network.py::test_link_down_in_a_stream", "http/test_connect.py::test_sockets_watch_their_peers"],
    "F134": ["faults/test_network.py::test_a_narrow_line_is_no_idle_one"],
}  # fmt: skip
"""Rows with tests of their own, beside or instead of cases above."""

NOT_TESTED = {
    "F098": "a chat stream has no event ids to resume from; a broken one is an error with what had arrived",
    "F130": "no free-threaded interpreter on the machines that test this project; nothing is promised",
}
"""Rows that cannot be had, and why."""
