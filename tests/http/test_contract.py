"""What the transport relies on in aiohttp beyond its documentation, in one place: a new version of it is tried here first."""

import ast
import asyncio
import inspect
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter
from yarl import URL

from nimclient._http import connection, exchange
from support.server import FaultServer
from support.wire import chat

PRIVATE_OF_THE_CONNECTOR = {"_factory", "_closed"}
"""What makes the protocol of a new connection; what says that a connector has nothing left to close."""
OVERRIDDEN_IN_THE_PROTOCOL = {"__init__", "connection_made", "set_exception", "close", "abort"}
OVERRIDDEN_IN_THE_CONNECTOR = {"__init__"}


def attributes(cls: type) -> set[str]:
    """The attributes of `self` that a class's own source names."""
    nodes = ast.walk(ast.parse(inspect.getsource(cls)))
    return {
        n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "self"
    }


def methods(cls: type) -> set[str]:
    return {name for name, value in vars(cls).items() if inspect.isfunction(value)}


async def test_private_names_are_as_few_as_these() -> None:
    """Of aiohttp's private attributes the connector uses two, the protocol none; what they override is listed."""
    plain = aiohttp.TCPConnector()
    mine = {name for name in attributes(connection.Connector) if name.startswith("_") and hasattr(plain, name)}
    assert mine == PRIVATE_OF_THE_CONNECTOR
    handler = ResponseHandler(asyncio.get_running_loop())
    assert not {name for name in attributes(connection.Protocol) if name.startswith("_") and hasattr(handler, name)}
    assert methods(connection.Protocol) & set(dir(ResponseHandler)) == OVERRIDDEN_IN_THE_PROTOCOL
    assert methods(connection.Connector) & set(dir(aiohttp.TCPConnector)) == OVERRIDDEN_IN_THE_CONNECTOR
    await plain.close()


async def test_the_path_of_one_request(server: FaultServer) -> None:
    """connect, set_response_params, write, read, readany, release: bare aiohttp answers so, and takes the connection back."""
    server.script(chat())
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(limit=0)
    origin = URL(server.url).origin()
    destination = aiohttp.ClientRequest("GET", origin, loop=loop, proxy=None, ssl=True)  # without a session
    for _ in range(2):
        link = await connector.connect(destination, [], aiohttp.ClientTimeout(total=None))
        protocol = link.protocol
        assert isinstance(protocol, ResponseHandler)
        assert protocol.transport is not None
        protocol.set_response_params(read_until_eof=True, read_bufsize=2**18, skip_payload=False)
        protocol.transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        message, content = await protocol.read()
        assert message.code == 200
        assert all(isinstance(part, bytes) for header in message.raw_headers for part in header)
        assert await content.readany()
        assert content.total_bytes > 0
        assert content.at_eof()
        assert protocol.exception() is None
        link.release()
    assert server.connections == 1
    await connector.close()


async def test_a_protocol_of_ours_is_made() -> None:
    """The connector makes its protocols by the factory that is put in place of aiohttp's."""
    plain: Any = aiohttp.TCPConnector()
    assert isinstance(plain._factory(), ResponseHandler)
    ours: Any = connection.Connector(asyncio.get_running_loop())
    assert isinstance(ours._factory(), connection.Protocol)
    assert (plain._closed, ours._closed) == (False, False)
    await plain.close()
    await ours.close()
    assert (plain._closed, ours._closed) == (True, True)


async def test_a_closed_connector_has_no_complaint(recwarn: pytest.WarningsRecorder) -> None:
    """Marked as closed, a connector and its connections are collected without a word."""
    connector: Any = aiohttp.TCPConnector()
    connector._closed = True
    del connector
    assert not recwarn.list


def test_pieces_are_written_under_flow_control() -> None:
    """StreamWriter.write waits where much is buffered; the upload relies on that."""
    source = inspect.getsource(StreamWriter.write)
    assert "await self.drain()" in source
    assert inspect.signature(StreamWriter.write).parameters["LIMIT"].default < exchange.SEND_PIECE == 2**18


def test_idle_connections_are_left_before_servers_leave_them() -> None:
    """Connections idle for more than four seconds are not used: uvicorn and vLLM close them after five."""
    assert connection.IDLE_CONNECTION < 5
