"""What the numbers were measured on, and whether it did anything else meanwhile. Never a host name or a path."""

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("nimclient", "aiohttp", "orjson", "attrs", "anyio", "pybase64", "numpy", "openai", "uvloop")


def cpu_model() -> str:
    """The name of the processor as the kernel or the platform tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def installed_version(package: str) -> str | None:
    """The version of an installed package; None for one that is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe() -> dict[str, object]:
    """Everything a reader needs to compare two results."""
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {package: installed_version(package) for package in PACKAGES},
    }


LOOPS = 60_000
SHARED = 1.15
"""How much slower than ever before a fixed loop may be, by the clock, until the machine counts as shared."""


def seconds_of_a_loop() -> float:
    """The wall time of a fixed piece of work, the middle of five: some milliseconds each."""
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        sum(number * number for number in range(LOOPS))
        times.append(time.perf_counter() - began)
    return sorted(times)[2]


class Watch:
    """Times a fixed loop before and after each run: slower than ever before means that somebody else was at work."""

    def __init__(self, measure: Callable[[], float] = seconds_of_a_loop) -> None:
        self._measure = measure
        self._least = min(measure() for _ in range(5))
        self._before = self._least

    def begin(self) -> None:
        """Before a run."""
        self._before = self._measure()

    def was_shared(self) -> bool:
        """After the run: whether the machine was slower than it can be, before or after."""
        after = self._measure()
        self._least = min(self._least, self._before, after)
        return max(self._before, after) > SHARED * self._least
