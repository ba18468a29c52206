"""The measured part of docs/benchmarks.md, written from the JSON of a run: `python -m benchmarks --markdown RESULTS.json`.

Pure but for `renew`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import extent, number
from benchmarks.runs import Spread
from benchmarks.scenarios import BY_NAME, Scenario

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
BEGIN = "<!-- begin measured: written by python -m benchmarks --markdown -->"
END = "<!-- end measured -->"
LIBRARIES = ("aiohttp", "orjson", "pybase64", "uvloop", "openai", "pyreqwest")

Row = Mapping[str, Any]
"""A summary as the JSON of a run has it."""


def renew(document: Mapping[str, Any], page: Path = PAGE) -> None:
    """Write what was measured into the page, between its marks. ValueError for a page without them."""
    page.write_text(renewed(page.read_text(), document))


def renewed(text: str, document: Mapping[str, Any]) -> str:
    """The page with these results in place of those between the marks. ValueError if there are no marks."""
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f"{text[:start]}\n\n{measured(document)}\n\n{text[end:]}"


def measured(document: Mapping[str, Any]) -> str:
    """Who is ahead of us, the machine, a table against the floor, and one of all peers where there are any."""
    rows: list[Row] = document["summaries"]
    parts = [
        *ahead_of_us(rows),
        conditions(document),
        table(["", "baseline", "nimclient", "against it", "wanted"], targets(rows)),
    ]
    if len({row["peer"] for row in rows} - {scenario_of(row).ours for row in rows}) > 1:
        parts.append(table(["", "client CPU, the least first"], ranks(rows)))
    return "\n\n".join(parts)


def scenario_of(row: Row) -> Scenario:
    """What a row measures."""
    return BY_NAME[row["scenario"]]


def ahead_of_us(rows: Sequence[Row]) -> Iterable[str]:
    """A sentence for each peer that took less CPU than nimclient; the baseline is none."""
    for row in rows:
        scenario, ratio = scenario_of(row), row["against_ours"]
        if row["peer"] not in (scenario.ours, scenario.baseline) and ratio is not None and ratio["median"] < 1:
            yield f"{row['peer']} is ahead of nimclient in {scenario.title}: {number(ratio['median'])} × its CPU."


def conditions(document: Mapping[str, Any]) -> str:
    """The machine, the versions, the day, and whether anything else ran."""
    machine, options = document["machine"], document["options"]
    versions = [f"{name} {machine['versions'][name]}" for name in LIBRARIES if name in machine["versions"]]
    shared, counted = (sum(row[name] for row in document["summaries"]) for name in ("shared", "counted"))
    busy = (
        f" {shared} of {counted} runs shared the machine with something else: a reading, not to be quoted."
        if shared
        else ""
    )
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['python']}, {', '.join(versions)}"
    how = (
        f"{options['runs']} runs of {options['seconds']:g} s, medians, ratios within each turn with least and greatest"
    )
    return f"{where}; {options['started_at'][:10]}; {how}.{busy}"


def targets(rows: Sequence[Row]) -> Iterable[Sequence[str]]:
    """nimclient beside the baseline in every scenario."""
    for row in rows:
        scenario = scenario_of(row)
        if row["peer"] != scenario.ours or row["cpu"] is None:
            continue
        baseline = next((r for r in rows if (r["scenario"], r["peer"]) == (scenario.name, scenario.baseline)), None)
        floor = "" if baseline is None or baseline["cpu"] is None else number(baseline["cpu"]["median"])
        compared = Spread(**row["compared"]) if row["compared"] is not None else None
        sign = "+ " if scenario.as_difference else "× "
        against = "" if compared is None else f"{sign}{number(compared.median)} ({extent(compared)})"
        wanted = "" if row["limit"] is None else f"≤ {row['limit']:g}"
        missed = ", missed" if row["reached"] is False else ""
        name = f"{scenario.title}, {scenario.symbol} a {scenario.unit}"
        yield name, floor, number(row["cpu"]["median"]), against, wanted + missed


def ranks(rows: Sequence[Row]) -> Iterable[Sequence[str]]:
    """All peers of every scenario, by what they took."""
    for name in dict.fromkeys(row["scenario"] for row in rows):
        found = sorted((row["cpu"]["median"], row["peer"]) for row in rows if row["scenario"] == name and row["cpu"])
        scenario = BY_NAME[name]
        peers = ", ".join(f"{peer} {number(median)}" for median, peer in found)
        yield f"{scenario.title}, {scenario.symbol} a {scenario.unit}", peers


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))
