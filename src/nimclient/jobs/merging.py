"""One manifest and one list of failures for the shards of a job. Vectors are not touched: the parts stay where they are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from nimclient._resources.bulk import JsonDict, is_array, is_object
from nimclient._resources.bulk import json as _json
from nimclient.errors import ConfigurationError, DecodeError, JobMismatchError, JobStoreError
from nimclient.jobs.checkpoint import is_count
from nimclient.jobs.files import opened, store_errors, write_whole
from nimclient.jobs.report import JobReport, status_of
from nimclient.jobs.shards import Shard, shard_in
from nimclient.jobs.store import differences

_AGREED = ("version", "input", "model", "parameters", "format", "dtype", "dimensions")
_UNFINISHED = ("running", "stopped")


def merge_shards(folder: str | os.PathLike[str]) -> JobReport:
    """Write `manifest.json` and `failures.jsonl` for all shards of an EmbedJob; the folder then reads like that of one job.

    Returns the report of the whole: `requests`, `tokens`, `seconds` and `resumed` are 0. It may be run again.

    Raises ConfigurationError for a folder without shards; JobMismatchError for shards that are missing, have not ended,
    have lost a part, or differ in source, model, dimensions, format or options; JobStoreError for errors of the disk.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ConfigurationError(f"{path} {'is not a folder' if path.exists() else 'does not exist'}")
    manifests = _manifests(path)
    _check_same(path, manifests)
    for shard, manifest in manifests.items():
        _check_parts(path, shard, manifest)
    succeeded, failed = (sum(manifest[name] for manifest in manifests.values()) for name in ("succeeded", "failed"))
    first, *_ = manifests.values()
    dimensions = [manifest["dimensions"] for manifest in manifests.values() if manifest["dimensions"] is not None]
    whole: JsonDict = {
        "status": status_of(succeeded, failed),
        **{name: value for name, value in first.items() if name in _AGREED},
        "dimensions": dimensions[0] if dimensions else None,
        "shards": len(manifests),
        "served_models": list(
            dict.fromkeys(name for manifest in manifests.values() for name in manifest["served_models"])
        ),
        "total": sum(manifest["total"] or 0 for manifest in manifests.values()),
        "succeeded": succeeded,
        "failed": failed,
        "parts": [part for manifest in manifests.values() for part in manifest["parts"]],
    }
    if long := sum(manifest.get("long", 0) for manifest in manifests.values()):
        whole["long"] = long
    failures = path / "failures.jsonl"
    for name in ("failures", "long"):
        counted = "failed" if name == "failures" else name
        _merge_lines(path, name, [shard for shard, manifest in manifests.items() if manifest.get(counted)])
    write_whole(path / "manifest.json", lambda file: file.write(_json.dumps(whole)))
    return JobReport(
        whole["status"],
        succeeded + failed,
        succeeded,
        failed,
        *(0, 0, 0, 0.0),
        failures_path=failures if failed else None,
        long=long,
    )


def _merge_lines(folder: Path, name: str, shards: Sequence[Shard]) -> None:
    """One list of rows in the order of the source, of those of the shards that have one."""
    whole = folder / f"{name}.jsonl"
    if not shards:
        with store_errors(f"cannot remove {whole}"):
            whole.unlink(missing_ok=True)
        return
    lines = merge(*(_lines(folder / f"{name}{shard.suffix}.jsonl") for shard in shards), key=itemgetter("index"))
    write_whole(whole, lambda file: file.writelines(_json.dumps(line) + b"\n" for line in lines))


def _manifests(folder: Path) -> dict[Shard, JsonDict]:
    """The manifest of every shard, in their order."""
    with store_errors(f"cannot look at {folder}"):
        found = {shard_in(path.name): path for path in folder.glob("manifest-*-of-*.json")}
    counts = {shard.count for shard in found}
    if not counts:
        raise ConfigurationError(f"{folder} holds no shards of a job (manifest-00000-of-…)")
    if len(counts) > 1:
        raise JobMismatchError(f"{folder} holds shards of several jobs: of {' and of '.join(map(str, sorted(counts)))}")
    (count,) = counts
    missing = [index for index in range(count) if Shard(index, count) not in found]
    if missing:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise JobMismatchError(
            f"{folder} lacks {len(missing)} of {count} shards: {', '.join(map(str, islice(missing, 10)))}{more}; run them "
            f"and merge again"
        )
    return {shard: _manifest(found[shard]) for shard in sorted(found, key=lambda shard: shard.index)}


def _manifest(path: Path) -> JsonDict:
    with store_errors(f"cannot read {path}"), opened(path) as file:
        content = file.read()
    try:
        manifest = _json.loads(content)
    except DecodeError:
        manifest = None
    if not is_object(manifest) or not _is_whole(manifest):
        raise JobStoreError(f"{path} is damaged: run that shard again, which writes it again")
    return manifest


def _is_whole(manifest: JsonDict) -> bool:
    """Whether all is there that is read of it, in the form in which a job writes it."""
    if not {*_AGREED, "status", "served_models", "total", "parts"} <= manifest.keys():
        return False
    parts, models = manifest["parts"], manifest["served_models"]
    return (
        all(is_count(manifest.get(name)) for name in ("succeeded", "failed"))
        and (manifest["total"] is None or is_count(manifest["total"]))
        and is_array(models)
        and all(isinstance(model, str) for model in models)
        and is_array(parts)
        and all(is_object(part) and is_object(part.get("files")) for part in parts)
    )


def _check_same(folder: Path, manifests: Mapping[Shard, JsonDict]) -> None:
    known: JsonDict = {}
    first, *_ = manifests
    for shard, manifest in manifests.items():
        if manifest["status"] in _UNFINISHED:
            raise JobMismatchError(
                f"{shard} in {folder} has not ended (it is {manifest['status']!r}): run it and merge again"
            )
        identity = {name: manifest[name] for name in _AGREED if manifest[name] is not None}
        shared = {name: value for name, value in identity.items() if name in known}
        if other := differences({name: known[name] for name in shared}, shared):
            raise JobMismatchError(
                f"the shards in {folder} are not of one job: {first} has {'; '.join(other)} of {shard}; run one of them "
                f"in another folder"
            )
        known = {**identity, **known}


def _check_parts(folder: Path, shard: Shard, manifest: JsonDict) -> None:
    for part in manifest["parts"]:
        for name, size in part["files"].items():
            path = folder / name
            with store_errors(f"cannot look at {path}"):
                found = path.stat().st_size if path.exists() else None
            if found != size:
                problem = "is missing" if found is None else f"has {found} bytes instead of {size}"
                raise JobMismatchError(f"{path} of {shard} {problem}: restore it, or run that shard in another folder")


def _lines(path: Path) -> Iterator[Any]:
    """The rows in a list of a shard, by index."""
    with store_errors(f"cannot read {path}"), opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                row: Any = _json.loads(line)
            except DecodeError:
                row = None
            if not is_object(row) or not is_count(row.get("index")):
                raise JobStoreError(f"{path} is damaged (line {number}): run that shard again, which writes it again")
            yield row
