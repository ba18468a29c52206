"""The report of a finished job."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from attrs import NOTHING, asdict, fields, frozen

from nimclient._resources.bulk import JsonDict, Record, html_table

Status: TypeAlias = Literal["complete", "partial", "failed"]


@frozen(repr=False)
class JobReport(Record):
    """How a job ended.

    `status`: "complete", all rows succeeded; "partial", some failed; "failed", all did. `total`, `succeeded` and `failed`
    count the rows of the whole job, over all runs; `resumed` those that earlier runs finished. `requests`, `tokens` and
    `seconds` are of this run; `tokens` is None if an answer did not say them. `failures_path`: the file with a line for
    each failure, None without failures; `failures`: these lines, for an output that is a sink. `truncated`: the answers of
    a MapJob that the token limit cut off, over all runs. `cached` and `repeated`: texts of this run that were not sent,
    since the cache holds them, or they are equal to others. `long`: the texts that were cut into pieces, over all runs;
    long.jsonl lists them, for an output that is a sink `long_rows`.
    """

    status: Status
    total: int
    succeeded: int
    failed: int
    resumed: int
    requests: int
    tokens: int | None
    seconds: float
    failures_path: Path | None = None
    truncated: int = 0
    cached: int = 0
    repeated: int = 0
    failures: tuple[JsonDict, ...] = ()
    long: int = 0
    long_rows: tuple[JsonDict, ...] = ()

    def _repr_html_(self) -> str:
        """The report as a table, for notebooks."""
        optional = {one.name for one in fields(type(self)) if one.default is not NOTHING}
        rows = [
            (name, value) for name, value in self.to_dict().items() if value or (value == 0 and name not in optional)
        ]
        return html_table((), rows, f"Job: {self.status}")

    def to_dict(self) -> JsonDict:
        """The report as a JSON object."""
        return asdict(self) | {"failures_path": None if self.failures_path is None else str(self.failures_path)}


def status_of(succeeded: int, failed: int) -> Status:
    """The status of a finished job."""
    if not failed:
        return "complete"
    return "partial" if succeeded else "failed"
