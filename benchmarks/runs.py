"""One measured run, whether it counts, and the statistics of several: pure, and the same for every scenario."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from benchmarks.runners import THREADED

MOST_CPU_PER_WALL = 1.1


@dataclass(frozen=True, slots=True)
class Run:
    """What one process of one peer used; `failure` is why there is nothing to count."""

    scenario: str
    peer: str
    turn: int
    units: int = 0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    failure: str | None = None
    shared: bool = False
    """Whether the machine did something else at the time, however often the run was repeated."""

    @property
    def rejected(self) -> bool:
        """More CPU than one thread can use: helper threads spun, and the run says nothing about the client."""
        if self.failure is not None or self.peer in THREADED:
            return False
        return self.cpu_seconds > MOST_CPU_PER_WALL * self.wall_seconds

    @property
    def counted(self) -> bool:
        """Whether the run takes part in the statistics."""
        return self.failure is None and not self.rejected

    @property
    def cpu_per_unit(self) -> float:
        """Seconds of client CPU per unit."""
        return self.cpu_seconds / self.units


@dataclass(frozen=True, slots=True)
class Spread:
    """The least, the middle and the greatest of some values."""

    low: float
    median: float
    high: float


def spread(values: Iterable[float]) -> Spread | None:
    """The spread of the values; None when there are none."""
    ordered = sorted(values)
    return Spread(ordered[0], median(ordered), ordered[-1]) if ordered else None


def paired(runs: Iterable[Run], baseline: Iterable[Run], compare: Callable[[float, float], float]) -> list[float]:
    """Compare each counted run with the counted run of the baseline in the same turn, when the machine was alike."""
    by_turn = {run.turn: run.cpu_per_unit for run in baseline if run.counted}
    return [compare(run.cpu_per_unit, by_turn[run.turn]) for run in runs if run.counted and run.turn in by_turn]
