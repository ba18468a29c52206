"""What is hardly HTTP: malformed replies and the answers of proxies, through every way of calling.

Each is sent to a plain call, a stream, the blocking client, embeddings and a job. It comes to an answer or to an error of
ours, in time, and nothing that the error shows has the key or the proxy's password, although many repeat what was sent.
"""

import base64
import gzip
import pickle
import socket
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nimclient import AsyncClient, Client, RetryPolicy, Timeouts
from nimclient.errors import ConnectError, NimError, RequestTimeoutError
from nimclient.jobs import EmbedJob
from support.server import Close, Drip, FaultServer, Pause, Reset, ServerThread, Stall, Step
from support.slow import mostly_slow
from support.wire import MODEL, answer, chat_body, embedded

KEY = "nvapi-canary-0123456789abcdef"
PASSWORD = "proxy-canary-0123456789"
LOGIN = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"
BODY = b'{"data": [], "choices": []}'
CHUNKED = OK + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
SOON = Timeouts(connect=2, headers=0.3, first_event=0.3, idle=0.3, total=30)


def zipped(data: bytes, coding: bytes = b"gzip") -> bytes:
    return OK + JSON + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (coding, len(data)) + data


STATUS_LINES = {
    "nothing but line ends": b"\r\n" * 50,
    "line ends before it": b"\r\n\r\n" + OK + JSON + b"Content-Length: 2\r\n\r\n{}",
    "no status": b"HTTP/1.1\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "a negative status": b"HTTP/1.1 -20 OK\r\n\r\n",
    "status 000": b"HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 Beyond\r\nContent-Length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n",
    "HTTP/9.9": b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "lower case": b"http/1.1 200 ok\r\nContent-Length: 2\r\n\r\n{}",
    "a blank before it": b" HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "carriage returns alone": b"HTTP/1.1 200 OK\rContent-Length: 2\r\r{}",
    "no reason": b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n",
    "a reason of 100 kB": b"HTTP/1.1 500 " + b"x" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "a reason with escapes": b"HTTP/1.1 500 \x1b[31mred\x1b[0m\r\nContent-Length: 0\r\n\r\n",
    "a reason with the key": f"HTTP/1.1 500 {KEY}\r\nContent-Length: 0\r\n\r\n".encode(),
    "the key for a status line": f"Authorization: Bearer {KEY}\r\n\r\n".encode(),
    "Icecast": b"ICY 200 OK\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "SMTP": b"220 mail.example.com ESMTP\r\n",
    "zeros": b"\0" * 4096,
    "all bytes": bytes(range(256)) * 8,
}
HEADS = {
    "5,000 headers": OK + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n",
    "a header of 1 MB": OK + b"X: " + b"y" * 2**20 + b"\r\n\r\n",
    "a header that does not end": OK + b"X: " + b"y" * 2**20,
    "folded": OK + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "no colon": OK + b"Nonsense\r\nContent-Length: 2\r\n\r\n{}",
    "a blank in the name": OK + b"Content Length: 2\r\n\r\n{}",
    "a blank before the colon": OK + b"Content-Length : 2\r\n\r\n{}",
    "NUL in a value": OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "the key in a header": OK + f"X-Debug: Bearer {KEY}\r\nContent-Length: 3\r\n\r\n???".encode(),
    "the key in a bad header": OK + f"Authorization Bearer {KEY}\r\n\r\n".encode(),
    "the key in Location": f"HTTP/1.1 302 Found\r\nLocation: http://x.invalid/{KEY}\r\nContent-Length: 0\r\n\r\n".encode(),
    "the key in Retry-After": f"HTTP/1.1 429 No\r\nRetry-After: {KEY}\r\nContent-Length: 0\r\n\r\n".encode(),
    "the key in Content-Type": OK + f"Content-Type: text/{KEY}\r\nContent-Length: 3\r\n\r\n???".encode(),
    "the key in the request id": f"HTTP/1.1 500 No\r\nX-Request-Id: {KEY}\r\nContent-Length: 0\r\n\r\n".encode(),
    **{
        f"a length of {length!r}": OK + JSON + b"Content-Length: %s\r\n\r\n" % length.encode() + BODY
        for length in ("-1", "+27", "5 5", "5, 6", "27, 27", "0x1b", "1e1", "9" * 30, "", "²")
    },
    "two lengths that agree": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "two lengths that do not": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    **{
        f"transfer encoding {coding!r}": OK
        + JSON
        + b"Transfer-Encoding: %s\r\n\r\n2\r\n{}\r\n0\r\n\r\n" % coding.encode()
        for coding in ("chunked, chunked", "gzip, chunked", "chunked, identity", "identity", "xchunked", "CHUNKED", "")
    },
}
CHUNKS = {
    f"a chunk size of {shown}": CHUNKED + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n"
    for shown, size in {
        "-1": b"-1", "+1b": b"+1b", "0x1b": b"0x1b", "blank 1b": b" 1b", "1b blank": b"1b ", "g": b"g", "nothing": b"",
        "64 bits": b"ffffffffffffffff", "80 bits": b"f" * 20, "1 MB": b"0" * 2**20 + b"1b", "the key": KEY.encode(),
        "an extension": b"1b;a=b", "an extension of 1 MB": b"1b;a=" + b"b" * 2**20, "the size with NUL": b"1b\0",
    }.items()
} | {
    "no end of a chunk": CHUNKED + b"1b\r\n" + BODY + b"0\r\n\r\n",
    "line feeds in chunks": CHUNKED + b"1b\n" + BODY + b"\n0\n\n",
    "trailers": CHUNKED + b"1b\r\n" + BODY + b"\r\n0\r\nX-Sum: 1\r\n\r\n",
    "5,000 trailers": CHUNKED + b"1b\r\n" + BODY + b"\r\n0\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n",
    "the key in a bad trailer": CHUNKED + b"1b\r\n" + BODY + f"\r\n0\r\n{KEY}\r\n\r\n".encode(),
}  # fmt: skip
CODINGS = {
    "a bomb": zipped(gzip.compress(b" " * 2**24)),
    "a bomb of events": zipped(gzip.compress(b"data: {}\n\n" * 2**18)),
    "a bomb within gzip": zipped(gzip.compress(gzip.compress(b" " * 2**24)), b"gzip, gzip"),
    "cut": zipped(gzip.compress(BODY * 50)[:-20]),
    "a wrong checksum": zipped(gzip.compress(BODY)[:-8] + b"\0" * 8),
    "two members": zipped(gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])),
    "rubbish behind it": zipped(gzip.compress(BODY) + b"rubbish"),
    "nothing": zipped(b""),
    "raw deflate": zipped(zlib.compress(BODY)[2:-4], b"deflate"),
    "deflate that is none": zipped(b"\xff" * 50, b"deflate"),
    "brotli": zipped(b"\x0b\x02\x80hello\x03", b"br"),
    "zstd": zipped(b"(\xb5/\xfd\x04\x00", b"zstd"),
    "unknown": zipped(BODY, b"foo"),
    "the key": zipped(BODY, KEY.encode()),
    "64 codings": zipped(gzip.compress(BODY), b", ".join([b"gzip"] * 64)),
}
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
ENDS: dict[str, list[Step]] = {
    "1,000 × 1xx, then an answer": [INTERIM * 1000, OK + JSON + b"Content-Length: 2\r\n\r\n{}"],
    "1xx for ever": [Drip(INTERIM * 20, 0.01)],
    "101": [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"],
    "100 with a body": [b"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n{}"],
    "half a status line, silence": [b"HTTP/1.1 2", Stall()],
    "half a head, reset": [OK + b"X: a", Pause(0.01), Reset()],
    "one byte at a time": [Drip(b"H", 0.02)],
    "a body of one byte at a time": [OK + JSON + b"Content-Length: 99\r\n\r\n", Drip(b" ", 0.02)],
}
REPLIES: dict[str, list[Step]] = {
    f"{family}: {name}": steps if isinstance(steps, list) else [steps, Close()]
    for family, cases in {
        "status line": STATUS_LINES, "head": HEADS, "chunks": CHUNKS, "coding": CODINGS, "end": ENDS,
    }.items()
    for name, steps in cases.items()
}  # fmt: skip

HTML = b"<html><body>Please sign in</body></html>"
PAGE = b"Content-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(HTML) + HTML
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n"
PROXIES: dict[str, list[Step]] = {
    "200, then silence": [ESTABLISHED + b"\r\n", Stall()],
    "200, then closed": [ESTABLISHED + b"\r\n", Close()],
    "200, then reset": [ESTABLISHED + b"\r\n", Pause(0.01), Reset()],
    "200 with a body": [ESTABLISHED + b"Content-Length: 5\r\n\r\nhello", Stall()],
    "200 with chunks": [ESTABLISHED + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Stall()],
    "200, then a page in place of TLS": [ESTABLISHED + b"\r\n" + OK + PAGE, Close()],
    "200 with a page": [ESTABLISHED + PAGE, Close()],
    "200, half a handshake": [ESTABLISHED + b"\r\n\x16\x03\x03\x00\x7a\x02", Close()],
    "200, an alert": [ESTABLISHED + b"\r\n\x15\x03\x03\x00\x02\x02\x28", Close()],
    "204": [b"HTTP/1.1 204 No Content\r\n\r\n", Close()],
    "302": [b"HTTP/1.1 302 Found\r\nLocation: http://login.invalid/\r\n" + PAGE, Close()],
    **{
        f"407 {name}": [b"HTTP/1.1 407 Proxy Authentication Required\r\n" + words + PAGE, Close()]
        for name, words in {
            "plain": b"", "Basic": b'Proxy-Authenticate: Basic realm="x"\r\n',
            "Negotiate": b"Proxy-Authenticate: Negotiate\r\n",
            "Digest": b'Proxy-Authenticate: Digest realm="x", nonce="y", qop="auth"\r\n',
            "two": b"Proxy-Authenticate: NTLM\r\nProxy-Authenticate: Basic realm=x\r\n",
            "broken": b"Proxy-Authenticate: \r\n",
            "with the password": f"Proxy-Authenticate: Basic realm={PASSWORD}\r\nX-Login: {LOGIN}\r\n".encode(),
        }.items()
    },
    "407 without a body, open": [b"HTTP/1.1 407 No\r\n\r\n", Stall()],
    "403 with a page": [b"HTTP/1.1 403 Forbidden\r\n" + PAGE, Close()],
    "500 that repeats the login": [f"HTTP/1.1 500 {LOGIN} {PASSWORD}\r\nContent-Length: 0\r\n\r\n".encode(), Close()],
    "503": [b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n", Close()],
    "1xx, then 407": [INTERIM * 3 + b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", Close()],
    "a page of HTML": [HTML, Close()],
    "a page that repeats the login": [f"Proxy-Authorization: Basic {LOGIN}\r\n\r\n".encode(), Close()],
    "half a status line": [b"HTTP/1.1 4", Close()],
    "5,000 headers": [ESTABLISHED + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n", Close()],
    "nothing": [Close()],
    "reset": [Reset()],
    "silence": [Stall()],
}  # fmt: skip
WAYS = ("plain", "streamed", "blocking", "embed", "job")


@pytest.fixture(scope="module")
def listening() -> Iterator[FaultServer]:
    """A server, or proxy, in a thread of its own."""
    with ServerThread() as server:
        yield server


async def call(way: str, folder: Path, **settings: Any) -> None:
    """One call. Raises what it raises."""
    settings = {
        "api_key": KEY,
        "model": MODEL,
        "retry": RetryPolicy(attempts=1, patience=0.0),
        "timeouts": SOON,
        **settings,
    }
    if way == "blocking":
        with Client(**settings) as blocking:
            blocking.chat.create("hi")
        return
    async with AsyncClient(**settings) as client:
        match way:
            case "plain":
                await client.chat.create("hi")
            case "streamed":
                async with client.chat.stream("hi") as stream:
                    await stream.final()
            case "embed":
                await client.embeddings.create(["1", "2"])
            case _:
                await EmbedJob(["1", "2"], folder).run(client)


def check(error: NimError) -> None:
    """It has words, comes back from a pickle, and shows no secret, as it is or encoded."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
    assert 0 < len(str(error)) < 1000
    assert "\x1b" not in str(error)
    links = [link for link in (error, error.__cause__, error.__context__) if link is not None]
    shown = "".join(traceback.format_exception(error)) + repr([(link, vars(link)) for link in links])
    assert [secret for secret in (KEY, PASSWORD, LOGIN) if secret in shown] == []


SAMPLE = tuple(REPLIES)[::9]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reply", mostly_slow(REPLIES, *SAMPLE))
async def test_a_malformed_reply(listening: FaultServer, tmp_path: Path, reply: str, way: str) -> None:
    """An answer or an error of ours, in time, without secrets."""
    listening.script(REPLIES[reply])
    try:
        await call(way, tmp_path / "out", base_url=listening.url)
    except NimError as error:
        check(error)
    for path in (tmp_path / "out").glob("*"):
        assert KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "reply", mostly_slow(PROXIES, *[name for name in tuple(PROXIES)[::5] if "silence" not in name])
)
async def test_a_proxy_that_does_not_tunnel(listening: FaultServer, tmp_path: Path, reply: str, way: str) -> None:
    """An error of ours that shows neither the key nor the proxy's password; the key was not sent to the proxy."""
    listening.script(PROXIES[reply])
    listening.requests.clear()
    proxy = f"http://user:{PASSWORD}@127.0.0.1:{listening.port}"
    with pytest.raises(NimError) as caught:
        await call(way, tmp_path / "out", base_url="https://nim.invalid", proxy=proxy)
    check(caught.value)
    assert isinstance(caught.value, (ConnectError, RequestTimeoutError))
    assert {request.method for request in listening.requests} == {"CONNECT"}
    assert KEY.encode() not in b"".join(request.raw_head for request in listening.requests)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "place",
    ["127.0.0.1", "127.0.0.1:", ":3128", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:-1", "[::1", "::1:3128", "[::1]"],
)
async def test_a_proxy_without_a_usable_port(tmp_path: Path, place: str, way: str) -> None:
    """It is said, without its password; port 80, where nothing listens, is meant by none."""
    with pytest.raises(NimError) as caught:
        await call(way, tmp_path / "out", base_url="http://nim.invalid", proxy=f"http://user:{PASSWORD}@{place}")
    check(caught.value)


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
@pytest.mark.parametrize("way", ["plain", "blocking", "embed", "job"])
async def test_a_proxy_and_a_server_on_ipv6(tmp_path: Path, way: str) -> None:
    """Both are found by their addresses in brackets."""
    with ServerThread(host="::1") as server:
        server.script(answer(embedded(["1", "2"]) if way in ("embed", "job") else chat_body()))
        await call(way, tmp_path / "direct", base_url=server.url)
        proxy = f"http://user:{PASSWORD}@[::1]:{server.port}"
        await call(way, tmp_path / "proxied", base_url="http://nim.invalid", proxy=proxy)
    direct, proxied = server.requests
    assert direct.headers["host"] == f"[::1]:{server.port}"
    assert proxied.path.startswith("http://nim.invalid/v1/")
    assert proxied.headers["proxy-authorization"] == f"Basic {LOGIN}"
