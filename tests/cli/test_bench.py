"""`nimclient bench`: AIPerf's figures by its definitions, at several levels, as tables, JSON and a picture."""

import json
from pathlib import Path

import pytest

from nimclient.cli.bench_figures import Sample, figures, number, sentence, summary, table
from nimclient.simulator import Simulator, SimulatorThread

CHAT = [Sample(1.0, 0.2, 10, 41), Sample(2.0, 0.4, 30, 81), Sample(0.3, 0.3, 20, 1)]


def test_the_figures_are_those_of_aiperf() -> None:
    """Inter token latency is what follows the first token over all tokens but one; percentiles are interpolated."""
    run = figures(4, CHAT, 1, 10.0)
    assert run["time_to_first_token"] == pytest.approx(
        {"unit": "ms", "avg": 300, "min": 200, "max": 400, "p50": 300, "p90": 380, "p99": 398}
    )
    assert run["inter_token_latency"] == pytest.approx(
        {"unit": "ms", "avg": 20, "min": 20, "max": 20, "p50": 20, "p90": 20, "p99": 20}
    )
    assert run["request_latency"]["p50"] == 1000
    assert run["output_token_throughput_per_user"]["max"] == pytest.approx(50)
    assert run["output_sequence_length"]["avg"] == pytest.approx(41)
    assert run["request_throughput"] == {"unit": "requests/sec", "avg": 0.3}
    assert run["output_token_throughput"]["avg"] == pytest.approx(12.3)
    assert run["total_token_throughput"]["avg"] == pytest.approx(18.3)
    assert (run["request_count"]["avg"], run["error_request_count"]["avg"]) == (3, 1)
    assert sentence(run) == "concurrency 4: 3 requests, 1 failed, 10.0 s, 0.30 requests/s, 12 tokens/s"
    assert [row[0] for row in table(run)][:2] == ["time to first token (ms)", "inter token latency (ms)"]


def test_without_a_stream_there_is_no_first_token() -> None:
    """Embeddings have a latency and input tokens; a level in which all failed has counts alone."""
    run = figures(1, [Sample(0.5, tokens_in=100)], 0, 2.0)
    assert "time_to_first_token" not in run
    assert summary([run]) == [["1", "0.50", "50", "–", "–", "500", "500"]]
    failed = figures(1, [], 5, 2.0)
    assert table(failed) == []
    assert failed["error_request_count"]["avg"] == 5


@pytest.mark.parametrize(("value", "text"), [(0.254, "0.25"), (25.44, "25.4"), (1234.5, "1,234"), (40.0, "40")])
def test_a_number(value: float, text: str) -> None:
    """About three digits, and none behind the point of a whole number."""
    assert number(value) == text


def test_chat_at_two_levels(run, sim: Simulator) -> None:
    """A warm-up, then so many requests a level, each another text; a table a level and one of all, headed in a pipe too."""
    argv = ("--concurrency", "1,3", "--requests", "4", "--output-tokens", "7", "-o", "ignore_eos=true")
    ran = run("bench", "--base-url", sim.base_url, *argv)
    assert ran.code == 0
    assert [line.split(":")[0] for line in ran.out.splitlines() if line.startswith("concurrency ")][:2] == [
        "concurrency 1",
        "concurrency 3",
    ]
    assert "                          avg" in ran.out
    assert "\nall levels\nconcurrency  requests/s" in ran.out
    chats = [request.json for request in sim.requests if request.path == "/v1/chat/completions"]
    assert len(chats) == 9
    assert len({json.dumps(chat["messages"]) for chat in chats}) == 9
    assert {(chat["max_tokens"], chat["ignore_eos"], chat["stream"]) for chat in chats} == {(7, True, True)}
    assert [line.split()[1:] for line in ran.out.splitlines() if line.startswith("output tokens")] == [
        ["tokens", *("7" * 6)],
        ["tokens", *("7" * 6)],
    ]


@pytest.mark.parametrize(("kind", "path", "items"), [("embed", "/v1/embeddings", 3), ("rerank", "/v1/ranking", 10)])
def test_embeddings_and_reranking(run, sim: Simulator, kind: str, path: str, items: int) -> None:
    """Texts or documents a request are those of --batch-size; --json is one object with a run a level."""
    size = ["--batch-size", "3"] if kind == "embed" else []
    ran = run(
        "bench", "--kind", kind, "--base-url", sim.base_url, "--concurrency", "2", "--json", "--requests=3", *size
    )
    assert ran.code == 0
    result = json.loads(ran.out)
    assert (result["kind"], len(result["runs"])) == (kind, 1)
    assert result["model"]
    assert result["runs"][0]["request_latency"]["min"] > 0
    body = next(request.json for request in reversed(sim.requests) if request.path == path)
    assert len(body["input" if kind == "embed" else "passages"]) == items


def test_requests_that_fail_are_counted(run) -> None:
    """A server that throttles: nothing is sent again, what failed is named and counted, and the exit code is 1."""
    with SimulatorThread(Simulator(rpm=4)) as url:
        ran = run("bench", "--base-url", url, "--concurrency", "2", "--requests", "6", "--json")
    assert ran.code == 1
    [level] = json.loads(ran.out)["runs"]
    assert (level["request_count"]["avg"], level["error_request_count"]["avg"]) == (3, 3)
    assert "nimclient: 3 failed: " in ran.err
    assert "429" in ran.err


def test_what_cannot_work_is_said_before_anything_is_measured(run, url: str) -> None:
    """No server, a picture of no kind, an option that there is not, levels that are none."""
    assert run("bench", "--base-url", "http://127.0.0.1:9").code == 1
    assert "a picture ends in .png" in run("bench", "--plot", "a.txt").err
    assert "no folder" in run("bench", "--plot", "none/a.png").err
    ran = run("bench", "--base-url", url, "-o", "temprature=1")
    assert ran.code == 2
    assert "temprature" in ran.err
    assert run("bench", "--concurrency", "1,x").code == 2


def test_a_picture(run, url: str, tmp_path: Path) -> None:
    """--plot draws latency and throughput, and says where."""
    ran = run(
        "bench", "--base-url", url, "--concurrency", "1", "--requests", "1", "--output-tokens", "3", "--plot", "a.png"
    )
    assert (ran.code, (tmp_path / "a.png").read_bytes()[:4]) == (0, b"\x89PNG")
    assert "plot saved to a.png" in ran.err
