"""The server of many_writes.c: it streams to more connections than one in Python can, and is compiled when it is needed."""

import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.server import running_program

SOURCE = Path(__file__).with_name("many_writes.c")


@contextmanager
def running_native(scripts: Mapping[str, Sequence[bytes]], seconds: float) -> Iterator[str]:
    """Its URL without `/v1`. A request whose body contains a key gets the writes under it, so many seconds apart."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError("this takes a C compiler: install gcc or clang")
    with TemporaryDirectory() as name:
        folder = Path(name)
        program = folder / "many_writes"
        subprocess.run([compiler, "-O2", "-o", program, SOURCE], check=True)
        arguments: list[str | Path] = [program, str(round(1000 * seconds))]
        for number, (needle, writes) in enumerate(scripts.items()):
            path = folder / f"{number}.writes"
            path.write_bytes(b"".join(struct.pack("=I", len(data)) + data for data in writes))
            arguments += [needle, path]
        with running_program(arguments) as port:
            yield f"http://127.0.0.1:{port}"
