"""The corpus: what was worth keeping for each target, one Python literal of bytes a line; `#` begins a remark."""

import ast
from pathlib import Path

FOLDER = Path(__file__).with_name("corpus")


def inputs(target: str) -> list[bytes]:
    """The inputs of a target."""
    path = FOLDER / f"{target}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [ast.literal_eval(line) for line in lines if line and not line.startswith("#")]
