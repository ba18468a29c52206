"""Which cases of a test run in the ordinary command; the others are left to `nox -s slow`."""

import os
from collections.abc import Iterable
from typing import Any

import pytest

SEEDS = int(os.environ.get("NIMCLIENT_TEST_SEEDS", "5"))
"""Seeds of each simulation in the slow session; `nox -s seeds` takes 20."""


def mostly_slow(cases: Iterable[Any], *ordinary: Any) -> list[Any]:
    """Values for `parametrize`, of which all but the `ordinary` ones are marked as slow."""
    return [case if case in ordinary else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def seeds(*ordinary: int) -> list[Any]:
    """The seeds of a simulation, of which only the `ordinary` ones are run in the ordinary command."""
    return mostly_slow(range(SEEDS), *ordinary)
