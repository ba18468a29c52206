"""The head of a request as bytes: one request whatever its headers hold, each header once, a length."""

import asyncio

import pytest

from nimclient._http.head import MAX_KEPT, Heads, request_head
from nimclient.errors import ConfigurationError
from nimclient.testing import HttpRequest

URL = "http://nim.test:8000/v1/chat/completions?a=b%20c"


def head_of(
    body: bytes | None = b"", url: str = URL, method: str = "POST", proxy: str | None = None, **h: str
) -> bytes:
    request = HttpRequest(method, url, h, body, proxy)
    return Heads(asyncio.get_running_loop(), True, True).of(request).head_for(body)


async def test_a_head() -> None:
    """Request line, Host, the headers in order, the length of the body."""
    assert (
        head_of(b"12345", A="b", C="é")
        == (
            "POST /v1/chat/completions?a=b%20c HTTP/1.1\r\nHost: nim.test:8000\r\nA: b\r\nC: é\r\nContent-Length: 5\r\n\r\n"
        ).encode()
    )


@pytest.mark.parametrize(
    ("method", "length"),
    [("GET", b""), ("HEAD", b""), ("POST", b"Content-Length: 0\r\n"), ("DELETE", b"Content-Length: 0\r\n")],
)
async def test_a_request_without_a_body(method: str, length: bytes) -> None:
    """Methods that may have a body say that there is none, GET and its like say nothing."""
    assert head_of(None, "http://h", method) == method.encode() + b" / HTTP/1.1\r\nHost: h\r\n" + length + b"\r\n"


@pytest.mark.parametrize(
    ("url", "host"), [("http://[::1]:8000/x", b"[::1]:8000"), ("https://h:443/x", b"h"), ("http://h:443/x", b"h:443")]
)
async def test_the_host(url: str, host: bytes) -> None:
    """IPv6 addresses stand in brackets; the port of the scheme is left out."""
    assert f"Host: {host.decode()}\r\n".encode() in head_of(url=url)


async def test_a_header_that_is_there_twice() -> None:
    """The last counts, in whatever case; a Host of the caller's replaces ours."""
    head = request_head("GET", "/", "h", {"Accept": "a", "host": "other", "ACCEPT": "b"})
    assert head == b"GET / HTTP/1.1\r\nhost: other\r\nACCEPT: b\r\n"


@pytest.mark.parametrize("bad", ["a\r\nEvil: 1", "a\nb", "a\rb", "\0", "\x7f", "\x1f", "\ud800"])
@pytest.mark.parametrize("where", ["method", "target", "name", "value"])
def test_nothing_is_smuggled_in(bad: str, where: str) -> None:
    """A control character anywhere is a ConfigurationError that does not repeat it."""
    parts = {"method": "GET", "target": "/", "name": "A", "value": "b"} | {where: bad}
    with pytest.raises(ConfigurationError, match="line break or control character") as caught:
        request_head(parts["method"], parts["target"], "h", {parts["name"]: parts["value"]})
    assert bad not in str(caught.value)


@pytest.mark.parametrize(("method", "target"), [("GET /", "/"), ("GET", "/a HTTP/1.1")])
def test_a_space_would_end_the_target(method: str, target: str) -> None:
    """The request line has three words and no more."""
    with pytest.raises(ConfigurationError):
        request_head(method, target, "h", {})


async def test_a_plain_proxy() -> None:
    """A proxy for http:// gets the whole URL and its own credentials; a tunnel for https:// shows it neither."""
    head = head_of(proxy="http://us%40er:word@p:3128")
    assert head.startswith(b"POST http://nim.test:8000/v1/chat/completions?a=b%20c HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNAZXI6d29yZA==\r\n" in head
    head = head_of(url="https://nim.test/x", proxy="http://user:word@p:3128")
    assert head.startswith(b"POST /x HTTP/1.1\r\nHost: nim.test\r\n")
    assert b"Proxy" not in head


@pytest.mark.parametrize("url", ["ftp://h/", "http:///x", "http://h:99999/", "h/x", "http://[/"])
async def test_urls_that_cannot_be_requested(url: str) -> None:
    """They are a ConfigurationError; so is a proxy of that kind, which does not show its password."""
    with pytest.raises(ConfigurationError, match="the URL cannot be used"):
        head_of(url=url)
    with pytest.raises(ConfigurationError, match="the proxy cannot be used") as caught:
        head_of(proxy=url.replace("//", "//user:word@", 1) if "//" in url else url)
    assert "word" not in str(caught.value)


async def test_heads_are_made_once() -> None:
    """A request like an earlier one finds its head; other headers make another head, for the same destination."""
    heads = Heads(asyncio.get_running_loop(), True, True)
    first = heads.of(HttpRequest("POST", URL, {"A": "b"}))
    assert heads.of(HttpRequest("POST", URL, {"A": "b"})) is first
    other = heads.of(HttpRequest("POST", URL + "/x", {"A": "c"}))
    assert other is not first
    assert other.destination is first.destination
    assert heads.of(HttpRequest("POST", URL, {"A": "b"}, unauthenticated=True)).destination is not first.destination


async def test_heads_do_not_pile_up() -> None:
    """However many URLs are requested, a bounded number of heads is kept."""
    heads = Heads(asyncio.get_running_loop(), True, True)
    first = heads.of(HttpRequest("GET", "http://h/", {}))
    for number in range(MAX_KEPT):
        heads.of(HttpRequest("GET", f"http://h/{number}", {}))
    assert heads.of(HttpRequest("GET", "http://h/", {})) is not first


async def test_a_prepared_head_shows_no_key() -> None:
    """Its repr leaves out the bytes, which hold the key."""
    heads = Heads(asyncio.get_running_loop(), True, True)
    assert "S3CRET" not in repr(heads.of(HttpRequest("GET", "http://h/", {"Authorization": "Bearer S3CRET"})))
