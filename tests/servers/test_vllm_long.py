"""`long="mean"` beside vLLM's own chunked mode: the same vectors."""

import os

import numpy
import pytest

from nimclient import AsyncClient, RetryPolicy
from servers.vllm import CONTEXT, KEY, MODEL, SWITCH, Vllm

if not os.environ.get(SWITCH):
    pytest.skip("it takes 2.5 GB: `nox -s vllm` installs vLLM and runs these", allow_module_level=True)

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1500)]
ONCE = RetryPolicy(attempts=1)
SENTENCE = "The museum opens at nine and closes at six, but for {} days. "


async def test_the_vectors_are_those_of_the_chunked_mode(vllm_chunked: Vllm) -> None:
    """A server that cuts texts itself gives the vectors that pieces of token ids give, pooled here."""
    texts = [
        "".join(map(SENTENCE.format, range(start, start + count))) for start, count in ((0, 10), (7, 200), (90, 700))
    ]
    async with AsyncClient(KEY, vllm_chunked.base_url, model=MODEL, retry=ONCE, dialect="vllm") as client:
        tokens = [(await client.tokenize(text, model=MODEL)).count for text in texts]
        own = await client.embeddings.embed_documents(texts, prefix="")
        vectors = await client.embeddings.embed_documents(texts, prefix="", long="mean")
    assert own.pieces == {}
    assert vectors.pieces == {at: -(-count // CONTEXT) for at, count in enumerate(tokens) if count > CONTEXT}
    assert len(vectors.pieces) == 2
    for ours, theirs in zip(vectors.numpy(), own.numpy(), strict=True):
        cosine = ours @ theirs / (numpy.linalg.norm(ours) * numpy.linalg.norm(theirs))
        assert cosine >= 0.9999
        assert numpy.allclose(ours, theirs, atol=1e-4)
