"""Importing nimclient and building a client is light."""

import os
import subprocess
import sys

import pytest

import nimclient

HEAVY = ("aiohttp", "numpy", "ssl", "asyncio", "rich", "multidict", "yarl")


def loaded_after(code: str) -> set[str]:
    """The names of the modules that a fresh interpreter has loaded after running `code`, which no coverage measures."""
    script = f"{code}\nimport sys; print(' '.join(sys.modules))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_client_is_built_without_heavy_modules() -> None:
    """Importing and constructing AsyncClient loads neither aiohttp nor NumPy nor ssl."""
    code = "from nimclient import AsyncClient; AsyncClient(base_url='http://127.0.0.1:1')"
    assert loaded_after(code).isdisjoint(HEAVY)


def test_the_package_alone_loads_nothing_but_itself() -> None:
    """`import nimclient` loads no other module of the package and no dependency."""
    loaded = loaded_after("import nimclient")
    assert not any(name.startswith("nimclient.") for name in loaded)
    assert loaded.isdisjoint({"attr", "attrs", "orjson", "anyio", *HEAVY})


def test_numpy_is_loaded_only_when_it_is_asked_for() -> None:
    """Making vectors does not import NumPy; asking for an array does."""
    code = "from nimclient import Vectors; v = Vectors(bytes(16), 4)"
    assert "numpy" not in loaded_after(code)
    assert "numpy" in loaded_after(f"{code}; v.numpy()")


FIRST_CHAT = """
import asyncio
from nimclient import AsyncClient
from nimclient.testing import FakeTransport
answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
client = AsyncClient(base_url="http://fake", model="m", transport=FakeTransport([answer]))
asyncio.run(client.chat.create("hi"))
"""


def test_a_first_chat_loads_what_a_chat_needs() -> None:
    """One chat.create has loaded no tools, no schemas, no jobs over many items, no embeddings and no ranking."""
    loaded = loaded_after(FIRST_CHAT)
    ours = {name.removeprefix("nimclient.") for name in loaded if name.startswith("nimclient.")}
    assert len(ours) <= 72
    others = ("_schema", "_sync", "_bulk.workers", "_resources.batch", "_resources.assets", "_resources.tool_loop")
    assert ours.isdisjoint({*others, "records.embeddings", "records.ranking", "_api.embeddings", "_api.ranking"})
    kinds = {"records.completions", "records.files", "records.media", "records.models"}
    assert ours.isdisjoint({"_bulk.gate", "_bulk.pacer", "_bulk.rate", "_bulk.window", "_engine.rejection", *kinds})
    assert loaded.isdisjoint({"anyio", "html", "importlib.resources", "zipfile"})


def test_every_public_name_exists() -> None:
    """Each name of __all__ can be imported and says what it is."""
    for name in nimclient.__all__:
        assert name == "__version__" or getattr(nimclient, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that does not exist is rejected as by any module."""
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = nimclient.Nonsense  # type: ignore[attr-defined]  # that is the point


def test_dir_lists_the_public_names() -> None:
    """dir(nimclient) shows what can be imported, for editors and notebooks."""
    assert set(nimclient.__all__) <= set(dir(nimclient))
