"""The clock of the tests, for benchmarks whose figures are those of waits and choices: they do not depend on the machine."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.virtual_time import jumping

__all__ = ["jumping"]
