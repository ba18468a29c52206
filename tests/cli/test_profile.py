"""Settings in ~/.config/nimclient.toml: which holds, and that no key is taken from it."""

import json
import os
from pathlib import Path

import pytest

from nimclient.simulator import Simulator

KEY = "nvapi-never-to-be-seen-0123456789"
EMBED = "nvidia/llama-nemotron-embed-1b-v2"
CHAT = "meta/llama-3.1-8b-instruct"


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    return tmp_path / "config" / "nimclient.toml"


def test_a_profile_is_chosen_by_name(run, sim: Simulator, config: Path, tmp_path: Path) -> None:
    """Server, key file and the model of the command's kind come from it, a byte-order mark aside; options take precedence."""
    (tmp_path / "key").write_text(KEY)
    models = f'{{ chat = "{CHAT}", embedding = "{EMBED}" }}'
    config.write_text(
        f'[profiles.gpu]\nbase_url = "{sim.base_url}"\napi_key_file = "{tmp_path / "key"}"\ntimeout = 60\nmodel = {models}\n',
        "utf-8-sig",
    )
    assert json.loads(run("chat", "hi", "--profile", "gpu", "--json").out)["model"] == CHAT
    assert sim.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    other = "meta/llama-3.3-70b-instruct"
    assert json.loads(run("chat", "hi", "--profile", "gpu", "--json", "--model", other).out)["model"] == other
    ran = run("bench", "--kind", "embed", "--profile", "gpu", "--json", "--concurrency", "1", "--requests", "1")
    assert json.loads(ran.out)["model"] == EMBED
    assert run("models", "--profile", "gpu", "--kind", "ranking").code == 0


def test_settings_outside_of_profiles_hold_without_one(run, sim, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA_BASE_URL goes before their base_url."""
    config.write_text(f'base_url = ["{sim.base_url}"]\nmodel = "{CHAT}"\n')
    assert json.loads(run("chat", "hi", "--json").out)["model"] == CHAT
    monkeypatch.setenv("NVIDIA_BASE_URL", "http://127.0.0.1:9")
    assert "127.0.0.1:9" in run("chat", "hi").err


@pytest.mark.parametrize(
    ("text", "argv", "words"),
    [
        (f'[profiles.a]\napi_key = "{KEY}"\n', [], "keys do not belong in this file"),
        (f'NVIDIA_API_KEY = "{KEY}"\n', [], "NVIDIA_NIM_API_KEY, or name a file with api_key_file"),
        ("[profiles.a]\n", ["--profile", "b"], "there is no profile 'b' in "),
        ("", ["--profile", "b"], "add [profiles.b], or leave out --profile"),
        ("base = 1\n", [], "there is no setting base; there are base_url"),
        ("timeout = true\n", [], "timeout cannot be True"),
        ("model = { talk = 'x' }\n", [], "model cannot be"),
        ("profiles = 3\n", [], "profiles are tables"),
        ("profiles = { a = 3 }\n", [], "[profiles.a] is not a table"),
        ("base_url = \n", [], "cannot be read: "),
        ("a = " + "[" * 5000, [], "cannot be read: "),
        (f'base_url = ["http://me:{KEY}@host", 3]', [], "base_url cannot be that: it is a URL"),
        ('api_key_file = "~nobody-of-this-name/key"\n', [], "--api-key-file takes the name of a file"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(run, config: Path, text: str, argv: list[str], words: str) -> None:
    """A key above all, which is not shown: it is refused with what to do."""
    config.write_text(text)
    ran = run("chat", "hi", *argv)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert ran.err.count("\n") == 1
    assert KEY not in ran.err


def test_a_byte_order_mark_is_no_setting(run, sim: Simulator, config: Path) -> None:
    """As editors of Windows write it."""
    config.write_bytes(b"\xef\xbb\xbf" + f'base_url = "{sim.base_url}"\n'.encode())
    assert run("models").code == 0


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_not_waited_for(run, config: Path, kind: str) -> None:
    """It is said, and nothing is sent."""
    config.mkdir() if kind == "folder" else os.mkfifo(config)
    ran = run("models")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"nimclient: {config} is no file\n"


@pytest.mark.parametrize("value", ["/dev/null", "~nobody-of-this-name", ""])
def test_no_settings_where_there_is_no_folder_for_them(run, sim: Simulator, monkeypatch, value: str) -> None:
    """/dev/null switches them off, and a user without a home has none; nothing is kept, either."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, value)
    if not value:
        monkeypatch.setenv("HOME", "/dev/null")
    assert run("models", "--base-url", sim.base_url).code == 0
    ran = run("chat", "hi", "--continue", "--base-url", sim.base_url)
    assert ran.code == 2
    assert "there is no conversation to continue" in ran.err
    assert not list(Path.cwd().glob("~*"))
