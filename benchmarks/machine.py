"""What the numbers were measured on: processor, Python and versions. Never a host name or a path."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("nimclient", "aiohttp", "orjson", "attrs", "anyio", "pybase64", "numpy", "openai")


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
