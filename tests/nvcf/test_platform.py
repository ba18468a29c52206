"""The platform's addresses and intervals, as values."""

from itertools import islice

import pytest

from nimclient._nvcf import platform as nvcf

KINDS = {"true": "true", "@1767225600": "@1767225600", "2026-12-31T00:00:00Z": "2026-12-31"}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"nvcf-reqid": "8b1c-02"}, "8b1c-02"),
        ({"nvcf-reqid": " a.b_c~d "}, "a.b_c~d"),
        ({}, None),
        ({"nvcf-reqid": ""}, None),
        ({"nvcf-reqid": ".."}, None),
        ({"nvcf-reqid": "."}, None),
        ({"nvcf-reqid": "a/b"}, None),
        ({"nvcf-reqid": "a?b"}, None),
        ({"nvcf-reqid": "a%2fb"}, None),
        ({"nvcf-reqid": "a b"}, None),
        ({"nvcf-reqid": "é"}, None),
        ({"nvcf-reqid": "a" * 201}, None),
    ],
)
def test_the_id_of_an_accepted_request_is_one_segment_of_a_path(headers: dict[str, str], found: str | None) -> None:
    """An id that could lead anywhere else than to a status is none."""
    assert nvcf.accepted_id(headers) == found


@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ("https://ai.api.nvidia.com", "https://ai.api.nvidia.com/v1/status/ID"),
        ("https://health.api.nvidia.com", "https://health.api.nvidia.com/v1/status/ID"),
        ("https://climate.api.nvidia.com", "https://climate.api.nvidia.com/v1/status/ID"),
        ("https://optimize.api.nvidia.com", "https://optimize.api.nvidia.com/v1/status/ID"),
        ("https://integrate.api.nvidia.com", "https://api.nvcf.nvidia.com/v2/nvcf/pexec/status/ID"),
        ("https://api.nvcf.nvidia.com", "https://api.nvcf.nvidia.com/v2/nvcf/pexec/status/ID"),
        ("https://new.api.nvidia.com", "https://api.nvcf.nvidia.com/v2/nvcf/pexec/status/ID"),
    ],
)
def test_where_nvidia_is_asked(origin: str, url: str) -> None:
    """Hosts of single models have a route for it, integrate leaves it to api.nvcf.nvidia.com."""
    assert nvcf.status_url(f"{origin}/v1/x", origin, "https://integrate.api.nvidia.com", "ID", nvidia=True) == url
    assert nvcf.assets_url(origin, origin, nvidia=True) == "https://api.nvcf.nvidia.com/v2/nvcf/assets"


@pytest.mark.parametrize(
    ("url", "root", "asked"),
    [
        ("http://h:8000/v1/chat/completions", "http://h:8000", "http://h:8000/v1/status/ID"),
        ("http://h:8000/biology/x", "http://h:8000", "http://h:8000/v1/status/ID"),
        ("http://h:8000/team/v1/infer", "http://h:8000/team", "http://h:8000/team/v1/status/ID"),
        ("http://h:8000/team/infer", "http://h:8000/team", "http://h:8000/team/v1/status/ID"),
        ("http://h:8000/teams/v1/x", "http://h:8000/team", "http://h:8000/teams/v1/status/ID"),
        ("http://h:8000/infer", "http://other", "http://h:8000/v1/status/ID"),
        ("http://h:8000/a/v1/vlm/b/v1/c", "http://other", "http://h:8000/a/v1/status/ID"),
    ],
)
def test_where_a_server_of_ones_own_is_asked(url: str, root: str, asked: str) -> None:
    """Below its own API root, which may be behind a path prefix."""
    assert nvcf.status_url(url, "http://h:8000", root, "ID", nvidia=False) == asked


@pytest.mark.parametrize(
    ("origin", "root", "url"),
    [
        ("http://h", "http://h", "http://h/v2/nvcf/assets"),
        ("http://h", "http://h/team", "http://h/team/v2/nvcf/assets"),
        ("http://h", "http://other/team", "http://h/v2/nvcf/assets"),
        ("http://h", "http://h:8000", "http://h/v2/nvcf/assets"),
        ("http://h", "http://h.example", "http://h/v2/nvcf/assets"),
    ],
)
def test_where_assets_of_a_server_of_ones_own_are(origin: str, root: str, url: str) -> None:
    """At its own origin, behind the prefix of the base URL where it is of that origin."""
    assert nvcf.assets_url(origin, root, nvidia=False) == url


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("5", 5), (" 60 ", 60), ("0", 1), ("9999", 3600), ("", 30), ("x", 30), ("1.5", 30), ("-1", 30), ("٣", 30)],
)
def test_how_long_a_poll_may_take(value: str, seconds: int) -> None:
    """What the caller's header says, within what the platform accepts; else 30 s."""
    assert nvcf.poll_seconds({"nvcf-poll-seconds": value}) == seconds


