"""Warnings point at the caller's line."""

import asyncio
import warnings
from typing import Any

from nimclient._base.warnings import warn_caller


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
