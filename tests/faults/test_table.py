"""The page of faults says what is tested."""

import re
from pathlib import Path

from support.fault_table import table
from support.faults import CASES, ELSEWHERE, NOT_TESTED, ROWS

TESTS = Path(__file__).parents[1]


def test_the_page_is_what_the_tests_are() -> None:
    """docs/faults.md is what `python tests/support/fault_table.py` prints."""
    assert (TESTS.parent / "docs/faults.md").read_text() == table()


def test_every_row_is_tested_or_says_why_not() -> None:
    """A row has cases, or tests elsewhere that exist, or a reason."""
    for row in ROWS:
        assert any(case.row == row for case in CASES) or row in ELSEWHERE or row in NOT_TESTED, row
    for row, names in ELSEWHERE.items():
        assert row in ROWS
        for name in names:
            file, _, test = name.partition("::")
            assert re.search(rf"def {test}\(", (TESTS / file).read_text()), name
