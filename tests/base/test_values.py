"""The plain values between the floors: headers that ignore case, request ids fit for a log line, hidden secrets."""

import pickle

import pytest

from nimclient import AttemptEvent, ResponseMeta
from nimclient._base.values import RedactedStr, request_id_of
from nimclient.errors import ConnectionLostError
from nimclient.records import Headers, Timings
from nimclient.testing import HttpHead, HttpRequest

RAW = [
    (b"Content-Type", b"application/json"),
    (b"X-A", b"1"),
    (b"x-a", b"2"),
    (b"X-Name", "é\u2028".encode()),
    (b"Bad", b"\xff"),
]


def test_headers_ignore_case_and_join_repeats():
    """A mapping by lower-case name; values of a repeated name are joined by a comma."""
    headers = Headers(RAW)
    assert (headers["content-type"], headers["CONTENT-TYPE"], headers.get("X-a")) == ("application/json",) * 2 + (
        "1, 2",
    )
    assert (headers["x-name"], headers["bad"]) == ("é\u2028", "\ufffd")
    assert list(headers) == ["content-type", "x-a", "x-name", "bad"]
    assert len(headers) == 4
    assert "X-A" in headers
    assert "x-b" not in headers
    assert 5 not in headers
    assert headers.get("x-b") is None
    with pytest.raises(KeyError):
        headers["x-b"]


def test_headers_are_values():
    """Equal to a dict of the same, shown as one, and pickled."""
    headers = Headers([(b"A", b"1")])
    assert headers == {"a": "1"} == Headers([(b"a", b"1")])
    assert repr(headers) == "Headers({'a': '1'})"
    assert pickle.loads(pickle.dumps(headers)) == headers
    assert len(Headers()) == 0


@pytest.mark.parametrize(
    ("headers", "request_id"),
    [
        ({}, None),
        ({"x-request-id": "b"}, "b"),
        ({"NVCF-REQID".lower(): "a", "x-request-id": "b"}, "a"),
        ({"x-dynamo-request-id": "c"}, "c"),
        ({"nvcf-reqid": "", "x-request-id": "b"}, "b"),
        ({"x-request-id": "a\r\nb\x1b[0m\u2028"}, "ab[0m"),
        ({"x-request-id": "x" * 10**6}, "x" * 200),
    ],
)
def test_request_ids_are_fit_for_a_log_line(headers, request_id):
    """F073: the first id there is, printable and at most 200 characters."""
    assert request_id_of(headers) == request_id


def test_meta_knows_its_request_id():
    """The id is read from the headers."""
    assert ResponseMeta(200, Headers([(b"X-Request-Id", b"r-1")]), "http://host").request_id == "r-1"
    assert ResponseMeta(200, Headers(), "http://host").request_id is None


@pytest.mark.parametrize(
    "value",
    [
        Timings(1, 2, 3, 4, (5.0,)),
        ResponseMeta(200, Headers([(b"a", b"b")]), "http://host", 2, Timings(total=1.0)),
        AttemptEvent("POST", "http://host", 1, 200, None, 0.5),
        HttpHead(200, Headers([(b"a", b"b")]), 0.0, None, True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_pickle(value):
    """They come back equal."""
    assert pickle.loads(pickle.dumps(value)) == value


def test_attempt_events_with_an_error_pickle():
    """The error of an attempt goes with the event."""
    event = pickle.loads(pickle.dumps(AttemptEvent("POST", "u", 1, None, ConnectionLostError("x", phase="body"), 0.5)))
    assert (event.error.message, event.error.phase) == ("x", "body")


def test_secrets_do_not_show():
    """A redacted str works as the str it is and has no repr of its own; a request shows neither body nor proxy."""
    secret = RedactedStr("Bearer S3CRET")
    request = HttpRequest("POST", "http://host", {"Authorization": secret}, b"S3CRET", "http://u:S3CRET@proxy")
    assert secret == "Bearer S3CRET"
    assert secret.encode() == b"Bearer S3CRET"
    assert repr(secret) == repr(secret[7:]) == repr(secret[0]) == "'***'"
    assert secret[7:] == "S3CRET"
    assert "S3CRET" not in f"{request!r} {request} {[secret]} { ({'a': secret}) }"
