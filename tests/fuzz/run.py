"""Feeds one target with what covers more and more of its code: `python tests/fuzz/run.py stream --seconds 60`.

Needs atheris (libFuzzer). What fails is written to the folder `--found`, and the corpus that it has grown to `--corpus`; what
of that is worth keeping goes into tests/fuzz/corpus/ as one line.
"""

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))
with atheris.instrument_imports(include=["nimclient"]):
    from fuzz.corpus import inputs
    from fuzz.targets import TARGETS
    from fuzz.words import WORDS

    for _name, _target in TARGETS.items():  # what is imported only when it is used
        for _data in inputs(_name):
            with contextlib.suppress(Exception):
                asyncio.run(_target(_data))

MAX_SIZE = 2048  # bytes of an input
MAX_SECONDS = 10  # for one input: what takes longer is not linear
MAX_MEMORY = 1024  # MiB


def quoted(word: str) -> str:
    """A line of libFuzzer's dictionary."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode("utf-8", "surrogatepass")) + '"\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"))
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    given = parser.parse_args()
    grown = given.corpus / given.target
    for folder in (grown, given.found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(inputs(given.target)):
        (grown / f"kept-{number}").write_bytes(data)
    words = given.corpus / f"{given.target}.dict"
    words.write_text("".join(map(quoted, WORDS.get(given.target, ["\0"]))))
    loop = asyncio.new_event_loop()
    target = TARGETS[given.target]

    def test_one_input(data: bytes) -> None:
        loop.run_until_complete(target(data))

    options = {
        "max_total_time": given.seconds,
        "max_len": MAX_SIZE,
        "timeout": MAX_SECONDS,
        "rss_limit_mb": MAX_MEMORY,
        "artifact_prefix": f"{given.found}/{given.target}-",
        "dict": words,
        "print_final_stats": 1,
    }
    atheris.Setup([sys.argv[0], str(grown), *(f"-{name}={value}" for name, value in options.items())], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
