"""Each thing has one name, the usual one of the field: words that were replaced stay out of the sources and the docs."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

SPEC = find_spec("nimclient")
assert SPEC is not None
assert SPEC.origin is not None
PACKAGE = Path(SPEC.origin).parent
ROOT = Path(__file__).resolve().parent.parent
TEXTS = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
TESTS = sorted((ROOT / "tests").rglob("*.py"))

REPLACED = {
    r"under way": "in flight, running",
    r"broke off|breaks off": "was interrupted",
    r"goes on": "continues, resumes",
    r"listeners?": "callback",
    r"garbled": "malformed",
    r"keyless|anonymous(?! pages)": "unauthenticated",
    r"by the way|the way of a call": "(leave out)",
    r"side by side": "concurrently",
    r"gave up|gives up": "cancelled, stopped",
    r"nobody (?:asks|asked|may be)": "(name the component)",
    r"(?:is|are|was|were) told": "is called, notified or reported",
    r"anew": "again",
    r"finds out": "adapts, detects",
    r"heard|hearken": "received",
    r"refus\w* for capacity": "throttled",
    r"kinds? of server": "server type",
    r"wings?": "extra",
    r"desk": "callback queue",
    r"naps?|slept_well": "wait",
    r"stays_here": "unpicklable",
    r"heard_health|read_refusal|greet": "inspect_…",
    r"_?[Cc]ourse(?! of)": "call state",
    r"(?:most|least|longest|fewest)_\w+": "max_…, min_…",
    r"(?:MOST|LEAST|LONGEST|FEWEST)(?:_\w+)?": "MAX_…, MIN_…",
}


ANY = re.compile(r"(?<![\w-])(?:" + "|".join(f"({pattern})" for pattern in REPLACED) + r")(?![\w-])")


def test_replaced_words_stay_out() -> None:
    """No source and no guide uses a word that the vocabulary has replaced."""
    assert len(TEXTS) > 300
    assert [f"{path}: {found}" for path in TEXTS for found in found_in(path.read_text())] == []


def test_the_sentences_of_tests_use_the_same_words() -> None:
    """No docstring of a test uses a replaced word."""
    assert len(TESTS) > 300
    assert [f"{path}: {found}" for path in TESTS for sentence in sentences(path) for found in found_in(sentence)] == []


def sentences(path: Path) -> list[str]:
    """The docstrings of a module."""
    documented = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, DOCUMENTED))
    return [sentence for node in documented if (sentence := ast.get_docstring(node))]


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def found_in(text: str) -> list[str]:
    """The replaced words of a text, with what to say instead."""
    better = [*REPLACED.values()]
    return [
        f"line {text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}: say {better[match.lastindex - 1]}"
        for match in ANY.finditer(text)
        if match.lastindex is not None
    ]
