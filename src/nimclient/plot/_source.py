"""What pictures are drawn from: records, or what was saved of them as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

from attrs import fields, frozen

from nimclient.errors import ConfigurationError
from nimclient.jobs.report import JobReport
from nimclient.records.progress import Progress

Events: TypeAlias = Iterable[Progress | Mapping[str, Any]] | str | os.PathLike[str]
"""Progress records, their JSON objects (other events between them are ignored), or a file of those, one a line."""

Measured: TypeAlias = (
    Mapping[str, Any] | JobReport | Iterable[Progress | JobReport | Mapping[str, Any]] | str | os.PathLike[str]
)
"""A benchmark (`nimclient bench --json`), Events, reports of jobs, or a file of one of these."""

_FIELDS = {attribute.name for attribute in fields(Progress)}
_NEEDED = {"done", "total", "requests", "tokens", "seconds"}


@frozen
class Series:
    """Lines over one axis: `values[title]` has for each place of `x` one number for each name of `lines[title]`.

    `discrete`: the places are levels or runs, not times.
    """

    x_label: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[str]]
    values: Mapping[str, Sequence[Sequence[float | None]]]
    discrete: bool = True


def objects_of(source: Measured) -> list[Mapping[str, Any]]:
    """Everything as JSON objects; a benchmark as its levels. ConfigurationError for a file that is not JSON."""
    if isinstance(source, (str, os.PathLike)):
        objects = _saved(Path(source))
    elif isinstance(source, JobReport):
        objects = list[Mapping[str, Any]]([source.to_dict()])
    elif isinstance(source, Mapping):
        objects = [cast(Mapping[str, Any], source)]
    else:
        objects = [item.to_dict() if isinstance(item, (Progress, JobReport)) else item for item in source]
    return objects[0]["runs"] if len(objects) == 1 and "runs" in objects[0] else objects


def _saved(path: Path) -> list[Mapping[str, Any]]:
    """The JSON of a file: one value, or one a line."""
    text = path.read_text("utf-8")
    try:
        value: Any = json.loads(text)
    except ValueError:
        try:
            value = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise ConfigurationError(f"{path} is not JSON: {error}") from None
    return cast(list[Mapping[str, Any]], value) if isinstance(value, list) else [value]


def events_of(objects: Sequence[Mapping[str, Any]]) -> list[Progress]:
    """All records of progress, oldest first. ConfigurationError for fewer than two."""
    found = [{name: value for name, value in one.items() if name in _FIELDS} for one in objects]
    history = [Progress(**known) for known in found if set(known) >= _NEEDED]
    if len(history) < 2:
        raise ConfigurationError("a picture needs at least two events of progress")
    return history


def runs_of(objects: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], str] | None:
    """The levels of a benchmark ("concurrency") or the reports of jobs ("run"); None where they are events."""
    if levels := [one for one in objects if "request_throughput" in one]:
        return levels, "concurrency"
    if any("in_flight" in one for one in objects):
        return None
    if reports := [one for one in objects if "succeeded" in one]:
        return reports, "run"
    raise ConfigurationError("there is no benchmark, no report and no progress in this")


def level_values(runs: Sequence[Mapping[str, Any]], name: str, parts: Sequence[str]) -> list[list[float | None]]:
    """A metric of each level of a benchmark, None where a level has none."""
    return [[run.get(name, {}).get(part) for part in parts] for run in runs]
