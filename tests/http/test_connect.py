"""Making a connection: refused, unreachable, unresolvable, too slow, through TLS, through a proxy."""

import asyncio
import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp.http_exceptions import BadStatusLine

from nimclient import AsyncClient, RetryPolicy, Timeouts
from nimclient._http.errors import translate
from nimclient._http.tls import ssl_setting
from nimclient.errors import (
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    NimError,
    ProtocolError,
    RequestTimeoutError,
)
from support.leaks import open_files, pools
from support.server import Close, FaultServer, Reset, Stall
from support.tunnel import tunnel
from support.virtual_time import takes
from support.wire import chat, chunk, head, http, token

pytestmark = pytest.mark.usefixtures("virtual_time")

MakeClient = Callable[..., AsyncClient]
ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def full_backlog() -> Iterator[int]:
    """A port whose queue of connections is full: the next one hangs."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        yield port


async def test_a_refused_connection(make_client: MakeClient, free_port: int) -> None:
    """A port without a listening server is ConnectError of kind refused, tried as often as the policy allows."""
    client = make_client(f"http://127.0.0.1:{free_port}")
    with pytest.raises(ConnectError, match="refused the connection") as caught:
        await client.chat.create("hi")
    assert (caught.value.kind, caught.value.phase, caught.value.attempts) == ("refused", "connect", 3)


async def test_a_server_that_comes_up_is_found(make_client: MakeClient, server: FaultServer, free_port: int) -> None:
    """A connection that was refused succeeds when the server is there for the next attempt."""
    client = make_client(f"http://127.0.0.1:{free_port}", retry=RetryPolicy(first_delay=0.2))
    server.script(chat())

    async def come_up() -> asyncio.Server:
        await asyncio.sleep(0.02)
        return await server.listen(free_port)

    late = asyncio.create_task(come_up())
    with contextlib.suppress(ConnectError):
        assert (await client.chat.create("hi")).text == "Hello"
    assert (await client.chat.create("hi")).text == "Hello"
    (await late).close()


async def test_a_name_that_does_not_resolve(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown host is ConnectError of kind dns that names it; it is tried again."""
    calls = []

    async def resolve(*args: Any, **options: Any) -> Any:
        calls.append(args)
        raise OSError("Name or service not known")

    client = make_client("http://no-such-host.invalid")
    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", resolve)
    monkeypatch.setattr("aiohttp.resolver.AsyncResolver.resolve", resolve)
    with pytest.raises(ConnectError, match=r"no-such-host\.invalid") as caught:
        await client.chat.create("hi")
    assert (caught.value.kind, caught.value.attempts, len(calls)) == ("dns", 3, 3)


async def test_a_connection_that_hangs(make_client: MakeClient, full_backlog: int) -> None:
    """A connection that is not made in time is RequestTimeoutError with phase connect; it is tried again."""
    client = make_client(
        f"http://127.0.0.1:{full_backlog}", timeouts=Timeouts(connect=0.1), retry=RetryPolicy(first_delay=0)
    )
    with takes(0.3), pytest.raises(RequestTimeoutError, match="connect limit") as caught:
        await client.chat.create("hi")
    assert (caught.value.phase, caught.value.seconds, caught.value.attempts) == ("connect", 0.1, 3)


async def test_the_total_limit_ends_a_connection_that_hangs(make_client: MakeClient, full_backlog: int) -> None:
    """`total` is reached before `connect` where it is shorter."""
    client = make_client(f"http://127.0.0.1:{full_backlog}")
    with takes(0.1), pytest.raises(RequestTimeoutError) as caught:
        await client.chat.create("hi", timeout=0.1)
    assert (caught.value.phase, caught.value.seconds) == ("total", 0.1)


async def test_a_reset_after_accept(server: FaultServer, client: AsyncClient) -> None:
    """A server that accepts and resets at once is ConnectionLostError."""
    server.on_accept = [Reset()]
    with pytest.raises(ConnectionLostError) as caught:
        await client.embeddings.create(["a"])
    assert (caught.value.attempts, server.connections) == (3, 3)


