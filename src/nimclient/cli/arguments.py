"""What the command line looks like: every command, option, help text and example. Knows nothing of what they do."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

from nimclient import __version__

_KEYS = """\
keys: NVIDIA_API_KEY goes to NVIDIA's own hosts only, NVIDIA_NIM_API_KEY to any server you name, the key in
--api-key-file as well. A key is never an argument: arguments are visible to every user of the machine.
exit codes: 0 complete, 1 failed or partial, 2 usage, 130 interrupted.
"""

_DESCRIPTION = "The command line of nimclient, a Python client for NVIDIA NIM microservices and vLLM."

_EPILOG = (
    """\
examples:
  nimclient demo                                    see it work: no key, no GPU, no download
  nimclient demo --query "generate random numbers"  ask the Python documentation your own question
  nimclient simulate --port 8000                    a NIM-like server on this machine
  nimclient chat "Why is the sky blue?" --base-url http://localhost:8000

`nimclient COMMAND --help` has the options of each command and more examples.
"""
    + _KEYS
)

_DEMO = """\
Take the docstrings of this Python's standard library (several thousand real texts, no download), embed them,
search them by cosine, and stream a chat answer that is grounded in what was found.

The server is the one of --base-url (or NVIDIA_BASE_URL); else the hosted catalog when NVIDIA_API_KEY is set or
--api-key-file is given; else a simulator that is started for the demo. A server that has only embedding or only
chat models runs that half of the demo.
"""

_DEMO_EPILOG = (
    """\
examples:
  nimclient demo
  nimclient demo --query "generate random numbers"
  nimclient demo --base-url http://localhost:8000 --model meta/llama-3.1-8b-instruct
  nimclient demo --json --out vectors | python -m json.tool

files: DIR/vectors.f32 (raw little-endian float32, row after row), DIR/texts.jsonl (name and text of each row),
DIR/meta.json (model, dimensions, count). They are written anew by every run.
"""
    + _KEYS
)

_SIMULATE = """\
Run a NIM-like server on this machine until Ctrl-C: models, chat, completions, embeddings and ranking.

It is a simulator, not a model: embeddings are hashed words, so that texts with words in common are near; chat
answers are sentences quoted from the messages. Protocol, errors, limits and timing are those of a NIM.
"""

_SIMULATE_EPILOG = """\
examples:
  nimclient simulate
  nimclient simulate --ttft 0.3 --itl 0.02 --slots 8      as slow and as busy as a small GPU
  nimclient simulate --rpm 40                             refuses as the hosted catalog does
  nimclient simulate --port 0 --json                      a free port, its URL as JSON

exit codes: 0 ended by SIGTERM, 1 failed, 2 usage, 130 interrupted by Ctrl-C.
"""

_CHAT = "Ask one question and print the answer as it is written."

_CHAT_EPILOG = (
    """\
examples:
  nimclient chat "Why is the sky blue?"
  nimclient chat --base-url http://localhost:8000 --system "Answer in one sentence." "What is a NIM?"
  git diff | nimclient chat --system "Review this change."
  nimclient chat "Name three colours" --json | python -m json.tool

