"""The documentation runs as it stands."""

import ast
import os
import re
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.until import until

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def blocks(language: str) -> list[tuple[str, str]]:
    """(page and number, code) of every block in this language."""
    return [
        (f"{page.name}:{number}", code)
        for page in PAGES
        for number, (tag, code) in enumerate(BLOCK.findall(page.read_text()))
        if tag == language
    ]


def is_service(code: str) -> bool:
    return "uvicorn.run(" in code


def answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


PYTHON = [
    pytest.param(place, code, id=place, marks=() if place.startswith("README") else pytest.mark.slow)
    for place, code in blocks("python")
    if not is_service(code)
]
SERVICES = [pytest.param(place, code, id=place) for place, code in blocks("python") if is_service(code)]


def interpreter_for(place: str, code: str) -> str:
    """In `nox -s pages` one that has what the page says to install, and nothing else; else this one, if it has it all."""
    folder = os.environ.get("NIMCLIENT_TEST_PAGES")
    if folder:
        return str(Path(folder, place.partition(":")[0], "bin", "python"))
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {(node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    missing = sorted(name for name in names if find_spec(name.partition(".")[0]) is None and name != "rag")
    if missing:
        pytest.skip(f"{', '.join(missing)} are not installed; nox -s pages installs them")
    return sys.executable


def environment(url: str) -> dict[str, str]:
    """That of a reader who has done what the page on installing says: no key, and the address without /v1."""
    keys = {"NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"}
    return {k: v for k, v in os.environ.items() if k not in keys} | {"NVIDIA_BASE_URL": url.removesuffix("/v1")}


@pytest.mark.parametrize(("place", "code"), PYTHON)
def test_every_python_block_runs(place: str, code: str, nim_simulator_url: str, tmp_path: Path) -> None:
    """A block of Python is a program (or a test module) that succeeds against a NIM without printing to standard error."""
    file = tmp_path / "test_block.py"
    file.write_text(code)
    settings = [code for where, code in blocks("toml") if where.partition(":")[0] == place.partition(":")[0]]
    (tmp_path / "pyproject.toml").write_text("\n".join(settings))
    runner = ["-m", "pytest", "-q"] if "def test_" in code else ["-W", "error"]
    command = [interpreter_for(place, code), *runner, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(nim_simulator_url), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("place", "code"), SERVICES)
def test_the_service_of_the_tutorial_answers(place: str, code: str, nim_simulator_url: str, tmp_path: Path) -> None:
    """The service, beside rag.py and a folder of documents as the page says, streams an answer that cites its source."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    python = interpreter_for(place, code)
    (tmp_path / "service.py").write_text(code.replace("port=8080", f"port={port}"))
    (tmp_path / "rag.py").write_text((ROOT / "docs" / "examples" / "rag.py").read_text())
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "hours.md").write_text("The museum opens at nine and closes at six.\n")
    with subprocess.Popen([python, "service.py"], env=environment(nim_simulator_url), cwd=tmp_path) as service:
        try:
            assert until(lambda: answers(port))
            with urlopen(f"http://127.0.0.1:{port}/ask?question=When+does+the+museum+open") as response:
                answer = response.read().decode()
        finally:
            service.terminate()
    assert "The museum opens at nine and closes at six. [1]" in answer
    assert "[1] hours.md, part 1" in answer


def test_the_readme_has_exactly_two_commands_for_a_clone() -> None:
    """One command runs the demo, one passes the tests, and CI calls the second as it stands."""
    commands = [line for place, code in blocks("sh") if place.startswith("README") for line in code.splitlines()]
    assert len(commands) == 2
    assert "nimclient demo" in commands[0]
    assert commands[1].endswith("/nox")
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_every_test_that_the_page_from_the_field_names_exists() -> None:
    """Each of its fifty rows names a test at least, and every `file::test` is a function of that file."""
    page = (ROOT / "docs" / "from_the_field.md").read_text()
    rows = [line for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        assert "::test_" in row, row
    for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", page):
        assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / file).read_text(), re.M), f"{file}::{name}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    headings = (re.sub(r"[`*]", "", heading) for heading in re.findall(r"^#+ (.+)$", text, re.M))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that exists, and a heading that it has."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", text):
        file = page.parent / target if target else page
        assert "://" in target or file.exists(), target
        if anchor and "://" not in target:
            assert anchor in anchors(file), f"{target}#{anchor}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem not in ("README", "index")], ids=lambda p: p.stem)
def test_every_page_is_listed_and_links_on(page: Path) -> None:
    """A page is in the contents of the site, and its last line says what to read next."""
    listed = re.findall(r"^\w+$", (ROOT / "docs" / "index.md").read_text(), re.M)
    assert page.stem in listed
    assert re.match(r"Next: .*\]\(.+\)", page.read_text().rstrip().splitlines()[-1])


def test_the_modules_that_the_design_names_exist() -> None:
    """Every `folder/file.py` in docs/design.md is a file of the package or of the repository."""
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", (ROOT / "docs" / "design.md").read_text()))
    assert named
    roots = (ROOT, ROOT / "src" / "nimclient")
    assert [name for name in sorted(named) if not any((root / name).exists() for root in roots)] == []


def test_the_commits_that_the_guide_shows_are_small() -> None:
    """The three commits of CONTRIBUTING.md are in the history, and change fewer than forty lines each."""
    shown = re.findall(r"`([0-9a-f]{7})`, (\d+) lines", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(shown) == 3
    for commit, lines in shown:
        assert int(lines) < 40
        done = subprocess.run(
            ["git", "show", "--numstat", "--format=", commit], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip("no history here")
        counts = [line.split("\t")[:2] for line in done.stdout.splitlines()]
        assert sum(int(count) for pair in counts for count in pair) == int(lines), commit
