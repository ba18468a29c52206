import asyncio
from pathlib import Path

import pytest

from nimclient.cli import rag
from nimclient.simulator import Simulator, SimulatorThread

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "rag.py"


@pytest.fixture
def documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of two short documents, in the current folder."""
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "opening.md").write_text(
        "# Opening hours\n\nThe museum opens at nine.\n\n" + "On Mondays it rests. " * 60
    )
    (folder / "deep" / "tickets.txt").write_text("Tickets cost seven euros.")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    monkeypatch.chdir(tmp_path)
    return "docs"


def test_it_is_short() -> None:
    """The example of the documentation is the module that the demo uses, and has fewer than eighty lines."""
    assert EXAMPLE.read_text() == Path(rag.__file__).read_text()
    assert len(EXAMPLE.read_text().splitlines()) < 80


def test_an_answer_with_its_sources(documents: str, monkeypatch, capsys) -> None:
    """The answer comes from the best passages and names them; a second question embeds nothing but itself."""
    with SimulatorThread(sim := Simulator()) as url:
        monkeypatch.setenv("NVIDIA_BASE_URL", url)
        asyncio.run(rag.main(documents, "When does the museum open?", "German"))
        answer, _, sources = capsys.readouterr().out.partition("\n\n")
        before = len(sim.requests)
        asyncio.run(rag.main(documents, "What do tickets cost?"))
        inputs = [request.json["input"] for request in sim.requests[before:] if request.path == "/v1/embeddings"]
    assert "The museum opens at nine. [1]" in answer
    assert "[1] opening.md, part 1" in sources.splitlines()
    assert "in German" in sim.requests[before - 1].json["messages"][0]["content"]
    assert "Tickets cost seven euros. [1]" in capsys.readouterr().out
    assert inputs == [["What do tickets cost?"]]


def test_passages_are_whole_paragraphs(documents: str) -> None:
    """A passage ends before the paragraph that would make it too long; a paragraph is never cut."""
    names = [name for name, _ in rag.read(Path(documents))]
    assert names == ["deep/tickets.txt, part 1", "opening.md, part 1", "opening.md, part 2"]


def test_a_passage_without_a_vector_ends_it(documents: str, monkeypatch) -> None:
    """A library with holes is an error that names the file of failures."""
    monkeypatch.setattr(rag, "read", lambda folder: [("good", "a text"), ("empty", "")])
    with SimulatorThread(Simulator()) as url:
        monkeypatch.setenv("NVIDIA_BASE_URL", url)
        with pytest.raises(SystemExit, match=r"1 passages have no vector, see .*failures.jsonl"):
            asyncio.run(rag.main(documents, "Why?"))


@pytest.mark.parametrize(
    ("answer", "cited"),
    [("It is [2].", ["[2] b"]), ("Both [1, 2] and [2].", ["[1] a", "[2] b"]), ("[0] [3] [x] 1", []), ("", [])],
)
def test_what_is_cited(answer: str, cited: list[str]) -> None:
    """Numbers in brackets name passages, each once; a number that no passage has names none."""
    assert rag.sources(answer, [("a", "…"), ("b", "…")]) == cited
