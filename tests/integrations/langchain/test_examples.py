"""The examples of docs/examples with LangChain: each is a program that runs against a NIM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

for library in ("langchain", "langchain_classic", "langchain_community", "langgraph", "faiss"):
    pytest.importorskip(library, reason="only in `nox -s langchain`, which installs it")

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("langchain_agents", ["['human', 'ai', 'tool', 'ai']", "Sum(a=2, b=3)", "Based on the text given: 9"]),
        ("langchain_chains", ["3 answers with await", "on_chat_model_stream", "My name is Ann.", "4 messages kept"]),
        (
            "langchain_pages",
            ["call tools", "is deprecated. Using", "Person(", "ContextLengthError", "'Boston'", "agent_hints"],
        ),
        ("langchain_retrieval", ["FAISS Komodo", "InMemoryVectorStore Komodo", "A white dwarf", "Kensho"]),
    ],
)
def test_examples_run(name: str, said: list[str], simulator: str) -> None:
    """It ends well and says what it should."""
    hidden = {"NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"}
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | {"NVIDIA_BASE_URL": simulator}
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert [words for words in said if words not in done.stdout] == [], done.stdout
