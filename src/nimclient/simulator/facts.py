"""What the simulator answers without a text: the questions that guides and first tries ask."""

from collections.abc import Mapping
from typing import Final

from .text import content_stems

_ANSWERS: Final[Mapping[str, str]] = {
    "sky blue": "The sky is blue because air scatters blue light more than red light.",
    "nim": "A NIM is an NVIDIA inference microservice: a container that serves a model behind an HTTP API.",
    "gpu": "A GPU is a processor with thousands of small cores that work in parallel.",
    "vllm": "vLLM is an open-source server that runs language models with high throughput.",
    "dynamo": "Dynamo is NVIDIA's framework for serving language models on many GPUs.",
    "tensor": "A tensor is an array of numbers with any number of dimensions.",
    "kernel": "A kernel is a function that a GPU runs in many threads at once.",
    "warp": "A warp is a group of 32 threads that a GPU runs together.",
    "block": "A block is a group of threads that share fast memory on a GPU.",
    "token": "A token is a piece of text, often a word or a part of one.",
    "csv module": "The csv module reads and writes comma-separated values.",
    "json module": "The json module encodes and decodes JSON.",
    "asyncio module": "The asyncio module runs coroutines on an event loop.",
    "pathlib module": "The pathlib module represents paths as objects.",
    "name color": "Blue.",
    "name colour": "Blue.",
    "name shape": "A circle.",
    "count three": "One, two, three.",
    "count one hundred": "One, two, three, four, five, six, seven, eight, nine, ten, and so on.",
    "make tea": "Boil water, pour it over the leaves, and wait three minutes.",
}
_BY_WORDS: Final = {frozenset(words.split()): answer for words, answer in _ANSWERS.items()}


def known(question: str) -> str | None:
    """The answer to a question with exactly these content words, or None."""
    return _BY_WORDS.get(frozenset(content_stems(question)))
