"""Prints the table of docs/faults.md: `python tests/support/fault_table.py > docs/faults.md`."""

import ast
import sys
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))  # when it is run as a program

from support.faults import CASES, ELSEWHERE, NOT_TESTED, ROWS, Case  # noqa: E402 - found by the line above

TOP = """# Fault by fault

What can go wrong between a program and a server, what the call comes to, and the test that shows it. Cases of
[`tests/support/faults.py`](../tests/support/faults.py) run over real sockets with `AsyncClient` and with `Client`
([`tests/faults/test_wire.py`](../tests/faults/test_wire.py)): each looks at the outcome, the number of requests, the
pickled error, the absence of key and prompt from error, traceback and log, and at a good call of the same client
afterwards. This page is written by `tests/support/fault_table.py`, and a test keeps it true.

| row | fault | what the call comes to | test |
|---|---|---|---|
"""


def outcome(case: Case) -> str:
    """`ConnectionLostError (2 requests)`, or the answer."""
    text = "the answer" if isinstance(case.outcome, str) else f"`{case.outcome.__name__}`"
    return f"{text} ({case.requests} requests)" if case.requests > 1 else text


@cache
def facts(file: str) -> dict[str, str]:
    """What the tests of a file say that they show, by name."""
    tree = ast.parse((TESTS / file).read_text())
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {test.name: " ".join((ast.get_docstring(test) or "").split()) for test in tests}


def fact(test: str) -> str:
    """What a test says that it shows, without the number of the row."""
    file, _, name = test.partition("::")
    words = facts(file)[name]
    words = words.partition(": ")[2] if words.startswith("F") and words[1:4].isdigit() else words
    return words[0].upper() + words[1:]


def rows() -> list[str]:
    """A line of the table for each row."""
    lines: list[str] = []
    for row, fault in ROWS.items():
        cases = [case for case in CASES if case.row == row]
        outcomes = dict.fromkeys(outcome(case) for case in cases)
        tests = [f"`test_wire` ({len(cases)} case{'s' * (len(cases) > 1)})"] if cases else []
        tests += [f"`{name.partition('::')[2]}` ({name.partition('::')[0]})" for name in ELSEWHERE.get(row, ())]
        what = ", ".join(outcomes) if cases else fact(ELSEWHERE[row][0]) if row in ELSEWHERE else ""
        if row in NOT_TESTED:
            what, tests = f"not tested: {NOT_TESTED[row]}", ["none"]
        lines.append(f"| {row} | {fault} | {what} | {'<br>'.join(tests)} |")
    return lines


def table() -> str:
    """The whole page."""
    return (
        TOP
        + "\n".join(rows())
        + "\n\nNext: [from the field](from_the_field.md), [troubleshooting](troubleshooting.md).\n"
    )


if __name__ == "__main__":
    print(table(), end="")
