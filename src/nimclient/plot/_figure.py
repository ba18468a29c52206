"""An empty figure, and where it goes: the one place that imports matplotlib, when something is drawn."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nimclient.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, table: str) -> Figure:
    """A figure, in inches, of no window. ConfigurationError where matplotlib is missing: it names the table to print."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        words = f"drawing needs matplotlib: install nimclient[plot], or print(plot.{table}(…))"
        raise ConfigurationError(words) from None
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    """The figure, saved where a path is given."""
    if path is not None:
        figure.savefig(path)
    return figure
