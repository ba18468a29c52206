"""The fuzzer's targets hold for all that the fuzzer found worth keeping, and for some bytes that nobody has chosen."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.corpus import inputs
from fuzz.targets import TARGETS
from fuzz.words import WORDS


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    """What the fuzzer has found for a target raises only our own errors, and is read as it should be."""
    kept = inputs(name)
    assert kept
    for data in kept:
        anyio.run(TARGETS[name], data)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    """So do random bytes, alone and among the words of the format."""
    words = [word.encode("utf-8", "surrogatepass") for word in WORDS.get(name, ())]
    pieces = st.binary(max_size=20) | st.sampled_from(words) if words else st.binary(max_size=20)

    @given(st.lists(pieces, max_size=12).map(b"".join))
    def hold(data: bytes) -> None:
        anyio.run(TARGETS[name], data)

    hold()
