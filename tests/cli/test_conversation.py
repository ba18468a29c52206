"""`nimclient chat` on a terminal: a conversation, in a process of its own on a pseudo-terminal."""

import json
import os
import pty
import re
import readline
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nimclient.simulator import Simulator
from support.server import ServerThread, Stall
from support.wire import HELLO, MODEL, chunk, head, token

FACT = "Paris is the capital of France. What is the capital of France?"
PROMPT = b"\n> "
ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[A-Za-z]|[=>])")


class Terminal:
    """A process on a pseudo-terminal, typed into and read up to the next prompt."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._fd, inner = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=inner, stdout=inner, stderr=inner, env=environment, start_new_session=True
        )
        os.close(inner)
        self.shown = b""
        self._taken = 0  # of what was shown, without escapes: what `until` has returned

    def until(self, mark: bytes, again: Callable[[], None] | None = None) -> str:
        """What was shown since the last mark until this one came. AssertionError where the process ends before.

        Where nothing is shown for half a second, `again` is called.
        """
        while mark not in (text := ESCAPES.sub(b"", self.shown).replace(b"\r", b"")[self._taken :]):
            if again is not None and not select.select([self._fd], [], [], 0.5)[0]:
                again()
                continue
            try:
                piece = os.read(self._fd, 65536)
            except OSError:
                piece = b""
            assert piece, f"the process ended, having shown {self.shown!r}"
            self.shown += piece
        text = text[: text.index(mark) + len(mark)]
        self._taken += len(text)
        return text.decode()

    def interrupt(self, mark: bytes) -> str:
        """Ctrl-C, again where nothing comes of it: readline misses one that comes just before it waits for a key."""

        def interrupt() -> None:
            os.kill(self.process.pid, signal.SIGINT)

        interrupt()
        return self.until(mark, interrupt)

    def ask(self, line: str, mark: bytes = PROMPT) -> str:
        """Type a line and read what is shown until the mark, the next prompt."""
        os.write(self._fd, line.encode() + b"\n")
        return self.until(mark)

    def end(self) -> int:
        """Ctrl-D, again each second until the process has ended: between two prompts a terminal drops it; the exit code."""
        while self.process.poll() is None:
            os.write(self._fd, b"\x04")
            if select.select([self._fd], [], [], 1.0)[0]:
                with suppress(OSError):  # the process has ended
                    os.read(self._fd, 65536)
        os.close(self._fd)
        return self.process.wait()


@pytest.fixture
def terminals(environment, tmp_path: Path) -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for terminal in made:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()


@pytest.fixture
def open_chat(environment, tmp_path: Path, terminals: list[Terminal]):
    """Start `nimclient chat` on a terminal and wait for its prompt."""

    def open_chat(url: str, *argv: str, term: str = "xterm") -> Terminal:
        variables = {**environment, "TERM": term, "XDG_STATE_HOME": str(tmp_path), "COLUMNS": "100"}
        terminal = Terminal([sys.executable, "-m", "nimclient", "chat", "--base-url", url, *argv], variables)
        terminals.append(terminal)
        terminal.until(PROMPT)
        return terminal

    return open_chat


def test_turns_follow_each_other(open_chat, sim: Simulator, tmp_path: Path) -> None:
    """Each turn knows the ones before it; the model that has answered is named; Ctrl-D ends it with 0.

    A paste of several lines is one question (simonw/llm #267, gemini-cli #6980), and the arrow key brings it back.
    """
    terminal = open_chat(sim.base_url, "--system", "Be brief.")
    assert "/clear" in terminal.ask("/help")
    shown = terminal.ask(FACT)
    assert "Paris is the capital" in shown
    model = sim.requests[-1].json["model"]
    assert model in shown
    assert "there is no command /nope" in terminal.ask("/nope")
    terminal.ask("And of Italy?")
    sent = sim.requests[-1].json["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "user"]
    assert (sent[0]["content"], sent[1]["content"]) == ("Be brief.", FACT)
    assert terminal.end() == 0
    saved = json.loads((tmp_path / "nimclient" / "conversation.json").read_text())
    assert [message["role"] for message in saved["messages"]][-2:] == ["user", "assistant"]
    again = open_chat(sim.base_url, "--continue")
    again.ask("And of Spain?")
    assert len(sim.requests[-1].json["messages"]) == 6
    again.ask("/clear")
    again.ask("hello")
    assert len(sim.requests[-1].json["messages"]) == 1
    if "libedit" not in (readline.__doc__ or ""):  # which knows no pastes
        pasted = "def f():\n    return 1"
        for keys in (f"\x1b[200~{pasted}\x1b[201~", "\x1b[A"):
            again.ask(keys)
            assert sim.requests[-1].json["messages"][-1]["content"] == pasted
    assert again.end() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(open_chat) -> None:
    """The turn that was stopped is not kept; at the prompt it throws the line away."""
    with ServerThread() as server:
        server.script([head() + chunk(token("Based")), Stall()], HELLO)
        terminal = open_chat(server.url, "--model", MODEL)
        terminal.ask(FACT, b"Based")
        assert "stopped; this turn is not kept" in terminal.interrupt(PROMPT)
        terminal.interrupt(PROMPT)
        terminal.ask("And of Italy?", b"Hello")
        terminal.until(PROMPT)
        assert terminal.end() == 0
        assert [len(request.json["messages"]) for request in server.requests] == [1, 1]


def test_a_dumb_terminal(open_chat) -> None:
    """The answer is shown as it comes, without escapes; Ctrl-C stops it."""
    with ServerThread() as server:
        server.script([head() + chunk(token("**Based**")), Stall()], HELLO)
        terminal = open_chat(server.url, "--model", MODEL, term="dumb")
        terminal.ask(FACT, b"**Based**")
        assert "stopped; this turn is not kept" in terminal.interrupt(PROMPT)
        assert "Hello" in terminal.ask("And of Italy?")
        assert terminal.end() == 0
        assert b"\x1b" not in terminal.shown


def test_an_error_ends_the_turn_and_not_the_program(open_chat, url: str) -> None:
    """It is one line; the next question is asked."""
    terminal = open_chat(url)
    terminal.ask("/model no/such-model")
    assert "nimclient: " in terminal.ask("hello")
    terminal.ask("/model meta/llama-3.1-8b-instruct")
    assert "llama-3.1" in terminal.ask(FACT)
    assert terminal.end() == 0


@pytest.mark.parametrize("kind", ["link", pytest.param("pipe", marks=pytest.mark.slow)])
def test_links_and_pipes_in_the_place_of_what_is_kept(open_chat, sim: Simulator, tmp_path: Path, kind: str) -> None:
    """The lines and the last conversation are kept in files of their own: no link is followed, no pipe is waited for."""
    precious = tmp_path / "precious"
    precious.write_text("12345")
    folder = tmp_path / "nimclient"
    folder.mkdir()
    for name in ("chat_history", "conversation.json"):
        (folder / name).symlink_to(precious) if kind == "link" else os.mkfifo(folder / name)
    terminal = open_chat(sim.base_url)
    terminal.ask(FACT)
    assert terminal.end() == 0
    assert precious.read_text() == "12345"
    for name in ("chat_history", "conversation.json"):
        assert stat.S_ISREG((folder / name).lstat().st_mode)
        assert FACT in (folder / name).read_text()
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(folder)) == ["chat_history", "conversation.json"]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_no_conversation_is_read_through_a_link_or_a_pipe(
    run, url: str, tmp_path: Path, monkeypatch, kind: str
) -> None:
    """--continue says that the file cannot be read."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "nimclient").mkdir()
    path = tmp_path / "nimclient" / "conversation.json"
    path.symlink_to(tmp_path / "other") if kind == "link" else os.mkfifo(path)
    ran = run("chat", "and then?", "--continue", "--base-url", url)
    assert (ran.code, "cannot be read" in ran.err) == (2, True)
