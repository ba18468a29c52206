"""Each command's `--help` has three examples at least, and they run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nimclient.simulator import Simulator
from support.slow import mostly_slow

COMMANDS = (
    "demo",
    "chat",
    "embed",
    "batch",
    "map",
    "merge",
    "rerank",
    "models",
    "doctor",
    "bench",
    "simulate",
    "completion",
)
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)

SETUP = """
nimclient() {{ {python} -m nimclient "$@"; }}
python() {{ {python} "$@"; }}
git() {{ echo a change; }}
zstdcat() {{ cat docs.jsonl; }}
mkdir -p .local/share/bash-completion/completions .config/fish/completions
set -e -o pipefail
"""


def examples(run, command: str) -> list[str]:
    text = run(command, "--help").out.partition("\nexamples:\n")[2].partition("\n\n")[0]
    return [re.split(r" {3,}", line.strip())[0] for line in text.splitlines() if "nimclient" in line]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_three_examples(run, command: str) -> None:
    """And each of them is of that command."""
    found = examples(run, command)
    assert len(found) >= 3
    assert all(f"nimclient {command}" in example for example in found)


@pytest.mark.parametrize("command", mostly_slow([c for c in COMMANDS if c != "simulate"], "models"))
def test_the_examples_run(run, sim: Simulator, environment, tmp_path: Path, command: str) -> None:
    """As they stand, in bash, with the files that they name, against a server on this machine."""
    (tmp_path / "docs.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "docs.csv").write_text("url,body\na,one\n")
    (tmp_path / "documents.txt").write_text("one\ntwo\n")
    (tmp_path / "photo.jpg").write_bytes(PIXEL)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").touch()
    (tmp_path / "names.json").write_text('{"type": "object", "properties": {"names": {"type": "array"}}}')
    body = '{"model": "meta/llama-3.1-8b-instruct", "messages": [{"role": "user", "content": "hi"}]}'
    line = f'{{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {body}}}\n'
    (tmp_path / "requests.jsonl").write_text(line)
    for number in (0, 1) if command == "merge" else ():
        shard = ("--shard", f"{number}/2", "--base-url", sim.base_url)
        assert run("embed", "docs.jsonl", "--out", "vectors", *shard).code == 0
    Path("script").write_text(SETUP.format(python=sys.executable))
    for example in examples(run, command):
        if example == "nimclient chat":
            continue  # a conversation wants a terminal
        text = "source ./script; " + example.replace("http://localhost:8000", sim.base_url).replace(
            " --out vectors", " --out $RANDOM"
        )
        more = {"NVIDIA_BASE_URL": sim.base_url, "HOME": str(tmp_path)}
        done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, env=environment | more, timeout=250)
        assert done.returncode == 0, (example, done.stderr)
