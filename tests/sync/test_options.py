"""At a prompt `help` and completion know every option of a method."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import sys
{prompt}
import inspect, json, nimclient
found = dict()
for client in (nimclient.Client(base_url="http://x/v1"), nimclient.AsyncClient(base_url="http://x/v1")):
    for path in ("chat.create", "chat.stream", "completions.create", "embeddings.embed_documents", "rerank"):
        method = client
        for name in path.split("."):
            method = getattr(method, name)
        found[type(client).__name__ + "." + path] = [list(inspect.signature(method).parameters), inspect.getdoc(method)]
print(json.dumps(found))
"""
AN_OPTION = {
    "chat.create": ("temperature", "    temperature: How random the tokens are; 0 takes the most likely one.\n"),
    "chat.stream": ("priority", "with the sign of the server type (vLLM: lower first; "),  # two lines of the source
    "completions.create": ("best_of", "    best_of: Generate this many and return the best `n`"),
    "embeddings.embed_documents": ("prefix", "    prefix: Put before every text"),
    "rerank": ("timeout", "    timeout: Seconds for the whole call, all attempts included; or Timeouts."),
}


def shown(prompt: str) -> dict[str, tuple[list[str], str]]:
    """Method → its parameters and its docstring, in a process that begins with this line."""
    command = [sys.executable, "-c", PROGRAM.format(prompt=prompt)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("prompt", ["sys.ps1 = '>>> '", "import pydoc"])
def test_a_prompt_sees_the_options(prompt: str) -> None:
    """Each method of both clients shows its options one a line with their meaning, and takes them by name."""
    found = shown(prompt)
    assert len(found) == 2 * len(AN_OPTION)
    for name, (parameters, doc) in found.items():
        option, line = AN_OPTION[name.partition(".")[2]]
        assert option in parameters
        assert "options" not in parameters
        assert line in doc


def test_a_service_pays_nothing_for_it() -> None:
    """Without a prompt nothing is changed."""
    for parameters, doc in shown("pass").values():
        assert parameters[-1] == "options"
        assert "Options:" not in doc
