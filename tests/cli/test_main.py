import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

import nimclient
from nimclient import cli
from nimclient.cli.failures import CommandError, explain
from nimclient.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    DecodeError,
    ModelNotFoundError,
    NotFoundError,
    RateLimitError,
    RequestTimeoutError,
)
from nimclient.simulator import Simulator, SimulatorThread
from support.server import ServerThread, Stall
from support.until import until
from support.wire import error

COMMANDS = ("demo", "chat", "embed", "batch", "rerank", "models", "doctor", "bench", "simulate")
KEY = "nvapi-never-to-be-seen-0123456789"
NOWHERE = "http://127.0.0.1:9"


def test_version(run):
    """`--version` prints the version of the package."""
    assert run("--version") == (0, f"nimclient {nimclient.__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(run, command):
    """Every command's help has examples and says what the exit codes mean."""
    ran = run(command, "--help")
    assert ran.code == 0
    assert f"\n  nimclient {command}" in ran.out
    assert "exit codes:" in ran.out
    assert "--json" in ran.out


def test_help_names_every_command(run):
    """`nimclient --help` lists the commands that there are."""
    ran = run("--help")
    assert ran.code == 0
    assert all(f"\n    {command} " in ran.out for command in COMMANDS)


def test_help_imports_little(environment):
    """Help is shown without importing the client, the simulator or rich."""
    code = (
        "import sys; from nimclient.cli import main; main(['--help']); "
        "sys.exit(bool({'aiohttp', 'rich', 'attrs', 'anyio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, env=environment).returncode == 0


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["demo", "--texts", "0"],
        ["demo", "--texts", "many"],
        ["demo", "--out", " "],
        ["chat", "--temperature", "-1", "hi"],
        ["chat", "--timeout", "inf", "hi"],
        ["simulate", "--port", "65536"],
        ["simulate", "--dialect", "klingon"],
        ["chat", "--api-key", "x", "hi"],
        ["chat", "hi", "--image=--"],
        ["chat", "hi", "-o=--"],
        ["bench", "--input-tokens", "99999999999"],
    ],
)
def test_wrong_usage_is_2(run, argv):
    """Arguments that make no sense end with 2, a usage line, and nothing on standard output."""
    ran = run(*argv)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("usage: nimclient")


def test_a_key_is_never_an_argument(run):
    """There is no option that takes a key itself; not even by an abbreviation."""
    ran = run("chat", "--api-key", KEY, "hi", "--base-url", NOWHERE)
    assert ran.code == 2
    assert "--api-key" in ran.err
    assert KEY not in ran.err
    assert KEY not in run("chat", f"--api-key={KEY}", "hi").err
    assert "quotes" in run("chat", "what", "is", KEY).err
    assert KEY not in run("chat", "hi", "--api-key-file", KEY).err


def test_unreachable_server(run):
    """A server that is not there is one line that says how to start one, and 1."""
    ran = run("chat", "hi", "--base-url", NOWHERE)
    assert (ran.code, ran.out) == (1, "")
    assert "nimclient simulate" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("base_url", ["localhost:8000", "http://u:p@h", "http://h/v1/chat/completions"])
def test_bad_base_url(run, base_url):
    """A base URL that cannot work is a usage error in the words of the command line."""
    ran = run("chat", "hi", "--base-url", base_url)
    assert ran.code == 2
    assert "--base-url" in ran.err
    assert ran.err.count("\n") == 1


def test_no_key_for_the_hosted_catalog(run):
    """Without a server and without a key, chat says how to get either."""
    ran = run("chat", "hi")
    assert ran.code == 2
    assert "NVIDIA_API_KEY" in ran.err
    assert "--api-key-file" in ran.err
    assert "nimclient simulate" in ran.err


@pytest.mark.parametrize(
    ("arguments", "variable", "said"),
    [
        ((), {}, "none was sent, since neither --api-key-file nor"),
        (
            (),
            {"NVIDIA_API_KEY": KEY},
            "NVIDIA_API_KEY goes to NVIDIA's own hosts only; set NVIDIA_NIM_API_KEY",
        ),
        ((), {"NVIDIA_NIM_API_KEY": KEY}, "that of NVIDIA_NIM_API_KEY was sent"),
        (("--api-key-file", "key"), {"NVIDIA_API_KEY": KEY}, "that of --api-key-file was sent"),
    ],
)
def test_a_401_names_the_key_that_was_sent(run, tmp_path: Path, monkeypatch, arguments, variable, said):
    """Which key was sent, or why none was, in the words of the command line; no other key is blamed."""
    (tmp_path / "key").write_text(KEY)
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    with ServerThread() as server:
        server.script(error(401, "Unauthorized"))
        ran = run("models", "--base-url", server.url, *arguments)
    assert ran.code == 1
    assert said in ran.err
    assert "check the key in" not in ran.err


