import json
import threading
from array import array
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nimclient.cli import connection, demo
from nimclient.cli.corpus import Document
from nimclient.simulator import Simulator, SimulatorThread

FEW = ("--texts", "300")
CHAT = "meta/llama-3.1-8b-instruct"
EMBED = "nvidia/nv-embedqa-e5-v5"


class OneModel(BaseHTTPRequestHandler):
    """A vLLM with one unknown chat model."""

    def do_GET(self) -> None:
        self._answer(200, {"object": "list", "data": [{"id": "my-llama", "object": "model"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/chat/completions":
            self._answer(404, {"detail": "Not Found"})
            return
        choice = {"index": 0, "delta": {"content": "Quite."}, "finish_reason": "stop"}
        event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "my-llama", "choices": [choice]}
        self._send(200, "text/event-stream", f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode())

    def _answer(self, status: int, body: object) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def one_model() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), OneModel) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def read_once(documents: list[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is read once for all of these tests; the demo in a process of its own reads it again."""

    def read(advance: Callable[[int, int], None]) -> list[Document]:
        advance(1, 1)
        return documents

    monkeypatch.setattr(demo, "read_corpus", read)


def test_a_small_demo_in_a_pipe(spawn, tmp_path: Path):
    """Without a server, it asks the simulator, answers in plain text, and keeps the vectors."""
    process = spawn("demo", *FEW)
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    assert "simulator" in err
    assert "inter-token latency p95" in out.split("\n\n")[-1]
    assert "\x1b" not in out + err
    assert json.loads((tmp_path / "nimclient-demo/meta.json").read_text())["count"] == 300


@pytest.mark.slow
def test_the_whole_demo(spawn, tmp_path: Path):
    """In a pipe and without a server, the demo embeds several thousand texts, finds csv, answers, and keeps the vectors."""
    process = spawn("demo")
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, err
    assert "simulator" in err
    assert "not a model" in err
    blocks = out.split("\n\n")
    csv_block = next(block for block in blocks if "Search: write rows to a CSV file" in block)
    assert csv_block.splitlines()[-3].split()[1].startswith("csv")
    assert "use the timeit() method" in out
    assert "inter-token latency p95" in blocks[-1]
    assert "\x1b" not in out + err
    meta = json.loads((tmp_path / "nimclient-demo/meta.json").read_text())
    assert meta["count"] > 3000


def test_kept_files_fit_each_other(run, url, tmp_path: Path):
    """vectors.f32, texts.jsonl and meta.json hold the same rows; a second run writes them again."""
    for count in (50, 20):
        assert (
            run("demo", "--texts", str(count), "--out", "a/b", "--base-url", url, "--embedding-model", EMBED).code == 0
        )
        folder = tmp_path / "a/b"
        meta = json.loads((folder / "meta.json").read_text())
        assert meta == {"model": EMBED, "dimensions": 1024, "count": count}
        vectors = array("f", (folder / "vectors.f32").read_bytes())
        assert len(vectors) == count * 1024
        assert sum(value * value for value in vectors[:1024]) == pytest.approx(1.0, abs=1e-3)
        texts = [json.loads(line) for line in (folder / "texts.jsonl").read_text("utf-8").splitlines()]
        assert len({text["name"] for text in texts}) == count
        assert all(text["text"] for text in texts)


@pytest.mark.slow
def test_a_csv_query_finds_csv(run, url):
    """One's own query replaces the examples, is what the model is asked, and finds what it is about."""
    ran = run("demo", "--query", "parse a CSV file", "--base-url", url, "--json")
    value = json.loads(ran.out)
    assert [search["query"] for search in value["searches"]] == ["parse a CSV file"]
    assert value["searches"][0]["hits"][0]["name"].split(".")[0] == "csv"
    assert value["question"] == "parse a CSV file"
    assert "csv" in value["answer"]


def test_json_has_the_numbers(run, sim, tmp_path: Path):
    """With --json standard output is one object with numbers, hits and the answer."""
    ran = run("demo", *FEW, "--base-url", sim.base_url, "--json", "--model", CHAT)
    value = json.loads(ran.out)
    assert ran.code == 0
    assert value["simulated"] is False
    assert value["models"]["chat"] == CHAT
    assert value["texts"] == 300
    assert value["requests"] == len(sim.requests) == sum(1 for _ in sim.requests)
    assert value["texts_per_second"] > 0
    assert value["ttft_seconds"] > 0
    assert value["itl_p95_seconds"] >= value["itl_p50_seconds"] >= 0
    assert min(value["tokens"].values()) > 0
    assert [len(search["hits"]) for search in value["searches"]] == [3, 3, 3]
    assert value["answer"]
    assert value["out"] == "nimclient-demo"


@pytest.mark.slow
def test_the_embedded_simulator_takes_its_time(run):
    """The simulator of the demo writes token by token, so that streaming is there to be seen."""
    value = json.loads(run("demo", *FEW, "--json").out)
    assert value["simulated"] is True
    assert value["ttft_seconds"] >= 0.19
    assert value["itl_p50_seconds"] > 0.01


@pytest.mark.slow
def test_the_answer_is_grounded_in_the_hits(run, sim):
    """The chat request carries excerpts of the best hits, and the question."""
    run("demo", "--query", "How do I parse a CSV file?", "--base-url", sim.base_url)
    system, user = sim.requests[-1].json["messages"]
    assert "csv" in system["content"]
    assert user["content"] == "How do I parse a CSV file?"


def test_a_smaller_corpus_on_the_hosted_catalog(run, url, monkeypatch):
    """The hosted catalog, which takes forty requests a minute, gets 640 texts by default, and that is said."""
    monkeypatch.setattr(demo, "is_hosted", lambda base_url: True)
    ran = run("demo", "--base-url", url, "--json")
    assert json.loads(ran.out)["texts"] == 640
    assert "640 of them" in ran.err


@pytest.mark.parametrize(
    ("url", "hosted"),
    [
        ("https://integrate.api.nvidia.com/v1", True),
        ("http://localhost:8000/v1", False),
        ("http://api.nvidia.com.evil/v1", False),
    ],
)
def test_what_is_hosted(url, hosted):
    """Only NVIDIA's own hosts are the hosted catalog."""
    assert connection.is_hosted(url) is hosted


def test_a_key_means_the_hosted_catalog(run, monkeypatch):
    """With NVIDIA_API_KEY set the demo goes to the hosted catalog and starts no simulator."""
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-0123456789")
    seen: list[str] = []
    monkeypatch.setattr(demo, "_play", lambda client, *_: seen.append(client.base_url))
    run("demo")
    assert seen == ["https://integrate.api.nvidia.com/v1"]


def test_only_chat(run, one_model):
    """A server with a chat model only runs the chat half, says so, and the exit code is that of partial success."""
    ran = run("demo", "--base-url", one_model, "--json")
    value = json.loads(ran.out)
    assert ran.code == 1
    assert "No embedding model" in ran.err
    assert (value["texts"], value["answer"], value["models"]["chat"], value["sources"]) == (
        None,
        "Quite.",
        "my-llama",
        [],
    )


def test_only_embeddings(run, url):
    """A server without a chat model runs the search half and says so."""
    ran = run("demo", *FEW, "--base-url", url, "--model", EMBED)
    assert ran.code == 1
    assert "No chat model" in ran.err
    assert "Search: " in ran.out


def test_neither(run, url):
    """Where neither half can run, the line says which options name models."""
    ran = run("demo", "--base-url", url, "--model", EMBED, "--embedding-model", CHAT)
    assert ran.code == 1
    assert "--embedding-model and --model" in ran.err.splitlines()[-1]


def test_other_failures_are_not_a_missing_half(run):
    """A server that is not there is an error, before the library is read."""
    ran = run("demo", "--base-url", "http://127.0.0.1:9")
    assert ran.code == 1
    assert "nimclient simulate" in ran.err
    assert ran.err.count("\n") == 1


def test_failures_of_the_chat_half_are_errors(run, monkeypatch):
    """A server that ends in the middle of the demo is an error, too."""
    thread = SimulatorThread(Simulator())
    keep = demo._keep

    def keep_and_stop(*arguments):
        keep(*arguments)
        thread.close()

    monkeypatch.setattr(demo, "_keep", keep_and_stop)
    with thread as url:
        ran = run("demo", *FEW, "--base-url", url)
    assert ran.code == 1
    assert "nimclient simulate" in ran.err


def test_a_folder_that_cannot_be_made(run, url, tmp_path: Path):
    """A folder that cannot be made is found before anything is sent."""
    (tmp_path / "file").write_text("")
    ran = run("demo", "--out", "file", "--base-url", url)
    assert ran.code == 1
    assert "--out" in ran.err


def test_files_that_cannot_be_written(run, url, tmp_path: Path):
    """A file that cannot be written is one line that names --out."""
    (tmp_path / "out/vectors.f32").mkdir(parents=True)
    ran = run("demo", *FEW, "--out", "out", "--base-url", url)
    assert ran.code == 1
    assert "--out" in ran.err.splitlines()[-1]


@pytest.mark.parametrize("name", ["vectors.f32", "texts.jsonl", "meta.json"])
def test_links_in_the_place_of_kept_files_are_not_followed(run, url, tmp_path: Path, name: str):
    """What a link in the folder points at stays as it is."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "out").mkdir()
    for link in (name, f"{name}.tmp"):
        (tmp_path / "out" / link).symlink_to(precious)
    run("demo", *FEW, "--out", "out", "--base-url", url)
    assert precious.read_text() == "precious"


def test_the_answer_cites_what_it_is_from(run, sim):
    """The best of the reranked hits are numbered excerpts, a language is asked for, and the sources are listed."""
    ran = run("demo", *FEW, "--base-url", sim.base_url, "--language", "German", "--query", "read CSV files", "--json")
    system = sim.requests[-1].json["messages"][0]["content"]
    assert "in German" in system
    assert "[1] " in system
    assert "/v1/ranking" in [request.path for request in sim.requests]
    value = json.loads(ran.out)
    cited = [source.partition("] ") for source in value["sources"]]
    assert cited
    for number, closing, name in cited:
        assert f"{number}{closing}{name}" in system
        assert number + "]" in value["answer"]


def test_without_a_reranker_the_search_decides(run):
    """A server that has no reranker answers from the best hits, and the demo says so."""
    with SimulatorThread(Simulator(models=[CHAT, EMBED])) as url:
        ran = run("demo", *FEW, "--base-url", url)
    assert ran.code == 0
    assert "No reranking model" in ran.err
