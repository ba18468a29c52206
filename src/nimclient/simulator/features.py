"""Hashed n-gram features: a substitute for an embedding model.

A text becomes the signed, hashed sum of its words, its pairs of neighbouring words and the character 3- to 5-grams
inside its words, so texts that share words or spellings are near. Embeddings have
each of these features spread over all their dimensions. Meaning is ignored: "car" and
"automobile" are unrelated. Hashing is CRC-32, equal in every process. Only the first `WORDS_READ` words count.
"""

import math
import zlib
from collections import Counter
from functools import lru_cache
from itertools import pairwise
from operator import add, mul, sub
from typing import Final, NamedTuple

from .text import STOP_WORDS, stem, words

WORDS_READ: Final = 400

_STOP_WEIGHT: Final = 0.06
_PAIR_WEIGHT: Final = 0.5
_SPELLING_WEIGHT: Final = 0.5
_MARK_WEIGHT: Final = 0.1
_MARK_BUCKETS: Final = 8
_SPREAD_STEPS: Final = 10  # 1024 dimensions
_LETTERS_READ: Final = 24
_WORDS_CACHED: Final = 1 << 15
_SIGN_BIT: Final = 1 << 31


class _WordFeatures(NamedTuple):
    stem: str  # empty for a stop word
    bucket: int
    weight: float
    spelling_weight: float
    plus: tuple[int, ...]
    minus: tuple[int, ...]


class Features:
    """Turns texts into vectors of `dimensions` floats; `seed` changes the position of every feature."""

    def __init__(self, dimensions: int, seed: int = 0) -> None:
        self.dimensions = dimensions
        self._salt = zlib.crc32(f"seed {seed}".encode())
        self._word = lru_cache(maxsize=_WORDS_CACHED)(self._word_features)
        self._mark = lru_cache(maxsize=8)(self._mark_features)

    def unit_vector(self, text: str, mark: str = "") -> list[float]:
        """The text as a vector of length one.

        `mark` ("query", "passage" or nothing) adds a small direction, as an asymmetric model distinguishes its
        two sides apart; the two vectors of one text keep a cosine of about 0.99.
        """
        vector = self.raw_vector(text)
        if mark:
            reach = math.hypot(*vector)
            for bucket, weight in self._mark(mark):
                vector[bucket] += weight * reach
        return normalised(vector)

    def embedding(self, text: str, mark: str = "") -> list[float]:
        """The unit vector with every feature spread over all dimensions, as in a model's vectors; cosines are unchanged."""
        return normalised(spread(self.unit_vector(text, mark)))

    def raw_vector(self, text: str) -> list[float]:
        """The sum of the text's features, not normalized; never all zero."""
        vector = [0.0] * self.dimensions
        spelled = words(text)[:WORDS_READ]
        seen = {spelling: self._word(spelling) for spelling in spelled}
        for spelling, count in Counter(spelled).items():
            _, bucket, weight, spelling_weight, plus, minus = seen[spelling]
            often = 1.0 + math.log(count) if count > 1 else 1.0
            vector[bucket] += weight * often
            small = spelling_weight * often
            for place in plus:
                vector[place] += small
            for place in minus:
                vector[place] -= small
        stems = [found for spelling in spelled if (found := seen[spelling].stem)]
        for first, second in dict.fromkeys(pairwise(stems)):
            bucket, sign = self._place(f"{first} {second}")
            vector[bucket] += _PAIR_WEIGHT * sign
        if not any(vector):
            bucket, sign = self._place(text)  # no words, or features that cancelled out
            vector[bucket] = sign
        return vector

    def _place(self, feature: str) -> tuple[int, float]:
        code = zlib.crc32(feature.encode(), self._salt)
        return code % self.dimensions, -1.0 if code & _SIGN_BIT else 1.0

    def _word_features(self, spelling: str) -> _WordFeatures:
        if spelling in STOP_WORDS:
            bucket, sign = self._place(spelling)
            return _WordFeatures("", bucket, _STOP_WEIGHT * sign, 0.0, (), ())
        root = stem(spelling)
        bucket, sign = self._place(root)
        grams = character_grams(root[:_LETTERS_READ])
        places = [self._place(gram) for gram in grams]
        return _WordFeatures(
            stem=root,
            bucket=bucket,
            weight=sign,
            spelling_weight=_SPELLING_WEIGHT / math.sqrt(len(grams)),
            plus=tuple(place for place, direction in places if direction > 0),
            minus=tuple(place for place, direction in places if direction < 0),
        )

    def _mark_features(self, mark: str) -> list[tuple[int, float]]:
        places = (self._place(f"<{mark} {number}>") for number in range(_MARK_BUCKETS))
        return [(bucket, sign * _MARK_WEIGHT / math.sqrt(_MARK_BUCKETS)) for bucket, sign in places]


def character_grams(word: str) -> list[str]:
    """The 3-, 4- and 5-grams of a word between its edges; of a word of one letter, that word."""
    edged = f"<{word}>"
    return [edged[start : start + size] for size in (3, 4, 5) for start in range(len(edged) - size + 1)]


def normalised(vector: list[float]) -> list[float]:
    """The normalized vector; a zero vector (a fold that cancelled out) becomes the first axis."""
    length = math.hypot(*vector)
    if not length:
        return [1.0] + [0.0] * (len(vector) - 1)
    scale = 1.0 / length
    return [value * scale for value in vector]


def spread(vector: list[float]) -> list[float]:
    """The vector rotated so that each component is spread over up to 1024 others (a Walsh–Hadamard transform).

    Angles are unchanged. In a size of 2^k x an odd number, each is spread over 2^k others: all for 1024, none for odd sizes.
    """
    turned = vector
    for _ in range(min(_SPREAD_STEPS, (len(vector) & -len(vector)).bit_length() - 1)):
        left, right = turned[::2], turned[1::2]
        turned = [*map(add, left, right), *map(sub, left, right)]
    return turned


def shortened(vector: list[float], dimensions: int) -> list[float]:
    """The first `dimensions` components, normalized, as for a Matryoshka model.

    A prefix so short that no feature of the text fell into it is replaced by the whole vector folded onto it.
    """
    prefix = vector[:dimensions]
    return normalised(prefix if any(prefix) else [math.fsum(vector[at::dimensions]) for at in range(dimensions)])


def dot(left: list[float], right: list[float]) -> float:
    """The inner product of two vectors of the same size."""
    return math.fsum(map(mul, left, right))
