"""`nimclient models` and `nimclient rerank`, as text and as JSON."""

import io
import json
import sys

import pytest

from nimclient.cli.models import row_of
from nimclient.records import Model
from nimclient.simulator import Simulator, SimulatorThread

EMBED = "nvidia/llama-nemotron-embed-1b-v2"
DOCUMENTS = ("the json module", "the csv module reads csv files", "nothing of the kind")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# models ------------------------------------------------------------------------------------------------------------


def test_all_models(run, url):
    """A model a line, in columns, without a heading in a pipe."""
    ran = run("models", "--base-url", url)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert len(lines) > 100
    assert any(line.split() == [EMBED, "embedding", "8,192", "–"] for line in lines)
    assert not lines[0].startswith("id")


def test_models_of_one_kind(run, url):
    """--kind keeps one kind; nothing of it is a word on standard error, and no failure."""
    ran = run("models", "--base-url", url, "--kind", "ranking")
    assert {line.split()[1] for line in ran.out.splitlines()} == {"ranking"}
    ran = run("models", "--base-url", url, "--kind", "unknown")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "nimclient: the server lists no model of kind unknown\n"


def test_models_as_json(run, url):
    """--json is the list as the Python interface has it."""
    listed = json.loads(run("models", "--base-url", url, "--json").out)
    assert listed["object"] == "list"
    assert next(one for one in listed["data"] if one["id"] == EMBED)["kind"] == "embedding"


def test_one_model(run, url):
    """--model shows one model; one that is not there is a failure; one of another kind is none of that kind."""
    ran = run("models", "--base-url", url, "--model", EMBED)
    assert (ran.code, len(ran.out.splitlines())) == (0, 1)
    assert run("models", "--base-url", url, "--model", "no/such").code == 1
    assert run("models", "--base-url", url, "--model", EMBED, "--kind", "chat").out == ""
    assert len(json.loads(run("models", "--base-url", url, "--model", EMBED, "--json").out)["data"]) == 1


def test_a_row():
    """What a model can do is said in words."""
    model = Model("m", kind="chat", supports_tools=True, supports_thinking=True, parent="base", deprecated=True)
    assert row_of(model) == ("m", "chat", "–", "tools, thinking, adapter of base, deprecated")


# rerank ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["nim", "vllm", "dynamo"])
def test_the_best_document_comes_first(run, dialect):
    """Each line is score, position and document, best first, whatever the server type."""
    with SimulatorThread(Simulator(dialect=dialect)) as url:
        ran = run("rerank", "csv files", *DOCUMENTS, "--base-url", url)
    assert (ran.code, ran.err) == (0, "")
    lines = [line.split("\t") for line in ran.out.splitlines()]
    assert lines[0][1:] == ["1", DOCUMENTS[1]]
    scores = [float(line[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    assert len(lines) == 3


def test_rerank_as_json(run, sim):
    """--json is the ranking; --top, --truncate and --model go into the request."""
    options = ("--top", "1", "--truncate", "END", "--model", "nvidia/llama-nemotron-rerank-1b-v2")
    ran = run("rerank", "csv files", *DOCUMENTS, "--base-url", sim.base_url, "--json", *options)
    ranking = json.loads(ran.out)
    assert [one["document"] for one in ranking["results"]] == [DOCUMENTS[1]]
    sent = sim.requests[-1].json
    assert (sent["truncate"], sent["model"]) == ("END", "nvidia/llama-nemotron-rerank-1b-v2")


@pytest.mark.parametrize("argv", [["-"], []])
def test_documents_of_a_pipe(run, url, monkeypatch, argv):
    """With "-", or without documents in a pipe, each line of standard input is one; empty lines are none."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n".join(DOCUMENTS)))
    ran = run("rerank", "csv files", *argv, "--base-url", url)
    assert ran.out.splitlines()[0].endswith(DOCUMENTS[1])
    assert len(ran.out.splitlines()) == 3


def test_documents_of_a_file(run, url, tmp_path):
    """--file takes the lines of a file."""
    (tmp_path / "docs.txt").write_text("\n".join(DOCUMENTS))
    ran = run("rerank", "csv files", "--file", "docs.txt", "--base-url", url)
    assert ran.out.splitlines()[0].endswith(DOCUMENTS[1])


@pytest.mark.parametrize(
    ("argv", "stdin", "words"),
    [
        ([], Terminal("typed"), "there is no document"),
        (["-"], io.StringIO(" \n"), "there is no document"),
        (["-"], io.TextIOWrapper(io.BytesIO(b"\xff"), "utf-8"), "UTF-8"),
        (["--file", "gone.txt"], Terminal(), "cannot be read"),
        (["--file", "bytes"], Terminal(), "UTF-8"),
        (["a document", "--file", "bytes"], Terminal(), "not both"),
    ],
)
def test_no_documents(run, url, monkeypatch, tmp_path, argv, stdin, words):
    """Documents that are not there or are no text are a usage error, in one line."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    monkeypatch.setattr(sys, "stdin", stdin)
    ran = run("rerank", "query", *argv, "--base-url", url)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_documents_are_lines_that_end_at_line_feeds(run, sim, monkeypatch, tmp_path, way):
    """Form feeds and Unicode's separators are part of a document; a byte-order mark is not."""
    data = "\ufeffa\fb\vc\x1cd\x85e\u2028f\u2029g\r\n\nsecond\n".encode()
    (tmp_path / "docs.txt").write_bytes(data)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data if way == "pipe" else b""), "utf-8"))
    argv = ["--file", "docs.txt"] if way == "file" else ["-"]
    assert run("rerank", "query", *argv, "--base-url", sim.base_url).code == 0
    passages = [passage["text"] for passage in sim.requests[-1].json["passages"]]
    assert passages == ["a\fb\vc\x1cd\x85e\u2028f\u2029g", "second"]


def test_documents_of_utf_16_are_named(run, url, tmp_path):
    """A usage error, before anything is sent."""
    (tmp_path / "docs.txt").write_bytes("a\nb\n".encode("utf-16"))
    ran = run("rerank", "query", "--file", "docs.txt", "--base-url", url)
    assert ran.code == 2
    assert "--file docs.txt is UTF-16 text" in ran.err


def test_a_named_model_of_another_kind(run, url):
    """It is said of the model, which the server does list."""
    ran = run("models", "--model", "meta/llama-3.1-8b-instruct", "--kind", "embedding", "--base-url", url)
    assert ran == (0, "", "nimclient: meta/llama-3.1-8b-instruct is not of kind embedding\n")
