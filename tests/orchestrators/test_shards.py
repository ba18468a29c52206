"""The examples of Prefect, Dagster and Temporal embed a file in shards, and resume it: `nox -s orchestrators`."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from nimclient.simulator import Simulator, SimulatorThread
from servers.process import ServerProcess, free_port

SWITCH = "NIMCLIENT_TEST_ORCHESTRATORS"
if not os.environ.get(SWITCH):
    pytest.skip("they take 500 MB: `nox -s orchestrators` installs them and runs these", allow_module_level=True)

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
COUNT = 3
ROWS = 100
SECONDS = 500  # of a run: each starts a server of its own
MODEL = "nvidia/nv-embedqa-e5-v5"


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A NIM with one model."""
    simulator = Simulator(models=[MODEL])
    with SimulatorThread(simulator):
        yield simulator


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A hundred rows."""
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps({"id": f"d{n}", "text": f"text {n}"}) + "\n" for n in range(ROWS)))
    return path


def prefect(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of the example."""
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_HOME": str(folder / "prefect")}
    quiet["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "250"
    return [str(folder / "docs.jsonl"), str(folder / "vectors"), str(COUNT)], quiet


def dagster(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The same."""
    paths = {"EMBED_SOURCE": str(folder / "docs.jsonl"), "EMBED_OUTPUT": str(folder / "vectors")}
    return [], {**paths, "EMBED_SHARDS": str(COUNT), "DAGSTER_DISABLE_TELEMETRY": "1"}


def temporal(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The same; the address is that of `dev_server`."""
    return [str(folder / "docs.jsonl"), str(folder / "vectors"), str(COUNT)], {}


@contextmanager
def dev_server(folder: Path, port: int) -> Iterator[None]:
    """Temporal's own server for development."""
    program = shutil.which("temporal") or str(Path(sys.executable).with_name("temporal"))
    command = [program, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port)]
    server = ServerProcess(command, {}, folder / "temporal.log")
    try:
        server.wait_until(lambda: listens(port), 120)
        yield
    finally:
        server.stop()


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(3 * SECONDS)
@pytest.mark.parametrize("recipe", [prefect, dagster, temporal])
def test_shards(recipe: Callable[[Path], Any], simulator: Simulator, source: Path, tmp_path: Path) -> None:
    """Every row is embedded once, the manifest is of all shards, and running it again sends nothing."""
    arguments, more = recipe(tmp_path)
    port = free_port()
    environment = {**os.environ, **more, "NVIDIA_BASE_URL": simulator.base_url, "TEMPORAL_ADDRESS": f"127.0.0.1:{port}"}
    with dev_server(tmp_path, port) if recipe is temporal else nullcontext():
        for _ in range(2):
            command = [sys.executable, str(EXAMPLES / f"{recipe.__name__}_shards.py"), *arguments]
            done = subprocess.run(
                command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert "complete" in done.stdout
            sent = [text for request in simulator.requests if request.json for text in request.json.get("input", ())]
            assert len(sent) == len(set(sent)) == ROWS
    manifest = json.loads((tmp_path / "vectors" / "manifest.json").read_text())
    assert (manifest["status"], manifest["succeeded"], manifest["shards"]) == ("complete", ROWS, COUNT)
    ids = [
        json.loads(line)["id"]
        for path in (tmp_path / "vectors").glob("*.ids.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert sorted(ids) == sorted(f"d{number}" for number in range(ROWS))
