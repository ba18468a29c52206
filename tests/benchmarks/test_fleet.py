"""Eight real processes with one share, three of them killed: counts of the server, which hold on a busy machine."""

import pytest

from benchmarks import fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def test_against_slots() -> None:
    """No slot is leaked, few requests are throttled, and each process that is left has about as much as the others."""
    figures = await fleet.run("64 slots", 20.0, shared=True, slots=fleet.SLOTS)
    assert figures.leaked == 0
    assert figures.rejected <= 0.05
    assert figures.fair_after <= 0.25


async def test_against_a_rate() -> None:
    """The same where the server counts requests."""
    figures = await fleet.run("600 a minute", 40.0, shared=True, rpm=fleet.RPM)
    assert figures.leaked == 0
    assert figures.rejected <= 0.15
    assert figures.fair_after <= 0.35
