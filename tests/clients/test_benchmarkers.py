"""aiperf and guidellm, each in a virtual environment of its own: their requirements are at odds with everybody's."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nimclient.simulator import Simulator, SimulatorThread
from servers.environment import Unavailable, made, model_folder, venv_with

from .said import CHAT, QUESTION

_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
REQUESTS = 10


def program(name: str, *installs: list[str]) -> Path:
    """The environment with the program in it; skips where it does not install."""
    try:
        return made(f"{name}-{_VERSION}", lambda folder: venv_with(folder, *installs, seconds=900))
    except Unavailable as reason:
        pytest.skip(f"{name} is not to be had here: {reason}")


def run(command: list[str | Path], **more: str) -> None:
    """Run it to its end; local folders take the place of a hub."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    ran = subprocess.run(
        [str(word) for word in command], env={**environment, **more}, capture_output=True, text=True, timeout=280
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]


@pytest.fixture
def address() -> Iterator[str]:
    """A simulator with vLLM's manners: guidellm asks for /health."""
    with SimulatorThread(Simulator(dialect="vllm")) as url:
        yield url.removesuffix("/v1")


@pytest.mark.timeout(1500)
def test_aiperf(address: str, tmp_path: Path) -> None:
    """Ten streamed chats are profiled without an error."""
    venv = program("aiperf", ["aiperf>=0.13"])
    server = ["--url", address, "--model", CHAT, "--tokenizer", model_folder(venv), "--endpoint-type", "chat"]
    load = ["--streaming", "--request-count", str(REQUESTS), "--concurrency", "2", "--isl", "40", "--osl", "8"]
    run([venv / "bin" / "aiperf", "profile", *server, *load, "--ui", "none", "--artifact-dir", tmp_path])
    report = json.loads((tmp_path / "profile_export_aiperf.json").read_bytes())
    assert report["request_count"]["avg"] == REQUESTS
    assert not report.get("error_request_count")
    assert report["time_to_first_token"]["avg"] > 0


@pytest.mark.timeout(1500)
def test_guidellm(address: str, tmp_path: Path) -> None:
    """Ten chats one after another are benchmarked, none with an error."""
    venv = program("guidellm", ["torch==2.13.0"], ["guidellm>=0.8"])  # pip takes a torch that is at hand
    prompts, report = tmp_path / "prompts.jsonl", tmp_path / "report.json"
    prompts.write_text("".join(json.dumps({"prompt": QUESTION}) + "\n" for _ in range(REQUESTS)))
    options = {
        "backend": f"kind=openai_http,target={address},model={CHAT}",
        "profile": "kind=synchronous",
        "constraint": f"kind=max_requests,count={REQUESTS}",
        "data": f"kind=json_file,path={prompts}",
        "tokenizer": f"kind=hf_auto,model={model_folder(venv)}",
        "output": f"kind=json,path={report}",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    run([venv / "bin" / "guidellm", "run", *words, "--disable-console"], HF_HUB_OFFLINE="1")
    (benchmark,) = json.loads(report.read_bytes())["benchmarks"]
    totals = benchmark["metrics"]["request_totals"]
    assert (totals["successful"], totals["errored"]) == (REQUESTS, 0)
