"""Servers in a thread, for tests that have no loop or many; one of them speaks TLS under an authority of its own."""

import ssl
from collections.abc import AsyncIterator, Iterator

import pytest
import trustme

from support.server import FaultServer, ServerThread
from support.wire import chat


@pytest.fixture
def far() -> Iterator[FaultServer]:
    """A server in a thread of its own."""
    with ServerThread() as server:
        server.script(chat())
        yield server


@pytest.fixture
def far_tls(authority: trustme.CA) -> Iterator[FaultServer]:
    """The same behind TLS; `verify` is `ca_file`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ServerThread(ssl=context) as server:
        server.script(chat())
        yield server


@pytest.fixture
async def tls_server(authority: trustme.CA) -> AsyncIterator[FaultServer]:
    """The same in the loop of the test."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with FaultServer(ssl=context) as server:
        server.script(chat())
        yield server
