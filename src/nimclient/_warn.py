"""Warnings that point at the caller's line, wherever in this package they come up."""

from __future__ import annotations

import sys
import warnings
from pathlib import PurePath

_HERE = str(PurePath(__file__).parent)


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the nearest line outside this package; of a task that awaits a call of ours, that is the awaiting line."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level - 1 if frame.f_back is None else level)
