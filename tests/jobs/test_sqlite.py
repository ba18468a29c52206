"""SQLite files as other programs leave them: texts in other encodings, tables without row numbers, processes that write."""

import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Timer

import pytest

from nimclient import AsyncClient
from nimclient.errors import JobStoreError
from nimclient.jobs import EmbedJob
from support.jobs import table_in
from support.server import FaultServer, Request
from support.wire import answer, embedded

TEXTS = [str(number) for number in range(10)]


def embed(request: Request) -> bytes:
    return answer(embedded(request.json["input"]))


def database(path: Path, *statements: str) -> str:
    """A file with these tables; its URL as a source of the table "docs"."""
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)
    return f"sqlite:///{path}?table=docs"


async def test_a_text_that_is_no_utf8_fails_alone(server: FaultServer, client: AsyncClient, tmp_path: Path) -> None:
    """SQLite stores bytes of any encoding as a text: a row whose text or id has such fails, and the others succeed."""
    server.script(embed)
    rows = ", ".join(f"('d{text}', '{text}')" for text in TEXTS)
    bad = "('latin', CAST(x'E9E8' AS TEXT)), (CAST(x'E9E8' AS TEXT), '1')"
    url = database(tmp_path / "x.db", "CREATE TABLE docs (id, text)", f"INSERT INTO docs VALUES {rows}, {bad}")
    report = await EmbedJob(url, "memory://no-utf8", id="id").run(client)
    assert (report.succeeded, [failure["error"] for failure in report.failures]) == (
        10,
        ["the text is not valid Unicode", "the id (field 'id') is not valid Unicode"],
    )


@pytest.mark.parametrize("kind", ["table", "view"])
async def test_rows_without_numbers(server: FaultServer, client: AsyncClient, tmp_path: Path, kind: str) -> None:
    """A table WITHOUT ROWID, and a view, are read by the column of the id, else by that of the text; the job resumes."""
    server.script(embed)
    name = "docs" if kind == "table" else "others"
    rows = ", ".join(f"('d{text}', '{text}')" for text in TEXTS)
    url = database(
        tmp_path / "x.db",
        f"CREATE TABLE {name} (id PRIMARY KEY, text) WITHOUT ROWID",
        f"INSERT INTO {name} VALUES {rows}",
        *(["CREATE VIEW docs AS SELECT * FROM others"] if kind == "view" else []),
    )
    for id in ("id", None):
        job = EmbedJob(url, f"file://{tmp_path}/{id}", id=id)
        assert (await job.run(client)).succeeded == 10
        assert (await job.run(client)).requests == 0


async def test_a_path_with_signs_of_urls(server: FaultServer, client: AsyncClient, tmp_path: Path) -> None:
    """A question mark, a number sign and a percent sign belong to the name of the file."""
    server.script(embed)
    path = tmp_path / "50%?#.db"
    database(path, "CREATE TABLE docs (text)", "INSERT INTO docs VALUES ('1')")
    url = f"sqlite:///{tmp_path}/50%25%3F%23.db?table=docs"
    assert (await EmbedJob(url, "memory://signs").run(client)).succeeded == 1


async def test_a_table_of_others_under_a_name_in_capitals(client: AsyncClient, tmp_path: Path) -> None:
    """For SQLite it is the same name: it is left alone, and nothing is sent."""
    database(tmp_path / "x.db", "CREATE TABLE Vectors (a)")
    with pytest.raises(JobStoreError, match="was not created by a job"):
        await EmbedJob(TEXTS, f"sqlite:///{tmp_path}/x.db").run(client)


@pytest.mark.parametrize("kind", ["sink", "cache"])
async def test_a_process_that_writes_meanwhile_is_waited_for(
    server: FaultServer, client: AsyncClient, tmp_path: Path, kind: str
) -> None:
    """Two that begin at once: the change to a write-ahead log does not wait for a lock by itself ("database is locked")."""
    server.script(embed)
    folder = tmp_path / "cache"
    folder.mkdir()
    path = folder / ("vectors.sqlite" if kind == "cache" else "x.db")
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE another (a)")
        other.execute("BEGIN IMMEDIATE")
        timer = Timer(0.2, other.execute, ("COMMIT",))
        timer.start()
        if kind == "sink":
            assert (await EmbedJob(TEXTS, f"sqlite:///{path}").run(client)).status == "complete"
            assert len(table_in(f"sqlite:///{path}")) == 10
        else:
            assert len(await client.embeddings.embed_documents(TEXTS, cache=folder)) == 10
        timer.join()
