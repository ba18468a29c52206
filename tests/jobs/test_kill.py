"""Jobs that are killed: whatever the moment, the outcome is that of a run that nobody disturbed."""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nimclient.simulator import Simulator, SimulatorThread
from support.jobs import (
    BATCH_SIZE,
    CHAT,
    CONCURRENCY,
    run_batch_job,
    run_embed_job,
    start,
    table_of,
    texts_by_run,
    write_documents,
)

KILLS = int(os.environ.get("NIMCLIENT_TEST_KILLS", "20"))
DOCUMENTS = 1600
FORMATS = ("npy", "parquet", "jsonl")

pytestmark = pytest.mark.timeout(60 + KILLS * 6)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    simulator = Simulator(embedding_dimensions=16, ttft=0.004, keep_requests=1_000_000)
    with SimulatorThread(simulator):
        yield simulator


def run_until_done(
    target: Any, url: str, first_run: int, args: tuple[Any, ...], chance: random.Random, kills: int
) -> int:
    """Run, kill, run again, until a run comes to its end or was killed so often; returns the number of runs."""
    run = first_run
    while True:
        process = start(target, url, run, *args)
        run += 1
        if run - first_run <= kills:
            process.join(chance.uniform(0.0, 0.2))
            process.kill()
        process.join(30)
        assert process.exitcode is not None
        if process.exitcode == 0:
            return run
        assert process.exitcode == -9, "it failed of its own"


def test_an_embedding_job_survives_being_killed(simulator: Simulator, tmp_path: Path) -> None:
    """The rows of all parts equal those of an unbroken run, and only what was under way was sent again."""
    chance = random.Random(KILLS)
    source = tmp_path / "docs.jsonl"
    documents = write_documents(source, DOCUMENTS)
    run_embed_job(simulator.base_url, 0, source, tmp_path / "unbroken", "npy")
    unbroken = table_of(tmp_path / "unbroken")
    assert [(index, name) for index, name, _ in unbroken] == [(i, d["id"]) for i, d in enumerate(documents)]
    run, kills, round = 1, 0, 0
    while kills < KILLS:
        folder, first = tmp_path / f"killed-{round}", run
        args = (source, folder, FORMATS[round % len(FORMATS)])
        run = run_until_done(run_embed_job, simulator.base_url, run, args, chance, KILLS - kills)
        kills += run - first - 1
        round += 1
        assert table_of(folder) == unbroken
        assert json.loads((folder / "manifest.json").read_text())["status"] == "complete"
        sent = texts_by_run(simulator.requests)
        assert {text for number in range(first, run) for text in sent.get(number, ())} == {d["text"] for d in documents}
        later: set[str] = set()
        for number in reversed(range(first, run)):
            again = [text for text in sent.get(number, ()) if text in later]
            assert len(again) <= CONCURRENCY * BATCH_SIZE
            later.update(sent.get(number, ()))
    print(f"{kills} kills in {round} jobs of {DOCUMENTS} texts; sent again: {_again(simulator, run)}")


def _again(simulator: Simulator, runs: int) -> int:
    """How many texts were sent more often than there were jobs."""
    sent = texts_by_run(simulator.requests)
    counts = Counter(text for number in range(runs) for text in sent.get(number, ()))
    return sum(counts.values()) - min(counts.values()) * len(counts)


def test_a_batch_survives_being_killed(simulator: Simulator, tmp_path: Path) -> None:
    """Every request has its one answer, whole, and only what was under way was sent again."""
    chance = random.Random(KILLS)
    source = tmp_path / "requests.jsonl"
    questions = [f"What is {number}?" for number in range(400)]
    bodies = [{"model": CHAT, "messages": [{"role": "user", "content": question}]} for question in questions]
    common = {"method": "POST", "url": "/v1/chat/completions"}
    lines = [{"custom_id": f"r{number}", **common, "body": body} for number, body in enumerate(bodies)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    most = max(KILLS // 2, 1)
    run, kills, round = 0, 0, 0
    while kills < most:
        output, first = tmp_path / f"answers-{round}.jsonl", run
        run = run_until_done(run_batch_job, simulator.base_url, run, (source, output), chance, most - kills)
        kills += run - first - 1
        round += 1
        records = [json.loads(line) for line in output.read_text().splitlines()]
        assert sorted(record["custom_id"] for record in records) == sorted(line["custom_id"] for line in lines)
        for record in records:
            question = questions[int(record["custom_id"][1:])]
            assert question in record["response"]["body"]["choices"][0]["message"]["content"]
        later: set[str] = set()
        for number in reversed(range(first, run)):
            sent = [r.json for r in simulator.requests if r.json and r.headers["x-run"] == str(number)]
            asked = [body["messages"][0]["content"] for body in sent]
            assert len(later.intersection(asked)) <= CONCURRENCY
            later.update(asked)
        assert later == set(questions)
    print(f"{kills} kills in {round} batches of {len(lines)} requests")