"""
    + _KEYS
)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments taken apart; SystemExit where argparse has printed help or what is wrong.

    What it does not know is named without its values: somebody's key may be among them.
    """
    parser = build_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        names = " ".join(text.partition("=")[0] for text in unknown if text.startswith("-"))
        parser.error(f"unknown options: {names}" if names else "too many arguments; put quotes around a text")
    return args


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; `command` in its result names the module that runs it."""
    parser = argparse.ArgumentParser(
        "nimclient", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=_Help, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"nimclient {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    _add_demo(commands)
    _add_chat(commands)
    _add_simulate(commands)
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help with prose and examples as they are written, and room for our longest option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "embed, search and chat over the documentation of Python itself"
    demo = commands.add_parser(
        "demo", help=summary, description=_DEMO, epilog=_DEMO_EPILOG, formatter_class=_Help, allow_abbrev=False
    )
    demo.add_argument("--query", type=_text, metavar="TEXT", help="search for this and ask it, instead of the examples")
    demo.add_argument(
        "--texts",
        type=_number(int, 1),
        metavar="N",
        help="embed at most N texts (default: all; 640 on the hosted catalog)",
    )
    demo.add_argument(
        "--out",
        default="nimclient-demo",
        metavar="DIR",
        type=_text,
        help="where the vectors are kept (default: %(default)s)",
    )
    demo.add_argument(
        "--embedding-model", type=_text, metavar="ID", help="embedding model (default: the server's first)"
    )
    _add_server_options(demo, "chat model (default: the server's first)", "print one JSON object instead")


def _add_chat(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "ask one question"
    chat = commands.add_parser(
        "chat", help=summary, description=_CHAT, epilog=_CHAT_EPILOG, formatter_class=_Help, allow_abbrev=False
    )
    chat.add_argument("question", nargs="?", help='the question; "-", or none in a pipe: read it from standard input')
    chat.add_argument("--system", type=_text, metavar="TEXT", help="instructions for the model")
    chat.add_argument("--max-tokens", type=_number(int, 1), metavar="N", help="end the answer after N tokens")
    chat.add_argument("--temperature", type=_number(float, 0), metavar="X", help="0 is the most likely answer")
    chat.add_argument("--no-stream", action="store_true", help="wait for the whole answer, then print it")
    _add_server_options(chat, "model (default: the server's first)", "print the whole completion as JSON")


def _add_simulate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="run a NIM-like server on this machine",
        description=_SIMULATE,
        epilog=_SIMULATE_EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    seconds = _number(float, 0)
    count = _number(int, 1)
    simulate.add_argument(
        "--port", type=_number(int, 0, 65535), default=8000, help="default: %(default)s; 0: a free one"
    )
    simulate.add_argument("--host", default="127.0.0.1", type=_text, help="address to listen on (default: %(default)s)")
    simulate.add_argument(
        "--model", type=_text, action="append", default=[], metavar="ID", help="serve this model too; may be repeated"
    )
    simulate.add_argument(
        "--ttft", type=seconds, default=0.0, metavar="S", help="seconds to the first token (default: 0)"
    )
    simulate.add_argument("--itl", type=seconds, default=0.0, metavar="S", help="seconds between tokens (default: 0)")
    simulate.add_argument(
        "--slots", type=count, metavar="N", help="requests that generate at once (default: any number)"
    )
    simulate.add_argument("--rpm", type=count, metavar="N", help="requests a minute before a 429 (default: any number)")
    simulate.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed gives other answers (default: 0)"
    )
    simulate.add_argument(
        "--dialect",
        choices=["nim", "vllm", "dynamo", "hosted"],
        default="nim",
        help="whose manners it has (default: %(default)s)",
    )
    simulate.add_argument("--json", action="store_true", help="print the base URL as JSON")


def _add_server_options(parser: argparse.ArgumentParser, model: str, json: str) -> None:
    """The options of every command that talks to a server."""
    server = parser.add_argument_group("server")
    server.add_argument("--base-url", type=_text, metavar="URL", help="the server, e.g. http://localhost:8000")
    server.add_argument("--model", type=_text, metavar="ID", help=model)
    server.add_argument(
        "--api-key-file", type=_text, metavar="FILE", help="file that holds the API key and nothing else"
    )
    server.add_argument("--timeout", type=_number(float, 0.001), metavar="S", help="seconds that one call may take")
    parser.add_argument("--json", action="store_true", help=json)


def _number(kind: Callable[[str], float], least: float, most: float = math.inf) -> Callable[[str], float]:
    """A type of argparse: a number of that kind within limits."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (least <= value <= most and math.isfinite(value)):
            limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' if kind is int else ''}number {limits}")
        return value

    return convert


def _text(text: str) -> str:
    """A type of argparse: a text that is not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text
