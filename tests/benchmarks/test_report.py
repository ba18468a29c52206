"""A report gives CPU per unit, the ratio to the floor or what a start adds to the bare interpreter, and the target."""

import json

import pytest

from benchmarks import report
from benchmarks.runs import Run, Spread


def runs(scenario, peer, microseconds):
    return [
        Run(scenario, peer, turn, units=1000, cpu_seconds=value / 1e3, wall_seconds=value / 1e3)
        for turn, value in enumerate(microseconds)
    ]


def approximately(values):
    return pytest.approx((values.low, values.median, values.high))


def test_ratios_are_paired_by_turn():
    measured = runs("chat", "floor", [100, 200, 100]) + runs("chat", "nimclient", [140, 260, 160])
    _, ours = report.summarize_all(measured)
    assert approximately(ours.compared) == (1.3, 1.4, 1.6)
    assert approximately(ours.cpu) == (140, 160, 260)


@pytest.mark.parametrize(("microseconds", "reached"), [(79, True), (80, True), (81, False)])
def test_target_is_reached_by_the_median(microseconds, reached):
    measured = runs("chat", "floor", [100] * 3) + runs("chat", "nimclient", [10, microseconds, 900])
    _, ours = report.summarize_all(measured)
    assert ours.limit == 0.8
    assert ours.reached is reached


def test_only_nimclient_has_a_target():
    floor, openai = report.summarize_all(runs("chat", "floor", [100]) + runs("chat", "openai", [900]))
    assert floor.reached is openai.reached is None


@pytest.mark.parametrize(("peer", "microseconds", "reached"), [("openai", 139, False), ("openai", 140, True)])
def test_a_peer_is_expected_to_use_a_multiple_of_ours(peer, microseconds, reached):
    measured = runs("documents-64", "floor", [11]) + runs("documents-64", "nimclient", [10])
    *_, theirs = report.summarize_all(measured + runs("documents-64", peer, [microseconds]))
    assert theirs.target == "≥ 14 × nimclient"
    assert theirs.reached is reached


def test_nimclient_without_pybase64_has_a_target_of_its_own():
    measured = runs("embed-64", "floor", [10]) + runs("embed-64", "nimclient-stdlib", [21])
    *_, plain = report.summarize_all(measured)
    assert (plain.target, plain.reached) == ("≤ 2", False)


def test_a_blocking_call_is_compared_by_what_it_adds_and_others_with_it():
    measured = runs("sync-chat", "nimclient", [200]) + runs("sync-chat", "nimclient-sync", [300])
    asynchronous, ours, theirs = report.summarize_all(measured + runs("sync-chat", "openai-sync", [599]))
    assert asynchronous.reached is None
    assert ours.compared.median == pytest.approx(100)
    assert (ours.target, ours.reached) == ("≤ 60", False)
    assert (theirs.target, theirs.reached) == ("≥ 4 × nimclient-sync", False)


def test_start_is_compared_by_what_it_adds_in_milliseconds():
    measured = runs("import", "bare", [8_000]) + runs("import", "nimclient", [48_000])
    bare, ours = report.summarize_all(measured)
    assert bare.cpu.median == pytest.approx(8)
    assert ours.compared.median == pytest.approx(40)
    assert ours.reached


def test_rejected_and_failed_runs_are_told_and_not_averaged():
    measured = [
        Run("chat", "floor", 0, units=1, cpu_seconds=1.0, wall_seconds=1.0),
        Run("chat", "floor", 1, units=1, cpu_seconds=2.0, wall_seconds=1.0),
        Run("chat", "floor", 2, failure="ImportError: no such peer"),
    ]
    (floor,) = report.summarize_all(measured)
    assert floor.cpu == Spread(1e6, 1e6, 1e6)
    assert report.how_many(floor) == "1, 1 rejected, 1 failed: ImportError: no such peer"


def test_runs_that_shared_the_machine_are_told():
    measured = [Run("chat", "floor", 0, units=1, cpu_seconds=1.0, wall_seconds=1.0, shared=True)]
    assert report.how_many(report.summarize_all(measured)[0]) == "1, 1 on a busy machine"


def test_peer_without_a_counted_run_has_neither_numbers_nor_a_verdict():
    measured = [*runs("chat", "floor", [100]), Run("chat", "nimclient", 0, failure="ImportError")]
    _, ours = report.summarize_all(measured)
    assert ours.cpu is ours.compared is ours.reached is None
    assert "1 failed: ImportError" in report.table([ours])


def test_table_has_a_block_for_each_scenario_with_aligned_columns():
    measured = runs("chat", "floor", [100, 110]) + runs("chat", "nimclient", [140, 154])
    measured += runs("import", "bare", [8_000]) + runs("import", "openai", [300_000])
    assert report.table(report.summarize_all(measured)).splitlines() == [
        "chat: small chat requests, one after another (µs of client CPU per request)",
        "  peer        µs  min–max  × floor    min–max  × nimclient  target          runs",
        "  floor      105  100–110                             0.71                  2",
        "  nimclient  147  140–154     1.40  1.40–1.40                ≤ 0.8  missed  2",
        "",
        "import: import plus construction (ms of client CPU per start)",
        "  peer      ms    min–max  over bare  min–max  × nimclient  target    runs",
        "  bare    8.00  8.00–8.00                                             1",
        "  openai   300    300–300        292  292–292                         1",
    ]


@pytest.mark.parametrize(("value", "text"), [(1.0512, "1.05"), (24.53, "24.5"), (984.6, "985"), (-0.25, "-0.25")])
def test_numbers_show_three_digits(value, text):
    assert report.number(value) == text


def test_document_is_json_with_machine_options_summaries_and_every_run():
    measured = runs("chat", "floor", [100]) + runs("chat", "nimclient", [140])
    written = report.document({"cpu": "some"}, {"runs": 1}, measured, report.summarize_all(measured))
    assert json.loads(json.dumps(written)) == written | {"summaries": json.loads(json.dumps(written["summaries"]))}
    assert [summary["reached"] for summary in written["summaries"]] == [None, False]
    assert [run["rejected"] for run in written["runs"]] == [False, False]
