"""The notebook, executed by a real Jupyter kernel."""

import os

import nbformat
import pytest
from nbclient import NotebookClient

from frameworks.conftest import EXAMPLES
from nimclient import Client
from nimclient.simulator import Simulator


def test_the_notebook_runs(simulator: Simulator, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs: both clients, plain and streamed, in the kernel's running loop; nothing goes to standard error."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    NotebookClient(notebook, timeout=40, kernel_name="python3", resources={"metadata": {"path": os.getcwd()}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert {(output.output_type, output.get("name")) for output in outputs} == {("stream", "stdout")}
    texts = ["".join(o.text for o in cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    with Client(base_url=simulator.base_url) as client:
        assert texts[0] == client.chat.create("What is a GPU?").text + "\n"
        assert texts[1] == client.chat.create("What is a tensor?").text
        assert texts[3] == client.chat.create("What is a stream?").text
    assert texts[5] == "3 vectors of 1024 dimensions\n"
    assert not any(request.disconnected for request in simulator.requests)
