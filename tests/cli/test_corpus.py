import json
import sys
import types
from pathlib import Path

import pytest

from nimclient.cli import corpus
from nimclient.cli.corpus import Document, choose, distinct, docstrings_of_module, docstrings_of_source, read_corpus


def test_it_is_several_thousand_texts(documents):
    """The standard library has several thousand docstrings, each text short enough for an embedding model."""
    assert len(documents) > 3000
    assert all(len(document.text) <= corpus.MAX_CHARACTERS for document in documents)


@pytest.mark.slow
def test_it_is_the_same_every_time(documents):
    """Reading the library twice gives the same documents in the same order, and tells of every file."""
    told: list[tuple[int, int]] = []
    assert read_corpus(lambda done, total: told.append((done, total))) == documents
    assert told == [(done, len(told)) for done in range(1, len(told) + 1)]


@pytest.mark.parametrize(
    "name", ["csv", "csv.writer", "csv.Sniffer.sniff", "argparse.ArgumentParser", "time.monotonic", "os.write"]
)
def test_it_has_what_people_look_for(documents, name):
    """Modules, their classes and methods, and functions that are written in C have their place in it."""
    assert sum(document.name == name for document in documents) == 1


def test_names_and_docstrings_come_once(documents):
    """No name and no docstring appears twice."""
    assert len({document.name for document in documents}) == len(documents)
    assert len({document.docstring for document in documents}) == len(documents)


def test_noise_is_left_out(documents):
    """Private names, tests, and programs that come with Python are left out."""
    parts = {part for document in documents for part in document.name.split(".")}
    assert not {document.name.partition(".")[0] for document in documents} & {
        "test",
        "idlelib",
        "lib2to3",
        "turtledemo",
    }
    assert not any(part.startswith("_") for part in parts)


def test_reading_imports_nothing(documents):
    """Source files are parsed, not imported."""
    assert "csv" in {document.name for document in documents}
    assert "antigravity" not in sys.modules


def test_walk_skips_what_is_no_public_module(tmp_path: Path):
    """Only public modules are read; folders are walked in order."""
    for name in ("b.py", "a/__init__.py", "a/_private.py", "a/test/x.py", "no-module.py", "data.txt", "_c/d.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    found = [path.relative_to(tmp_path) for path in corpus.source_files(tmp_path)]
    assert [path.as_posix() for path in found] == ["a/__init__.py", "b.py"]
    assert [corpus.module_name(path) for path in found] == ["a", "b"]


def test_source_is_taken_apart():
    """A module, its public classes, their public methods and its public functions have docstrings."""
    source = b'''"""Module."""
class A:
    """Class."""
    def run(self):
        """Method."""
        def inner():
            """Not public."""
    def _hidden(self):
        """Hidden."""
async def go():
    """Function."""
def bare(): ...
'''
    assert list(docstrings_of_source(source, "m")) == [
        ("m", "Module."),
        ("m.A", "Class."),
        ("m.A.run", "Method."),
        ("m.go", "Function."),
    ]


def test_source_that_does_not_parse_has_no_docstrings():
    """A file that this Python cannot parse is passed over."""
    assert list(docstrings_of_source(b"print 'old'", "m")) == []
    assert list(docstrings_of_source(b"\0", "m")) == []


def test_modules_without_docstrings_are_fine():
    """A module without a docstring gives those of its members only."""
    module = types.ModuleType("m", "")
    module.length = len  # type: ignore[attr-defined]
    assert [name for name, _ in docstrings_of_module(module, "m")] == ["m.length"]


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("f(x) -> int\n\nCounts the things that there are.", "Counts the things that there are."),
        ("f(x)\nf(x, y)\nCounts the things that there are.", "Counts the things that there are."),
        ("f(some, more, arguments) -> int", "f(some, more, arguments) -> int"),
        ("Counts (all) the things.\nAnd more.", "Counts (all) the things.\nAnd more."),
    ],
)
def test_signatures_are_dropped(raw, kept):
    """Signatures at the beginning go, unless there is nothing else."""
    assert [document.docstring for document in distinct([("f", raw)])] == [kept]


def test_repeats_and_stubs_are_dropped():
    """Of equal names or docstrings the first is kept; a word or two are no text."""
    long = "Something that is long enough to keep."
    found = [("a", long), ("b", long), ("a", long + " Again."), ("c", "See above.")]
    assert [document.name for document in distinct(found)] == ["a"]


def test_a_document_in_its_forms():
    """The embedded text has the names from the module down, an excerpt has its own, JSON has name and text."""
    document = Document("a.b.C", "First line.\nSecond.")
    assert document.text == "a > a.b > a.b.C: First line.\nSecond."
    assert document.excerpt == "a.b.C: First line.\nSecond."
    assert document.summary == "First line."
    assert json.loads(document.to_json()) == {"name": "a.b.C", "text": document.text}


def test_few_are_chosen_from_the_top(documents):
    """A smaller corpus has the modules first, keeps the order, and is spread over what it cuts."""
    few = choose(documents, 640)
    names = [document.name for document in few]
    assert len(set(names)) == 640
    assert names == [document.name for document in documents if document.name in set(names)]
    assert {document.name for document in documents if "." not in document.name} <= set(names)
    assert any(name.startswith("z") and "." in name for name in names)
    assert choose(documents, 1)[0].name.count(".") == 0


def test_all_are_chosen_when_there_are_not_enough(documents):
    """No limit, or one that is not reached, keeps everything."""
    assert choose(documents, None) == documents
    assert choose(documents, 10**6) == documents
