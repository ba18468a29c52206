"""The examples of Airflow, Prefect, Dagster and Temporal embed a file in shards, and resume it: `nox -s orchestrators`."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from nimclient.simulator import Simulator, SimulatorThread
from servers.process import ServerProcess, free_port

SWITCH = "NIMCLIENT_TEST_ORCHESTRATORS"
if not os.environ.get(SWITCH):
    pytest.skip("they take 500 MB: `nox -s orchestrators` installs them and runs these", allow_module_level=True)

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
COUNT = 3
ROWS = 100
MODEL = "nvidia/nv-embedqa-e5-v5"
SECONDS = 300
QUIET = {
    "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


@frozen
class Recipe:
    """An example, the command of the orchestrator's own server, if it needs one, and the variable with its address.

    `before`: commands that it needs first; `command`: the one that runs it, if it is not the example itself.
    """

    name: str
    server: tuple[str, ...] = ()
    variable: str = ""
    address: str = ""
    takes_arguments: bool = True
    before: tuple[tuple[str, ...], ...] = ()
    command: tuple[str, ...] = ()


RECIPES = [
    Recipe(
        "airflow",
        takes_arguments=False,
        before=(("airflow", "db", "migrate"), ("airflow", "dags", "reserialize")),
        command=("airflow", "dags", "test", "embed_corpus"),
    ),
    Recipe(
        "prefect",
        ("prefect", "server", "start", "--host", "127.0.0.1", "--port"),
        "PREFECT_API_URL",
        "http://127.0.0.1:{}/api",
    ),
    Recipe("dagster", takes_arguments=False),
    Recipe(
        "temporal",
        ("temporal", "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port"),
        "TEMPORAL_ADDRESS",
        "127.0.0.1:{}",
    ),
]


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


@pytest.fixture(params=RECIPES, ids=[recipe.name for recipe in RECIPES])
def recipe(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    """Each of them, with its server running."""
    recipe: Recipe = request.param
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    dags = tmp_path / "dags"
    dags.mkdir()
    folders = {"PREFECT_HOME": "prefect", "AIRFLOW_HOME": "airflow", "AIRFLOW__CORE__DAGS_FOLDER": dags.name}
    for name, value in folders.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    shutil.copy(EXAMPLES / f"{recipe.name}_shards.py", dags)
    if not recipe.server:
        yield recipe
        return
    port = free_port()
    program, *options = recipe.server
    server = ServerProcess([program_of(program), *options, str(port)], {}, tmp_path / "server.log")
    try:
        server.wait_until(lambda: listens(port), SECONDS)
        monkeypatch.setenv(recipe.variable, recipe.address.format(port))
        yield recipe
    finally:
        server.stop()


def program_of(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).with_name(name))


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(3 * SECONDS)
def test_shards(recipe: Recipe, simulator: Simulator, source: Path, tmp_path: Path) -> None:
    """Every row is embedded once, the manifest is of all shards, and running it again sends nothing."""
    output = tmp_path / "vectors"
    paths = {"EMBED_SOURCE": str(source), "EMBED_OUTPUT": str(output), "EMBED_SHARDS": str(COUNT)}
    environment = {**os.environ, **paths, "NVIDIA_BASE_URL": simulator.base_url}
    command = [sys.executable, str(EXAMPLES / f"{recipe.name}_shards.py")]
    if recipe.command:
        command = [program_of(recipe.command[0]), *recipe.command[1:]]
    arguments = [str(source), str(output), str(COUNT)] if recipe.takes_arguments else []
    for program, *options in recipe.before:
        subprocess.run(
            [program_of(program), *options], env=environment, capture_output=True, check=True, timeout=SECONDS
        )
    for _ in range(2):
        done = subprocess.run(
            [*command, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "complete" in done.stdout
        sent = [text for request in simulator.requests if request.json for text in request.json.get("input", ())]
        assert len(sent) == len(set(sent)) == ROWS
    manifest = json.loads((output / "manifest.json").read_text())
    assert (manifest["status"], manifest["succeeded"], manifest["shards"]) == ("complete", ROWS, COUNT)
    lines = [line for path in output.glob("*.ids.jsonl") for line in path.read_text().splitlines()]
    assert sorted(json.loads(line)["id"] for line in lines) == sorted(f"d{number}" for number in range(ROWS))
