"""`nimclient embed`, `batch` and `map`: files in, files out, exit codes, signals, and resuming."""

import gzip
import io
import json
import os
import pty
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from nimclient.simulator import Simulator, SimulatorThread
from support.server import ServerThread, Stall
from support.slow import mostly_slow
from support.until import until
from support.wire import answer, embedded, error

NOWHERE = "http://127.0.0.1:9"
EMBED = "nvidia/llama-nemotron-embed-1b-v2"


@pytest.fixture
def docs(tmp_path: Path) -> str:
    """A file of 300 texts with ids."""
    lines = [json.dumps({"id": f"d{i}", "text": f"text {i}", "body": f"body {i}"}) for i in range(300)]
    (tmp_path / "docs.jsonl").write_text("\n".join(lines))
    return "docs.jsonl"


@pytest.fixture
def requests(tmp_path: Path) -> str:
    """A file of four requests: chat, embeddings, and two that fail."""
    chat = {"model": "meta/llama-3.1-8b-instruct", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    bodies = [
        ("/v1/chat/completions", chat),
        ("/v1/embeddings", {"model": EMBED, "input": ["a"], "input_type": "passage"}),
        ("/v1/chat/completions", {**chat, "temperature": "hot"}),
        ("/v1/embeddings", {"model": "no/such", "input": ["a"]}),
    ]
    lines = [
        json.dumps({"custom_id": f"r{i}", "method": "POST", "url": url, "body": body})
        for i, (url, body) in enumerate(bodies)
    ]
    (tmp_path / "requests.jsonl").write_text("\n".join(lines))
    return "requests.jsonl"


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def rows(folder: str) -> dict[str, list[float]]:
    """The vectors in a folder of jsonl parts, by id."""
    lines = [line for part in sorted(Path(folder).glob("part-*.jsonl")) for line in part.read_text().splitlines()]
    return {row["id"]: row["vector"] for row in map(json.loads, lines)}


# embed -------------------------------------------------------------------------------------------------------------


def test_embedding_a_file(run, sim, docs):
    """All texts become vectors with their ids; what is said goes to standard error, and nothing to standard output."""
    options = ("--id", "id", "--text", "body", "--format", "jsonl", "--batch-size", "50", "--concurrency", "2")
    more = ("--truncate", "END", "--input-type", "query", "--dimensions", "8", "--model", EMBED)
    ran = run("embed", docs, "--out", "vectors", "--base-url", sim.base_url, *options, *more)
    assert (ran.code, ran.out) == (0, "")
    assert "complete: 300 of 300 texts in vectors (6 requests" in ran.err
    found = rows("vectors")
    assert found.keys() == {f"d{i}" for i in range(300)}
    assert {len(vector) for vector in found.values()} == {8}
    sent = [request.json for request in sim.requests if request.method == "POST"]
    assert len(sent) == 6
    assert {(one["truncate"], one["input_type"], one["dimensions"]) for one in sent} == {("END", "query", 8)}
    assert sent[0]["input"][0] == "body 0"


def test_embedding_again_sends_nothing(run, sim, docs):
    """The same command on a finished job is complete at once, and says that all was there."""
    argv = ("embed", docs, "--out", "vectors", "--base-url", sim.base_url)
    assert run(*argv).code == 0
    before = len(sim.requests)
    ran = run(*argv)
    assert ran.code == 0
    assert "300 of them from before, 0 requests" in ran.err
    assert [r.path for r in list(sim.requests)[before:] if r.method == "POST"] == []
    assert (Path("vectors") / "part-00000.parquet").exists()


def test_without_pyarrow_the_parts_are_npy(run, sim, docs, monkeypatch):
    """And it is said, once; a prefix is put before every text."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ran = run("embed", docs, "--out", "vectors", "--base-url", sim.base_url, "--prefix", "passage: ")
    assert ran.code == 0
    assert "pyarrow is not installed: writing npy" in ran.err
    assert (Path("vectors") / "part-00000.npy").exists()
    assert sim.requests[-1].json["input"][0].startswith("passage: text")


def test_a_wrong_field_is_a_usage_error(run, sim, docs):
    """It names the fields of the first row and the option, and nothing is sent."""
    ran = run("embed", docs, "--out", "vectors", "--base-url", sim.base_url, "--text", "content", "--format", "npy")
    assert ran.code == 2
    assert (
        "there is no field 'content'; the first row (line 1) has 'id', 'text', 'body': name one of them with --text"
        in ran.err
    )
    assert not [request for request in sim.requests if request.path == "/v1/embeddings"]


def test_a_compressed_source(run, sim, docs, monkeypatch):
    """.gz is read as it is; .zst, where nothing reads it, says which pipe does."""
    for module in ("compression", "zstandard", "pyarrow"):
        monkeypatch.setitem(sys.modules, module, None)
    Path("docs.jsonl.gz").write_bytes(gzip.compress(Path(docs).read_bytes()))
    assert run("embed", "docs.jsonl.gz", "--out", "v", "--base-url", sim.base_url, "--format", "npy").code == 0
    Path("docs.jsonl.zst").touch()
    ran = run("embed", "docs.jsonl.zst", "--out", "v", "--base-url", sim.base_url, "--format", "npy")
    assert ran.code == 2
    assert "zstdcat docs.jsonl.zst | nimclient embed -" in ran.err


def test_embed_events(run, url, docs):
    """--json is one event a line: progress, then the report."""
    ran = run("embed", docs, "--out", "vectors", "--base-url", url, "--json", "--format", "npy")
    assert (ran.code, ran.err) == (0, "")
    *progress, report = events(ran.out)
    assert {one["event"] for one in progress} == {"progress"}
    assert progress[-1]["done"] == progress[-1]["total"] == 300
    assert (report["event"], report["status"], report["succeeded"]) == ("report", "complete", 300)


def test_texts_that_fail(run, docs):
    """A text that the server rejects makes the job partial: exit code 1, and the file that says why."""

    def choosy(request):
        texts = request.json["input"]
        return error(400, "poison") if "text 7" in texts else answer(embedded(["1"] * len(texts)))

    with ServerThread() as server:
        server.script(choosy)
        ran = run("embed", docs, "--out", "v", "--base-url", server.url, "--model", "m", "--format", "jsonl")
    assert ran.code == 1
    assert "partial: 299 of 300 texts" in ran.err
    assert f"1 failed, see {Path('v') / 'failures.jsonl'}" in ran.err
    assert "poison" in (Path("v") / "failures.jsonl").read_text()


def test_embedding_into_a_store(run, docs):
    """A URL as --out is a store; the first failure is reported, and the next run finds what is done."""

    def choosy(request):
        texts = request.json["input"]
        return error(400, "poison") if "text 7" in texts else answer(embedded(["1"] * len(texts)))

    argv = ("embed", docs, "--id", "id", "--out", "sqlite:///v.db?table=docs", "--model", "m")
    with ServerThread() as server:
        server.script(choosy)
        ran = run(*argv, "--base-url", server.url)
        assert ran.code == 1
        assert "partial: 299 of 300 texts in sqlite:///v.db?table=docs" in ran.err
        assert "1 failed, the first: d7: " in ran.err
        assert "poison" in ran.err
        ran = run(*argv, "--base-url", server.url, "--json")
    assert (ran.code, json.loads(ran.out.splitlines()[-1])["failures"][0]["id"]) == (1, "d7")
    with closing(sqlite3.connect("v.db")) as db:
        assert db.execute("SELECT count(DISTINCT id) FROM docs").fetchone() == (299,)


def test_standard_input(run, url, environment):
    """ "-" reads texts from standard input."""
    command = [sys.executable, "-m", "nimclient", "embed", "-", "--out", "v", "--format", "jsonl", "--base-url", url]
    done = subprocess.run(
        command, input='{"text": "a"}\n{"text": "b"}\n', text=True, capture_output=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 texts" in done.stderr
    assert len(rows("v")) == 2


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["gone.jsonl", "--out", "v"], "does not exist"),
        (["docs.jsonl", "--out", "docs.jsonl"], "is a file"),
        (["docs.xml", "--out", "v"], "has a format that cannot be read"),
        (["docs.jsonl"], "--out"),
        (["docs.jsonl", "--out", "v", "--format", "csv"], "--format"),
        (["docs.jsonl", "--out", "sqlite:///v.db", "--format", "npy"], "format is for folders"),
        (["docs.jsonl", "--out", "sqlite://me:pw@/v.db"], "URL with a password would be seen"),
        (["docs.jsonl", "--out", "v", "--concurrency", "0"], "--concurrency"),
    ],
)
def test_what_cannot_work(run, url, docs, argv, words):
    """Arguments that cannot work are a usage error; nothing is sent."""
    ran = run("embed", *argv, "--base-url", url)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err


def test_another_job_in_the_folder(run, url, docs):
    """A folder of another job is rejected in the words of the command line."""
    argv = ("embed", docs, "--out", "v", "--base-url", url)
    assert run(*argv).code == 0
    ran = run(*argv, "--format", "npy")
    assert ran.code == 1
    assert "--out" in ran.err


def test_a_server_that_is_not_there(run, docs):
    """A server that cannot be reached is a failure with what to do, as a line or as an event."""
    argv = ("embed", docs, "--out", "v", "--base-url", NOWHERE)
    ran = run(*argv)
    assert ran.code == 1
    assert "nimclient simulate" in ran.err.splitlines()[-1]
    [event] = events(run(*argv, "--json").out)
    assert (event["event"], event["error"], event["done"]) == ("error", "ConnectError", None)
    assert event["resume"] == f"nimclient {shlex.join(argv)} --json"


def test_an_error_in_the_middle(run, docs):
    """What stops a job in the middle tells what is kept, and how to resume it."""
    with ServerThread() as server:
        server.script(answer(embedded(["1"] * 64)), error(401))
        ran = run(
            "embed",
            docs,
            "--out",
            "v",
            "--base-url",
            server.url,
            "--model",
            "m",
            "--concurrency",
            "1",
            "--format",
            "npy",
        )
    assert ran.code == 1
    assert "64 texts are done and kept: to resume, run the same command again" in ran.err


# batch -------------------------------------------------------------------------------------------------------------


def test_a_batch(run, url, requests):
    """Every request has its answer or its failure; some that fail make it partial."""
    ran = run("batch", requests, "--out", "answers.jsonl", "--base-url", url, "--concurrency", "2")
    assert (ran.code, ran.out) == (1, "")
    assert "partial: 2 of 4 requests in answers.jsonl" in ran.err
    assert "see answers.errors.jsonl" in ran.err
    assert {one["custom_id"] for one in events(Path("answers.jsonl").read_text())} == {"r0", "r1"}


def test_batch_events(run, url, requests, tmp_path):
    """--json gives events; a batch without failures is 0."""
    first = (tmp_path / requests).read_text().splitlines()[0]
    (tmp_path / "one.jsonl").write_text(first)
    ran = run("batch", "one.jsonl", "--out", "answers.jsonl", "--base-url", url, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert events(ran.out)[-1]["status"] == "complete"


@pytest.mark.parametrize("argv", [["gone.jsonl", "--out", "a"], ["requests.jsonl", "--out", "requests.jsonl"]])
def test_a_batch_that_cannot_work(run, url, requests, argv):
    """A source that is not there, or that is the output, is a usage error."""
    assert run("batch", *argv, "--base-url", url).code == 2


# map ---------------------------------------------------------------------------------------------------------------


def test_a_map(run, sim, docs):
    """Every row has its answer; what was chosen is sent; what is said goes to standard error."""
    Path(docs).write_text("\n".join(Path(docs).read_text().splitlines()[:20] + ['{"id": "x"}']))
    options = ("--id", "id", "--system", "Be brief.", "--max-tokens", "2", "-o", "seed=1", "--concurrency", "4")
    ran = run("map", "Sum up: {body}", docs, "--out", "answers.jsonl", "--base-url", sim.base_url, *options)
    assert (ran.code, ran.out) == (1, "")
    assert "partial: 20 of 21 rows in answers.jsonl" in ran.err
    assert "1 failed, see answers.errors.jsonl" in ran.err
    assert "20 cut off by the token limit (finish_reason length)" in ran.err
    found = events(Path("answers.jsonl").read_text())
    assert {one["id"] for one in found} == {f"d{i}" for i in range(20)}
    sent = [request.json for request in sim.requests if request.path == "/v1/chat/completions"]
    assert {(one["max_tokens"], one["seed"], one["messages"][0]["content"]) for one in sent} == {(2, 1, "Be brief.")}
    assert "Sum up: body 7" in {one["messages"][1]["content"] for one in sent}


def test_map_events(run, url, docs):
    """With a schema the answers are values; --json gives events; the same command has nothing left to do."""
    Path(docs).write_text("\n".join(Path(docs).read_text().splitlines()[:5]))
    Path("schema.json").write_text('{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}')
    argv = ("map", "How many? {text}", docs, "--out", "a.jsonl", "--schema", "schema.json", "--json", "--base-url", url)
    ran = run(*argv)
    assert (ran.code, ran.err) == (0, "")
    assert events(ran.out)[-1]["status"] == "complete"
    assert all(isinstance(one["value"]["n"], int) for one in events(Path("a.jsonl").read_text()))
    again = events(run(*argv).out)[-1]
    assert (again["resumed"], again["requests"]) == (5, 0)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["{text}", "gone.jsonl", "--out", "a"], "does not exist"),
        (["{text}", "docs.jsonl", "--out", "docs.jsonl"], "is the source"),
        (["text", "docs.jsonl", "--out", "a"], "names no field of a row"),
        (["{txet}", "docs.jsonl", "--out", "a"], "has 'id', 'text', 'body': name those in the template"),
        (["{text}", "docs.jsonl", "--out", "a", "-o", "temprature=1"], "did you mean 'temperature'"),
        (["{text}", "docs.jsonl"], "--out"),
    ],
)
def test_a_map_that_cannot_work(run, url, docs, argv, words):
    """Arguments that cannot work are a usage error."""
    ran = run("map", *argv, "--base-url", url)
    assert ran.code == 2
    assert words in ran.err


# shards ------------------------------------------------------------------------------------------------------------


def test_the_job_of_kubernetes_in_the_docs(run, sim, docs, monkeypatch):
    """Its command runs as it stands for every index, and the shards become one job."""
    yaml = pytest.importorskip("yaml")
    page = Path(__file__).parents[2].joinpath("docs", "many_machines.md").read_text()
    job = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])["spec"]
    [container] = job["template"]["spec"]["containers"]
    program, *argv = [word.replace("/data/", "") for word in (*container["command"], *container["args"])]
    assert program == "nimclient"
    for one in container["env"]:
        monkeypatch.setenv(one["name"], one["value"].replace("http://nim:8000", sim.base_url))
    assert job["completionMode"] == "Indexed"
    for index in range(job["completions"]):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        ran = run(*argv, "--format", "jsonl")
        assert ran.code == 0
        assert events(ran.out)[-1]["total"] in (37, 38)
    assert "complete: 300 of 300 texts in vectors" in run("merge", "vectors").err
    assert rows("vectors").keys() == {f"d{i}" for i in range(300)}
    [event] = events(run("merge", "vectors", "--json").out)
    assert (event["event"], event["status"], event["total"]) == ("report", "complete", 300)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["embed", "docs.jsonl", "--out", "v", "--shard", "3/3"], "--shard takes"),
        (["map", "{text}", "docs.jsonl", "--out", "v", "--shard", "auto"], "--shard auto takes JOB_COMPLETION_INDEX"),
        (["merge", "."], "holds no shards of a job"),
        (["merge", "gone"], "gone does not exist"),
    ],
)
def test_shards_that_cannot_be(run, docs, argv, words):
    """They are a usage error."""
    ran = run(*argv)
    assert ran.code == 2
    assert words in ran.err


# signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", mostly_slow([signal.SIGINT, signal.SIGTERM], signal.SIGINT))
def test_a_signal_stops_and_the_same_command_goes_on(spawn, run, docs, number):
    """SIGINT and SIGTERM end with 130 and the command that resumes it; what is done is not sent again."""
    embed = answer(embedded(["1"] * 10))
    with ServerThread() as server:
        server.script(embed, embed, embed, [Stall()])
        options = ("--format", "jsonl", "--batch-size", "10", "--concurrency", "2", "--model", EMBED)
        argv = ("embed", docs, "--out", "my vectors", "--id", "id", "--base-url", server.url, *options)
        process = spawn(*argv)
        assert until(lambda: len(server.requests) == 5)
        process.send_signal(number)
        out, err = process.communicate(timeout=200)
        assert (process.returncode, out) == (130, "")
        assert "are done and kept" in err
        assert "Traceback" not in err
        command = err.splitlines()[-1].partition("again: nimclient ")[2]
        assert tuple(shlex.split(command)) == argv
        server.script(embed)
        rest = run(*shlex.split(command), "--json")
        report = events(rest.out)[-1]
    assert rest.code == 0
    assert report["succeeded"] == 300
    assert report["resumed"] == 30
    assert report["requests"] == 27
    assert len(rows("my vectors")) == 300


@pytest.mark.slow
def test_a_shard_that_is_stopped_within_its_grace_period(spawn, run, docs):
    """SIGTERM ends a shard with what is done kept; it is not merged before it has ended; the others do not mind."""
    embed = answer(embedded(["1"] * 10))
    with ServerThread() as server:
        server.script(embed, embed, [Stall()])
        options = ("--format", "jsonl", "--batch-size", "10", "--concurrency", "1", "--model", EMBED)
        argv = ("embed", docs, "--out", "v", "--base-url", server.url, *options)
        process = spawn(*argv, "--shard", "1/3")
        assert until(lambda: len(server.requests) == 3)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=25)
        assert process.returncode == 130
        assert "20 texts are done and kept" in err
        server.script(embed)
        assert run(*argv, "--shard", "0/3").code == 0
        assert run(*argv, "--shard", "2/3").code == 0
        ran = run("merge", "v")
        assert ran.code == 1
        assert "shard 1 of 3 in v has not ended (it is 'stopped'): run it and merge again" in ran.err
        report = events(run(*argv, "--shard", "1/3", "--json").out)[-1]
    assert (report["status"], report["resumed"], report["succeeded"]) == ("complete", 20, 100)
    assert run("merge", "v").code == 0
    assert len(rows("v")) == 300


@pytest.mark.slow
def test_a_second_signal_ends_at_once(environment):
    """Who cannot wait for a job to write down what came back sends the signal again."""
    code = """
import anyio
from argparse import Namespace
from nimclient.cli.jobs import Wording, run_job

class Slow:
    async def run(self, client, on_progress=None):
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=True):
                print("stopping", flush=True)
                await anyio.sleep(60)

