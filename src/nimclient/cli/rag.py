"""Answers from documents of your own, with citations: python rag.py FOLDER "How do I …?" [LANGUAGE]; wants NumPy."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from nimclient import AsyncClient, Vectors
from nimclient.jobs import EmbedJob

Passage = tuple[str, str]  # its name, which a citation shows, and its text
INSTRUCTIONS = """Reply in {language}, briefly, using nothing but the numbered excerpts below. Put the number of the excerpt
behind each statement, like this: [1]. Where they do not help, say so."""


def read(folder: Path, size: int = 1000) -> Iterator[Passage]:
    """The Markdown and text files below a folder as passages: whole paragraphs, some `size` characters together."""
    for path in sorted((*folder.rglob("*.md"), *folder.rglob("*.txt"))):
        texts = [""]
        for paragraph in path.read_text(encoding="utf-8", errors="replace").split("\n\n"):
            texts += [""] if len(texts[-1] + paragraph) > size else []
            texts[-1] += f"{paragraph}\n\n"
        yield from ((f"{path.relative_to(folder)}, part {n}", text) for n, text in enumerate(texts, 1) if text.strip())


async def embed(client: AsyncClient, passages: Sequence[Passage], folder: Path) -> Vectors:
    """A vector for each passage. They are kept in the folder; what has its vector there is not sent again."""
    report = await EmbedJob(passages, folder, format="npy", truncate="END").run(client)
    if report.failed:
        raise SystemExit(f"{report.failed} passages have no vector, see {report.failures_path}")
    return load(folder)


def load(folder: Path) -> Vectors:
    """The vectors of a folder, in the order of the passages."""
    import numpy

    parts = sorted(folder.glob("part-*.npy"))  # in the order of arrival
    lines = [line for part in parts for line in part.with_suffix(".ids.jsonl").read_text().splitlines()]
    order = numpy.argsort([json.loads(line)["index"] for line in lines])
    matrix = numpy.concatenate([numpy.load(part) for part in parts])[order]
    return Vectors(matrix.tobytes(), matrix.shape[1])


async def rerank(client: AsyncClient, question: str, passages: Sequence[Passage], best: int = 4) -> list[Passage]:
    """The best few passages, by a model that reads question and passage together."""
    ranking = await client.rerank(question, [text for _, text in passages], top_n=best, truncate="END")
    return [passages[result.index] for result in ranking.results]


def messages(question: str, passages: Sequence[Passage], language: str = "English") -> list[tuple[str, str]]:
    """The question under the passages as numbered excerpts."""
    excerpts = [f"[{number}] {text}" for number, (_, text) in enumerate(passages, 1)]
    return [("system", "\n\n".join([INSTRUCTIONS.format(language=language), *excerpts])), ("user", question)]


def sources(answer: str, passages: Sequence[Passage]) -> list[str]:
    """Number and name of each passage that the answer cites, as [1] or [1, 2]."""
    cited = {int(number) for group in re.findall(r"\[([\d, ]+)\]", answer) for number in re.findall(r"\d+", group)}
    return [f"[{number}] {name}" for number, (name, _) in enumerate(passages, 1) if number in cited]


async def main(folder: str, question: str, language: str = "English") -> None:
    """Print the answer as it is written, then its sources. The vectors are kept beside the documents."""
    passages = list(read(Path(folder)))
    async with AsyncClient() as client:
        vectors = await embed(client, passages, Path(f"{folder}.vectors"))
        query = await client.embeddings.embed_query(question, truncate="END")
        best = await rerank(client, question, [passages[index] for index, _ in vectors.search(query, k=40)])
        async with client.chat.stream(messages(question, best, language)) as answer:
            async for piece in answer.text_stream:
                print(piece, end="", flush=True)
        print("", "", *sources((await answer.final()).text, best), sep="\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
