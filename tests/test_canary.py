"""The plug-ins that watch the whole run do see a leak: each kind is planted in a small run of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import canary

PLANTED = """
import logging, os, socket, subprocess, sys, urllib.request, warnings
import pytest
from nimclient.errors import NimError
from support.canary import KEY, PROMPT

def test_clean(tmp_path):
    assert os.environ["NVIDIA_NIM_API_KEY"] == KEY
    socket.getaddrinfo("localhost", 1)

def test_log_at_debug():
    logging.getLogger("nimclient").debug("sent %s", KEY)

def test_log_of_asyncio():
    logging.getLogger("asyncio").debug("sent %s", PROMPT)

def test_traceback_in_the_log():
    try:
        raise ValueError(KEY)
    except ValueError:
        logging.getLogger("nimclient").info("it failed", exc_info=True)

def test_text_of_an_error():
    with pytest.raises(NimError):
        raise NimError(f"the key {KEY}")

def test_field_of_an_error():
    error = NimError("m")
    error.detail = {"deep": [KEY]}
    with pytest.raises(NimError):
        raise error

def test_chain_of_an_error():
    with pytest.raises(NimError):
        try:
            raise OSError(PROMPT)
        except OSError as error:
            raise NimError("m") from error

def test_variable_of_a_frame():
    from nimclient._retry.faults import fault_of
    scope = {"KEY": KEY, "NimError": NimError}
    exec(compile("def f(key):\\n raise NimError('m')", "/x/nimclient/f.py", "exec"), scope)
    with pytest.raises(NimError):
        scope["f"](KEY)

def test_container_in_a_frame():
    from nimclient._base.values import RedactedStr
    scope = {"RedactedStr": RedactedStr, "NimError": NimError}
    words = "def f(key):\\n kept = {'a': (RedactedStr(key),)}\\n del key\\n raise NimError('m')"
    exec(compile(words, "/x/nimclient/f.py", "exec"), scope)
    with pytest.raises(NimError):
        scope["f"](KEY)

def test_warning():
    with pytest.warns(UserWarning):
        warnings.warn(KEY)

def test_terminal():
    print(KEY)

def test_file(tmp_path):
    (tmp_path / "manifest.json").write_text(KEY)

def test_look_up():
    with pytest.raises(OSError):
        socket.getaddrinfo("telemetry.example.com", 443)

def test_connection():
    with socket.socket() as made:
        made.setblocking(False)
        with pytest.raises(OSError):
            made.connect(("192.0.2.1", 443))

def test_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made, pytest.raises(OSError):
        made.sendto(b"x", ("192.0.2.1", 53))

def test_child():
    code = "import urllib.request; urllib.request.urlopen('http://telemetry.example.com', timeout=1)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """How each of the planted tests ended, and the words of the run."""
    folder: Path = tmp_path_factory.mktemp("planted")
    (folder / "test_planted.py").write_text(PLANTED)
    (folder / "conftest.py").write_text('pytest_plugins = ["support.canary", "support.contacts"]')
    (folder / "pytest.ini").write_text("[pytest]\n")
    tests = str(Path(__file__).parent)
    paths = os.pathsep.join([tests, *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "-q", str(folder)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder, check=False)
    words = dict(re.findall(r"^(?:FAILED|ERROR) test_planted\.py::(\w+) - (.*)", ran.stdout, re.MULTILINE))
    return {**words, "passed": " ".join(re.findall(r"^PASSED test_planted\.py::(\w+)", ran.stdout, re.MULTILINE))}


PLANTS = [name for name in re.findall(r"^def (test_\w+)", PLANTED, re.MULTILINE) if name != "test_clean"]


@pytest.mark.parametrize("name", PLANTS)
def test_what_is_planted_is_found(outcomes: dict[str, str], name: str) -> None:
    """A test that shows the key or the prompt, or contacts another host, fails, although its own assertions hold."""
    assert name in outcomes


def test_a_test_that_shows_nothing_passes(outcomes: dict[str, str]) -> None:
    """What is clean is let be."""
    assert "test_clean" in outcomes["passed"]
    assert "test_clean" not in outcomes


def test_the_canary_is_what_this_run_sends() -> None:
    """The environment of every test has it, so that every client without another key sends it."""
    assert os.environ[canary.VARIABLE] == canary.KEY
