"""The arithmetic of a billion documents, and a job of many shards of which some are killed."""

import re
from pathlib import Path

import orjson
import pytest

from benchmarks import billion, shards

PAGE = Path(__file__).resolve().parents[2] / "docs" / "many_machines.md"


def test_the_page_has_the_table_of_the_figures() -> None:
    """No number of the table is written by hand."""
    assert billion.table(orjson.loads(billion.FIGURES.read_bytes())) in PAGE.read_text()


def test_the_arithmetic() -> None:
    """A billion vectors of 3.6 µs are one hour of a core; of 4,500 bytes, 4.5 TB: an hour of 10 Gbit/s."""
    figures = dict.fromkeys(orjson.loads(billion.FIGURES.read_bytes()), 4500.0) | {"stream_base64": 3.6}
    rows = billion.table(figures).splitlines()
    assert "| client, base64 | 3.6 µs a vector: 277,778 a second and core | 1.0 h of a core |" in rows
    assert "| the wire, base64 | 4,500 bytes a vector | 4.5 TB: 1.0 h of 10 Gbit/s |" in rows
    assert "| the disk, float16 | 4,500 bytes a vector | 4.5 TB: 2.5 h at 500 MB/s |" in rows


def test_the_sentences_beside_the_table() -> None:
    """What the page says in words follows from the figures, too."""
    figures = orjson.loads(billion.FIGURES.read_bytes())
    found = re.search(r"keeps about (\d+) such GPUs busy", PAGE.read_text())
    assert found is not None
    assert int(found[1]) == pytest.approx(1e6 / figures["job_float32"] / billion.GPU_RATE, rel=0.2)
    assert figures["wire_float16"] < figures["wire_float32"] / 1.9 < figures["wire_base64"] / 2.5
    assert 2 * 1024 < figures["disk_float16"] < 2 * 1024 + 100
    assert 4 * 1024 < figures["disk_float32"] < 4 * 1024 + 100


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_shards_that_are_killed(tmp_path: Path) -> None:
    """Four shards, two of them killed with SIGKILL: every row once with its vector, and little is sent again."""
    counts = shards.run(tmp_path, 4, 400, 2, 4)
    assert counts["killed"] == 2
    assert counts["status"] == "complete"
    assert 0 <= counts["sent again"] < 400
