"""An embedded NIM server for demonstrations, tests and capacity questions.

A simulator, not a model. Its embeddings are hashed word and character n-grams, so that texts with words in common
are near; its chat answers are sentences quoted from the messages; its log probabilities are made up. Protocol,
errors, limits and timing are those of a self-hosted NIM. Everything is deterministic under a seed.
"""

from .records import RequestRecord, StoredAsset
from .server import Simulator
from .thread import SimulatorThread

__all__ = ["RequestRecord", "Simulator", "SimulatorThread", "StoredAsset"]
