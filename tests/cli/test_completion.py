"""`nimclient completion`: what a shell completes."""

import os
import shlex
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


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_commands_options_and_choices(run, tmp_path) -> None:
    """In a real fish, each with its help; in the place of the command there is no file, elsewhere there are files."""
    (tmp_path / "script").write_text(run("completion", "fish").out)
    (tmp_path / "embedded.txt").touch()
    asked = ["nimclient em", "nimclient chat --sys", "nimclient bench --kind ", "nimclient embed emb"]
    script = "source ./script; " + "; ".join(f"complete -C {shlex.quote(line)}" for line in asked)
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.stderr == ""
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert [words[0] for words in found] == ["embed", "--system", "chat", "embed", "rerank", "embedded.txt"]
    assert all(len(words[1]) > 5 for words in found[:-1])


ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; source ./script; print ready'
zpty -r shell line '*ready*ready*'
zpty -w -n shell $'nimclient embed --form\\t'
zpty -r shell line '*--format*'
zpty -w -n shell $'\\C-unimclient rer\\t'
zpty -r shell line '*rerank*'
print found
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_commands_and_options(run, tmp_path) -> None:
    """In a real zsh on a terminal of its own."""
    (tmp_path / "script").write_text(run("completion", "zsh").out)
    env = {**os.environ, "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "TERM": "dumb"}
    done = subprocess.run(["zsh", "-f", "-c", ZSH], capture_output=True, text=True, timeout=120, cwd=tmp_path, env=env)
    assert done.stdout.splitlines()[-1:] == ["found"], done.stdout + done.stderr


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
