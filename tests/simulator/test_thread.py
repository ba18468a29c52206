import gc
import json
import socket
import threading
import urllib.request
from typing import Any

import pytest

from nimclient.simulator import Simulator, SimulatorThread


def _get(url: str) -> Any:
    with urllib.request.urlopen(url) as response:
        return json.loads(response.read())


def test_the_thread_serves_synchronous_code() -> None:
    """Inside the block code without a loop can talk to the simulator and read its records."""
    runner = SimulatorThread(Simulator(models=["mine/own"]))
    with runner as url:
        assert _get(f"{url}/models/mine/own")["id"] == "mine/own"
        assert [record.path for record in runner.simulator.requests] == ["/v1/models/mine/own"]


def test_nothing_is_left_behind() -> None:
    """After the block the thread is gone and nothing is left unclosed."""
    before = set(threading.enumerate())
    with SimulatorThread() as url:
        assert _get(f"{url}/health/live")
    gc.collect()
    assert set(threading.enumerate()) <= before


def test_a_connection_of_the_last_moment_is_closed() -> None:
    """A client that connects and goes away just before the end costs no ResourceWarning, which would be an error here."""
    for _ in range(20):
        with SimulatorThread() as url:
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2].split("/")[0]))).close()
    gc.collect()


def test_it_starts_once_and_closes_as_often_as_wanted() -> None:
    """A second start is an error, a second close is not, and it may be started again."""
    runner = SimulatorThread()
    runner.start()
    with pytest.raises(RuntimeError, match="running already"):
        runner.start()
    runner.close()
    runner.close()
    with runner as url:
        assert url.endswith("/v1")


def test_a_taken_port_is_an_error_in_the_caller() -> None:
    """What goes wrong at the start is raised where it was started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        runner = SimulatorThread(Simulator(port=taken.getsockname()[1]))
        with pytest.raises(OSError, match="address already in use"):
            runner.start()
        runner.close()