def test_polls_come_often_enough() -> None:
    """The platform drops a request after twice the poll's seconds, 10 s at least; our pauses stay below that."""
    assert [nvcf.poll_ttl(1), nvcf.poll_ttl(5), nvcf.poll_ttl(60)] == [10, 10, 120]
    waits = list(islice(nvcf.poll_intervals(), 20))
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(waits) == waits[-1] == 5.0


@pytest.mark.parametrize(
    ("status", "nvcf_status", "passing"),
    [(429, "", True), (502, "", True), (503, "", True), (504, "", True), (504, "errored", False)]
    + [(status, "", False) for status in (200, 202, 302, 400, 404, 500)],
)
def test_what_a_poll_may_meet_on_its_way(status: int, nvcf_status: str, passing: bool) -> None:
    """A busy gateway is asked again; 504 with `errored` is the end of the work."""
    assert nvcf.is_transient(status, {"nvcf-status": nvcf_status} if nvcf_status else {}) is passing


@pytest.mark.parametrize(
    ("source", "location", "target"),
    [
        ("https://ai.api.nvidia.com/v1/x", "https://s3.test/a?X-Amz=1", "https://s3.test/a?X-Amz=1"),
        ("http://nim:8000/v1/x", "https://s3.test/a", "https://s3.test/a"),
        ("http://nim:8000/v1/x", "/results/1", "http://nim:8000/results/1"),
        ("http://nim:8000/v1/x", "//nim:8000/r", "http://nim:8000/r"),
        ("http://nim:80/v1/x", "http://nim/r", "http://nim/r"),
        ("http://127.0.0.1:1/v1/x", "http://localhost:2/r", "http://localhost:2/r"),
        ("http://[::1]:1/v1/x", "http://127.9.9.9:2/r", "http://127.9.9.9:2/r"),
        ("http://nim:8000/v1/x", "http://nim:8001/r", None),
        ("http://nim:8000/v1/x", "http://127.0.0.1/r", None),
        ("http://127.0.0.1/v1/x", "http://nim/r", None),
        ("https://ai.api.nvidia.com/v1/x", "http://ai.api.nvidia.com/r", None),
        ("https://ai.api.nvidia.com/v1/x", "http://127.0.0.1/r", None),
        ("http://nim/v1/x", "https://user:pw@s3.test/a", None),
        ("http://nim/v1/x", "ftp://nim/a", None),
        ("http://nim/v1/x", "file:///etc/passwd", None),
        ("http://nim/v1/x", "https://", None),
        ("http://nim/v1/x", "https://h:port/", None),
        ("http://nim/v1/x", "https://[/", None),
        ("http://nim/v1/x", "https://s3.test/a b", None),
        ("http://nim/v1/x", "https://s3.test/é", None),
        ("http://nim/v1/x", "", None),
        ("http://nim/v1/x", None, None),
        ("http://127.0.0.1/v1/x", "http://127.0.0.1.evil.test/r", None),
    ],
)
def test_which_address_of_a_result_is_followed(source: str, location: str | None, target: str | None) -> None:
    """https anywhere; plain http from plain http only, to the same origin or within this machine."""
    assert nvcf.safe_redirect_target(source, location) == target


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://s3.test:443/a?b", "https://s3.test"),
        ("http://S3.test:8000/a", "http://s3.test:8000"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_the_origin_of_such_an_address(url: str, origin: str) -> None:
    """Scheme, host and a port that is not the default one."""
    assert nvcf.origin_elsewhere(url) == origin


@pytest.mark.parametrize(("value", "shown"), KINDS.items())
def test_a_deprecation_in_words(value: str, shown: str) -> None:
    """The header is shown as it is, beside the model or else the path."""
    assert shown in nvcf.deprecation("m", "/x", value)
    assert "model 'm'" in nvcf.deprecation("m", "/x", value)
    assert "/x" in nvcf.deprecation(None, "/x", value)
    assert "\x1b" not in nvcf.deprecation("m", "/x", "\x1b[31m")
