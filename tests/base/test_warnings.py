"""Warnings point at the caller's line."""

import asyncio
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import nimclient
from nimclient._base.warnings import deprecated, warn_caller


def caught(call: Any) -> warnings.WarningMessage:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    (one,) = found
    return one


def test_a_direct_call() -> None:
    """The line that calls is the one that is shown."""
    found = caught(lambda: warn_caller("x", FutureWarning))
    assert (found.filename, found.category, str(found.message)) == (__file__, FutureWarning, "x")


def test_from_inside_the_package() -> None:
    """Frames of the package are passed over, those of a package whose name only begins alike are not."""
    ours: dict[str, Any] = {"__name__": "nimclient._engine.engine", "warn": warn_caller}
    exec(compile("def call(): warn('x', UserWarning)", "<engine>", "exec"), ours)
    assert caught(ours["call"]).filename == __file__
    theirs: dict[str, Any] = {"__name__": "nimclient_app.main", "call": ours["call"]}
    exec(compile("def run(): call()", "main.py", "exec"), theirs)
    assert caught(theirs["run"]).filename == "main.py"


def test_from_a_task_of_its_own() -> None:
    """A task that is not awaited directly was started by whoever runs the loop."""

    async def main() -> None:
        asyncio.get_running_loop().call_soon(warn_caller, "x", UserWarning)
        await asyncio.sleep(0.01)

    assert caught(lambda: asyncio.run(main())).filename == __file__


def test_what_is_deprecated_says_so_at_the_callers_line() -> None:
    """The warning names what takes the place of a name and the version that takes it away; the line is the caller's."""
    ours: dict[str, Any] = {"__name__": "nimclient.old", "deprecated": deprecated}
    exec("def old():\n    deprecated('old()', until='2.0', instead='new()')\n    return 1", ours)
    with pytest.warns(
        DeprecationWarning, match=r"^old\(\) is deprecated and will be removed in nimclient 2\.0; use new\(\)$"
    ) as said:
        assert ours["old"]() == 1
    assert said[0].filename == __file__


def removals(source: str) -> list[str]:
    """The versions that the calls of `deprecated` in a module name."""
    return re.findall(r"\bdeprecated\([^)]*until=[\"']([\d.]+)", source)


def test_nothing_outlives_its_version() -> None:
    """What should have gone away by this version is gone."""
    assert removals("deprecated('a', until='1.3', instead='b')") == ["1.3"]
    present = tuple(map(int, re.findall(r"\d+", nimclient.__version__)))
    for path in Path(nimclient.__file__).parent.rglob("*.py"):
        for version in removals(path.read_text()):
            assert present < tuple(map(int, version.split("."))), path
