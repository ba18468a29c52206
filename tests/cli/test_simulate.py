import json
import signal
import socket

import pytest

from nimclient import Client
from nimclient.errors import GoneError


def start(process) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_it_serves_until_sigterm(run, spawn):
    """simulate prints its URL as JSON, answers requests, and ends with 0 on SIGTERM."""
    process = spawn("simulate", "--port", "0", "--json", "--model", "mine/own", "--ttft", "0.01", "--seed", "3")
    base_url = json.loads(start(process))["base_url"]
    ran = run("chat", "Rome is in Italy. Where is Rome?", "--base-url", base_url, "--model", "mine/own")
    assert "Rome is in Italy" in ran.out
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0
    assert "not a model" in err
    assert "Traceback" not in err


def test_ctrl_c_ends_it(spawn):
    """Ctrl-C ends simulate with 130; its one line says where it listens and how to try it."""
    process = spawn("simulate", "--port", "0")
    line = start(process)
    assert line.startswith("http://127.0.0.1:")
    assert "nimclient chat" in line
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_taken_port(run):
    """A port that is taken is one line that names --port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = run("simulate", "--port", str(taken.getsockname()[1]))
    assert (ran.code, ran.out) == (1, "")
    assert "--port" in ran.err
    assert ran.err.count("\n") == 1


def test_settings_the_simulator_refuses(run, monkeypatch):
    """What the simulator itself rejects is a usage error in its words."""

    def refuse(**settings: object) -> None:
        raise ValueError("makes no sense")

    monkeypatch.setattr("nimclient.cli.simulate.Simulator", refuse)
    ran = run("simulate")
    assert ran == (2, "", "nimclient: makes no sense\n")


@pytest.mark.parametrize("as_json", [True, False])
def test_it_serves_in_process(capsys, monkeypatch, as_json):
    """The server is announced on standard output in either form, and closed when a signal comes."""
    import anyio

    from nimclient.cli import main

    class Signals:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def __aiter__(self):
            return self

        async def __anext__(self):
            return signal.SIGTERM

    monkeypatch.setattr(anyio, "open_signal_receiver", lambda *_: Signals())
    assert main(["simulate", "--port", "0", *(["--json"] if as_json else [])]) == 0
    out = capsys.readouterr().out
    assert ("base_url" in out) is as_json


def test_it_plays_the_hosted_platform(run, spawn):
    """--dialect hosted with --fault answers as the platform does; an unknown fault lists those there are."""
    process = spawn(
        "simulate", "--port", "0", "--json", "--dialect", "hosted", "--fault", "accepted", "--fault", "gone=1"
    )
    base_url = json.loads(start(process))["base_url"]
    with Client("nvapi-key", base_url, model="meta/llama-3.1-8b-instruct") as client:
        with pytest.raises(GoneError):
            client.chat.create("hi")
        assert client.chat.create("Rome is in Italy. Where is Rome?").text
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=200)
    ran = run("simulate", "--dialect", "hosted", "--fault", "nonsense")
    assert (ran.code, ran.out) == (2, "")
    assert "offline" in ran.err


def test_an_address_that_is_not_here(run):
    """It is blamed on --host, in a few words."""
    ran = run("simulate", "--host", "192.0.2.1", "--port", "0")
    assert ran.code == 1
    assert (
        ran.err
        == "nimclient: cannot listen on 192.0.2.1 port 0 (cannot assign requested address); choose another with --host\n"
    )


def test_more_clients_than_a_machine_has_room_for(run):
    """--foreign has a bound: a billion tasks would never have begun, and Ctrl-C had to wait for them."""
    ran = run("simulate", "--foreign", "999999999999", "--port", "0")
    assert ran.code == 2
    assert "from 0 to 10000" in ran.err
