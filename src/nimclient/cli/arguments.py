"""The command line: every command and option. Their longer help is in `help_text`."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TypeAlias

from nimclient import __version__
from nimclient.cli import help_text


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The parsed arguments; SystemExit after argparse has printed help or an error.

    Unknown options are named without their values, which may contain a key.
    """
    parser, commands = _build()
    given = sys.argv[1:] if argv is None else list(argv)
    if cut := next((text for text in given if re.fullmatch(r"--?[a-z-]+=--", text)), None):
        parser.error(f"{cut.removesuffix('=--')} cannot be '--'")  # argparse would make a list of it
    args, unknown = parser.parse_known_args(given)
    args.argv = given
    if urls := getattr(args, "base_url", None):
        args.base_url = urls[0] if len(urls) == 1 else urls
    if unknown:
        command = commands[args.command]
        names = [text.partition("=")[0] for text in unknown if text.startswith("-")]
        command.error(_unknown(names, command) if names else "too many arguments; put quotes around a text")
    return args


def _unknown(names: Sequence[str], command: argparse.ArgumentParser) -> str:
    """The message for unknown options, with similar names."""
    options = command.format_help().partition("\nexamples:")[0]
    known = sorted(set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", options)))
    close = dict.fromkeys(match for name in names for match in get_close_matches(name, known, 1, 0.75))
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"unknown options: {' '.join(names)}{hint}"


def _build() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the whole command line, and those of the commands; `command` names the module to run."""
    parser = argparse.ArgumentParser(
        "nimclient",
        description=help_text.DESCRIPTION,
        epilog=help_text.EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nimclient {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    _add_demo(commands)
    _add_chat(commands)
    _add_embed(commands)
    _add_batch(commands)
    _add_map(commands)
    _add_merge(commands)
    _add_rerank(commands)
    _add_models(commands)
    _add_doctor(commands)
    _add_bench(commands)
    _add_simulate(commands)
    _add_completion(commands)
    return parser, dict(commands.choices)


KINDS = ("chat", "vlm", "embedding", "ranking", "completions", "unknown")
_EVENTS = "print events as JSON lines instead of progress"
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help with unwrapped prose and examples, and space for the longest option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)


def _add_demo(commands: _Commands) -> None:
    summary = "embed, search and chat over the documentation of Python itself"
    demo = _command(commands, "demo", summary, help_text.DEMO, help_text.DEMO_EPILOG)
    demo.add_argument("--query", type=_text, metavar="TEXT", help="search and ask this instead of the examples")
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
    demo.add_argument("--language", default="English", type=_text, help="language of the answer (default: %(default)s)")
    demo.add_argument(
        "--embedding-model", type=_text, metavar="ID", help="embedding model (default: the server's first)"
    )
    _add_server_options(demo, "chat model (default: the server's first)", "print one JSON object instead")


def _add_chat(commands: _Commands) -> None:
    summary = "ask a question, or chat with a model"
    chat = _command(commands, "chat", summary, help_text.CHAT, help_text.CHAT_EPILOG)
    chat.add_argument("question", nargs="?", help='the question; "-", or omitted: read from standard input')
    chat.add_argument("--continue", action="store_true", dest="continued", help="resume the last conversation")
    chat.add_argument(
        "--image", type=_text, action="append", default=[], metavar="FILE|URL", help="send an image; may be repeated"
    )
    _add_chat_options(chat)
    chat.add_argument("--no-stream", action="store_true", help="wait for the whole answer, then print it")
    _add_server_options(chat, "model (default: the server's first)", "print the whole completion as JSON")


def _add_chat_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a chat."""
    parser.add_argument("--system", type=_text, metavar="TEXT", help="instructions for the model")
    parser.add_argument("--schema", type=_text, metavar="FILE", help="answer in the form of this JSON Schema")
    parser.add_argument("--max-tokens", type=_number(int, 1), metavar="N", help="end the answer after N tokens")
    parser.add_argument("--temperature", type=_number(float, 0), metavar="X", help="0 is the most likely answer")
    parser.add_argument(
        "--thinking",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the model reasons before it answers",
    )
    _add_option(parser, "top_p=0.9")


def _add_option(parser: argparse.ArgumentParser, example: str) -> None:
    words = f"any other option of the request, such as {example}; may be repeated"
    parser.add_argument("-o", "--option", action="append", default=[], metavar="NAME=VALUE", help=words)


def _add_embed(commands: _Commands) -> None:
    embed = _command(commands, "embed", "embed a file of texts, however large", help_text.EMBED, help_text.EMBED_EPILOG)
    embed.add_argument(
        "source", type=_text, metavar="SOURCE", help='a .jsonl, .csv, .tsv, .parquet or .txt file; "-": standard input'
    )
    embed.add_argument(
        "--out", type=_output, required=True, metavar="DIR|URL", help="the folder of the vectors, or a store"
    )
    embed.add_argument(
        "--text", type=_text, default="text", metavar="FIELD", help="field that holds the text (default: %(default)s)"
    )
    embed.add_argument("--id", type=_text, metavar="FIELD", help="field that holds the id (default: the row's number)")
    embed.add_argument(
        "--format",
        choices=["parquet", "npy", "jsonl"],
        help="format of the parts (default: parquet; npy without pyarrow)",
    )
    embed.add_argument(
        "--input-type",
        choices=["query", "passage"],
        default="passage",
        help="the type of the texts (default: %(default)s)",
    )
    embed.add_argument(
        "--truncate", choices=["NONE", "START", "END"], help="what to do with texts that are too long (NIM)"
    )
    embed.add_argument(
        "--long",
        choices=["mean"],
        help="cut texts that are too long, and keep the mean of their pieces (default: they fail)",
    )
    embed.add_argument("--prefix", metavar="TEXT", help="prefix of every text, for servers without input types")
    embed.add_argument(
        "--dimensions", type=_number(int, 1), metavar="N", help="shorter vectors, for models that support it"
    )
    embed.add_argument("--dtype", choices=["float32", "float16"], help="the type of the numbers, float32 by default")
    embed.add_argument("--cache", metavar="DIR", help="a folder of vectors: texts that it holds are not sent")
    embed.add_argument(
        "--encoding-format",
        choices=["float", "base64", "bytes_only"],
        help="how vectors are sent; base64 keeps the token count, which raw bytes (the default on vLLM) lack",
    )
    embed.add_argument(
        "--batch-size", type=_number(int, 1), metavar="N", help="texts per request (default: 64, or 256 kB)"
    )
    _add_shard(embed)
    _add_share(embed)
    _add_concurrency(embed)
    _add_server_options(embed, "embedding model (default: the server's first)", _EVENTS)


def _add_batch(commands: _Commands) -> None:
    batch = _command(
        commands, "batch", "send a file of requests, however large", help_text.BATCH, help_text.BATCH_EPILOG
    )
    batch.add_argument("source", type=_text, metavar="SOURCE", help="a file of requests in OpenAI's batch format")
    batch.add_argument("--out", type=_output, required=True, metavar="FILE", help="the file of the answers")
    _add_share(batch)
    _add_concurrency(batch)
    _add_server_options(batch, "model of requests without one (default: the server's first)", _EVENTS)


def _add_map(commands: _Commands) -> None:
    summary = "ask a model about every row of a file, however large"
    map = _command(commands, "map", summary, help_text.MAP, help_text.MAP_EPILOG)
    map.add_argument(
        "template", type=_text, metavar="TEMPLATE", help="the question, with fields of the row in {braces}"
    )
    map.add_argument(
        "rows", type=_text, metavar="ROWS", help='a .jsonl, .csv, .tsv, .parquet or .txt file; "-": standard input'
    )
    map.add_argument("--out", type=_output, required=True, metavar="FILE", help="the file of the answers")
    map.add_argument("--id", type=_text, metavar="FIELD", help="field that holds the id (default: the row's number)")
    _add_chat_options(map)
    map.add_argument(
        "--retries",
        type=_number(int, 0),
        default=0,
        metavar="N",
        help="how often an answer that does not fit --schema is sent back (default: 0)",
    )
    _add_shard(map)
    _add_share(map)
    _add_concurrency(map)
    _add_server_options(map, "chat model (default: the server's first)", _EVENTS)


def _add_merge(commands: _Commands) -> None:
    summary = "check the shards of a job and write one manifest"
    merge = _command(commands, "merge", summary, help_text.MERGE, help_text.MERGE_EPILOG)
    merge.add_argument("folder", type=_text, metavar="DIR", help="the folder that all shards were embedded into")
    merge.add_argument("--json", action="store_true", help="print the report as JSON")


def _add_shard(parser: argparse.ArgumentParser) -> None:
    words = "only every N-th row, from row I on; auto: JOB_COMPLETION_INDEX of JOB_COMPLETIONS"
    parser.add_argument("--shard", type=_text, metavar="I/N", help=words)


def _add_share(parser: argparse.ArgumentParser) -> None:
    words = "a folder: processes that name the same one share the server's capacity, without a coordinator"
    parser.add_argument("--share", type=_text, metavar="DIR", help=words)


def _add_concurrency(parser: argparse.ArgumentParser) -> None:
    number = _number(int, 1)
    parser.add_argument(
        "--concurrency", type=number, metavar="N", help="requests in flight (default: adapted to the server)"
    )


def _add_rerank(commands: _Commands) -> None:
    rerank = _command(
        commands, "rerank", "sort documents by how well they answer a query", help_text.RERANK, help_text.RERANK_EPILOG
    )
    rerank.add_argument("query", metavar="QUERY", type=_text, help="what the documents should answer")
    rerank.add_argument(
        "documents",
        nargs="*",
        metavar="DOCUMENT",
        help='the documents; "-", or omitted in a pipe: the lines of standard input',
    )
    rerank.add_argument("--file", type=_text, metavar="FILE", help="use the lines of this file as documents")
    rerank.add_argument("--top", type=_number(int, 1), metavar="N", help="print the best N only")
    rerank.add_argument("--truncate", choices=["NONE", "END"], help="what to do with pairs that are too long (NIM)")
    rerank.add_argument("--batch-size", type=_number(int, 1), metavar="N", help="documents per request (default: all)")
    _add_server_options(rerank, "reranker (default: the server's first)", "print the ranking as JSON")


def _add_models(commands: _Commands) -> None:
    models = _command(commands, "models", "list the models of the server", help_text.MODELS, help_text.MODELS_EPILOG)
    models.add_argument("--kind", choices=KINDS, help="only models of this kind")
    _add_server_options(models, "only this model, by id or alias", "print the list as JSON")


def _add_doctor(commands: _Commands) -> None:
    doctor = _command(
        commands, "doctor", "check what works and what does not", help_text.DOCTOR, help_text.DOCTOR_EPILOG
    )
    _add_server_options(
        doctor, "try this model only", "print all findings as one JSON object", "one request may take (default: 10)"
    )


def _add_bench(commands: _Commands) -> None:
    summary = "measure how fast a server answers"
    bench = _command(commands, "bench", summary, help_text.BENCH, help_text.BENCH_EPILOG)
    bench.add_argument(
        "--kind", choices=["chat", "embed", "rerank"], default="chat", help="what to measure (default: %(default)s)"
    )
    bench.add_argument(
        "--concurrency",
        type=_levels,
        default=[1, 4, 16],
        metavar="N,N,…",
        help="requests at once, one level after the other (default: 1,4,16)",
    )
    count = _number(int, 1)
    bench.add_argument(
        "--requests", type=count, metavar="N", help="requests per level (default: 4 × concurrency, at least 20)"
    )
    bench.add_argument(
        "--input-tokens",
        type=_number(int, 1, 10**7),
        default=128,
        metavar="N",
        help="approximate length of a text (default: 128)",
    )
    bench.add_argument(
        "--output-tokens", type=count, default=128, metavar="N", help="maximum length of an answer (default: 128)"
    )
    bench.add_argument(
        "--batch-size",
        type=_number(int, 1, 10**5),
        metavar="N",
        help="texts or documents per request (default: 1; rerank: 10)",
    )
    _add_option(bench, "ignore_eos=true")
    bench.add_argument("--plot", type=_text, metavar="FILE", help="plot the results: a .png, .svg or .pdf")
    _add_server_options(bench, "model (default: the server's first of the kind)", "print one JSON object instead")


def _add_simulate(commands: _Commands) -> None:
    summary = "run a NIM-like server on this machine"
    simulate = _command(commands, "simulate", summary, help_text.SIMULATE, help_text.SIMULATE_EPILOG)
    seconds = _number(float, 0)
    count = _number(int, 1)
    simulate.add_argument(
        "--port", type=_number(int, 0, 65535), default=8000, help="default: %(default)s; 0: any free port"
    )
    simulate.add_argument("--host", default="127.0.0.1", type=_text, help="address to listen on (default: %(default)s)")
    simulate.add_argument(
        "--model",
        type=_text,
        action="append",
        default=[],
        metavar="ID",
        help="serve only this model (default: the catalog); may be repeated",
    )
    simulate.add_argument(
        "--ttft", type=seconds, default=0.0, metavar="S", help="seconds to the first token (default: 0)"
    )
    simulate.add_argument("--itl", type=seconds, default=0.0, metavar="S", help="seconds between tokens (default: 0)")
    simulate.add_argument(
        "--prefill-rate",
        type=count,
        metavar="N",
        help="uncached prompt tokens processed per second (default: no limit)",
    )
    simulate.add_argument(
        "--prefix-cache",
        type=_number(int, 0),
        default=1_600_000,
        metavar="N",
        help="tokens that the prefix cache holds (default: %(default)s)",
    )
    simulate.add_argument(
        "--slots", type=count, metavar="N", help="requests that generate concurrently (default: no limit)"
    )
    simulate.add_argument(
        "--foreign",
        type=_number(int, 0, 10_000),
        default=0,
        metavar="N",
        help="constant number of requests of other clients (default: 0)",
    )
    simulate.add_argument("--rpm", type=count, metavar="N", help="requests per minute before a 429 (default: no limit)")
    simulate.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the answers (default: 0)")
    simulate.add_argument(
        "--dialect",
        choices=["nim", "vllm", "dynamo", "hosted"],
        default="nim",
        help="the server type to simulate (default: %(default)s)",
    )
    simulate.add_argument(
        "--fault",
        type=_text,
        action="append",
        default=[],
        metavar="NAME",
        help="what goes wrong: reset@5 (a stream, after five tokens); on the hosted platform accepted, offline, …; "
        "busy=2: the first two requests; may be repeated; an unknown name lists them",
    )
    simulate.add_argument("--json", action="store_true", help="print the base URL as JSON")


def _add_completion(commands: _Commands) -> None:
    summary = "print a script that completes commands and options in your shell"
    completion = _command(commands, "completion", summary, help_text.COMPLETION, help_text.COMPLETION_EPILOG)
    completion.add_argument("shell", choices=["bash", "zsh", "fish"], help="the shell")


def commands_of() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command, by its name."""
    return _build()[1]


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What a command takes."""
    return parser._actions


def _command(commands: _Commands, name: str, summary: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Add a command with its help."""
    return commands.add_parser(
        name, help=summary, description=description, epilog=epilog, formatter_class=_Help, allow_abbrev=False
    )


def _add_server_options(
    parser: argparse.ArgumentParser, model: str, json: str, seconds: str = "one call may take"
) -> None:
    """Add the options of every command that uses a server."""
    server = parser.add_argument_group("server")
    server.add_argument(
        "--base-url",
        type=_text,
        action="append",
        metavar="URL",
        help="the server, e.g. http://localhost:8000; repeat it for replicas",
    )
    server.add_argument("--model", type=_text, metavar="ID", help=model)
    server.add_argument("--api-key-file", type=_text, metavar="FILE", help="file that contains only the API key")
    server.add_argument("--profile", type=_text, metavar="NAME", help="settings of ~/.config/nimclient.toml")
    server.add_argument("--timeout", type=_number(float, 0.001), metavar="S", help=f"seconds that {seconds}")
    parser.add_argument("--json", action="store_true", help=json)
    parser.add_argument("-v", "--verbose", action="store_true", help="log each request on standard error")


def _number(kind: Callable[[str], float], minimum: float, maximum: float = math.inf) -> Callable[[str], float]:
    """An argparse type: a number within limits."""

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (minimum <= value <= maximum and math.isfinite(value)):
            limits = f"of at least {minimum}" if maximum == math.inf else f"from {minimum} to {maximum}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' if kind is int else ''}number {limits}")
        return value

    return convert


def _levels(text: str) -> list[int]:
    """A type of argparse: whole numbers from 1 to 1,000 with commas between them."""
    return [int(_number(int, 1, 1000)(part)) for part in text.split(",")]


def _output(text: str) -> str:
    """An argparse type: the place of a job's results, which it resumes from."""
    if text == "-":
        raise argparse.ArgumentTypeError("it is what a job resumes from, so it has a name, and is not standard output")
    return _text(text)


def _text(text: str) -> str:
    """An argparse type: a text that is not blank."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text
