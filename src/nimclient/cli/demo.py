"""`nimclient demo`: embed the documentation of Python, search it, rerank what was found, and answer from it.

The order lets errors occur early: the queries are embedded first (no server, no embedding model), then the library is
read and embedded. A half for which the server has no model is skipped with a message.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio

from nimclient import AsyncClient, AttemptEvent, NimError, Vector, Vectors
from nimclient.cli import rag
from nimclient.cli.chat_answer import print_stream
from nimclient.cli.connection import is_hosted, make_client, names_a_server
from nimclient.cli.corpus import Document, choose, read_corpus
from nimclient.cli.failures import CommandError, explain
from nimclient.cli.report import Report, rows, to_json
from nimclient.cli.show import writer_for
from nimclient.cli.text import Hit, Writer
from nimclient.errors import APIStatusError, ConfigurationError, JobStoreError
from nimclient.jobs.files import write_whole

QUERIES = (
    "measure the execution time of a code snippet",
    "write rows to a CSV file",
    "run a coroutine in an event loop",
)
QUESTION = "How do I measure the execution time of a code snippet?"
HOSTED_TEXTS = 640
SHOWN_HITS = 3
RERANKED_HITS = 20

_SIMULATED_TTFT = 0.2
_SIMULATED_ITL = 0.02
_ANSWER_TOKENS = 1024
_NOT_SERVED = (400, 404, 405, 422, 501)


def run(args: argparse.Namespace) -> int:
    """Run the whole demo; returns 1 if only one half could run."""
    words = writer_for(sys.stderr)
    data = writer_for(io.StringIO() if args.json else sys.stdout)
    with _server(args, words) as simulator:
        report = Report(base_url="", simulated=simulator is not None)

        def count(_: AttemptEvent) -> None:
            report.requests += 1

        models = {"chat": args.model, "embedding": args.embedding_model}
        named = {kind: model for kind, model in models.items() if model is not None}
        client = make_client(args, simulator=simulator, model=named, on_attempt=count)
        report.base_url = client.base_url
        out = _make_folder(args.out)
        _play(client, args, out, report, data, words)
    if args.json:
        print(json.dumps(to_json(report)))
    return 0 if report.complete else 1


@contextmanager
def _server(args: argparse.Namespace, words: Writer) -> Generator[str | None]:
    """The URL of an embedded simulator during the block; None if the options name a server."""
    if names_a_server(args):
        yield None
        return
    from nimclient.simulator import Simulator, SimulatorThread

    words.line(
        "No --base-url and no NVIDIA_API_KEY: starting the embedded simulator. It is not a model: "
        "embeddings are hashed words, answers are quoted sentences, their pace is made up."
    )
    with SimulatorThread(Simulator(ttft=_SIMULATED_TTFT, itl=_SIMULATED_ITL)) as url:
        yield url


def _make_folder(name: str) -> Path:
    folder = Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write to {name} ({error.strerror}); choose another folder with --out") from error
    return folder


def _play(
    client: AsyncClient, args: argparse.Namespace, out: Path, report: Report, data: Writer, words: Writer
) -> None:
    queries = (args.query,) if args.query else QUERIES
    report.question = args.query or QUESTION
    found: list[Document] = []
    reasons: list[str] = []
    try:
        asked = anyio.run(_embed_queries, client, queries)
    except NimError as error:
        reasons.append(_reason(error, "embedding"))
        words.line(f"{reasons[0]}\nLeaving the search out.")
    else:
        documents = _read(args.texts or (HOSTED_TEXTS if is_hosted(client.base_url) else None), words)
        vectors = anyio.run(_embed, client, documents, words)
        _keep(out, documents, vectors, words)
        _describe(report, documents, vectors, out)
        found = _search(queries, asked, documents, vectors, report, data)
    data.heading(report.question)
    try:
        excerpts = [(document.name, document.excerpt) for document in found]
        anyio.run(_answer, client, args.language, excerpts, report, data, words)
    except NimError as error:
        reasons.append(_reason(error, "chat"))
        words.line(f"{reasons[-1]}\nLeaving the answer out.")
    if len(reasons) == 2:
        raise CommandError("the server runs neither half of the demo; name models with --embedding-model and --model")
    data.line()
    data.table(rows(report))


def _reason(error: NimError, kind: str) -> str:
    """Why the server cannot run one half; re-raises any other error."""
    if isinstance(error, ConfigurationError) or (isinstance(error, APIStatusError) and error.status in _NOT_SERVED):
        words = explain(error)
        return f"No {kind} model: {words.replace('--model', '--embedding-model') if kind == 'embedding' else words}."
    raise error


async def _embed_queries(client: AsyncClient, queries: Sequence[str]) -> list[Vector]:
    return [await client.embeddings.embed_query(query, truncate="END") for query in queries]


def _read(max_texts: int | None, words: Writer) -> list[Document]:
    with words.progress(f"reading Python {platform.python_version()}", "files") as advance:
        documents = read_corpus(advance)
    chosen = choose(documents, max_texts)
    taken = "all of them" if len(chosen) == len(documents) else f"{len(chosen):,} of them (--texts N changes that)"
    words.line(f"The standard library has {len(documents):,} docstrings. Embedding {taken}.")
    return chosen


async def _embed(client: AsyncClient, documents: Sequence[Document], words: Writer) -> Vectors:
    with words.progress("embedding", "texts") as advance:
        return await client.embeddings.embed_documents(
            [document.text for document in documents],
            truncate="END",
            on_progress=lambda progress: advance(progress.done, len(documents)),
        )


def _keep(out: Path, documents: Sequence[Document], vectors: Vectors, words: Writer) -> None:
    """Write vectors, texts and metadata; the buffer is written without a copy."""
    meta = {"model": vectors.model, "dimensions": vectors.dimensions, "count": len(vectors)}
    try:
        write_whole(out / "vectors.f32", lambda file: file.write(vectors.buffer))
        lines = (f"{document.to_json()}\n".encode(errors="replace") for document in documents)
        write_whole(out / "texts.jsonl", lambda file: file.writelines(lines))
        write_whole(out / "meta.json", lambda file: file.write(f"{json.dumps(meta)}\n".encode()))
    except JobStoreError as error:
        raise CommandError(f"{error.message.partition(';')[0]}; choose another folder with --out") from error
    size = len(vectors.buffer) / 1e6
    words.line(f"Kept in {out}/: {len(vectors):,} vectors of {vectors.dimensions:,} float32 numbers ({size:,.1f} MB).")


def _describe(report: Report, documents: Sequence[Document], vectors: Vectors, out: Path) -> None:
    report.out = str(out)
    report.embedding_model = vectors.model
    report.texts = len(documents)
    report.dimensions = vectors.dimensions
    report.embedding_seconds = vectors.meta.timings.total if vectors.meta else None
    report.embedding_tokens = vectors.usage.prompt_tokens if vectors.usage else None


def _search(
    queries: Sequence[str],
    asked: Sequence[Vector],
    documents: Sequence[Document],
    vectors: Vectors,
    report: Report,
    data: Writer,
) -> list[Document]:
    """Show the best hits of every query; returns the documents that come near the first."""
    best: list[Document] = []
    for query, vector in zip(queries, asked, strict=True):
        found = vectors.search(vector, RERANKED_HITS)
        hits = [Hit(documents[row].name, score, documents[row].summary) for row, score in found[:SHOWN_HITS]]
        data.heading(f"Search: {query}")
        data.hits(hits)
        report.searches.append((query, hits))
        best = best or [documents[row] for row, _ in found]
    return best


async def _answer(
    client: AsyncClient, language: str, near: list[rag.Passage], report: Report, data: Writer, words: Writer
) -> None:
    """Stream the answer and list what it cites; without excerpts the question is asked alone."""
    best = await _rerank(client, report.question, near, words)
    messages = rag.messages(report.question, best, language) if best else report.question
    async with client.chat.stream(messages, max_tokens=_ANSWER_TOKENS) as stream:
        completion = await print_stream(stream, data, words)
    report.chat_model = completion.model
    report.answer = completion.text
    report.sources = rag.sources(completion.text, best)
    for source in report.sources:
        data.line(source)
    if completion.meta is not None:
        report.ttft = completion.meta.timings.ttft
        report.inter_token = completion.meta.timings.inter_token
    if completion.usage is not None:
        report.prompt_tokens = completion.usage.prompt_tokens
        report.completion_tokens = completion.usage.completion_tokens


async def _rerank(client: AsyncClient, question: str, near: list[rag.Passage], words: Writer) -> list[rag.Passage]:
    """The best of what the search found; in its order where the server has no reranker."""
    if not near:
        return []
    try:
        return await rag.rerank(client, question, near, SHOWN_HITS)
    except NimError as error:
        _reason(error, "ranking")  # raises what is something else
        words.line("No reranking model: the answer is from the best hits of the search.")
        return near[:SHOWN_HITS]