def test_the_key_file_is_stripped_and_sent(run, sim, tmp_path: Path):
    """The key in the file goes to the server without its line break, and appears in no output."""
    (tmp_path / "key").write_text(f"  {KEY}\n")
    ran = run("chat", "hi", "--base-url", sim.base_url, "--api-key-file", "key", "--json")
    assert ran.code == 0
    assert sim.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in ran.out + ran.err


@pytest.mark.parametrize(
    "content", [None, b"", b" \n", b"\xff\xfe\x00", f"{KEY} {KEY}".encode(), f"{KEY}\n{KEY}".encode()]
)
def test_a_key_file_that_cannot_be_used(run, tmp_path: Path, content):
    """A key file that is missing, empty or holds more than a key is a usage error that does not show it."""
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    ran = run("chat", "hi", "--base-url", NOWHERE, "--api-key-file", "key")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert KEY not in ran.err


def test_errors_do_not_show_the_key(run, tmp_path: Path, monkeypatch):
    """When the call fails, the key is not in the line that says so."""
    monkeypatch.setenv("NVIDIA_NIM_API_KEY", KEY)
    ran = run("chat", "hi", "--base-url", NOWHERE)
    assert ran.code == 1
    assert KEY not in ran.err


def test_timeout_is_a_line(run):
    """A call that takes longer than --timeout ends with a line that names the option."""
    with SimulatorThread(Simulator(ttft=30)) as url:
        ran = run("chat", "hi", "--base-url", url, "--timeout", "0.2")
    assert ran.code == 1
    assert "--timeout" in ran.err


def test_a_bug_is_a_line(run, monkeypatch):
    """Even an unexpected error is one line and no traceback."""
    monkeypatch.setattr("nimclient.cli.import_module", lambda name: 1 / 0)
    ran = run("chat", "hi")
    assert ran.code == 1
    assert "bug" in ran.err
    assert "ZeroDivisionError" in ran.err
    assert "Traceback" not in ran.err


def test_a_warning_is_a_line(run, monkeypatch):
    """A warning of the client is one line without the place in the code; afterwards warnings are what they were."""

    def warn(name: str):
        return SimpleNamespace(run=lambda args: warnings.warn("it is deprecated", stacklevel=1) or 0)

    monkeypatch.setattr("nimclient.cli.import_module", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = warnings.showwarning
        assert run("chat", "hi") == (0, "", "nimclient: it is deprecated\n")
        assert warnings.showwarning is before


def test_interrupt_in_process(run, monkeypatch):
    """A KeyboardInterrupt anywhere is 130 and one word."""

    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nimclient.cli.import_module", interrupt)
    assert run("chat", "hi") == (130, "", "nimclient: interrupted\n")


def test_ctrl_c_in_the_middle_of_a_call(spawn):
    """SIGINT while a request is in flight ends the process with 130 and without a traceback."""
    with ServerThread() as server:
        server.script([Stall()])
        process = spawn("chat", "hi", "--base-url", server.url, "--model", "meta/llama-3.1-8b-instruct")
        assert until(lambda: server.requests)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 130
    assert out == ""
    assert err == "nimclient: interrupted\n"


def test_a_reader_that_leaves(spawn, url):
    """When the reader of the output has left, the command ends quietly with 1."""
    process = spawn("chat", "hi", "--base-url", url, "--model", "meta/llama-3.1-8b-instruct")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert err == ""


def test_streams_that_cannot_be_reconfigured(monkeypatch):
    """Standard streams of an unusual kind are left as they are."""
    import io

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert cli.main(["chat", "hi", "--base-url", "nonsense"]) == 2


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (CommandError("as it is"), "as it is"),
        (ConfigurationError("the server lists no model of kind chat; pass model="), "name one with --model"),
        (ConnectError("no name", kind="dns"), "check the address"),
        (AuthenticationError("no", status=401), "--api-key-file"),
        (ConnectError("[SSL: WRONG_VERSION_NUMBER]", kind="tls"), "write http:// in --base-url"),
        (ModelNotFoundError("no", status=404), "`nimclient models` lists those"),
        (NotFoundError("Not Found", status=404), "is the path of --base-url its root"),
        (RateLimitError("no", status=429), "wait"),
        (RequestTimeoutError("slow", phase="total"), "--timeout"),
        (DecodeError("garbage"), "garbage"),
        (OSError("odd"), "odd"),
        (MemoryError(), "not enough memory"),
        (PermissionError(13, "Permission denied", "file"), "Permission denied: file"),
    ],
)
def test_errors_say_what_to_do_next(error, says):
    """Every kind of error is one line; where there is something to do, it says so."""
    line = explain(error)
    assert says in line
    assert "\n" not in line


