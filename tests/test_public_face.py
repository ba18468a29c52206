"""What users can name changes on purpose only: tests/public_face.txt is read by whoever reviews a change."""

import sys
from difflib import unified_diff
from pathlib import Path

import pytest

from support.public_face import public_face

FILE = Path(__file__).with_name("public_face.txt")


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="signatures are written a little differently elsewhere")
def test_the_public_face_is_the_one_on_file() -> None:
    """Names, signatures, first lines, fields and attributes are those of tests/public_face.txt."""
    changes = list(
        unified_diff(FILE.read_text().splitlines(), public_face().splitlines(), "on file", "now", lineterm="", n=1)
    )
    assert not changes, "\n".join(["python tests/support/public_face.py > tests/public_face.txt", *changes])
