"""Jobs that are killed: whatever the moment, the outcome is that of a run that nobody disturbed."""

import json
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from nimclient.jobs import merge_shards
from nimclient.simulator import Simulator, SimulatorThread
from support.jobs import (
    BATCH_SIZE,
    CHAT,
    CONCURRENCY,
    STORES,
    questions_by_run,
    run_batch_job,
    run_embed_job,
    run_map_job,
    run_sink_job,
    start,
    store_in,
    table_in,
    table_of,
    texts_by_run,
    write_documents,
)
from support.until import until

KILLS = int(os.environ.get("NIMCLIENT_TEST_KILLS", "20"))
DOCUMENTS = 1600
SLICE = 80 + CONCURRENCY * BATCH_SIZE  # texts that wait in memory for their slice
FORMATS = ("npy", "parquet", "jsonl")

pytestmark = pytest.mark.timeout(300 + KILLS * 6)


@pytest.fixture
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A server; in the slow session jobs last longer, so that kills come at more moments."""
    ttft = 0.002 if request.node.get_closest_marker("slow") else 0.0
    simulator = Simulator(embedding_dimensions=16, ttft=ttft, keep_requests=1_000_000)
    with SimulatorThread(simulator):
        yield simulator


POLLING = threading.Lock()
"""To be held while a process is started, which polls all others, or polled: each says only once how it ended."""


def has_ended(process: BaseProcess, seconds: float) -> bool:
    """Whether a process ends within this time."""
    wait([process.sentinel], seconds)
    with POLLING:
        return not process.is_alive()


class Killer:
    """Runs a job, kills it, runs it again, until a run comes to its end; or lets it be when it has killed enough.

    Three times of four it waits for the first request of the run: a machine that is busy takes its time until then.
    """

    def __init__(self, simulator: Simulator, kills: int) -> None:
        self.left = kills
        self.runs = 0
        self._simulator = simulator
        self._chance = random.Random(kills)

    def run(self, target: Any, *args: Any) -> range:
        """Until it is done; returns the numbers of the runs that it took."""
        first = self.runs
        while True:
            with POLLING:
                process = start(target, self._simulator.base_url, self.runs, *args)
            if self.left:
                if self._chance.random() < 0.75:
                    self._wait_for_a_request(process)
                self.left -= not has_ended(process, self._chance.uniform(0.0, 0.1))
                process.kill()
            has_ended(process, 250)
            self.runs += 1
            if process.exitcode == 0:
                return range(first, self.runs)
            assert process.exitcode == -9, "it failed of its own"

    def _wait_for_a_request(self, process: BaseProcess) -> None:
        arrived = len(self._simulator.requests)
        until(lambda: len(self._simulator.requests) > arrived or has_ended(process, 0))


def check_sent(runs: range, sent: dict[int, list[str]], everything: set[str], window: int) -> int:
    """Everything was sent, and no kill made more than `window` be sent again; returns how much that was in all."""
    later: set[str] = set()
    again = 0
    for number in reversed(runs):
        texts = sent.get(number, [])
        assert len(set(texts)) == len(texts)
        repeated = len(later.intersection(texts))
        assert repeated <= window
        again += repeated
        later.update(texts)
    assert later == everything
    return again


@pytest.mark.parametrize("kills", [2, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_an_embedding_job_survives_being_killed(simulator: Simulator, tmp_path: Path, kills: int) -> None:
    """The rows of all parts equal those of an unbroken run, and only what was in flight was sent again."""
    source = tmp_path / "docs.jsonl"
    documents = write_documents(source, DOCUMENTS)
    texts = {document["text"] for document in documents}
    killer = Killer(simulator, 0)
    killer.run(run_embed_job, source, tmp_path / "unbroken", "npy")
    unbroken = table_of(tmp_path / "unbroken")
    assert [(index, name) for index, name, _ in unbroken] == [(i, d["id"]) for i, d in enumerate(documents)]
    killer.left = kills
    jobs = again = 0
    while killer.left:
        folder = tmp_path / f"killed-{jobs}"
        runs = killer.run(run_embed_job, source, folder, FORMATS[jobs % len(FORMATS)])
        jobs += 1
        assert table_of(folder) == unbroken
        assert json.loads((folder / "manifest.json").read_text())["status"] == "complete"
        again += check_sent(runs, texts_by_run(simulator.requests), texts, CONCURRENCY * BATCH_SIZE)
    assert again > 0 or kills < 10, "no kill came while anything was under way"
    print(f"{kills} kills in {jobs} jobs of {DOCUMENTS} texts; {again} texts were sent again")


@pytest.mark.parametrize("kills", [2, pytest.param(KILLS, marks=pytest.mark.slow)])
def test_a_batch_survives_being_killed(simulator: Simulator, tmp_path: Path, kills: int) -> None:
    """Every request has its one answer, whole, and only what was in flight was sent again."""
    source = tmp_path / "requests.jsonl"
    questions = [f"What is {number}?" for number in range(400)]
    bodies = [{"model": CHAT, "messages": [{"role": "user", "content": question}]} for question in questions]
    common = {"method": "POST", "url": "/v1/chat/completions"}
    lines = [{"custom_id": f"r{number}", **common, "body": body} for number, body in enumerate(bodies)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    killer = Killer(simulator, kills)
    batches = again = 0
    while killer.left:
        output = tmp_path / f"answers-{batches}.jsonl"
        runs = killer.run(run_batch_job, source, output)
        batches += 1
        records = [json.loads(line) for line in output.read_text().splitlines()]
        assert sorted(record["custom_id"] for record in records) == sorted(line["custom_id"] for line in lines)
        for record in records:
            question = questions[int(record["custom_id"][1:])]
            assert question in record["response"]["body"]["choices"][0]["message"]["content"]
        again += check_sent(runs, questions_by_run(simulator.requests), set(questions), CONCURRENCY)
    assert again > 0 or kills < 10, "no kill came while anything was under way"
    print(f"{kills} kills in {batches} batches of {len(lines)} requests; {again} were sent again")


@pytest.mark.slow
def test_a_map_survives_being_killed(simulator: Simulator, tmp_path: Path) -> None:
    """Every row has its one answer, whole, and only what was in flight was asked again."""
    source = tmp_path / "rows.jsonl"
    documents = write_documents(source, 400)
    questions = [f"What is {document['text']}?" for document in documents]
    killer = Killer(simulator, KILLS)
    maps = again = 0
    while killer.left:
        output = tmp_path / f"answers-{maps}.jsonl"
        runs = killer.run(run_map_job, source, output)
        maps += 1
        records = [json.loads(line) for line in output.read_text().splitlines()]
        assert sorted(record["index"] for record in records) == list(range(400))
        for record in records:
            assert record["id"] == documents[record["index"]]["id"]
            assert questions[record["index"]] in record["text"]
        again += check_sent(runs, questions_by_run(simulator.requests), set(questions), CONCURRENCY)
    assert again > 0 or KILLS < 20, "no kill came while anything was under way"
    print(f"{maps} maps of 400 rows; {again} were asked again")


@pytest.mark.slow
def test_shards_survive_being_killed(simulator: Simulator, tmp_path: Path) -> None:
    """Three at the same time in one folder, each killed: the parts of all are those of an unbroken job, and merge."""
    source = tmp_path / "docs.jsonl"
    write_documents(source, DOCUMENTS)
    Killer(simulator, 0).run(run_embed_job, source, tmp_path / "unbroken", "npy")
    folder = tmp_path / "shards"
    killers = [Killer(simulator, max(KILLS // 3, 1)) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        runs = [
            pool.submit(killer.run, run_embed_job, source, folder, "npy", (index, 3))
            for index, killer in enumerate(killers)
        ]
        assert all(run.result() for run in runs)
    assert table_of(folder) == table_of(tmp_path / "unbroken")
    assert merge_shards(folder).total == DOCUMENTS
    print(f"{sum(killer.runs for killer in killers)} runs of 3 shards")


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORES)
def test_a_store_survives_its_job_being_killed(simulator: Simulator, tmp_path: Path, kind: str) -> None:
    """All rows are in the store, no id twice, with the vectors of an unbroken run."""
    source = tmp_path / "docs.jsonl"
    documents = write_documents(source, DOCUMENTS)
    texts = {document["text"] for document in documents}
    killer = Killer(simulator, 0)
    killer.run(run_embed_job, source, tmp_path / "unbroken", "npy")
    unbroken = table_of(tmp_path / "unbroken")
    killer.left = KILLS
    jobs = again = 0
    while killer.left:
        folder = tmp_path / f"killed-{jobs}"
        folder.mkdir()
        url = store_in(folder, kind)
        runs = killer.run(run_sink_job, source, url)
        jobs += 1
        assert table_in(url) == unbroken
        again += check_sent(runs, texts_by_run(simulator.requests), texts, CONCURRENCY * BATCH_SIZE + SLICE)
    assert again > 0 or KILLS < 10, "no kill came while anything was under way"
    print(f"{kind}: {KILLS} kills in {jobs} jobs of {DOCUMENTS} texts; {again} texts were sent again")
