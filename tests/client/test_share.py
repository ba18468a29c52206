"""Clients with a folder in common: one pace, whoever dies, whatever becomes of the file; errors say what is missing."""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nimclient import AsyncClient, Client, Limits
from nimclient.errors import ConfigurationError
from nimclient.jobs import EmbedJob
from nimclient.simulator import Simulator, SimulatorThread
from nimclient.testing import FakeRequest, FakeTransport
from support.jobs import MODEL
from support.until import until
from support.virtual_time import takes

TEXTS = [f"text {number}" for number in range(60)]


ANSWER = {"object": "list", "model": "m", "data": [{"index": 0, "embedding": [0.5, 0.25]}]}


def vectors(request: FakeRequest) -> dict[str, Any]:
    rows = [{"index": index, "embedding": [0.5, 0.25]} for index, _ in enumerate(request.json["input"])]
    return {"object": "list", "model": "m", "data": rows, "usage": {"prompt_tokens": 1, "total_tokens": 1}}


def make(share: Any, **limits: Any) -> AsyncClient:
    return AsyncClient(
        "k", "http://fake", model="m", transport=FakeTransport(vectors), limits=Limits(share=share, **limits)
    )


def members(folder: Path) -> dict[str, Any]:
    """The processes in the shared file."""
    (path,) = folder.glob("*.pace")
    stored = json.loads(path.read_bytes().partition(b"\n")[0].partition(b" ")[2])
    found: dict[str, Any] = stored["routes"]["embedding"]["members"]
    return found


async def embed(client: AsyncClient, count: int = 60) -> int:
    return len(await client.embeddings.embed_documents(TEXTS[:count], batch_size=1))


async def test_clients_share_a_file_and_leave_it_in_order(tmp_path: Path) -> None:
    """Two clients have one entry each, hold nothing when their calls are over, and take it with them."""
    async with make(tmp_path / "new" / "share") as first, make(tmp_path / "new" / "share") as second:
        assert await asyncio.gather(embed(first), embed(second)) == [60, 60]
        folder = tmp_path / "new" / "share"
        assert [member[0] for member in members(folder).values()] == [0, 0]
        assert len(list(folder.glob("*.member"))) == 2
    assert members(folder) == {}
    assert [path.suffix for path in folder.iterdir()] == [".pace"]


async def test_another_endpoint_has_another_file(tmp_path: Path) -> None:
    """A folder may serve any number of servers."""
    other = AsyncClient(
        "k", "http://other/v1", model="m", transport=FakeTransport(vectors), limits=Limits(share=tmp_path)
    )
    async with make(str(tmp_path)) as one, other:
        await embed(one, 2)
        await embed(other, 2)
    assert sorted(path.name.split("-")[0] for path in tmp_path.glob("*.pace")) == ["fake", "other"]


@pytest.mark.usefixtures("virtual_time")
async def test_a_limit_by_hand_is_one_for_all(tmp_path: Path) -> None:
    """60 a minute for two clients, plain calls and bulk: ten requests take nine seconds, not four."""
    async with make(tmp_path, requests_per_minute=60) as first, make(tmp_path, requests_per_minute=60) as second:
        with takes(9.0, at_most=True):
            await asyncio.gather(embed(first, 5), *(second.embeddings.create([text]) for text in TEXTS[:5]))


@pytest.mark.usefixtures("virtual_time")
async def test_a_limit_outlives_the_processes_that_used_it(tmp_path: Path) -> None:
    """30 a minute for clients that come and go, one request each: the next one waits for its turn as well."""
    with takes(6.0):
        for _ in range(4):
            async with make(tmp_path, requests_per_minute=30) as client:
                await embed(client, 1)


@pytest.mark.usefixtures("virtual_time")
async def test_a_retry_after_holds_for_the_others(tmp_path: Path) -> None:
    """Three seconds that the server asks of one client are kept by another."""
    answers = [(429, {"Retry-After": "3"}, {"error": {"message": "slow"}}), ANSWER]
    first = AsyncClient("k", "http://fake", model="m", transport=FakeTransport(answers), limits=Limits(share=tmp_path))
    async with first, make(tmp_path) as second:
        work = asyncio.ensure_future(embed(first, 1))
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        await embed(second, 1)
        assert asyncio.get_running_loop().time() - began > 2.8
        await work


@pytest.mark.usefixtures("virtual_time")
async def test_a_retry_after_outlives_the_last_client(tmp_path: Path) -> None:
    """A process that begins when the one that was asked to wait has ended does not ask before that time is over."""
    slow = FakeTransport(lambda _: (429, {"Retry-After": "30"}, {"error": {"message": "slow"}}))
    async with AsyncClient("k", "http://fake", model="m", transport=slow, limits=Limits(share=tmp_path)) as first:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(embed(first, 1), 0.1)
    assert len(slow.requests) == 1
    began = asyncio.get_running_loop().time()
    async with make(tmp_path) as second:
        await embed(second, 1)
    assert asyncio.get_running_loop().time() - began > 28


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"not a state\n", b"00000000 {}\n", os.urandom(5000)])
async def test_a_file_that_is_torn_begins_anew(tmp_path: Path, content: bytes) -> None:
    """Whatever stands in it, calls go on, and it is whole afterwards."""
    async with make(tmp_path) as client:
        await embed(client)
        (path,) = tmp_path.glob("*.pace")
        path.write_bytes(content)
        assert await embed(client) == 60
        assert len(members(tmp_path)) == 1