def test_replicas(run, sim):
    """--base-url may be repeated: a replica that is not there is no failure."""
    for _ in range(3):
        ran = run("chat", "hi", "--no-stream", "--base-url", NOWHERE, "--base-url", sim.base_url)
        assert (ran.code, ran.err) == (0, "")
    ran = run("chat", "hi", "--base-url", NOWHERE, "--base-url", "nonsense")
    assert ran.code == 2
    assert ran.err.startswith("nimclient: --base-url [1] must look like")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["chat", "hi", "--sytem", "x"], "usage: nimclient chat"),
        (["chat", "hi", "--sytem", "x"], "unknown options: --sytem; did you mean --system?"),
        (["embed", "a.txt", "--out", "v", "--batchsize=3"], "did you mean --batch-size?"),
        (["rerank", "q", "a", "--qqqqqq"], "unknown options: --qqqqqq\n"),
        (["chat", "hi", "-m", "x"], "unknown options: -m\n"),  # that of `python -m` in an example
        (["embed", "a.txt", "--out", "v", "--field", "x"], "unknown options: --field\n"),
    ],
)
def test_an_unknown_option_has_a_suggestion(run, argv, words):
    """And the usage of the command that was meant."""
    ran = run(*argv)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err


@pytest.mark.parametrize(
    "url", ["localhost:8000", "127.0.0.1:8000/v1", "localhost", "gpu-node:8000", "nim.example.com/v1"]
)
def test_a_base_url_without_a_scheme_has_a_suggestion(run, url):
    """The one with http:// before it; what might be a key is not repeated."""
    ran = run("models", "--base-url", url)
    assert (ran.code, ran.out) == (2, "")
    assert f"did you mean http://{url}?" in ran.err
    assert KEY not in run("models", "--base-url", KEY).err


def test_verbose_is_a_line_an_attempt(run, sim):
    """Method, URL, status and milliseconds, on standard error; standard output stays as it is."""
    ran = run("models", "-v", "--base-url", sim.base_url)
    assert ran.out == run("models", "--base-url", sim.base_url).out
    assert f"GET {sim.base_url}/models: 200, " in ran.err


REJECTED = {
    "a value that JSON lacks": (("chat", "hi", "-o", "seed=1e400"), "body.seed is inf"),
    "a value of another type": (("chat", "hi", "-o", "extra_body=3"), "extra_body takes a mapping"),
    "an unknown option": (("chat", "hi", "-o", "stream=true"), "-o: there is no option 'stream'"),
    "an option of the command": (("chat", "hi", "-o", "messages=[]"), "-o: the command itself sets 'messages'"),
    "one of bench": (("bench", "--kind", "rerank", "-o", "query=x"), "-o: the command itself sets 'query'"),
    "one of map": (
        ("map", "{text}", "a.txt", "--out", "b.jsonl", "-o", "concurrency=1"),
        "-o: the command itself sets 'concurrency'",
    ),
    "an id that changes the path": (("models", "--model", "../../x"), "is not a model id"),
    "an endless time": (("models", "--timeout", "1e16"), "--timeout must be a number"),
    "a key without end": (("models", "--api-key-file", "/dev/zero"), "--api-key-file has 65536 characters"),
    "a file of text as an image": (("chat", "hi", "--image", "a.txt"), "of no known format"),
    "a batch into a folder": (("batch", "a.txt", "--out", "."), "output takes the path of a file, not '.'"),
    "answers into a folder": (("map", "{text}", "a.txt", "--out", "/"), "output takes the path of a file, not '/'"),
    "answers into a pipe": (("map", "{text}", "a.txt", "--out", "-"), "not standard output"),
    "vectors into a pipe": (("embed", "a.txt", "--out", "-"), "not standard output"),
    "a shard behind the last": (("embed", "a.txt", "--out", "v", "--shard", "3/2"), "--shard takes i/n with i from 0"),
    "a shard without end": (("embed", "a.txt", "--out", "v", "--shard", f"{'9' * 5000}/1"), "--shard takes i/n"),
    "braces": (("map", "{text", "a.txt", "--out", "b.jsonl"), "the template has '{'"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_cannot_be_sent_is_a_usage_error(run, url, tmp_path: Path, name: str):
    """Of every command, whether a job or one call: one line in the words of the command line, and 2."""
    (tmp_path / "a.txt").write_text("one\n")
    argv, said = REJECTED[name]
    ran = run(*argv, "--base-url", url)
    assert ran.code == 2
    assert said in ran.err
    for python in ("()", "api_key ", "media_type", "a bug"):
        assert python not in ran.err


def test_shards_in_a_store_need_no_merging(run):
    """`merge` says so of a URL, instead of a folder of that name that it does not find."""
    ran = run("merge", "s3://bucket/vectors")
    assert ran.code == 2
    assert "s3://bucket/vectors: shards in a store need no merging" in ran.err