async def test_a_first_dead_address_is_passed_over(
    server: FaultServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    """Where a name has several addresses, one that refuses does not matter."""

    async def resolve(self: Any, host: str, port: int = 0, family: Any = 0) -> Any:
        entry = {"hostname": host, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
        return [{**entry, "host": "127.0.0.9"}, {**entry, "host": "127.0.0.1"}]

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", resolve)
    monkeypatch.setattr("aiohttp.resolver.AsyncResolver.resolve", resolve)
    server.script(chat())
    client = make_client(f"http://nim.test:{server.port}")
    reply = await client.chat.create("hi")
    assert reply.meta is not None
    assert (reply.text, reply.meta.attempts) == ("Hello", 1)


async def test_sockets_watch_their_peers(server: FaultServer, client: AsyncClient) -> None:
    """A connection has TCP keepalive on: first probe after 60 s, then every 15 s, five of them."""
    server.script(chat())
    await client.chat.create("hi")
    (pool,) = pools(client)
    (transport,) = pool.connector.transports()
    made = transport.get_extra_info("socket")
    assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    wanted = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 5, "TCP_USER_TIMEOUT": 30_000}
    for name, value in wanted.items():
        if hasattr(socket, name):
            assert made.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value


# what aiohttp's exceptions mean -----------------------------------------------------------------------------------


def _connector_error(number: int) -> Exception:
    key: Any = type("Key", (), {"host": "h", "port": 1, "ssl": True, "is_ssl": False})()
    return aiohttp.ClientConnectorError(key, OSError(number, "words"))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (_connector_error(errno.ECONNREFUSED), "refused", "refused"),
        (_connector_error(errno.EMFILE), "resources", "ulimit"),
        (_connector_error(errno.ENFILE), "resources", "ulimit"),
        (_connector_error(errno.EADDRNOTAVAIL), "resources", "no socket"),
        (_connector_error(errno.EHOSTUNREACH), "unreachable", "words"),
        (_connector_error(errno.ENETUNREACH), "unreachable", "words"),
    ],
)
def test_why_no_connection_could_be_made(error: Exception, kind: str, words: str) -> None:
    """The error number of the system decides the kind of a ConnectError."""
    translated = translate(error, "connect", False)
    assert isinstance(translated, ConnectError)
    assert translated.kind == kind
    assert words in str(translated)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (BadStatusLine("HTTP"), ProtocolError),
        (OSError("odd"), ConnectionLostError),
        (aiohttp.ServerDisconnectedError(), ConnectionLostError),
        (ConnectionLostError("as it is"), ConnectionLostError),
        (RuntimeError("ours"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_other_exceptions(error: BaseException, meaning: type) -> None:
    """Exceptions of aiohttp become ours; what is nobody's fault but ours stays what it is."""
    assert type(translate(error, "headers", True)) is meaning


# TLS ---------------------------------------------------------------------------------------------------------------


async def test_a_broken_off_answer_under_tls(authority: trustme.CA, make_client: MakeClient, ca_file: str) -> None:
    """Leaving a stream closes the connection at once: a peer that does not answer a TLS farewell is not waited for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    end = threading.Event()

    def serve() -> None:
        accepted, _ = listener.accept()
        with context.wrap_socket(accepted, server_side=True) as peer:
            peer.recv(2**16)
            peer.sendall(head() + chunk(token("a")))
            end.wait(60)  # reads nothing, says nothing

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        client = make_client(f"https://127.0.0.1:{listener.getsockname()[1]}/v1", verify=ca_file)
        try:
            async with client.chat.stream("hi") as stream:
                await anext(stream)
                during = open_files()
            await asyncio.sleep(0.01)
            assert open_files() == during - 1
        finally:
            end.set()
            thread.join()


async def test_a_server_of_our_own_authority(tls_server: FaultServer, make_client: MakeClient, ca_file: str) -> None:
    """verify= takes a CA file, a Path, an SSLContext, and False; the connection is used again."""
    for verify in (ca_file, Path(ca_file), ssl.create_default_context(cafile=ca_file), False):
        client = make_client(tls_server.url, verify=verify)
        for _ in range(2):
            assert (await client.chat.create("hi")).text == "Hello"
        await client.aclose()
    assert tls_server.connections == 4


@pytest.mark.parametrize("verify", [True, "other"])
async def test_a_server_of_an_unknown_authority(
    tls_server: FaultServer, make_client: MakeClient, verify: Any, tmp_path: Path
) -> None:
    """A certificate that nobody we trust has signed is ConnectError of kind tls, and final."""
    if verify == "other":
        verify = str(tmp_path / "other.pem")
        trustme.CA().cert_pem.write_to_path(verify)
    client = make_client(tls_server.url, verify=verify)
    with pytest.raises(ConnectError, match="certificate") as caught:
        await client.chat.create("hi")
    assert (caught.value.kind, caught.value.attempts) == ("tls", 1)
    assert tls_server.requests == []


async def test_a_certificate_for_another_host(authority: trustme.CA, make_client: MakeClient, ca_file: str) -> None:
    """A certificate that names another host is rejected."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("example.org").configure_cert(context)
    async with FaultServer(ssl=context) as server:
        with pytest.raises(ConnectError, match="certificate") as caught:
            await make_client(server.url, verify=ca_file).chat.create("hi")
        assert caught.value.kind == "tls"


@pytest.mark.parametrize(
    ("steps", "kind", "attempts"),
    [
        ([b"\x15\x03\x03\x00\x02\x02\x46", Close()], "tls", 1),
        ([b"HTTP/1.1 400 Bad\r\n\r\n", Close()], "tls", 1),
        ([Reset()], "unreachable", 3),
    ],
    ids=["wrong version", "plain HTTP", "reset"],
)
async def test_a_handshake_that_fails(
    server: FaultServer, make_client: MakeClient, steps: Any, kind: str, attempts: int
) -> None:
    """A handshake without common ground is ConnectError of kind tls and final; a broken one is tried again."""
    server.on_accept = steps
    client = make_client(server.url.replace("http:", "https:"))
    with pytest.raises(ConnectError) as caught:
        await client.chat.create("hi")
    assert (caught.value.kind, caught.value.attempts, server.connections) == (kind, attempts, attempts)


async def test_a_client_certificate(
    authority: trustme.CA, tls_server: FaultServer, make_client: MakeClient, ca_file: str, tmp_path: Path
) -> None:
    """A client certificate (cert=) is shown to a server that asks for one: as one file, as a pair, or not at all."""
    assert tls_server.ssl is not None
    tls_server.ssl.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls_server.ssl)
    issued = authority.issue_cert("client@example.org")
    both, key, chain = tmp_path / "both.pem", tmp_path / "key.pem", tmp_path / "chain.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(both))
    issued.private_key_pem.write_to_path(str(key))
    issued.cert_chain_pems[0].write_to_path(str(chain))
    for cert in (str(both), both, (str(chain), str(key))):
        client = make_client(tls_server.url, verify=ca_file, cert=cert)
        assert (await client.chat.create("hi")).text == "Hello"
    with pytest.raises(NimError):
        await make_client(tls_server.url, verify=ca_file, retry=ONCE).chat.create("hi")


async def test_a_client_certificate_is_shown_to_nobody_else(
    authority: trustme.CA,
    tls_server: FaultServer,
    make_client: MakeClient,
    ca_file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The place of a result that a server names does not see the certificate, even where it asks for one."""
    issued = authority.issue_cert("client@example.org")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    assert tls_server.ssl is not None
    tls_server.ssl.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls_server.ssl)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    authority.configure_trust(context)
    shown: list[Any] = []
    converse = FaultServer._converse

    async def looking(self: FaultServer, reader: Any, writer: Any, number: int) -> None:
        shown.append(writer.get_extra_info("peercert"))
        await converse(self, reader, writer, number)

    monkeypatch.setattr(FaultServer, "_converse", looking)
    async with FaultServer(ssl=context) as far:
        tls_server.script(http(b"", 302, f"Location: {far.url}/result", type=None))
        far.script(chat("from afar"))
        client = make_client(tls_server.url, verify=ca_file, cert=str(tmp_path / "both.pem"))
        assert (await client.infer("/x", {}))["choices"]
        await client.aclose()
    assert [bool(certificate) for certificate in shown] == [True, False]


async def test_tls_where_plain_http_is_expected(tls_server: FaultServer, make_client: MakeClient) -> None:
    """An http URL of a TLS server is an error of the transport, not a bad request."""
    client = make_client(tls_server.url.replace("https:", "http:"), retry=ONCE)
    with pytest.raises((ProtocolError, ConnectionLostError)):
        await client.chat.create("hi")


async def test_a_handshake_that_stalls(server: FaultServer, make_client: MakeClient) -> None:
    """The connect limit covers the TLS handshake."""
    server.on_accept = [Stall()]
    client = make_client(server.url.replace("http:", "https:"), timeouts=Timeouts(connect=0.1), retry=ONCE)
    with takes(0.1), pytest.raises(RequestTimeoutError) as caught:
        await client.chat.create("hi")
    assert caught.value.phase == "connect"
    await server.until(lambda: server.open == 0)


@pytest.mark.parametrize(
    ("verify", "cert", "words"),
    [
        ("/no/such/file", None, "cannot be loaded"),
        (True, "/no/such/file", "cannot be loaded"),
        (5, None, "not int"),
        (ssl.create_default_context(), "cert.pem", "goes into the SSLContext"),
    ],
)
def test_bad_tls_settings(verify: Any, cert: Any, words: str) -> None:
    """A CA or certificate that cannot be used is a ConfigurationError."""
    with pytest.raises(ConfigurationError, match=words):
        ssl_setting(verify, cert)


async def test_bad_tls_settings_are_found_by_the_first_call(make_client: MakeClient) -> None:
    """A client with a CA file that is not there raises ConfigurationError before anything is sent."""
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        await make_client("https://127.0.0.1:1", verify="/no/such/file").chat.create("hi")


def test_tls_contexts_are_made_once(ca_file: str) -> None:
    """Clients with the same settings share one SSLContext; a folder of certificates is taken, too."""
    assert ssl_setting(ca_file, None) is ssl_setting(ca_file, None)
    assert ssl_setting(True, None) is True
    assert ssl_setting(False, None) is False
    folder = ssl_setting(str(Path(ca_file).parent), None)
    assert isinstance(folder, ssl.SSLContext)


def test_a_client_certificate_without_verification(authority: trustme.CA, tmp_path: Path) -> None:
    """verify=False beside a certificate checks nothing, but shows the certificate."""
    both = tmp_path / "both.pem"
    authority.issue_cert("x@example.org").private_key_and_cert_chain_pem.write_to_path(str(both))
    context = ssl_setting(False, str(both))
    assert isinstance(context, ssl.SSLContext)
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_NONE)


# proxies -----------------------------------------------------------------------------------------------------------


async def test_a_proxy_carries_plain_requests(server: FaultServer, make_client: MakeClient) -> None:
    """With proxy= the request goes to the proxy, with the whole URL in it and the proxy's credentials."""
    server.script(chat())
    client = make_client("http://nim.test:8000", proxy=f"http://user:word@127.0.0.1:{server.port}")
    assert (await client.chat.create("hi")).text == "Hello"
    request = server.requests[0]
    assert request.path == "http://nim.test:8000/v1/chat/completions"
    assert request.headers["proxy-authorization"].startswith("Basic ")
    assert "word" not in repr(client)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
async def test_a_proxy_from_the_environment(
    server: FaultServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Proxies of the environment are used unless trust_env=False or no_proxy says otherwise."""
    server.script(chat())
    monkeypatch.setenv(name, f"127.0.0.1:{server.port}")
    assert (await make_client("http://nim.test:8000").chat.create("hi")).text == "Hello"
    assert len(server.requests) == 1
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    await make_client().chat.create("hi")
    assert server.requests[1].path == "/v1/chat/completions"
    monkeypatch.delenv("no_proxy")
    await make_client(trust_env=False).chat.create("hi")
    assert server.requests[2].path == "/v1/chat/completions"


async def test_a_socks_proxy_of_the_environment(
    server: FaultServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent where the environment names a SOCKS proxy: one ConfigurationError, at the first call, not retried."""
    monkeypatch.setenv("all_proxy", f"socks5://127.0.0.1:{server.port}")
    client = make_client("http://nim.test")
    with pytest.raises(ConfigurationError, match="only HTTP proxies are supported, no SOCKS"):
        await client.chat.create("hi")
    assert server.connections == 0


async def test_a_proxy_that_refuses_the_connection(make_client: MakeClient, free_port: int) -> None:
    """A proxy that is not there is ConnectError of kind proxy, without its credentials in the text."""
    client = make_client("http://nim.test", proxy=f"http://user:word@127.0.0.1:{free_port}")
    with pytest.raises(ConnectError) as caught:
        await client.chat.create("hi")
    assert (caught.value.kind, caught.value.attempts) == ("proxy", 3)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("status", [407, 502])
async def test_a_proxy_that_refuses_to_tunnel(server: FaultServer, make_client: MakeClient, status: int) -> None:
    """A proxy's rejection of CONNECT is ConnectError of kind proxy; the key does not go to the proxy."""
    server.script(http(b"", status))
    client = make_client("https://nim.test", api_key="key-canary", proxy=f"http://127.0.0.1:{server.port}", retry=ONCE)
    with pytest.raises(ConnectError) as caught:
        await client.chat.create("hi")
    assert caught.value.kind == "proxy"
    assert server.requests[0].method == "CONNECT"
    assert b"canary" not in server.requests[0].raw_head


async def test_a_proxy_whose_tunnel_hangs(server: FaultServer, make_client: MakeClient) -> None:
    """The connect limit covers the proxy's CONNECT."""
    server.script([Stall()])
    client = make_client(
        "https://nim.test", proxy=f"http://127.0.0.1:{server.port}", retry=ONCE, timeouts=Timeouts(connect=0.1)
    )
    with pytest.raises(RequestTimeoutError) as caught:
        await client.chat.create("hi")
    assert caught.value.phase == "connect"
    await server.until(lambda: server.open == 0)


@pytest.mark.parametrize(
    "established",
    [
        b"HTTP/1.1 200 Connected",
        b"HTTP/1.0 200 Connection established\r\nProxy-Agent: x",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nConnection: close",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
    ],
    ids=["200", "HTTP/1.0", "no length", "a length", "chunks", "close", "100 before"],
)
async def test_a_tunnel_through_a_proxy(
    server: FaultServer, tls_server: FaultServer, make_client: MakeClient, ca_file: str, established: bytes
) -> None:
    """An https request goes through a proxy's tunnel; framing of the proxy's answer means nothing (RFC 9110, 9.3.6)."""
    async with tunnel(tls_server.port, established) as (port, _):
        client = make_client(tls_server.url, proxy=f"http://127.0.0.1:{port}", verify=ca_file)
        assert (await client.chat.create("hi")).text == "Hello"
        await client.aclose()
