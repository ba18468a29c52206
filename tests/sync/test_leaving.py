"""Who leaves a blocking call frees the server's slots. After the first token the next one would come an hour later."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nimclient import Client, Timeouts
from nimclient.errors import RequestTimeoutError, StreamInterruptedError
from nimclient.simulator import Simulator, SimulatorThread
from support.until import until

LONG: dict[str, Any] = {"max_tokens": 100, "extra_body": {"ignore_eos": True}}
TEXTS = ["one", "two"]
CALLS: dict[str, tuple[int, Callable[[Client], object]]] = {
    "create": (1, lambda client: client.chat.create("hi", **LONG)),
    "stream": (1, lambda client: client.chat.stream("hi", **LONG).final()),
    "batch": (2, lambda client: client.chat.batch(TEXTS, **LONG)),
    "as_completed": (2, lambda client: list(client.chat.as_completed(TEXTS, **LONG))),
}


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A server of two slots whose answers have one token at once."""
    simulator = Simulator(slots=2, itl=3600.0, models=["m"])
    with SimulatorThread(simulator):
        yield simulator


@pytest.fixture
def client(simulator: Simulator) -> Iterator[Client]:
    """Its client."""
    with Client(base_url=simulator.base_url, model="m") as client:
        yield client


def is_free(simulator: Simulator) -> bool:
    """Whether all slots become free, and nobody got a second token."""
    return until(lambda: simulator.running == 0) and all(request.tokens <= 1 for request in simulator.requests)


@pytest.mark.parametrize(("slots", "call"), CALLS.values(), ids=CALLS)
def test_ctrl_c(simulator: Simulator, client: Client, slots: int, call: Callable[[Client], object]) -> None:
    """Ctrl-C frees all slots of a blocking call."""
    threading.Thread(target=interrupt, args=(simulator, slots), daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        call(client)
    assert is_free(simulator)


def interrupt(simulator: Simulator, slots: int) -> None:
    """Press Ctrl-C as soon as so many slots are taken."""
    until(lambda: simulator.running == slots)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("slots", "call"), CALLS.values(), ids=CALLS)
def test_a_deadline(simulator: Simulator, client: Client, slots: int, call: Callable[[Client], object]) -> None:
    """A time limit frees them, too."""
    with pytest.raises(RequestTimeoutError):
        call(client.with_options(timeouts=Timeouts(total=0.1)))
    assert is_free(simulator)


@pytest.mark.parametrize("kind", ["stream", "as_completed"])
def test_closed_by_another_thread(simulator: Simulator, client: Client, kind: str) -> None:
    """`close()` from another thread ends the thread that waits for the next token, and frees the slots."""
    opened: Any = client.chat.stream("hi", **LONG) if kind == "stream" else client.chat.as_completed(TEXTS, **LONG)
    caught: list[BaseException] = []
    reader = threading.Thread(target=read, args=(opened, caught))
    reader.start()
    assert until(lambda: simulator.running == (1 if kind == "stream" else 2))
    opened.close()
    assert is_free(simulator)
    reader.join()
    assert [type(error) for error in caught] == [StreamInterruptedError]


def read(opened: Any, caught: list[BaseException]) -> None:
    """Read to the end, and keep the error."""
    try:
        list(opened)
    except StreamInterruptedError as error:
        caught.append(error)


def test_a_block_that_is_left(simulator: Simulator, client: Client) -> None:
    """So does the end of a block, and that of a generator that yields inside of one, as a web framework closes it."""
    with client.chat.stream("hi", **LONG) as stream:
        next(stream)
    assert is_free(simulator)
    pieces = relay(client)
    next(pieces)
    assert simulator.running == 1
    del pieces
    assert is_free(simulator)


def relay(client: Client) -> Iterator[str]:
    with client.chat.stream("hi", **LONG) as stream:
        yield from stream.text_stream