args = Namespace(base_url="http://127.0.0.1:9", model=None, api_key_file=None, timeout=None, json=True, argv=["embed"])
run_job(args, Slow, Wording("x", "texts", "v"))
"""
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert until(lambda: _catches(process.pid, signal.SIGTERM))
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    process.communicate()


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for this signal."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.slow
def test_a_signal_as_an_event(spawn, docs):
    """With --json the stop is an event, too."""
    with ServerThread() as server:
        server.script([Stall()])
        process = spawn("embed", docs, "--out", "v", "--base-url", server.url, "--model", "m", "--json")
        assert until(lambda: len(server.requests) > 0)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=200)
    assert process.returncode == 130
    event = events(out)[-1]
    assert (event["event"], event["signal"], event["done"]) == ("stopped", "SIGTERM", None)
    assert event["text"].startswith("stopped; what is done is kept. To resume it, ")


@pytest.mark.slow
def test_a_signal_while_standard_input_waits(environment, url):
    """A job that waits for standard input is stopped, too, and says to give it the same input again."""
    command = [sys.executable, "-m", "nimclient", "embed", "-", "--out", "v", "--base-url", url, "--model", EMBED]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdin is not None
    assert process.stderr is not None
    assert "starting" in process.stderr.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    assert "with the same input" in process.stderr.read()
    process.stdin.close()
    process.stderr.close()


@pytest.mark.slow
def test_a_reader_that_leaves(spawn, docs):
    """When the reader of the events has left, the job ends quietly with 1."""
    with SimulatorThread(Simulator(ttft=0.4, slots=1)) as url:
        process = spawn("embed", docs, "--out", "v", "--base-url", url, "--json", "--concurrency", "1")
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert err == ""


@pytest.mark.slow
def test_the_live_table_on_a_terminal(environment, docs):
    """On a terminal the table is drawn in place, and the last line says how it went."""
    master, terminal = pty.openpty()
    with SimulatorThread(Simulator(ttft=0.1, slots=2)) as url:
        command = [sys.executable, "-m", "nimclient", "embed", docs, "--out", "v", "--base-url", url]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=terminal, env={**environment, "TERM": "xterm", "COLUMNS": "100"}
        )
        os.close(terminal)
        shown = io.BytesIO()
        try:
            while piece := os.read(master, 65536):
                shown.write(piece)
        except OSError:  # the other side is closed
            pass
        os.close(master)
        assert process.wait() == 0
    text = shown.getvalue().decode()
    assert "\x1b[" in text
    for words in (
        "embedding docs.jsonl",
        "texts/s",
        "in flight",
        "limit",
        "throttled",
        "p95",
        "300 of 300 texts (100 %)",
    ):
        assert words in text
    assert "complete: 300 of 300 texts" in text.splitlines()[-1]


def test_a_job_over_replicas(run, sim, docs):
    """A job continues with the replicas that are there."""
    ran = run("embed", docs, "--out", "v", "--base-url", NOWHERE, "--base-url", sim.base_url, "--model", EMBED)
    assert ran.code == 0
    assert "complete: 300 of 300 texts" in ran.err
