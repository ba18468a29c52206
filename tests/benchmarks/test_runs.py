"""A run counts when its process used no more CPU than one thread can, and is compared with the same turn."""

import operator

import pytest

from benchmarks.runs import Run, Spread, paired, spread


def run(turn=0, cpu=0.5, wall=1.0, units=100, failure=None):
    return Run("stream", "floor", turn, units=units, cpu_seconds=cpu, wall_seconds=wall, failure=failure)


@pytest.mark.parametrize(("cpu", "counted"), [(0.2, True), (1.0, True), (1.1, True), (1.11, False), (2.0, False)])
def test_cpu_above_wall_by_a_tenth_is_not_counted(cpu, counted):
    assert run(cpu=cpu).counted is counted
    assert run(cpu=cpu).rejected is not counted


def test_a_peer_with_threads_of_its_own_may_use_more():
    assert Run("embed-64", "baseten", 0, units=1, cpu_seconds=2.0, wall_seconds=1.0).counted


def test_failed_run_is_neither_counted_nor_rejected():
    failed = Run("stream", "floor", 0, failure="ImportError")
    assert not failed.counted
    assert not failed.rejected


def test_cpu_per_unit_is_seconds():
    assert run(cpu=0.5, units=250).cpu_per_unit == 0.002


def test_spread_is_least_middle_greatest():
    assert spread([3.0, 1.0, 2.0]) == Spread(1.0, 2.0, 3.0)
    assert spread([1.0, 2.0]) == Spread(1.0, 1.5, 2.0)


def test_spread_of_nothing_is_none():
    assert spread([]) is None


def test_runs_are_compared_within_their_turn():
    baseline = [run(0, cpu=0.1), run(1, cpu=0.2)]
    runs = [run(1, cpu=0.6), run(0, cpu=0.2)]
    assert paired(runs, baseline, operator.truediv) == pytest.approx([3.0, 2.0])


def test_a_turn_without_two_counted_runs_gives_no_pair():
    baseline = [run(0, cpu=5.0), run(1, failure="broken"), run(2, cpu=0.1), run(3, cpu=0.1)]
    runs = [run(0), run(1), run(2, cpu=5.0), run(3, cpu=0.4)]
    assert paired(runs, baseline, operator.truediv) == pytest.approx([4.0])
