"""Server processes: started on free loopback ports with their words in files, waited for, and ended with their children."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from servers.environment import Unavailable

LEASH = Path(__file__).with_name("leash.py")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def says(url: str, word: str = "") -> bool:
    """Whether a GET of this URL answers 200 with this word in the body."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return word.encode() in answer.read()
    except OSError:
        return False


class ServerProcess:
    """One process in a session of its own: `stop` ends it and all its children, and so does the death of this process."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        inherited.pop(
            "NIMCLIENT_TEST_CONTACTS", None
        )  # a server of others contacts whom it likes: see support/contacts.py
        self.log = log
        with log.open("w") as words:
            self._process = subprocess.Popen(
                [sys.executable, str(LEASH), *(str(part) for part in command)],
                env={**inherited, **environment},
                stdout=words,
                stderr=subprocess.STDOUT,
                stdin=subprocess.PIPE,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        """Whether the process has ended by itself."""
        return self._process.poll() is not None

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready` is true. Unavailable, with the end of the log, when it ends before, or not in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.ended or time.monotonic() > deadline:
                how = "ended before it was ready" if self.ended else f"was not ready within {seconds:.0f} s"
                raise Unavailable(f"{self.log.stem} {how}: {self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        """The end of the log on one line."""
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-4:])[-600:]

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def stop(self, seconds: float = 5.0) -> None:
        """End it politely, then by force. No process of its session is left afterwards."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