@pytest.mark.parametrize("value", [5, "", True])
def test_what_is_no_folder_is_named(value: Any) -> None:
    """When the limits are made."""
    with pytest.raises(ConfigurationError, match=r"Limits\(share=…\) takes the path of a folder"):
        Limits(share=value)


async def test_a_folder_that_cannot_be_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    """A file in its place, for a call over many texts and for a job."""
    (tmp_path / "file").write_text("")
    async with make(tmp_path / "file") as client:
        with pytest.raises(ConfigurationError, match=r"the share .* cannot be used: "):
            await embed(client)
        with pytest.raises(ConfigurationError, match=r"the share .* cannot be used: "):
            await EmbedJob(TEXTS, tmp_path / "out", format="jsonl").run(client)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
async def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As NFS without lockd, and some FUSE file systems."""

    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    async with make(tmp_path) as client:
        with pytest.raises(ConfigurationError, match=r"no locks that work .* NFS takes version 4"):
            await embed(client)


async def test_a_lock_that_another_process_keeps_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped while it held the lock, or a program that is none of ours."""
    refused = iter([True] * 3)
    flock = fcntl.flock

    def kept(file: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX and next(refused, False):
            assert operation & fcntl.LOCK_NB
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", kept)
    async with make(tmp_path) as client:
        assert await embed(client, 5) == 5
    assert next(refused, None) is None
    refused = iter([True] * 10**6)
    monkeypatch.setattr("nimclient._engine.share.OPEN_SECONDS", 0.0)
    async with make(tmp_path) as client:
        with pytest.raises(ConfigurationError, match="another process has held its lock for"):
            await embed(client)


async def test_a_link_in_the_place_of_the_shared_file_is_not_followed(tmp_path: Path) -> None:
    """It would be written to."""
    async with make(tmp_path) as client:
        await embed(client, 1)
    (pace,) = tmp_path.glob("*.pace")
    precious = tmp_path / "precious"
    precious.write_text("mine")
    pace.unlink()
    pace.symlink_to(precious)
    (tmp_path / f"{'0' * 16}.member").symlink_to(precious)
    async with make(tmp_path) as client:
        with pytest.raises(ConfigurationError, match="cannot be used"):
            await embed(client)
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
async def test_a_folder_that_fails_later_costs_the_share_not_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A file server that went away: one warning, and a pace of its own."""

    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    async with make(tmp_path) as client:
        await embed(client, 5)
        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.warns(UserWarning, match="paces itself: ") as warned:
            assert await embed(client) == 60
        assert len(warned) == 1


EMBED = """
import sys
from nimclient import Client, Limits
with Client("k", sys.argv[1], model=sys.argv[2], limits=Limits(share=sys.argv[3])) as client:
    client.embeddings.embed_documents([f"text {number}" for number in range(60)], batch_size=1)
"""


def test_what_a_killed_process_held_is_free_again(tmp_path: Path) -> None:
    """SIGKILL in the middle of its requests: its entry and its file are gone with the next process."""
    simulator = Simulator(ttft=30.0, embedding_dimensions=4)
    with SimulatorThread(simulator) as url:
        with subprocess.Popen([sys.executable, "-c", EMBED, url, MODEL, str(tmp_path)]) as process:
            try:
                assert until(lambda: simulator.requests)
            finally:
                process.kill()
        (dead,) = members(tmp_path)
        assert members(tmp_path)[dead][0] > 0
        with Client("k", url, model="m", transport=FakeTransport(vectors), limits=Limits(share=tmp_path)) as client:
            assert len(client.embeddings.embed_documents(TEXTS, batch_size=1)) == 60
            assert dead not in members(tmp_path)
            assert len(list(tmp_path.glob("*.member"))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_does_not_keep_its_parents_lock(tmp_path: Path) -> None:
    """The child of a process that was killed lives on, and the parent's slots are free all the same."""
    reader, writer = os.pipe()
    stop, stopping = os.pipe()
    parent = os.fork()
    if not parent:
        os.close(stopping)
        client = Client("k", "http://fake", model="m", transport=FakeTransport(vectors), limits=Limits(share=tmp_path))
        client.embeddings.embed_documents(TEXTS[:3])
        if not os.fork():  # the child, once it has begun anew
            os.write(writer, b".")
        os.read(stop, 1)  # until the test has ended
        os._exit(0)
    os.read(reader, 1)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    (dead,) = members(tmp_path)
    with Client(
        "k", "http://fake", model="m", transport=FakeTransport(vectors), limits=Limits(share=tmp_path)
    ) as client:
        client.embeddings.embed_documents(TEXTS[:3])
        assert dead not in members(tmp_path)
    os.close(stopping)


async def test_nothing_is_opened_without_a_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs nothing when it is off."""
    locked: list[Any] = []
    monkeypatch.setattr(fcntl, "flock", locked.append)
    async with make(None) as client:
        await embed(client)
    assert not locked
