"""The fixtures in sessions of their own, as users start them, with each of the plugins for async tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TEST = """
import pytest
from nimclient import AsyncClient, Client

{mark}
async def test_async(nim_simulator, nim_simulator_url):
    async with AsyncClient(base_url=nim_simulator_url) as client:
        assert (await client.chat.create("Paris is the capital of France. What is the capital?")).text
    assert nim_simulator.requests[-1].path == "/v1/chat/completions"

def test_blocking(nim_simulator_url):
    with Client(base_url=nim_simulator_url) as client:
        assert client.health.ready()
"""
ANYIO = """
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""
UNUSED = """
import sys

def test_nothing_is_imported():
    loaded = {name.partition(".")[0] for name in sys.modules} & {"aiohttp", "pytest_asyncio", "asyncio", "orjson"}
    assert not loaded, loaded
"""


def run(folder: Path, test: str, *options: str) -> str:
    """The output of a session with one file and the plugin, which must pass."""
    folder.joinpath("test_it.py").write_text(test)
    folder.joinpath("pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


PLUGIN = ("-p", "nimclient.integrations.pytest_plugin")


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("mark", "options"),
    [
        ("", ("-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto")),
        pytest.param("@pytest.mark.asyncio", ("-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=strict"), marks=SLOW),
        pytest.param(ANYIO, ("-p", "anyio.pytest_plugin"), marks=SLOW),
        pytest.param(
            ANYIO, ("-p", "anyio.pytest_plugin", "-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=strict"), marks=SLOW
        ),
    ],
    ids=["asyncio auto", "asyncio strict", "anyio", "anyio beside asyncio"],
)
def test_fixtures_serve_every_kind_of_test(tmp_path: Path, mark: str, options: tuple[str, ...]) -> None:
    """Async tests under each plugin and in each mode, and blocking ones beside them, get a simulator."""
    assert "2 passed" in run(tmp_path, TEST.format(mark=mark), *PLUGIN, *options)


def test_a_session_without_them_pays_nothing(tmp_path: Path) -> None:
    """Where no test asks for a fixture neither aiohttp nor pytest-asyncio is imported, nor even asyncio."""
    assert "1 passed" in run(tmp_path, UNUSED, *PLUGIN)
