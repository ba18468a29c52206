"""A Qdrant server: its limits, its strict mode, and answers that are late or lost."""

from collections.abc import AsyncIterator
from importlib.util import find_spec

import pytest

from nimclient import AsyncClient
from nimclient.errors import ConfigurationError, JobStoreError
from nimclient.jobs import EmbedJob
from support.qdrant import Qdrant, failure
from support.server import FaultServer, Request, Reset, Step
from support.wire import answer, embedded

pytestmark = pytest.mark.skipif(find_spec("qdrant_client") is None, reason="nox -s sinks installs it")
TEXTS = [str(number) for number in range(40)]


def embed(request: Request) -> bytes:
    return answer(embedded(request.json["input"]))


@pytest.fixture
async def service() -> AsyncIterator[FaultServer]:
    async with FaultServer() as service:
        yield service


@pytest.fixture
def qdrant(service: FaultServer) -> Qdrant:
    qdrant = Qdrant()
    service.script(qdrant)
    return qdrant


@pytest.fixture
def url(service: FaultServer) -> str:
    return f"qdrant://127.0.0.1:{service.port}"


async def test_a_server_in_strict_mode(server: FaultServer, client: AsyncClient, qdrant: Qdrant, url: str) -> None:
    """Rows without a record are deleted by a field that has an index, as the cloud wants: the job resumes."""
    server.script(embed)
    assert (await EmbedJob(TEXTS, url).run(client)).status == "complete"
    assert (await EmbedJob(TEXTS, url).run(client)).requests == 0
    qdrant.indexes.clear()  # killed between collection and index
    assert (await EmbedJob(TEXTS, url).run(client)).requests == 0
    assert sorted(qdrant.collections["vectors"]) == list(range(40))


async def test_no_request_is_larger_than_the_server_takes(
    server: FaultServer, client: AsyncClient, qdrant: Qdrant, url: str
) -> None:
    """However many vectors arrive together, they are stored some at a time; an error has the words of the server."""
    server.script(lambda request: answer(embedded(request.json["input"], 50_000)))
    qdrant.limit = 3 << 20  # of numbers of three characters, for 32 MB of others
    report = await EmbedJob(TEXTS, url, batch_size=40).run(client)
    assert (report.status, sorted(qdrant.collections["vectors"])) == ("complete", list(range(40)))
    qdrant.limit = 1 << 20
    with pytest.raises(JobStoreError, match=r"400 .*larger than allowed \(limit: 1048576 bytes\)"):
        await EmbedJob(TEXTS, f"{url}?collection=other", batch_size=40).run(client)


@pytest.mark.parametrize("fault", [Reset(), failure(503, "no"), failure(429, "busy")], ids=["lost", "503", "429"])
async def test_an_answer_that_is_lost(
    server: FaultServer, client: AsyncClient, qdrant: Qdrant, url: str, monkeypatch: pytest.MonkeyPatch, fault: Step
) -> None:
    """Points are stored again, which changes nothing; a server that loses every answer, or rejects one, ends the job."""
    server.script(embed)
    monkeypatch.setattr("nimclient.jobs.sinks.base._WAITS", (0.01, 0.01))
    qdrant.faults = [[fault], [fault]]
    assert (await EmbedJob(TEXTS, url).run(client)).status == "complete"
    assert len(qdrant.collections["vectors"]) == 40
    for faults in ([[fault]] * 3, [[failure(400, "no")]]):
        qdrant.faults = list(faults)
        with pytest.raises(JobStoreError, match="cannot be written"):
            await EmbedJob(TEXTS, f"{url}?collection=other{len(faults)}").run(client)


def test_a_distance_that_qdrant_does_not_have() -> None:
    """It is an error before anything is sent."""
    with pytest.raises(ConfigurationError, match="distance is 'cosine'; choose one of Cosine, Dot"):
        EmbedJob(TEXTS, "qdrant://127.0.0.1?distance=cosine")


async def test_large_payloads_are_read_a_few_at_once(
    server: FaultServer, client: AsyncClient, qdrant: Qdrant, url: str
) -> None:
    """As a source: a page has some megabytes at most, many small points or few large ones; ids of points are ids."""
    server.script(lambda request: answer(embedded(["1"] * len(request.json["input"]))))
    qdrant.collections["small"] = {at: {"payload": {"page_content": "x"}} for at in range(600)}
    qdrant.collections["large"] = {at: {"payload": {"page_content": "x" * 500_000}} for at in range(40)}
    for name, count in (("small", 600), ("large", 40)):
        qdrant.scrolls.clear()
        job = EmbedJob(f"{url}?collection={name}", f"memory://qdrant-{name}", text="page_content", id="id")
        assert (await job.run(client)).succeeded == count
        assert (max(qdrant.scrolls) >= 400) is (name == "small")
        assert qdrant.scrolls[-1] <= 16 or name == "small"


async def test_the_key_of_the_environment(
    server: FaultServer, client: AsyncClient, qdrant: Qdrant, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QDRANT_API_KEY goes with every request; qdrant+https:// is Qdrant's cloud."""
    server.script(embed)
    monkeypatch.setenv("QDRANT_API_KEY", "k")
    with pytest.warns(UserWarning, match="insecure connection"):
        assert (await EmbedJob(TEXTS, url).run(client)).status == "complete"
    assert qdrant.keys == {"k"}
    assert "https://c.example:6333" in str(EmbedJob(TEXTS, "qdrant+https://c.example:6333").output)
