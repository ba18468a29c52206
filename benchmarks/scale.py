"""What a million texts cost through embed_stream, beside ten thousand: `python -m benchmarks.scale [--texts 1000000]`.

Peak memory and client CPU a text, each run in a process of its own against the canned server (1024 dimensions, 64 texts a
request). Prints both against their targets, writes JSON, and draws both over the texts (needs matplotlib).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import orjson

from benchmarks import machine
from benchmarks.harness import run_python
from benchmarks.server import running_server

FEW = 10_000
MOST_MEGABYTES = 60.0
MOST_RATIO = 1.05
SMOOTHED = 10  # samples


@dataclass(frozen=True, slots=True)
class Run:
    """One process. Samples are (texts, seconds of CPU, kB of memory) so far."""

    texts: int
    cpu_seconds: float
    wall_seconds: float
    peak_kb: int
    samples: list[tuple[int, float, int]]

    @property
    def microseconds(self) -> float:
        """CPU a text."""
        return self.cpu_seconds / self.texts * 1e6

    @property
    def megabytes(self) -> float:
        """Peak memory."""
        return self.peak_kb / 1024


def run_once(url: str, count: int) -> Run:
    """One process, with a line on standard error."""
    line = run_python("-m", "benchmarks.scale_child", url, str(count), seconds=count / 5_000)
    run = Run(**orjson.loads(line))
    figures = f"{run.microseconds:.2f} µs a text, peak {run.megabytes:.1f} MB, {run.wall_seconds:.1f} s"
    print(f"{run.texts} texts: {figures}", file=sys.stderr)
    return run


def measure(many: int, turns: int) -> list[Run]:
    """Few texts several times, around every run of many: the machine is not always as busy."""
    with running_server() as url:
        runs = [run_once(url, FEW) for _ in range(turns)]
        for _ in range(turns):
            runs += [run_once(url, many), run_once(url, FEW)]
    return runs


@dataclass(frozen=True, slots=True)
class Comparison:
    """Many texts against few, by medians."""

    megabytes_more: float
    cost_ratio: float

    @property
    def reached(self) -> bool:
        """Whether both targets are met."""
        return self.megabytes_more <= MOST_MEGABYTES and self.cost_ratio <= MOST_RATIO


def compare(runs: Sequence[Run]) -> Comparison:
    """The medians of the runs of many texts against those of few."""
    few = [run for run in runs if run.texts == FEW]
    many = [run for run in runs if run.texts != FEW]
    more = median(run.megabytes for run in many) - median(run.megabytes for run in few)
    return Comparison(more, median(run.microseconds for run in many) / median(run.microseconds for run in few))


def draw(runs: Sequence[Run], path: Path) -> None:
    """Memory and cost over the texts of the longest run, with the level of the short ones."""
    from matplotlib.figure import Figure

    longest = max(runs, key=lambda run: run.texts)
    few = [run for run in runs if run.texts == FEW]
    texts, cpu, memory = zip(*longest.samples, strict=True)
    windows = list(zip(texts, texts[SMOOTHED:], cpu, cpu[SMOOTHED:], strict=False))  # answers come in bursts
    figure = Figure(figsize=(8, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    level = median(run.megabytes for run in few)
    upper.plot(texts, [kb / 1024 for kb in memory], label=f"{longest.texts:,} texts, memory by the way")
    upper.axhline(level, color="tab:green", linestyle="--", label=f"peak of {FEW:,} texts")
    upper.axhline(level + MOST_MEGABYTES, color="tab:red", linestyle=":", label=f"+ {MOST_MEGABYTES:.0f} MB")
    upper.set(ylabel="resident memory, MB", ylim=(0, None), title="embed_stream, 1024 dimensions, 64 texts a request")
    cost = median(run.microseconds for run in few)
    lower.plot([end for _, end, _, _ in windows], [(b - a) / (end - start) * 1e6 for start, end, a, b in windows])
    lower.axhline(cost, color="tab:green", linestyle="--", label=f"{FEW:,} texts")
    lower.axhline(cost * MOST_RATIO, color="tab:red", linestyle=":", label="+ 5 %")
    lower.set(xlabel="texts embedded", ylabel="client CPU, µs a text", ylim=(0, None))
    lower.ticklabel_format(axis="x", style="plain")
    for axes in (upper, lower):
        axes.margins(y=0.1)
        axes.legend(loc="lower right")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str]) -> None:
    """Measure, or take an earlier result; print, write, draw."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description="A million texts beside ten thousand."
    )
    parser.add_argument("--texts", type=int, default=1_000_000, help="how many are many (default 1,000,000)")
    parser.add_argument("--turns", type=int, default=3, help="runs of many texts (default 3)")
    parser.add_argument("--draw", type=Path, metavar="JSON", help="only draw an earlier result")
    options = parser.parse_args(arguments)
    path: Path = options.draw or Path(__file__).parent / "results" / f"scale-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    if options.draw:
        runs = [Run(**run) for run in orjson.loads(path.read_bytes())["runs"]]
    else:
        runs = measure(options.texts, options.turns)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"machine": machine.describe(), "runs": [asdict(run) for run in runs]}
        path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    result = compare(runs)
    print(f"peak memory: {result.megabytes_more:+.1f} MB (at most +{MOST_MEGABYTES:.0f})")
    print(f"CPU a text: × {result.cost_ratio:.3f} (at most × {MOST_RATIO})")
    print(f"Results: {path}")
    try:
        draw(runs, path.with_suffix(".png"))
    except ImportError:
        print("No picture: matplotlib is not installed")
    else:
        print(f"Picture: {path.with_suffix('.png')}")


if __name__ == "__main__":
    main(sys.argv[1:])
