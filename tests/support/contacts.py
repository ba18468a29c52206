"""A plug-in of the tests: no host but this machine is looked up or sent to, in this process and the Pythons it starts."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

GUARD = Path(__file__).parent / "guard"


def _watch() -> Path:
    """Watch this process, and those that it starts; the file in which they write down what they should not have done."""
    descriptor, name = tempfile.mkstemp(prefix="contacts-")
    os.close(descriptor)
    if "NIMCLIENT_TEST_ENGINES" not in os.environ:  # Ray and Spark look for this machine's outer address, and use it
        os.environ["NIMCLIENT_TEST_CONTACTS"] = name
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", str(GUARD))]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARD), *paths])
    import support.guard.sitecustomize  # noqa: F401 - installs its hook

    return Path(name)


WRITTEN = _watch()


def contacts() -> list[str]:
    """What was written down since the last time."""
    if not WRITTEN.stat().st_size:
        return []
    lines = WRITTEN.read_text().splitlines()
    os.truncate(WRITTEN, 0)
    return lines


@pytest.fixture(autouse=True)
def no_other_host() -> Iterator[None]:
    """A test that contacts another host fails, even where the product takes it for a network that is down."""
    yield
    assert contacts() == []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A program that outlives its test is found at the end."""
    if lines := contacts():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("another host was contacted:", *lines, sep="\n")
    WRITTEN.unlink()
