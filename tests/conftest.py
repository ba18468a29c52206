"""What all tests share: a scripted server, clients that prove on leaving that they left nothing behind, canned answers."""

import asyncio
import contextlib
import faulthandler
import gc
import inspect
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import aioresponses
from hypothesis import HealthCheck, Phase, settings

from nimclient import AsyncClient, RetryPolicy
from support.leaks import assert_idle, assert_no_strays, pools, set_heap_aside
from support.server import FaultServer
from support.session import SessionTransport
from support.virtual_time import jumping
from support.wire import MODEL

KEYS = ("NVIDIA_API_KEY", "NVIDIA_BASE_URL")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
FAST = RetryPolicy(first_delay=0.01, max_delay=0.02)


pytest_plugins = ["support.canary", "support.contacts"]

# A shell that starts the tests in the background has them, and the programs that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What takes long on a loaded machine is no failure, and everybody's run sees the same examples; the slow session sees more
# (`thorough`), and `fuzz` looks for new ones.
COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nimclient", COMMON, derandomize=True, database=None, max_examples=25)
settings.register_profile(
    "few", COMMON, derandomize=True, database=None, max_examples=8, phases=[Phase.explicit, Phase.generate]
)
settings.register_profile("thorough", COMMON, derandomize=True, database=None)
settings.register_profile("fuzz", COMMON, max_examples=2000)
settings.load_profile(os.environ.get("NIMCLIENT_TEST_EXAMPLES", "nimclient"))

if os.environ.get("NIMCLIENT_TEST_LOOP") == "uvloop":  # async tests run on it, too
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


if os.environ.get("NIMCLIENT_TEST_CLOCK") == "jumps":  # the wall clock, by hours and years, at every look
    _time, _jumps = time.time, itertools.cycle([0.0, 3600.0, -7200.0, 3e7, -3e7])
    time.time = lambda: _time() + next(_jumps)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, canary: None) -> None:
    """No key, base URL or proxy of the machine reaches a test."""
    for name in (*KEYS, *PROXIES, *map(str.upper, PROXIES)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def virtual_time(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Waiting takes no time: for modules of tests about limits and delays (`pytest.mark.usefixtures("virtual_time")`)."""
    of_a_loop = inspect.iscoroutinefunction(request.function) and not request.node.get_closest_marker("real_time")
    with jumping(asyncio.get_running_loop()) if of_a_loop else contextlib.nullcontext():
        yield


@pytest.fixture(scope="session")
def authority() -> Any:
    """Who signs the certificates of these tests."""
    import trustme

    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The authority, as a file for `verify`."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
async def server() -> AsyncIterator[FaultServer]:
    """A scripted server on loopback."""
    async with FaultServer() as server:
        yield server


MakeClient = Callable[..., AsyncClient]


@pytest.fixture
async def make_client(request: pytest.FixtureRequest) -> AsyncIterator[MakeClient]:
    """Makes clients of the scripted server with short delays; at the end they must have left nothing behind."""
    made: list[AsyncClient] = []

    def make(base_url: Any = None, **options: Any) -> AsyncClient:
        if base_url is None:
            base_url = request.getfixturevalue("server").url
        client = AsyncClient(base_url=base_url, **{"model": MODEL, "retry": FAST, **options})
        made.append(client)
        return client

    yield make
    for client in made:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):  # the server may still be closing its side
                while not all(pool.is_idle() for pool in pools(client)):
                    await asyncio.sleep(0.002)
        assert_idle(client)
        await client.aclose()
    await assert_no_strays()


@pytest.fixture
def client(make_client: MakeClient, server: FaultServer) -> AsyncClient:
    """A client of the scripted server."""
    return make_client()


class _MockedResponse(aiohttp.ClientResponse):
    """aiohttp 3.14 wants a stream writer, which aioresponses does not know of yet."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, stream_writer=Mock(output_size=0), **options)


class Canned(aioresponses):
    """aioresponses whose answers aiohttp 3.14 can make. It replaces ClientSession._request, which only clients with its
    `transport` use.
    """

    transport = SessionTransport()

    def add(self, url: Any, method: str = "GET", *args: Any, **options: Any) -> None:
        super().add(url, method, *args, **{"response_class": _MockedResponse, **options})

    def sent(self, url: str, method: str = "POST") -> list[Any]:
        """The `data` of the requests to this URL."""
        return [call.kwargs["data"] for call in self.requests.get((method, aiohttp.client.URL(url)), [])]


@pytest.fixture
def canned() -> Iterator[Canned]:
    """Answers for requests that never reach a socket: `AsyncClient(…, transport=canned.transport)`."""
    with Canned() as canned:
        yield canned


def pytest_collection_finish() -> None:
    """What the imports have made is never garbage: collecting it over and over would take half of the tests' time."""
    set_heap_aside()


@pytest.fixture(autouse=True, scope="module")
def heap_of_its_own() -> None:
    """Nor is what the modules before have left: each test collects its own garbage, wherever it comes in the order."""
    set_heap_aside()


def pytest_sessionfinish() -> None:
    """Others look at what refers to what."""
    gc.unfreeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that not even its time limit ends takes its worker with it; it fails, and another worker continues."""
    end_worker_in_time(item.config)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: Any) -> None:
    """At an error pytest cancels what would end the worker, but the end of a test that failed may hang, too."""
    end_worker_in_time(node.config)


def end_worker_in_time(config: pytest.Config) -> None:
    """End this process, where it is a worker, unless the test has ended by twice its limit."""
    if hasattr(config, "workerinput"):
        seconds = float(config.getoption("timeout") or config.getini("timeout"))
        faulthandler.dump_traceback_later(2 * seconds, exit=True, file=sys.__stderr__)
