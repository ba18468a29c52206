"""No command shows the key that it sends, nor the question where a program's words about itself go."""

import json
from pathlib import Path

import pytest

from support.canary import KEY, PROMPT, VARIABLE
from support.server import ServerThread
from support.wire import error

COMMANDS = {
    "chat": ["chat", PROMPT],
    "embed": ["embed", "texts.txt", "--out", "vectors"],
    "rerank": ["rerank", PROMPT, "one", "two"],
    "models": ["models"],
    "doctor": ["doctor"],
    "doctor as JSON": ["doctor", "--json"],
    "batch": ["batch", "requests.jsonl", "--out", "answers.jsonl"],
    "map": ["map", "About {text}", "texts.jsonl", "--out", "answers.jsonl"],
    "bench": ["bench", "--requests", "2", "--concurrency", "1"],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the commands read, and the key that they send."""
    body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (tmp_path / "requests.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "texts.txt").write_text(f"{PROMPT}\n")
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": PROMPT}) + "\n")
    monkeypatch.setenv(VARIABLE, KEY)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_a_key_is_sent_and_not_shown(run, sim, folder: Path, name: str) -> None:
    """With --verbose, too; files of jobs do not have it, and standard error has no question."""
    ran = run(*COMMANDS[name], "--base-url", sim.base_url, "--verbose")
    assert f"Bearer {KEY}" in {request.headers.get("authorization") for request in sim.requests}
    assert KEY not in ran.out + ran.err
    assert PROMPT not in ran.err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_server_that_repeats_the_key(run, folder: Path, name: str) -> None:
    """What it says of it is shown without it."""
    with ServerThread() as server:
        server.script(error(400, f"Bearer {KEY} and %6Evapi{KEY[5:]} are no good"))
        ran = run(*COMMANDS[name], "--base-url", server.url, "--model", "m", "--verbose")
    assert ran.code != 0
    assert KEY not in ran.out + ran.err
    assert KEY[5:] not in ran.out + ran.err
