"""The floor: what a good engineer writes by hand for exactly these calls with aiohttp, orjson and pybase64.

No retries, no error mapping, no records: the least work that gives the user the same data.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp
import numpy as np
import orjson
import pybase64

from benchmarks.runners import in_slices

Matrix: TypeAlias = "np.ndarray[tuple[int, int], np.dtype[np.float32]]"
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Floor:
    """One aiohttp session and where it sends."""

    session: aiohttp.ClientSession
    url: str
    model: str

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self.session.post(self.url + path, data=orjson.dumps(body), headers=HEADERS)

    async def stream(self, tokens: int) -> str:
        """Stream one chat answer and return its text."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        loads = orjson.loads
        parts: list[str] = []
        carry = b""
        async with self._post("/v1/chat/completions", body) as response:
            async for data in response.content.iter_any():
                *events, carry = (carry + data).split(b"\n\n")
                for event in events:
                    if event == b"data: [DONE]":
                        continue
                    choices = loads(event[6:])["choices"]
                    if choices and (content := choices[0]["delta"].get("content")):
                        parts.append(content)
        return "".join(parts)

    async def embed(self, texts: list[str]) -> Matrix:
        """Embed the texts in one request into one contiguous matrix."""
        body = {"model": self.model, "input": texts, "input_type": "passage", "encoding_format": "base64"}
        async with self._post("/v1/embeddings", body) as response:
            items = orjson.loads(await response.read())["data"]
        buffer = b"".join([pybase64.b64decode(item["embedding"], validate=True) for item in items])
        return np.frombuffer(buffer, np.float32).reshape(len(items), -1)

    async def documents(self, texts: list[str], batch: int, in_flight: int) -> Matrix:
        """Embed the texts, `batch` a request, `in_flight` requests side by side, into one matrix."""
        return np.concatenate([rows async for rows in in_slices(self.embed, texts, batch, in_flight)])

    async def embed_stream(self, texts: list[str], batch: int, in_flight: int) -> int:
        """The same, each answer dropped as soon as it is there; returns how many vectors came."""

        async def count(part: list[str]) -> int:
            return len(await self.embed(part))

        return sum([number async for number in in_slices(count, texts, batch, in_flight)])

    async def chat(self, tokens: int) -> str:
        """Ask once without streaming and return the text."""
        body = {"model": self.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens}
        async with self._post("/v1/chat/completions", body) as response:
            answer = orjson.loads(await response.read())
        text: str = answer["choices"][0]["message"]["content"]
        return text


@asynccontextmanager
async def connect(url: str, model: str) -> AsyncIterator[Floor]:
    """Open one session for all calls."""
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
        yield Floor(session, url, model)
