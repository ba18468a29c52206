"""`nimclient completion`: what a shell completes."""

import shutil
import subprocess

import pytest

ASK = """
source ./script
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _nimclient; echo "${COMPREPLY[*]}"; }
ask nimclient em
ask nimclient chat --sys
ask nimclient bench --kind ""
ask nimclient completion ""
ask nimclient embed do
complete -p nimclient
"""


def test_bash_completes_commands_options_and_choices(run, tmp_path) -> None:
    """In a real bash; anything else is left to its own completion of files."""
    (tmp_path / "script").write_text(run("completion", "bash").out)
    done = subprocess.run(["bash", "--norc", "-c", ASK], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "embed",
        "--system",
        "chat embed rerank",
        "bash zsh fish",
        "",
        "complete -o bashdefault -o default -F _nimclient nimclient",
    ]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(run, tmp_path, shell: str) -> None:
    """The script names every command; where the shell is installed, it takes it without a word."""
    script = run("completion", shell).out
    assert all(
        command in script for command in ("chat", "bench", "--api-key-file" if shell == "zsh" else "api-key-file")
    )
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        done = subprocess.run([shell, "-c", "source ./script"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
