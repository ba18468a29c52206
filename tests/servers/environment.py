"""Virtual environments and model folders for real servers: made once in a cache folder, under a lock, then reused.

The cache is `nimclient-tests` in the user's cache folder ($XDG_CACHE_HOME); deleting it costs the next run the time to
install. A name carries the versions in it, so that another version gets another folder.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

MAKE_MODEL = Path(__file__).with_name("make_model.py")


class Unavailable(Exception):
    """The server cannot be had here; the text says why."""


def cache() -> Path:
    """The folder that holds everything."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "nimclient-tests")


def made(name: str, build: Callable[[Path], None]) -> Path:
    """The folder of this name; `build` fills it the first time. One process builds, others wait for it."""
    folder = cache() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            build(folder)
            (folder / "complete").touch()
    return folder


def run(*command: str | Path, seconds: float) -> None:
    """Run a command, which may contact the package index, to its end.

    Unavailable with its last words when it fails or takes too long.
    """
    unwatched = {name: value for name, value in os.environ.items() if name != "NIMCLIENT_TEST_CONTACTS"}
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=unwatched)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{_spoken(command)} took more than {seconds:.0f} s") from None
    if ran.returncode:
        words = (ran.stderr.strip() or ran.stdout.strip() or "it said nothing").splitlines()[-1]
        raise Unavailable(f"{_spoken(command)} failed: {words[:300]}")


def _spoken(command: Sequence[str | Path]) -> str:
    return " ".join(Path(part).name for part in command[:6])


def python_of(venv: Path) -> Path:
    """The Python of a virtual environment."""
    return venv / "bin" / "python"


def venv_with(folder: Path, *installs: Sequence[str], seconds: float) -> None:
    """A virtual environment of the running Python, and what each of these `pip install` lines puts into it."""
    run(sys.executable, "-m", "venv", folder, seconds=300)
    for install in installs:
        run(python_of(folder), "-m", "pip", "install", "--quiet", "--no-input", *install, seconds=seconds)


def model_folder(venv: Path) -> Path:
    """The folder of our own small model, made with the `tokenizers` of a server's environment."""

    def build(folder: Path) -> None:
        run(python_of(venv), MAKE_MODEL, folder, seconds=60)

    return made(f"model-{zlib.crc32(MAKE_MODEL.read_bytes()):08x}", build)
