"""The examples that fork: gunicorn with preloading, Celery's prefork pool, multiprocessing."""

import os
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from frameworks.conftest import EXAMPLES, Start, announced
from nimclient import Client
from nimclient.errors import RateLimitError
from nimclient.simulator import Simulator, SimulatorThread
from support.until import until


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A NIM that writes a hundred tokens a second."""
    simulator = Simulator(itl=0.01)
    with SimulatorThread(simulator):
        yield simulator


def generating(simulator: Simulator) -> list[Any]:
    """The chat requests that the simulator has seen."""
    return [request for request in simulator.requests if request.path.endswith("/chat/completions")]


# gunicorn ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sync", "gthread"])
def service(start: Start, request: pytest.FixtureRequest) -> str:
    """The URL of the WSGI service, its workers forked from a master that has used the client."""
    threads = "8" if request.param == "gthread" else "1"
    process = start(
        *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "4", "--threads", threads),
        *("--worker-class", request.param, "--bind", "127.0.0.1:0", "--graceful-timeout", "2"),
        *("--no-control-socket", "gunicorn_app:app"),
    )
    return announced(process, "Listening at:")


def test_gunicorn(service: str, simulator: Simulator) -> None:
    """Four preloaded workers answer a hundred requests; none of them meets a connection of the master's."""

    def get(number: int) -> tuple[str, str]:
        query = urllib.parse.urlencode({"question": f"What is {number}?"})
        with urllib.request.urlopen(f"{service}?{query}", timeout=30) as response:
            return response.headers["X-Worker"], response.read().decode()

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(get, range(100)))
    assert len({worker for worker, _ in replies}) > 1
    with Client(base_url=simulator.base_url) as client:
        for number in (0, 57, 99):
            assert replies[number][1] == client.chat.create(f"What is {number}?").text
    assert all(request.status == 200 and not request.disconnected for request in generating(simulator))


def test_a_caller_who_hangs_up_on_gunicorn(service: str, simulator: Simulator) -> None:
    """A socket that is closed in the middle of the answer ends the generation in the worker."""
    before = len(generating(simulator))
    host, port = urllib.parse.urlsplit(service).netloc.split(":")
    question = urllib.parse.quote("Tell me everything about tensors " * 20)
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(f"GET /?question={question} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert caller.recv(100)
    assert until(lambda: generating(simulator)[before].disconnected)


# Celery ------------------------------------------------------------------------------------------------------------


def test_celery(start: Start, simulator: Simulator, tmp_path: Path, environment: dict[str, str]) -> None:
    """Tasks in four forked processes use one client; a task's failure reaches the caller with what the server said."""
    folder = tmp_path / "celery"
    worker = start(
        *(sys.executable, "-m", "celery", "--app", "celery_tasks", "worker", "--concurrency", "4"),
        *("--pool", "prefork", "--loglevel", "INFO", "--without-gossip", "--without-mingle"),
        CELERY_FOLDER=str(folder),
    )
    worker.wait_until(lambda: "ready." in worker.log.read_text(), 40)
    caller = """
import celery_tasks as tasks
waiting = [tasks.answer.delay(f"What is {number}?") for number in range(40)]
for task in waiting:
    assert task.get(timeout=40, interval=0.02)
assert tasks.nearest.delay("green grass", ["red wine", "green grass", "blue sky"]).get(timeout=20) == "green grass"
lost = tasks.answer.delay("hello", model="no/such-model")
try:
    lost.get(timeout=20)
except Exception as error:
    print(type(error).__name__, error)
tasks.app.control.shutdown()
"""
    path = os.pathsep.join(filter(None, [str(EXAMPLES), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", caller],
        env={**os.environ, **environment, "CELERY_FOLDER": str(folder), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr + worker.log.read_text()
    assert "no/such-model" in done.stdout
    assert len([r for r in generating(simulator) if r.status == 200]) == 40
    assert until(lambda: worker.ended)
    words = worker.log.read_text()
    assert len({line.split("ForkPoolWorker-")[1][0] for line in words.splitlines() if "succeeded" in line}) > 1
    worker.log.write_text(words.replace("Traceback", "(the task that was to fail)"))


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_an_error_in_celerys_results(serializer: str) -> None:
    """As JSON a result carries the error's name and words, as a pickle the error with all its fields."""
    app = Celery(backend="cache+memory://", broker="memory://")
    app.conf.update(result_serializer=serializer, result_accept_content=["json", "pickle"])
    error = RateLimitError("busy", status=429, request_id="r-1", retry_after=1.5, attempts=3)
    backend = app.backend
    carried = backend.decode(backend.encode({"result": backend.prepare_exception(error)}))["result"]
    twin = backend.exception_to_python(carried)
    assert "busy" in str(twin)
    if serializer == "pickle":
        assert (type(twin), vars(twin)) == (RateLimitError, vars(error))
    else:
        assert "RateLimitError" in str(twin)


# multiprocessing ---------------------------------------------------------------------------------------------------


def test_a_pool_of_processes(simulator: Simulator, environment: dict[str, str]) -> None:
    """The multiprocessing example prints an answer for every question and nothing else."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / "process_pool.py")]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition("?")[0] for line in done.stdout.splitlines()] == [
        "What is a GPU",
        "What is a tensor",
        "What is a kernel",
        "What is a stream",
    ]
    assert len(generating(simulator)) == 4


def test_a_pool_of_processes_that_is_interrupted(simulator: Simulator, environment: dict[str, str]) -> None:
    """Ctrl-C in the middle of the pool's work ends the program, and with it everything that it had asked for."""
    command = [sys.executable, str(EXAMPLES / "process_pool.py")]
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert until(lambda: bool(generating(simulator)))
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode != 0
    assert until(lambda: all(request.disconnected or request.status == 200 for request in generating(simulator)))
