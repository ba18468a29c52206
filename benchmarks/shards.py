"""Many shards of one job, some of them killed: `python -m benchmarks.shards [--shards 32] [--rows 6400] [--kills 8]`.

Each shard is a process of `nimclient embed --shard i/n`, as a pod would be, and all write into one folder; `--at-once` run at
the same time, against a simulated NIM with room for 64 requests. Some are killed with SIGKILL once they have something on the
disk, and started again as a scheduler would. Afterwards `merge_shards` makes one manifest, and every row is looked up: once,
with the vector of its text. Prints JSON.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy
import orjson

from nimclient import Client
from nimclient.jobs import JobReport, merge_shards
from nimclient.simulator import Simulator, SimulatorThread

MODEL = "nvidia/nv-embedqa-e5-v5"
DIMENSIONS = 64
BATCH = 16
SERVER_SECONDS = 0.05  # before an answer: a request takes a while, so that a kill finds some in flight
CHECKED = 256  # rows whose vectors are compared at once
POLL_SECONDS = 0.01


class Pod:
    """The process of a shard."""

    def __init__(self, url: str, folder: Path, index: int, count: int) -> None:
        self.index = index
        self._spools = (folder / "vectors").glob
        self._pattern = f"open-{index:05d}-of-{count:05d}-*"
        command = [
            sys.executable,
            "-m",
            "nimclient",
            "embed",
            str(folder / "docs.jsonl"),
            "--out",
            str(folder / "vectors"),
        ]
        options = ["--id", "id", "--format", "npy", "--shard", f"{index}/{count}", "--batch-size", str(BATCH), "--json"]
        self.process = subprocess.Popen(
            [*command, *options, "--base-url", url, "--model", MODEL], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def has_vectors(self) -> bool:
        """Whether some of its rows are on the disk, and in no part yet."""
        return any(path.stat().st_size for path in self._spools(self._pattern))


def run(folder: Path, shards: int, rows: int, kills: int, at_once: int, seed: int = 0) -> dict[str, Any]:
    """Run all shards to their end, merge them and check the rows; returns the counts."""
    text = "passage number {} of a corpus".format
    (folder / "docs.jsonl").write_bytes(
        b"".join(orjson.dumps({"id": f"doc-{number}", "text": text(number)}) + b"\n" for number in range(rows))
    )
    began = time.monotonic()
    simulator = Simulator(embedding_dimensions=DIMENSIONS, ttft=SERVER_SECONDS, slots=64)
    with SimulatorThread(simulator) as url:
        killed = run_all(url, folder, shards, set(random.Random(seed).sample(range(shards), kills)), at_once)
        sent = Counter(item for request in simulator.requests if request.json for item in request.json.get("input", ()))
        report = merge_shards(folder / "vectors")
        with Client(base_url=url, model=MODEL) as client:
            check(folder / "vectors", report, [text(number) for number in range(rows)], client)
    return {
        "shards": shards,
        "rows": rows,
        "killed": killed,
        "texts sent": sum(sent.values()),
        "sent again": sum(sent.values()) - rows,
        "status": report.status,
        "seconds": round(time.monotonic() - began, 1),
    }


def run_all(url: str, folder: Path, shards: int, doomed: set[int], at_once: int) -> int:
    """Start the processes, kill those that are `doomed` once, and start them again; returns how many were killed."""
    waiting, running, killed = deque(range(shards)), list[Pod](), 0
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(Pod(url, folder, waiting.popleft(), shards))
        for pod in list(running):
            if pod.index in doomed and pod.has_vectors():
                pod.process.kill()
                doomed.discard(pod.index)
            if pod.process.poll() is None:
                continue
            running.remove(pod)
            _, words = pod.process.communicate()
            if pod.process.returncode == -signal.SIGKILL:
                killed += 1
                waiting.append(pod.index)
            elif pod.process.returncode != 0:
                raise RuntimeError(f"shard {pod.index}: {words!r}")
        time.sleep(POLL_SECONDS)
    return killed


def check(folder: Path, report: JobReport, texts: list[str], client: Client) -> None:
    """Raise ValueError unless every row is there once, with the vector of its text."""
    if (report.status, report.total) != ("complete", len(texts)):
        raise ValueError(f"{report.status}: {report.total} of {len(texts)} rows")
    seen: list[int] = []
    for part in folder.glob("part-*.npy"):
        lines = map(orjson.loads, part.with_name(part.name.replace(".npy", ".ids.jsonl")).read_bytes().splitlines())
        indexes = [line["index"] for line in lines]
        vectors = numpy.load(part)
        seen += indexes
        for start in range(0, len(indexes), CHECKED):
            some = indexes[start : start + CHECKED]
            expected = client.embeddings.embed_documents([texts[index] for index in some])
            if not numpy.array_equal(expected.numpy(), vectors[start : start + CHECKED]):
                raise ValueError(f"{part} has other vectors than those of its texts")
    if sorted(seen) != list(range(len(texts))):
        raise ValueError("a row is missing, or there twice")


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=32)
    parser.add_argument("--rows", type=int, default=6400)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=8)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        print(orjson.dumps(run(Path(folder), args.shards, args.rows, args.kills, args.at_once)).decode())


if __name__ == "__main__":
    main()
