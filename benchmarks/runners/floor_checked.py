"""The floor with the one check that a careful engineer adds: are all numbers finite?"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from benchmarks.runners import floor


class FloorChecked(floor.Floor):
    """The floor, which refuses NaN and infinity."""

    async def embed(self, texts: list[str]) -> floor.Matrix:
        """Embed the texts in one request into one contiguous matrix of finite numbers."""
        matrix = await super().embed(texts)
        if not np.isfinite(matrix).all():
            raise ValueError("NaN or infinity in a vector")
        return matrix


@asynccontextmanager
async def connect(url: str, model: str) -> AsyncIterator[FloorChecked]:
    """Open one session for all calls."""
    async with floor.connect(url, model) as plain:
        yield FloorChecked(plain.session, plain.url, plain.model)
