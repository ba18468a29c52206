"""An embedding server that does vLLM's arithmetic on toy tokens, with and without its chunked mode, for FakeTransport."""

import zlib
from base64 import b64encode
from typing import Any

import numpy
from numpy.typing import NDArray

from nimclient.testing import FakeRequest

START, END = 1, 2
"""Special tokens, which every text gets."""


class PoolingServer:
    """A token is a word; the vector of a piece is the mean of its tokens' vectors, as with mean pooling.

    `limit`: tokens that the model takes. `chunked`: vLLM's `enable_chunked_processing`, as in 0.32. `is_unit`: whether
    vectors are normalized. `tokenizes`, `takes_ids`, `has_usage`: what servers may lack.
    """

    def __init__(
        self,
        limit: int = 16,
        dimensions: int = 64,
        *,
        chunked: bool = False,
        is_unit: bool = True,
        tokenizes: bool = True,
        takes_ids: bool = True,
        has_usage: bool = True,
    ) -> None:
        self.limit = limit
        self.dimensions = dimensions
        self.chunked = chunked
        self.is_unit = is_unit
        self.tokenizes = tokenizes
        self.takes_ids = takes_ids
        self.has_usage = has_usage

    def __call__(self, request: FakeRequest) -> Any:
        sent = request.json
        if request.url.endswith("/tokenize"):
            if not self.tokenizes:
                return 404, {}, {"detail": "Not Found"}
            ids = self.ids_of(sent["prompt"])
            return {"count": len(ids), "max_model_len": self.limit, "tokens": ids, "token_strs": None}
        inputs = sent["input"]
        if not self.takes_ids and any(isinstance(item, list) for item in inputs):
            return error("input.0: Input should be a valid string", "input")
        tokens = [self.ids_of(item) if isinstance(item, str) else item for item in inputs]
        longest = max(map(len, tokens))
        if longest > self.limit and not self.chunked:
            return error(
                f"This model's maximum context length is {self.limit} tokens. However, you requested {longest} tokens in "
                f"the input for embedding generation. Please reduce the length of the input.",
                "input_tokens",
            )
        vectors = numpy.stack([self.chunk_mean(ids) for ids in tokens])
        if sent["encoding_format"] == "bytes_only":
            kind = "<f2" if sent.get("embed_dtype") == "float16" else "<f4"
            return 200, {"Content-Type": "application/octet-stream"}, vectors.astype(kind).tobytes()
        rows = [b64encode(vector.tobytes()).decode() for vector in vectors]
        data = [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(rows)]
        count = sum(map(len, tokens))
        usage = {"prompt_tokens": count, "total_tokens": count} if self.has_usage else None
        return {"object": "list", "model": "m", "data": data, "usage": usage}

    def ids_of(self, text: str) -> list[int]:
        """A token for each word, and the special ones."""
        return [START, *(zlib.crc32(word.encode()) for word in text.split()), END]

    def piece(self, ids: list[int]) -> NDArray[numpy.float32]:
        """What the model makes of one piece."""
        rows = numpy.sin(numpy.outer(ids, numpy.arange(1, self.dimensions + 1))) + 0.2
        mean = numpy.mean(rows, axis=0).astype(numpy.float32)
        return mean / numpy.linalg.norm(mean) if self.is_unit else mean

    def chunk_mean(self, ids: list[int]) -> NDArray[numpy.float32]:
        """`EmbedIOProcessor._post_process_chunked` of vLLM 0.32."""
        chunks = [ids[start : start + self.limit] for start in range(0, len(ids), self.limit)]
        vectors = [self.piece(chunk) for chunk in chunks]
        total = numpy.zeros(self.dimensions, numpy.float32)
        for chunk, vector in zip(chunks, vectors, strict=True):
            total += vector * numpy.float32(len(chunk))
        mean = total / numpy.float32(len(ids))
        if len(chunks) > 1 and all(abs(numpy.linalg.norm(vector) - 1) <= 1e-2 for vector in vectors):
            mean /= numpy.linalg.norm(mean)
        return mean


def error(message: str, param: str) -> Any:
    """A 400 in vLLM's form."""
    return 400, {}, {"error": {"message": message, "type": "BadRequestError", "param": param, "code": 400}}
