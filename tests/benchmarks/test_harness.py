"""Every measured process starts in the same clean environment, after the baseline of its turn."""

import subprocess

import pytest

from benchmarks import harness, machine
from benchmarks.__main__ import parse_arguments
from benchmarks.runs import Run
from benchmarks.scenarios import BY_NAME
from benchmarks.server import Server, Servers

SERVERS = Servers(Server("http://clear"), Server("https://tls", "authority.pem"))


def test_children_have_one_blas_thread_bytecode_and_no_proxy():
    inherited = {"PATH": "/bin", "PYTHONDONTWRITEBYTECODE": "1", "HTTPS_PROXY": "http://p", "all_proxy": "http://p"}
    assert harness.child_environment(inherited) == {
        "PATH": "/bin",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }


def test_baseline_runs_first_and_even_when_it_is_not_asked_for():
    assert harness.peers_of(BY_NAME["chat"], ["nimclient"]) == ["floor", "nimclient"]
    assert harness.peers_of(BY_NAME["chat"], ["openai", "floor"]) == ["floor", "openai"]
    assert harness.peers_of(BY_NAME["import"], ["floor"]) == ["bare", "floor"]


def test_peers_that_only_embed_are_left_out_elsewhere():
    assert harness.peers_of(BY_NAME["chat"], ["baseten", "openai"]) == ["floor", "openai"]
    assert harness.peers_of(BY_NAME["embed-64"], ["baseten"]) == ["floor", "baseten"]
    assert harness.peers_of(BY_NAME["documents-64"], ["baseten", "pyreqwest"]) == ["floor", "baseten"]
    assert harness.peers_of(BY_NAME["chat-32"], ["baseten", "pyreqwest"]) == ["floor", "pyreqwest"]
    assert harness.peers_of(BY_NAME["stream"], ["baseten", "pyreqwest"]) == ["floor"]
    assert harness.peers_of(BY_NAME["import"], ["baseten", "openai"]) == ["bare", "openai"]


def test_peers_with_a_trust_of_their_own_are_left_out_under_tls():
    assert harness.peers_of(BY_NAME["documents-64-tls"], ["baseten", "openai"]) == ["floor", "openai"]
    assert harness.peers_of(BY_NAME["chat-32-tls"], ["pyreqwest", "nimclient"]) == ["floor", "nimclient"]


def test_a_process_that_asks_once_is_compared_with_one_that_does_by_hand():
    assert harness.peers_of(BY_NAME["first-call"], ["nimclient", "baseten"]) == ["floor", "nimclient"]


def test_blocking_peers_are_compared_with_ours_that_does_not_block():
    everybody = ["floor", "nimclient", "openai", "nimclient-sync", "openai-sync"]
    assert harness.peers_of(BY_NAME["sync-chat"], everybody) == ["nimclient", "nimclient-sync", "openai-sync"]
    assert harness.peers_of(BY_NAME["chat"], everybody) == ["floor", "nimclient", "openai"]


def test_peers_run_in_turn(monkeypatch):
    monkeypatch.setattr(
        harness, "run_undisturbed", lambda scenario, peer, turn, server, seconds, watch: (turn, peer, seconds, server)
    )
    made = list(harness.run_all([BY_NAME["stream-paced"]], ["floor", "openai"], servers=SERVERS, turns=2, seconds=1.0))
    assert [run[:3] for run in made] == [(0, "floor", 2.0), (0, "openai", 2.0), (1, "floor", 2.0), (1, "openai", 2.0)]
    assert {run[3] for run in made} == {SERVERS.clear}


def test_a_scenario_under_tls_asks_the_server_under_tls(monkeypatch):
    monkeypatch.setattr(harness, "run_undisturbed", lambda scenario, peer, turn, server, seconds, watch: server)
    made = harness.run_all([BY_NAME["chat-32-tls"]], ["floor"], servers=SERVERS, turns=1, seconds=1.0)
    assert list(made) == [SERVERS.tls]


@pytest.mark.parametrize(
    ("loops", "tries", "shared"),
    [
        ([1.0, 1.0], 1, False),
        ([1.0, 1.3, 1.0, 1.1], 2, False),
        ([1.3, 1.0, 1.0, 1.3, 1.3, 1.3], 3, True),
    ],
    ids=["quiet", "once busy", "always busy"],
)
def test_a_run_that_shared_the_machine_is_repeated_and_marked_where_that_does_not_help(
    monkeypatch, loops, tries, shared
):
    made = []
    monkeypatch.setattr(harness, "run_once", lambda *arguments: made.append(1) or Run("chat", "floor", 0, units=1))
    times = iter([1.0] * 5 + loops)
    run = harness.run_undisturbed(BY_NAME["chat"], "floor", 0, SERVERS.clear, 1.0, machine.Watch(lambda: next(times)))
    assert len(made) == tries
    assert run.shared is shared


def test_peer_that_cannot_run_is_a_failed_run_with_its_last_line(monkeypatch):
    def fail(*arguments):
        raise subprocess.CalledProcessError(1, "python", stderr="Traceback\nImportError: no such peer\n")

    monkeypatch.setattr(harness, "measure", fail)
    failed = harness.run_once(BY_NAME["chat"], "openai", 0, SERVERS.clear, 1.0)
    assert failed.failure == "ImportError: no such peer"
    assert not failed.counted


def test_reason_is_told_for_a_process_that_says_nothing():
    assert harness.reason(subprocess.TimeoutExpired("python", 62.0)) == "no result within 62 s"
    assert harness.reason(subprocess.CalledProcessError(-9, "python", stderr="")) == "no result"


def test_a_start_is_measured_in_the_cpu_of_its_own_process():
    used = harness.measure_starts("pass", 0.05)
    assert used["units"] >= 1
    assert 0 < used["cpu_seconds"] <= 1.5 * used["wall_seconds"]


def test_quick_shortens_and_options_are_repeatable():
    options = parse_arguments(["--quick", "--scenario", "chat", "--scenario", "import"])
    assert (options.runs, options.seconds, options.scenario) == (2, 0.2, ["chat", "import"])
    assert parse_arguments([]).runs == 5


def test_machine_tells_versions_and_not_who_it_is():
    described = machine.describe()
    assert set(described) == {"cpu", "cores", "platform", "python", "versions"}
    assert machine.installed_version("no-such-package-at-all") is None
