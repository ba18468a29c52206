"""Standard streams that are closed, full, broken, or know no Unicode: a line, the right exit code, never a traceback."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nimclient.cli import main
from nimclient.simulator import Simulator, SimulatorThread
from support.server import ServerThread, Stall
from support.until import until

COMMANDS: dict[str, list[str]] = {
    "help": ["embed", "--help"],
    "version": ["--version"],
    "completion": ["completion", "bash"],
    "chat": ["chat", "hi"],
    "chat as JSON": ["chat", "hi", "--json"],
    "rerank": ["rerank", "q", "a", "b"],
    "models": ["models"],
    "models as JSON": ["models", "--json"],
    "doctor": ["doctor"],
    "bench": ["bench", "--requests", "2", "--concurrency", "1", "--output-tokens", "2"],
    "embed as JSON": ["embed", "texts.txt", "--out", "vectors", "--format", "jsonl", "--json"],
}
ALONE = ("help", "version", "completion")


@pytest.mark.parametrize("argv", [["--help"], ["embed", "--help"], ["chat", "--help"]])
def test_help_where_there_is_only_ascii(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    """What cannot be shown is a question mark."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    assert main(argv) == 0
    assert b"usage: nimclient" in shown.getvalue()


@pytest.mark.parametrize("name", ["help", "version", "completion"])
def test_an_output_that_is_full(monkeypatch: pytest.MonkeyPatch, capsys: Any, name: str) -> None:
    """It is 1, and the reason in words."""
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(COMMANDS[name]) == 1
    assert capsys.readouterr().err == "nimclient: the output cannot be written: No space left on device\n"


def test_an_output_that_is_closed(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """What is written to it is an error; a usage error stays one; a command that writes nothing to it succeeds."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["--version"]) == 1
    assert os.strerror(errno.EBADF) in capsys.readouterr().err
    assert main(["nonsense"]) == 2
    sys.stdout.close()


def test_nothing_to_say_it_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without standard error the exit code is the same."""
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["chat", "hi", "--base-url", "nonsense"]) == 2
    sys.stderr.close()


# in processes ----------------------------------------------------------------------------------------------------

WAYS = {
    "closed output": (">&-", (1,)),
    "full output": (">/dev/full", (1,)),
    "an output nobody reads": ("| true", (0,)),
    "closed error": (">/dev/null 2>&-", (0,)),
    "full error": (">/dev/null 2>/dev/full", (0, 1)),
    "closed input": (">/dev/null <&-", (0,)),
    "nothing open": (">&- 2>&- <&-", (1,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_streams_of_a_process(environment: dict[str, str], tmp_path: Path, way: str) -> None:
    """Every command, with what a shell can do to its streams: nobody sees a traceback, or the interpreter's own words."""
    (tmp_path / "texts.txt").write_text("a\nb\n")
    redirection, codes = WAYS[way]
    with SimulatorThread(Simulator()) as url:
        for number, (name, argv) in enumerate(COMMANDS.items()):
            given = [*argv, *([] if name in ALONE else ["--base-url", url])]
            given = [text.replace("vectors", f"vectors{number}") for text in given]
            command = " ".join(f"'{text}'" for text in [sys.executable, "-m", "nimclient", *given])
            ran = subprocess.run(
                ["sh", "-c", f"{command} {redirection}"], env=environment, capture_output=True, text=True, timeout=300
            )
            if name not in ALONE or way != "full output":  # argparse passes over an error of an unbuffered output
                assert ran.returncode in codes, (name, ran)
            assert ran.stderr.count("\n") <= 4, (name, ran)
            for words in ("Traceback", "Exception ignored", "this is a bug"):
                assert words not in ran.stderr, (name, ran)


@pytest.mark.slow
@pytest.mark.parametrize(
    "variable", ["PYTHONIOENCODING=ascii", "PYTHONIOENCODING=utf-16", "LC_ALL=C", "LC_ALL=POSIX PYTHONUTF8=0"]
)
def test_encodings_of_a_process(environment: dict[str, str], variable: str) -> None:
    """An answer with other letters than the terminal's, and a question that is no text."""
    for pair in variable.split():
        name, _, value = pair.partition("=")
        environment[name] = value
    with SimulatorThread(Simulator()) as url:
        for argv, code in ((["--help"], 0), (["chat", "ä 😀"], 0), (["chat", b"\xff\xfe"], 2), (["models"], 0)):
            server = [] if argv == ["--help"] else ["--base-url", url]
            command = [sys.executable, "-m", "nimclient", *argv, *server]
            ran = subprocess.run(command, env=environment, capture_output=True, timeout=300)
            if (variable, argv[0]) != ("LC_ALL=POSIX PYTHONUTF8=0", "chat"):  # there ä is no letter, either
                assert ran.returncode == code, ran
            assert b"Traceback" not in ran.stderr
            assert b"this is a bug" not in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", ["chat", "chat as JSON", "rerank", "models", "doctor", "bench"])
def test_signals_while_a_server_is_waited_for(spawn: Any, name: str, number: signal.Signals) -> None:
    """Ctrl-C is 130 with a line; the others end the process as they end any."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("nohup: what these tests start ignores it")
    with ServerThread() as server:
        server.script([Stall()])
        process = spawn(*COMMANDS[name], "--base-url", server.url, "--model", "m")
        assert until(lambda: server.requests)
        process.send_signal(number)
        _, err = process.communicate(timeout=100)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in err
    assert number != signal.SIGINT or err.endswith("nimclient: interrupted\n")
