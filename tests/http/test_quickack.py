"""The head of a longer answer is acknowledged at once: a server with Nagle's algorithm on waits for that."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from nimclient import AsyncClient
from nimclient._http.connection import acknowledge_at_once
from support.server import FaultServer, Pause
from support.wire import chunk, head, token


class Socket:
    """Notes the options that are set, or fails to set them."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.options: list[tuple[int, int, int]] = []
        self._failure = failure

    def setsockopt(self, *option: int) -> None:
        if self._failure is not None:
            raise self._failure
        self.options.append(option)  # type: ignore[arg-type]


def transport_over(made: Any) -> Any:
    return SimpleNamespace(get_extra_info=lambda name: made if name == "socket" else None)


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="the option is Linux's")
def test_the_option_is_set_on_the_socket() -> None:
    """TCP_QUICKACK is switched on, which sends an acknowledgement that is due."""
    made = Socket()
    acknowledge_at_once(transport_over(made))
    assert made.options == [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)]


@pytest.mark.parametrize(
    "transport",
    [
        transport_over(Socket(OSError("closed"))),
        transport_over(None),
        None,
    ],
    ids=["closed", "no socket", "no connection"],
)
def test_where_it_cannot_be_set_nothing_happens(transport: Any) -> None:
    """A socket that is closed or hidden is left alone."""
    assert acknowledge_at_once(transport) is None


def test_systems_without_the_option_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no such option nothing is set."""
    monkeypatch.delattr(socket, "TCP_QUICKACK", raising=False)
    made = Socket()
    acknowledge_at_once(transport_over(made))
    assert made.options == []


async def test_it_is_done_for_answers_that_go_on(
    server: FaultServer, make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream is acknowledged once, at its head."""
    seen: list[Any] = []
    monkeypatch.setattr("nimclient._http.exchange.acknowledge_at_once", seen.append)
    server.script([head() + chunk(token("a")), Pause(0.05), chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"])
    client: AsyncClient = make_client()
    assert (await client.chat.stream("hi").final()).text == "a"
    assert len(seen) == 1


async def test_an_answer_that_came_with_its_head_needs_none(
    server: FaultServer, make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a small answer, which is whole by then, nor one of which much is there, is acknowledged by hand."""
    seen: list[Any] = []
    monkeypatch.setattr("nimclient._http.exchange.acknowledge_at_once", seen.append)
    monkeypatch.setattr("nimclient._http.exchange.HELD_BACK", 10)
    body = b'{"object": "list", "data": []}'
    server.script([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body])
    server.script([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:20], Pause(0.05), body[20:]])
    client: AsyncClient = make_client()
    for _ in range(2):
        assert list(await client.models.list()) == []
    assert seen == []
