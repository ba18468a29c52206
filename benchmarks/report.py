"""Runs become summaries, summaries become a table and a JSON document. Pure: no clock, no files."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.runs import Run, Spread, paired, spread
from benchmarks.scenarios import BY_NAME, Scenario


@dataclass(frozen=True, slots=True)
class Summary:
    """One peer in one scenario: CPU per unit in µs (a start: ms), the same against the baseline and against nimclient.

    `limit` is the most it may be against the baseline, `ahead` the least it is expected to be against nimclient.
    """

    scenario: str
    peer: str
    cpu: Spread | None
    compared: Spread | None
    against_ours: Spread | None
    limit: float | None
    ahead: float | None
    counted: int
    rejected: int
    shared: int
    failures: tuple[str, ...]

    @property
    def reached(self) -> bool | None:
        """Whether the median meets the target; None without a target or a measurement."""
        if self.limit is not None and self.compared is not None:
            return self.compared.median <= self.limit
        if self.ahead is not None and self.against_ours is not None:
            return self.against_ours.median >= self.ahead
        return None

    @property
    def target(self) -> str:
        """The target in signs."""
        if self.limit is not None:
            return f"≤ {self.limit:g}"
        return "" if self.ahead is None else f"≥ {self.ahead:g} × {BY_NAME[self.scenario].ours}"


def summarize(scenario: Scenario, peer: str, runs: Sequence[Run]) -> Summary:
    """The summary of one peer from the runs of all peers of a scenario."""
    own = [run for run in runs if run.peer == peer]
    baseline = [run for run in runs if run.peer == scenario.baseline]
    scale = scenario.per_second
    compare = operator.sub if scenario.as_difference else operator.truediv
    compared = paired(own, baseline, compare)
    ours = [run for run in runs if run.peer == scenario.ours]
    return Summary(
        scenario=scenario.name,
        peer=peer,
        cpu=spread(run.cpu_per_unit * scale for run in own if run.counted),
        compared=spread(value * scale if scenario.as_difference else value for value in compared),
        against_ours=None if scenario.is_start else spread(paired(own, ours, operator.truediv)),
        limit=scenario.limit if peer == scenario.ours else scenario.other_limits.get(peer),
        ahead=scenario.ahead.get(peer),
        counted=sum(run.counted for run in own),
        rejected=sum(run.rejected for run in own),
        shared=sum(run.shared for run in own),
        failures=tuple(run.failure for run in own if run.failure is not None),
    )


def summarize_all(runs: Sequence[Run]) -> list[Summary]:
    """A summary of every peer in every scenario, in the order in which they ran."""
    by_scenario: dict[str, list[Run]] = {}
    for run in runs:
        by_scenario.setdefault(run.scenario, []).append(run)
    return [
        summarize(BY_NAME[name], peer, own)
        for name, own in by_scenario.items()
        for peer in dict.fromkeys(run.peer for run in own)
    ]


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def extent(values: Spread) -> str:
    """The least and the greatest."""
    return f"{number(values.low)}–{number(values.high)}"


def how_many(summary: Summary) -> str:
    """How many runs count, and why others do not."""
    notes = [str(summary.counted)]
    if summary.rejected:
        notes.append(f"{summary.rejected} rejected")
    if summary.shared:
        notes.append(f"{summary.shared} on a busy machine")
    if summary.failures:
        notes.append(f"{len(summary.failures)} failed: {summary.failures[-1]}")
    return ", ".join(notes)


def headings(scenario: Scenario) -> tuple[str, ...]:
    """The names of the columns."""
    relation = f"over {scenario.baseline}" if scenario.as_difference else f"× {scenario.baseline}"
    return ("peer", scenario.symbol, "min–max", relation, "min–max", f"× {scenario.ours}", "target", "", "runs")


def cells(summary: Summary, scenario: Scenario) -> tuple[str, ...]:
    """One line of the table."""
    is_baseline = summary.peer == scenario.baseline
    compared = None if is_baseline else summary.compared
    return (
        summary.peer,
        number(summary.cpu.median) if summary.cpu else "",
        extent(summary.cpu) if summary.cpu else "",
        number(compared.median) if compared else "",
        extent(compared) if compared else "",
        number(summary.against_ours.median) if summary.against_ours and summary.peer != scenario.ours else "",
        summary.target,
        {True: "reached", False: "missed", None: ""}[summary.reached],
        how_many(summary),
    )


def aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Columns of equal width: the first and the last to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *middle, last in rows:
        numbers = (cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True))
        yield "  ".join(["", first.ljust(widths[0]), *numbers, last]).rstrip()


def table(summaries: Sequence[Summary]) -> str:
    """One block of aligned columns for each scenario."""
    lines: list[str] = []
    for name in dict.fromkeys(summary.scenario for summary in summaries):
        scenario = BY_NAME[name]
        rows = [cells(summary, scenario) for summary in summaries if summary.scenario == name]
        lines += [f"{name}: {scenario.title} ({scenario.symbol} of client CPU per {scenario.unit})"]
        lines += [*aligned([headings(scenario), *rows]), ""]
    return "\n".join(lines)


def document(
    machine: Mapping[str, object], options: Mapping[str, object], runs: Sequence[Run], summaries: Sequence[Summary]
) -> dict[str, object]:
    """Everything that was measured, ready for JSON."""
    return {
        "machine": dict(machine),
        "options": dict(options),
        "summaries": [asdict(summary) | {"reached": summary.reached} for summary in summaries],
        "runs": [asdict(run) | {"rejected": run.rejected} for run in runs],
    }
