"""Which cases of a test run in the ordinary command; the others are left to `nox -s slow`."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(cases: Iterable[Any], *ordinary: Any) -> list[Any]:
    """Values for `parametrize`, of which all but the `ordinary` ones are marked as slow."""
    return [case if case in ordinary else pytest.param(case, marks=pytest.mark.slow) for case in cases]
