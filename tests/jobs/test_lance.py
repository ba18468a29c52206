"""LanceDB as a source of large rows."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from nimclient import AsyncClient
from nimclient.jobs import EmbedJob
from support.server import FaultServer, Request
from support.wire import answer, embedded

pytestmark = pytest.mark.skipif(find_spec("lancedb") is None, reason="nox -s sinks installs it")


def embed(request: Request) -> bytes:
    return answer(embedded(["1"] * len(request.json["input"])))


@pytest.mark.parametrize(("size", "most"), [(10, 256), (200_000, 20)])
async def test_large_rows_are_read_a_few_at_once(
    server: FaultServer, client: AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, most: int
) -> None:
    """Some megabytes of rows are in memory, however many there are in the table: many small ones, or a few that are large."""
    import lancedb

    rows = {"id": [str(number) for number in range(300)], "text": ["x" * size] * 300}
    lancedb.connect(tmp_path / "l").create_table("docs", pa.table(rows))
    query = lancedb.query.LanceEmptyQueryBuilder
    to_batches, seen = query.to_batches, []

    def noted(*args: Any, **options: Any) -> Any:
        seen.extend(number for number in args if isinstance(number, int))
        return to_batches(*args, **options)

    monkeypatch.setattr(query, "to_batches", noted)
    server.script(embed)
    report = await EmbedJob(f"lancedb:///{tmp_path}/l?table=docs", f"memory://lance-{size}", id="id").run(client)
    assert (report.succeeded, seen) == (300, [most])
