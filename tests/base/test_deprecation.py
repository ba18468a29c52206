import ast
import re
import warnings
from pathlib import Path

import pytest

import nimclient
from nimclient._base.deprecation import deprecated

SOURCE = Path(nimclient.__file__).parent


@deprecated("new()", until="2.0")
def old(number: int) -> int:
    """Twice the number."""
    return 2 * number


def test_it_works_and_warns_at_the_callers_line() -> None:
    """A deprecated function does what it did; the warning names what takes its place, the version, and this file."""
    with pytest.warns(
        DeprecationWarning, match=r"^old is deprecated and goes away in nimclient 2\.0; use new\(\)$"
    ) as caught:
        assert old(2) == 4
    assert caught[0].filename == __file__


def test_it_looks_like_the_function() -> None:
    """Name and docstring are those of the function, and nothing warns before it is called."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (old.__name__, old.__doc__) == ("old", "Twice the number.")


def removals(source: str) -> list[str]:
    """The versions that the deprecations of a module name."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "deprecated"]
    return [ast.literal_eval(word.value) for call in named for word in call.keywords if word.arg == "until"]


def test_nothing_outlives_its_version() -> None:
    """What should have gone away by this version is gone."""
    assert removals(Path(__file__).read_text()) == ["2.0"]
    present = tuple(map(int, re.findall(r"\d+", nimclient.__version__)))
    for path in SOURCE.rglob("*.py"):
        for version in removals(path.read_text()):
            assert present < tuple(map(int, version.split("."))), path
